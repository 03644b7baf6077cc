# frozen_string_literal: true

# The chassis of this process: listens at KATAMARI_LISTEN, works calls off, ends when it is drained or when its
# resource manager does. Run by hand it is a plain framed Thrift server on 127.0.0.1:9095.

module Katamari
  class Chassis
    LISTEN_BY_HAND = 'tcp:127.0.0.1:9095'

    # Raises ArgumentError when the parts do not fit together.
    def initialize(processor, handler, details, idl)
      unless details.concurrency.is_a?(Integer) && details.concurrency.positive?
        raise ArgumentError, "concurrency is #{details.concurrency.inspect}; expected a whole number above 0"
      end

      details.idlMain = idl.main
      details.idlFiles = idl.files
      @details = details
      Katamari.resource = "#{details.serviceName}@#{details.version}" unless ENV.key?('KATAMARI_RESOURCE')
      @service = Service.new(processor, handler, details.serviceName, details.version)
      @server = Server.new(details)
    end

    # Returns when it was drained and the last call is answered.
    def run
      # Line by line, as a terminal would have it: what a handler prints must not lie in a buffer until the process
      # ends. What the script has printed before is flushed first, or it and all that follows would stay.
      $stdout.flush
      $stdout.sync = true
      drain_on_signals
      end_with_manager
      @server.listen(ENV.fetch('KATAMARI_LISTEN', LISTEN_BY_HAND))
      puts "#{Katamari.resource} listens on #{@server.address} (framed Thrift)" unless ENV.key?('KATAMARI_LISTEN')
      work_off
    end

    private

    # With a concurrency of 1 handlers stay in the thread of the caller, for code that knows only one.
    def work_off
      return work if @details.concurrency == 1

      workers = Array.new(@details.concurrency) { Thread.new { work }.tap { |thread| thread.abort_on_exception = true } }
      workers.each(&:join)
    end

    def work
      while (call = @server.next_call)
        begin
          answer(call)
        ensure
          @server.done
        end
      end
    end

    def answer(call)
      # What nobody waits for is not begun.
      return call.connection.answer(call, too_late(call)) if call.context.abandoned?

      reply = with_context(call.context) { @service.answer(call) }
      reply.context ||= Contract::ReplyContext.new(retire: true) if call.context.retiring?
      call.connection.answer(call, reply)
      @server.drain if call.context.retiring?
    end

    # A variable of the thread and not of the fiber: an Enumerator in a handler runs in a fiber of its own.
    def with_context(context)
      Thread.current.thread_variable_set(:katamari_context, context)
      yield
    ensure
      Thread.current.thread_variable_set(:katamari_context, nil)
    end

    def too_late(call)
      Service::Reply.refusal(
        Error.new(:timeout, "#{call.method_name} waited until its time was over", not_run: true, stage: :queue)
      )
    end

    # The first asks to finish, the second ends at once. A handler of signals may take no lock, so a thread does what
    # they ask for.
    def drain_on_signals
      asked = Queue.new
      %w[TERM INT].each do |signal|
        trap(signal) do
          exit!(1) if asked.closed?
          asked.close
        end
      end
      Thread.new do
        asked.pop
        @server.drain
      end
    end

    # No chassis outlives its resource manager: its end closes our standard input.
    def end_with_manager
      return unless ENV['KATAMARI_LIFELINE'] == 'stdin'

      # Handlers, and what they start, get an empty one instead.
      lifeline = $stdin.dup
      $stdin.reopen(File::NULL)
      Thread.new do
        begin
          loop { lifeline.readpartial(4096) }
        rescue IOError, SystemCallError
          exit!(0)
        end
      end
    end
  end
end
