# frozen_string_literal: true

# Runs a handler through the generated processor: every call gets exactly one reply. Declared exceptions are ordinary
# replies. For any other exception, the caller gets its message, the log gets its stack, and the process continues.
# Unknown methods and invalid arguments are refused.

module Katamari
  class Service
    # Message type, body, and the ReplyContext to send with it or nil.
    Reply = Struct.new(:type, :body, :context) do
      # Returns the reply for an error of the chassis. The ReplyContext gives the mesh its code and facts.
      def self.refusal(error)
        new(Thrift::MessageTypes::EXCEPTION, Wire.application_exception(error.type, error.message), error.to_reply_context)
      end

      # Returns the reply to a call whose caller no longer waits.
      def self.too_late(call)
        why = "The deadline of #{call.method_name} passed before this copy started it"
        refusal(Error.new(:timeout, why, not_run: true, stage: :queue))
      end

      # Returns the reply for an exception that the IDL does not declare.
      def self.failure(message)
        new(Thrift::MessageTypes::EXCEPTION, Wire.application_exception(Thrift::ApplicationException::INTERNAL_ERROR, message))
      end
    end

    # Returns the message of an exception; only the first line for a NameError, to which some Ruby versions add
    # source.
    def self.text_of(thrown)
      text = Wire.utf8(thrown.message.to_s)
      text = text.lines.first.to_s.chomp if thrown.is_a?(NameError)
      text.empty? ? thrown.class.name : text
    end

    # The result is larger than a frame.
    class TooLarge < StandardError; end

    # The arguments do not match the interface.
    class UnreadableArguments < StandardError; end

    # Distinguishes errors in the arguments from errors in the handler.
    module CarefulReading
      def read_args(input, args_class)
        super
      rescue StandardError => e
        raise UnreadableArguments, e.message
      end
    end

    attr_reader :name, :method_names

    # Raises ArgumentError if the handler lacks a method.
    def initialize(processor_class, handler, name, version)
      @processor = processor_class.new(handler).extend(CarefulReading)
      @name = name
      @version = version
      @method_names = @processor.public_methods.grep(/\Aprocess_./) { |method| method.to_s.delete_prefix('process_') }.sort
      missing = method_names.reject { |method| handler.respond_to?(method) }
      return if missing.empty?

      raise ArgumentError, "#{handler.class} has no method #{missing.join(', ')}; #{name} needs a public one for each method of its IDL"
    end

    # Returns the Reply to a call. Raises only exceptions that end the process: exit, signals, out of memory.
    def answer(call)
      refusal = why_not(call)
      return Reply.refusal(refusal) if refusal

      Reply.new(Thrift::MessageTypes::REPLY, result_of(call))
    rescue UnreadableArguments => e
      Reply.refusal(Error.new(:bad_request, "The arguments of #{name}.#{call.method_name} do not match its interface: #{e.message}", not_run: true))
    rescue TooLarge => e
      Reply.refusal(Error.new(:too_large, "#{name}.#{call.method_name} failed: #{e.message}"))
    rescue ShardNotOpen => e
      Reply.refusal(e)
    rescue StandardError, ScriptError, SystemStackError => e
      log(call, e)
      Reply.failure("#{name}.#{call.method_name} failed: #{Service.text_of(e)}")
    end

    private

    def why_not(call)
      if !['', name].include?(call.service_name)
        Error.new(:no_pool, "This is #{name}@#{@version}; it does not offer #{call.service_name}", not_run: true)
      elsif !method_names.include?(call.method_name)
        Error.new(:no_pool, "#{name} has no method #{call.method_name.inspect}; it has #{method_names.join(', ')}", not_run: true)
      end
    end

    # Encodes the result struct in a separate buffer, so that an incomplete result is never sent.
    def result_of(call)
      output = Output.new(Thrift::MemoryBufferTransport.new)
      @processor.public_send("process_#{call.method_name}", 0, Wire.input(call.body), output)
      # The processor writes nothing for a oneway method. The mesh expects an empty struct.
      return Wire::EMPTY_STRUCT if output.message_type.nil?

      body = output.trans.read(output.trans.available)
      raise TypeError, 'it returned nil, but the IDL declares a result' if body == Wire::EMPTY_STRUCT && returns_something?(call.method_name)

      limit = Wire::FRAME_BYTES_MAX - Wire::HEAD_BYTES - call.method_name.bytesize
      raise TooLarge, "its result has #{body.bytesize} bytes, limit is #{limit}; return less at once" if body.bytesize > limit

      body
    end

    # Whether the method returns a value: its result struct, in the module of its processor, has a field 0.
    def returns_something?(method_name)
      space = Object.const_get(@processor.method("process_#{method_name}").owner.name.rpartition('::').first)
      space.const_get("#{method_name[0].upcase}#{method_name[1..-1]}_result")::FIELDS.key?(0)
    rescue NameError
      false
    end

    def log(call, thrown)
      # Such as no_pool of a call to another service: its message says all.
      return Katamari.logger.warn("#{name}.#{call.method_name} failed: #{thrown.code}: #{Service.text_of(thrown)}") if thrown.is_a?(Error)

      stack = Wire.utf8(thrown.full_message(highlight: false).chomp)
      Katamari.logger.error("#{name}.#{call.method_name} raised an exception that its IDL does not declare: #{stack}")
    end
  end
end
