# frozen_string_literal: true

# What a handler knows of the call that it works on, and what it may ask for. Handed to other threads it goes on being
# of use until the call is answered.

module Katamari
  class Context
    # Time of a call that came without a deadline, and of calls that are made outside of one.
    SECONDS_WITHOUT_MESH = 60

    # Name of the method, as in the IDL.
    attr_reader :method_name
    # Who calls, for people: `json-rpc 127.0.0.1`, `chassis Shop@1.0.0/2`.
    attr_reader :caller
    # W3C trace context, '' for none.
    attr_reader :traceparent, :tracestate
    # Sticky key of the call, '' for none.
    attr_reader :key
    # 0 for the first try, more when the mesh sends an idempotent call again.
    attr_reader :attempt
    # What the client said in headers of its transport that mean nothing to the mesh; names in lower case.
    attr_reader :headers

    # The context of code that works on no call, such as a test of a handler or a thread of the author's own.
    def self.outside
      new('', Contract::CallContext.new, Float::INFINITY)
    end

    # deadline - on the clock of Wire.now.
    def initialize(method_name, call_context, deadline)
      @method_name = method_name
      @deadline = deadline
      @caller = call_context.caller.to_s
      @traceparent = call_context.traceparent.to_s
      @tracestate = call_context.tracestate.to_s
      @key = call_context.key.to_s
      @attempt = call_context.attempt.to_i
      @headers = (call_context.headers || {}).freeze
      @abandoned = false
      @retiring = false
    end

    # Seconds until the caller gives up, a Float; 0.0 when it has, infinite outside of calls.
    def time_left
      [@deadline - Wire.now, 0.0].max
    end

    # True when nobody waits for the answer any more: the time is up, the caller has gone or has taken the call back.
    # For long loops.
    def abandoned?
      @abandoned || time_left.zero?
    end

    # The logger of this process.
    def log
      Katamari.logger
    end

    # A client for another service of the mesh: an object of the class that `thrift --gen rb` wrote for it. Each call
    # that is made with it ends within the time that is left here, and carries the trace.
    #
    # service - its name in the mesh; by default the name of the module around the class.
    # version - exact or a range; any when empty.
    # timeout - seconds that each call may take, if that is less.
    #
    # Its methods raise declared exceptions, Katamari::Error when the mesh failed the call,
    # Thrift::ApplicationException when the other chassis did.
    def client(client_class, service: client_class.name.split('::')[-2], version: '', timeout: SECONDS_WITHOUT_MESH)
      client_class.new(MeshProtocol.new(Katamari.mesh, self, service, version, timeout))
    end

    # Answer this call, then exit and be replaced: for code that must not be used again.
    def retire_after_reply
      @retiring = true
    end

    def retiring?
      @retiring
    end

    # The connection's word that the caller has gone.
    def abandon
      @abandoned = true
    end
  end
end
