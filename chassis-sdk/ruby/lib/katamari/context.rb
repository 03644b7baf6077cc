# frozen_string_literal: true

# The context of the call that a handler works on. A handler can pass it to other threads, which can use it until the
# reply to the call.

module Katamari
  # Who makes a call, as proved to the mesh. `how` is anonymous, mtls, token, jwt, chassis or mesh.
  Identity = Struct.new(:name, :roles, :how)

  class Context
    # Timeout of a call without a deadline, and of calls that are made outside of a call.
    SECONDS_WITHOUT_MESH = 60

    # Name of the method, as in the IDL.
    attr_reader :method_name
    # Caller, for logs: `json-rpc 127.0.0.1`, `chassis Shop@1.0.0/2`.
    attr_reader :caller
    # Caller as proved to the mesh, an Identity.
    attr_reader :identity
    # W3C trace context, '' for none.
    attr_reader :traceparent, :tracestate
    # Sticky key of the call, '' for none.
    attr_reader :key
    # 0 for the first try, more if the mesh retries an idempotent call.
    attr_reader :attempt
    # Transport headers of the client that the mesh does not use, as sent; names of HTTP headers are in lower case.
    attr_reader :headers

    # Returns the context for code outside of calls, such as a test of a handler.
    def self.outside
      new('', Contract::CallContext.new, Float::INFINITY)
    end

    # deadline - a time on the clock of Wire.now.
    def initialize(method_name, call_context, deadline)
      @method_name = method_name
      @deadline = deadline
      @caller = call_context.caller.to_s
      @identity = Identity.new(call_context.identityName || 'anonymous', (call_context.identityRoles || []).freeze,
                               call_context.identityHow || 'anonymous').freeze
      @traceparent = call_context.traceparent.to_s
      @tracestate = call_context.tracestate.to_s
      @key = call_context.key.to_s
      @attempt = call_context.attempt.to_i
      @headers = (call_context.headers || {}).freeze
      @abandoned = false
      @retiring = false
    end

    # Seconds until the deadline of the call, a Float; 0.0 after it, infinite outside of calls.
    def time_left
      [@deadline - Wire.now, 0.0].max
    end

    # Whether the caller no longer waits: the deadline has passed, or the caller has disconnected or canceled the
    # call. Check it in long loops.
    def abandoned?
      @abandoned || time_left.zero?
    end

    # The logger of this process.
    def log
      Katamari.logger
    end

    # Returns a client for another service of the mesh, an object of the class that `thrift --gen rb` generated. Its
    # calls end within the remaining time of this call and carry its trace.
    #
    # service      - name of the service in the mesh; by default the name of the module around the class.
    # version      - exact version or a range; '' for any.
    # timeout      - timeout of each call in seconds, if that is less than the remaining time.
    # min_coverage - share of the shards of an index that must be in the answer, from 0 to 1. It precedes the parameter
    #                `minCoverage` of a method, and is also for methods without one.
    # on_reply     - called with the facts about each reply, a ReplyInfo, before the method returns its value or raises
    #                a declared exception. Not called for other errors. What it raises, the method raises.
    #
    # Its methods raise declared exceptions, Katamari::Error if the mesh refused or failed the call, and
    # Thrift::ApplicationException if the other chassis failed.
    def client(client_class, service: client_class.name.split('::')[-2], version: '', timeout: SECONDS_WITHOUT_MESH,
               min_coverage: nil, on_reply: nil)
      unless min_coverage.nil? || (0..1).cover?(min_coverage)
        raise ArgumentError, "min_coverage is #{min_coverage.inspect}, expected a share from 0 to 1"
      end

      client_class.new(
        MeshProtocol.new(Katamari.mesh, self, service, version, timeout, min_coverage: min_coverage, on_reply: on_reply)
      )
    end

    # Makes the process exit after the reply to this call; the mesh replaces it. For code that must not be reused.
    def retire_after_reply
      @retiring = true
    end

    def retiring?
      @retiring
    end

    # Called by the connection when the caller has disconnected or canceled the call.
    def abandon
      @abandoned = true
    end
  end
end
