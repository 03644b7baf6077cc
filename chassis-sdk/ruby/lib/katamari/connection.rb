# frozen_string_literal: true

# The connection of one peer: the resource manager, or a plain client that speaks framed strict binary. Its own thread
# reads it, answers the control service at once even while handlers run, and passes calls to the server's queue. A call
# above the limits of bytes or nesting is refused. A peer that sends another invalid message is disconnected. A reply
# is sent when it is ready, with the sequence id of its call.

module Katamari
  # A received call, until its reply.
  class Call
    attr_reader :connection, :context, :service_name, :method_name, :body, :sequence_id

    def initialize(connection, message)
      @connection = connection
      @sequence_id = message.sequence_id
      @is_oneway = message.type == Thrift::MessageTypes::ONEWAY
      @body = message.body
      sent = message.read_context(Contract::CallContext)
      @of_mesh = !sent.nil?
      service, _version, @method_name = message.target
      @service_name = service.empty? ? sent&.serviceName.to_s : service
      seconds = sent ? sent.timeLeftUs.to_i / 1_000_000.0 : Context::SECONDS_WITHOUT_MESH
      @context = Context.new(@method_name, sent || Contract::CallContext.new(caller: 'a client that is not the mesh'), Wire.now + seconds)
    end

    # The mesh sends oneway calls as ordinary calls and expects a reply. A plain client does not expect one.
    def wants_answer?
      !@is_oneway
    end

    # Whether the call came from the mesh, which understands a ReplyContext.
    def of_mesh?
      @of_mesh
    end
  end

  class Connection
    CONTROL = 'katamari.Chassis:'
    LINK = 'katamari.Link:'

    # server - receives the calls; provides the description and the drain.
    def initialize(io, server)
      @socket = Wire::FrameSocket.new(io)
      @server = server
      @calls = {}.compare_by_identity
      @lock = Mutex.new
      @of_mesh = false
    end

    # Whether the peer sent a context or called the control service. Then it understands a drain notice.
    def of_mesh?
      @of_mesh
    end

    # Reads until the peer disconnects or breaks the protocol.
    def run
      while (frame = @socket.read)
        frame.is_a?(Wire::Oversized) ? refuse_oversized(frame) : receive_frame(frame)
      end
    rescue Wire::Malformed, Wire::Late => e
      Katamari.logger.warn("Closed a connection: #{e.message}")
    rescue IOError, SystemCallError
      nil
    rescue StandardError => e
      # A defect in this gem ends only one connection.
      Katamari.logger.error("Closed a connection: #{e.full_message(highlight: false)}")
    ensure
      close
    end

    # Sends the reply, unless the call was canceled or is oneway.
    def answer(call, reply)
      wanted = @lock.synchronize { @calls.delete(call) }
      return unless wanted && call.wants_answer?

      context = call.of_mesh? ? reply.context : nil
      write(Wire.frame(reply.type, call.method_name, call.sequence_id, reply.body, context))
    end

    # Sends the drain notice: this side takes no further calls.
    def send_drain_notice
      write(Wire.frame(Thrift::MessageTypes::ONEWAY, "#{LINK}drain", 0, Wire::EMPTY_STRUCT))
    end

    # Closes the connection now and abandons its calls.
    def close
      @lock.synchronize do
        @calls.each_key { |call| call.context.abandon }
        @calls.clear
      end
      @socket.close
    end

    private

    def receive_frame(frame)
      receive(Wire::Message.parse(frame))
    rescue Wire::TooDeep => e
      refuse(Wire::Message.head_of(frame), :bad_request, e.message)
    end

    def refuse_oversized(frame)
      why = "it has #{frame.bytes} bytes, limit is #{Wire::FRAME_BYTES_MAX}; send it in smaller pieces"
      refuse(Wire::Message.head_of(frame.start), :too_large, why)
    end

    # Refuses a call that was not read.
    def refuse(message, code, why)
      check_type(message)
      error = Error.new(code, "Cannot take #{message.target.last}: #{why}", not_run: true)
      body = Wire.application_exception(error.type, error.message)
      reply(message, body, Thrift::MessageTypes::EXCEPTION, message.context && error.to_reply_context)
    end

    def check_type(message)
      return if [Thrift::MessageTypes::CALL, Thrift::MessageTypes::ONEWAY].include?(message.type)

      raise Wire::Malformed, "a message of type #{message.type}, expected a call"
    end

    def receive(message)
      check_type(message)
      return control(message) if message.name.start_with?(CONTROL)
      return link(message) if message.name.start_with?(LINK)

      call = Call.new(self, message)
      @of_mesh ||= call.of_mesh?
      @lock.synchronize { @calls[call] = true }
      return if @server.take(call)

      why = Error.new(:draining, "Cannot take #{call.method_name}: this process is draining; send the call to another one", not_run: true)
      answer(call, Service::Reply.refusal(why))
    end

    def control(message)
      @of_mesh = true
      case message.target.last
      when 'describe' then reply(message, @server.description)
      when 'ping' then reply(message)
      when 'drain'
        reply(message)
        @server.drain
      else unknown(message)
      end
    end

    # Handles control messages of a link (idl/link.thrift).
    def link(message)
      case message.target.last
      when 'ping' then reply(message)
      when 'cancel'
        id = Wire.read(Contract::CancelArgs, message.body).sequenceId
        taken_back = @lock.synchronize { @calls.keys.find { |call| call.sequence_id == id }.tap { |call| @calls.delete(call) } }
        taken_back&.context&.abandon
      else unknown(message)
      end
    end

    def reply(message, body = Wire::EMPTY_STRUCT, type = Thrift::MessageTypes::REPLY, context = nil)
      return if message.type == Thrift::MessageTypes::ONEWAY

      write(Wire.frame(type, message.target.last, message.sequence_id, body, context))
    end

    def unknown(message)
      why = Wire.application_exception(Thrift::ApplicationException::UNKNOWN_METHOD, "A chassis has no method #{message.name}")
      reply(message, why, Thrift::MessageTypes::EXCEPTION)
    end

    def write(frame)
      @socket.write(frame)
    rescue Wire::Late, IOError, SystemCallError
      close
    end
  end
end
