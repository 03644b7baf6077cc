# frozen_string_literal: true

# The author's handler behind the processor that the compiler generated: one call in, one reply out, whatever the
# handler does. A declared exception is an ordinary reply; what is raised undeclared is answered with its message, its
# stack goes to the log, and the process stays up. Refuses methods that are not there and arguments that cannot be
# read.

module Katamari
  class Service
    # Type of the message, its body, and the ReplyContext to go with it or nil.
    Reply = Struct.new(:type, :body, :context) do
      # What the mesh is told as data too, so that it can act on it.
      def self.refusal(error)
        new(Thrift::MessageTypes::EXCEPTION, Wire.application_exception(error.type, error.message), error.to_reply_context)
      end
    end

    # The arguments do not fit the interface.
    class UnreadableArguments < StandardError; end

    # Tells what went wrong before the handler was called from what went wrong in it.
    module CarefulReading
      def read_args(input, args_class)
        super
      rescue StandardError => e
        raise UnreadableArguments, e.message
      end
    end

    attr_reader :name, :method_names

    # Raises ArgumentError when the handler lacks a method.
    def initialize(processor_class, handler, name, version)
      @processor = processor_class.new(handler).extend(CarefulReading)
      @name = name
      @version = version
      @method_names = @processor.public_methods.grep(/\Aprocess_./) { |method| method.to_s.delete_prefix('process_') }.sort
      missing = method_names.reject { |method| handler.respond_to?(method) }
      return if missing.empty?

      raise ArgumentError, "#{handler.class} has no method #{missing.join(', ')}; #{name} needs a public one for each method of its IDL"
    end

    # The Reply to a call. Raises only what ends the process: exit, signals, want of memory.
    def answer(call)
      refusal = why_not(call)
      return Reply.refusal(refusal) if refusal

      Reply.new(Thrift::MessageTypes::REPLY, result_of(call))
    rescue UnreadableArguments => e
      Reply.refusal(Error.new(:bad_request, "#{name}.#{call.method_name} cannot read its arguments: #{e.message}", not_run: true))
    rescue StandardError, ScriptError, SystemStackError => e
      log(call, e)
      failure("#{name}.#{call.method_name} failed: #{text_of(e)}")
    end

    private

    def why_not(call)
      if !['', name].include?(call.service_name)
        Error.new(:no_pool, "This is #{name}@#{@version}, it does not offer #{call.service_name}", not_run: true)
      elsif !method_names.include?(call.method_name)
        Error.new(:no_pool, "#{name} has no method #{call.method_name.inspect}; it has #{method_names.join(', ')}", not_run: true)
      end
    end

    # The bytes of the result struct, into a buffer of their own: half a result is never sent.
    def result_of(call)
      output = Output.new(Thrift::MemoryBufferTransport.new)
      @processor.public_send("process_#{call.method_name}", 0, Wire.input(call.body), output)
      # A oneway method writes nothing; to the mesh it ends like the others.
      return Wire::EMPTY_STRUCT if output.message_type.nil?

      body = output.trans.read(output.trans.available)
      raise TypeError, 'it returned nil' if body == Wire::EMPTY_STRUCT && returns_something?(call.method_name)

      limit = Wire::FRAME_BYTES_MAX - ROOM_FOR_HEAD
      raise RangeError, "its answer has #{body.bytesize} bytes, limit is #{limit}; send it in smaller pieces" if body.bytesize > limit

      body
    end

    # Whether the result struct of the method, which stands beside its processor, has a field for a value.
    def returns_something?(method_name)
      space = Object.const_get(@processor.method("process_#{method_name}").owner.name.rpartition('::').first)
      space.const_get("#{method_name[0].upcase}#{method_name[1..-1]}_result")::FIELDS.key?(0)
    rescue NameError
      false
    end

    def log(call, thrown)
      stack = Wire.utf8(thrown.full_message(highlight: false).chomp)
      Katamari.logger.error("#{name}.#{call.method_name} raised what its IDL does not declare: #{stack}")
    end

    def failure(message)
      type = Thrift::ApplicationException::INTERNAL_ERROR
      Reply.new(Thrift::MessageTypes::EXCEPTION, Wire.application_exception(type, message))
    end

    # Of a NameError the first line: some versions of Ruby put lines of the source behind it.
    def text_of(thrown)
      text = Wire.utf8(thrown.message.to_s)
      text = text.lines.first.to_s.chomp if thrown.is_a?(NameError)
      text.empty? ? thrown.class.name : text
    end

    # Bytes of a frame that are not body: head, name, context.
    ROOM_FOR_HEAD = 4096
    private_constant :ROOM_FOR_HEAD
  end
end
