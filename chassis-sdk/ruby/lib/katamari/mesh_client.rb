# frozen_string_literal: true

# Sends calls of handlers to other services, through the mesh at KATAMARI_MESH. A connection carries one call at a
# time and is kept for the next one. A context before the arguments passes on deadline and trace. A call that times
# out closes its connection, which cancels the call in the mesh.

module Katamari
  class MeshClient
    # Extra time after the deadline for the error reply of the mesh, in seconds.
    GRACE_SECONDS = 0.5
    CONNECT_SECONDS_MAX = 5
    IDLE_MAX = 16

    # A reply is larger than a frame.
    class TooLarge < StandardError; end

    # address - KATAMARI_MESH; if it is '', every call fails with an error that says so.
    # caller  - name of this process: `chassis Shop@1.0.0/2`.
    def initialize(address, caller)
      @address = address
      @caller = caller
      @idle = []
      @lock = Mutex.new
    end

    # Sends a call and returns its reply, a Wire::Message; nil for a oneway call. Raises Error.
    def exchange(type, method_name, body, call_context, deadline)
      name = "#{call_context.serviceName}.#{method_name}"
      raise Error.new(:no_pool, "Cannot call #{name}: KATAMARI_MESH is not set: only a chassis that a mesh has started can call other services") if @address.empty?
      raise Error.new(:timeout, "Cannot call #{name}: no time is left", not_run: true, stage: :queue) if deadline <= Wire.now

      call_context.caller = @caller
      call_context.timeLeftUs = ((deadline - Wire.now) * 1_000_000).round
      request = Wire.frame(type, method_name, 1, body, call_context)
      if request.bytesize - 4 > Wire::FRAME_BYTES_MAX + Wire::CONTEXT_BYTES_MAX
        raise Error.new(:too_large, "Cannot call #{name}: the call has #{request.bytesize} bytes, limit is #{Wire::FRAME_BYTES_MAX}", not_run: true)
      end

      on_a_connection(name) do |socket|
        socket.write(request)
        type == Thrift::MessageTypes::ONEWAY ? nil : await(socket, deadline + GRACE_SECONDS)
      end
    end

    private

    # Returns the reply. Frames before it are notices of the mesh, such as a drain notice. The mesh then closes the
    # connection, so it is not reused.
    def await(socket, deadline)
      loop do
        frame = socket.read(deadline)
        raise EOFError, 'the connection was closed' if frame.nil?
        raise TooLarge, "it has #{frame.bytes} bytes, limit is #{Wire::FRAME_BYTES_MAX}" if frame.is_a?(Wire::Oversized)

        message = Wire::Message.parse(frame)
        return message if message.sequence_id == 1
      end
    end

    def on_a_connection(name)
      socket = checkout
      answer = yield socket
      checkin(socket)
      answer
    rescue Wire::Late
      socket&.close
      raise Error.new(:timeout, "#{name} got no reply before its deadline", stage: :service)
    rescue TooLarge, Wire::TooDeep => e
      socket&.close
      raise Error.new(:too_large, "The reply to #{name} is beyond the limits: #{e.message}")
    rescue Wire::Malformed, IOError, SystemCallError => e
      socket&.close
      raise Error.new(:resource_failed, "The connection to the mesh at #{@address} failed during #{name}: #{e.message}")
    end

    def checkout
      kept = @lock.synchronize { @idle.pop }
      return connect if kept.nil?
      return kept unless kept.readable?

      kept.close
      checkout
    end

    def checkin(socket)
      @lock.synchronize do
        return @idle.push(socket) if @idle.size < IDLE_MAX
      end
      socket.close
    end

    def connect
      kind, host, port = Wire.parse_address(@address)
      Wire::FrameSocket.new(kind == :unix ? UNIXSocket.new(host) : Socket.tcp(host, port, connect_timeout: CONNECT_SECONDS_MAX))
    rescue SystemCallError, SocketError => e
      raise Error.new(:resource_failed, "The mesh at #{@address} cannot be reached: #{e.message}", not_run: true)
    end
  end

  # The protocol of a generated client. The message that the client writes becomes one call to the mesh; the client
  # then reads its reply.
  class MeshProtocol < Output
    # min_coverage, on_reply - as of Context#client.
    def initialize(mesh, context, service, version, timeout, min_coverage: nil, on_reply: nil)
      super(Thrift::MemoryBufferTransport.new)
      @mesh = mesh
      @context = context
      @service = service
      @version = version
      @timeout = timeout
      @min_coverage = min_coverage
      @on_reply = on_reply
    end

    def write_message_begin(name, type, sequence_id)
      super
      @depth = 0
      # Drop the rest of an earlier message whose encoding failed.
      trans.reset_buffer(+'')
    end

    def write_message_end
      call_context = Contract::CallContext.new(
        serviceName: @service, version: @version, traceparent: @context.traceparent, tracestate: @context.tracestate,
        minCoverage: @min_coverage&.to_f
      )
      deadline = Wire.now + [@context.time_left, @timeout].min
      @answer = @mesh.exchange(message_type, message_name, trans.read(trans.available), call_context, deadline)
      accept(@answer) unless @answer.nil?
    end

    def read_message_begin
      [message_name, @answer.type, 0]
    end

    private

    def accept(answer)
      reply_context = answer.read_context(Contract::ReplyContext)
      error = reply_context && Error.from(reply_context, Wire.message_of(answer.body))
      raise error if error

      @on_reply&.call(ReplyInfo.of(reply_context)) if answer.type == Thrift::MessageTypes::REPLY
      trans.reset_buffer(answer.body)
    end
  end
end
