# frozen_string_literal: true

# The chassis of this process. It listens at KATAMARI_LISTEN, runs calls, and ends after a drain or when its resource
# manager exits. Without KATAMARI_LISTEN, it is a plain framed Thrift server on 127.0.0.1:9095.

module Katamari
  class Chassis
    LISTEN_BY_HAND = 'tcp:127.0.0.1:9095'

    # Raises ArgumentError if the arguments do not match each other.
    def initialize(processor, handler, details, idl, content = nil)
      unless details.concurrency.is_a?(Integer) && details.concurrency.positive?
        raise ArgumentError, "concurrency is #{details.concurrency.inspect}; expected a whole number above 0"
      end

      details.idlMain = idl.main
      details.idlFiles = idl.files
      @details = details
      Katamari.resource = "#{details.serviceName}@#{details.version}" unless ENV.key?('KATAMARI_RESOURCE')
      @service = Service.new(processor, handler, details.serviceName, details.version)
      @server = Server.new(details, content && ContentControl.new(content))
    end

    # Returns after a drain, when the last call has its reply.
    def run
      # Flush each write, because the mesh reads the output by line while the process runs. Flush earlier output of
      # the script first; otherwise it would stay in the buffer.
      $stdout.flush
      $stdout.sync = true
      drain_on_signals
      exit_with_manager
      @server.listen(ENV.fetch('KATAMARI_LISTEN', LISTEN_BY_HAND))
      puts "#{Katamari.resource} listens on #{@server.address} (framed Thrift)" unless ENV.key?('KATAMARI_LISTEN')
      run_calls
    end

    private

    # With concurrency 1, handlers run in the thread of the caller, for code that must stay in one thread.
    def run_calls
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
      # Do not run a call whose caller no longer waits.
      return call.connection.answer(call, Service::Reply.too_late(call)) if call.context.abandoned?

      reply = with_context(call.context) { @service.answer(call) }
      reply.context ||= Contract::ReplyContext.new(retire: true) if call.context.retiring?
      call.connection.answer(call, reply)
      @server.drain if call.context.retiring?
    end

    # The context is a variable of the thread, not of the fiber, because an Enumerator in a handler runs in its own
    # fiber.
    def with_context(context)
      Thread.current.thread_variable_set(:katamari_context, context)
      yield
    ensure
      Thread.current.thread_variable_set(:katamari_context, nil)
    end

    # The first SIGTERM or SIGINT starts a drain, the second exits at once. A signal handler must not take a lock, so
    # a thread starts the drain.
    def drain_on_signals
      requests = Queue.new
      %w[TERM INT].each do |signal|
        trap(signal) do
          exit!(1) if requests.closed?
          requests.close
        end
      end
      Thread.new do
        requests.pop
        @server.drain
      end
    end

    # Exits when standard input closes, so that a chassis never outlives its resource manager.
    def exit_with_manager
      return unless ENV['KATAMARI_LIFELINE'] == 'stdin'

      # Handlers and their child processes get an empty standard input instead.
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
