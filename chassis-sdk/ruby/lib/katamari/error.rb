# frozen_string_literal: true

# The mesh refused a call or could not finish it. A subclass of Thrift's application exception, so code that rescues
# Thrift's exception also handles this one.

module Katamari
  class Error < Thrift::ApplicationException
    # Codes by their number in idl/katamari.thrift.
    CODES = {
      1 => :no_pool, 2 => :overloaded, 3 => :timeout, 4 => :resource_failed, 5 => :draining, 6 => :denied, 7 => :rate_limited,
      8 => :too_large, 9 => :bad_request, 10 => :internal, 11 => :cancelled, 12 => :refused_as_poison,
      13 => :incomplete
    }.freeze
    NUMBERS = CODES.invert.freeze
    THRIFT_TYPES = Hash.new(INTERNAL_ERROR).merge(no_pool: UNKNOWN_METHOD, bad_request: PROTOCOL_ERROR).freeze

    # One of CODES.
    attr_reader :code
    # Where the deadline passed, :queue or :service; nil if it did not pass or the stage is unknown.
    attr_reader :stage
    # Delay after which a retry may succeed, in seconds; nil if unknown.
    attr_reader :retry_after

    def initialize(code, message, not_run: false, stage: nil, retry_after: nil)
      super(THRIFT_TYPES[code], message)
      @code = code
      @not_run = not_run
      @stage = stage
      @retry_after = retry_after
    end

    # True if the call certainly did not run, so that a retry is safe.
    def not_run?
      @not_run
    end

    # Encodes code and facts for a peer of the mesh; the message travels separately.
    def to_reply_context
      Contract::ReplyContext.new(
        errorCode: NUMBERS.fetch(code), notRun: not_run? || nil, stage: { queue: 1, service: 2 }[stage]
      )
    end

    # Returns the error in a ReplyContext; nil if there is none. A code that this version does not know is :internal.
    def self.from(reply_context, message)
      number = reply_context.errorCode
      return if number.nil? || number.zero?

      new(CODES.fetch(number, :internal), message, not_run: reply_context.notRun ? true : false,
                                                   stage: { 1 => :queue, 2 => :service }[reply_context.stage],
                                                   retry_after: reply_context.retryAfterMs&.fdiv(1000))
    end
  end
end
