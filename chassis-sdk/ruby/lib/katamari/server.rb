# frozen_string_literal: true

# The address that this chassis listens on, its connections, and the queue between them and the threads that work.
# Knows how many calls are under way, so that draining can wait for the last of them. Limits: connections, calls that
# wait (then their connection is not read).

require 'socket'

module Katamari
  class Server
    CONNECTIONS_MAX = 256
    WAITING_MAX = 1024
    # Time that a peer of the mesh has to close its connection after the drain notice and its last answer.
    LEAVE_SECONDS = 1

    # Where it listens, the actual port included; nil before `listen`.
    attr_reader :address
    # The answer to katamari.Chassis.describe.
    attr_reader :description

    def initialize(details)
      @description = Output.encode(Contract::DescribeResult.new(success: details)).freeze
      @queue = SizedQueue.new(WAITING_MAX)
      @connections = {}.compare_by_identity
      @under_way = 0
      @draining = false
      @lock = Mutex.new
      @changed = ConditionVariable.new
    end

    # Raises ArgumentError for what is no address, SystemCallError when it cannot be had.
    def listen(address)
      kind, host, port = Wire.parse_address(address)
      @listener = kind == :unix ? UNIXServer.new(host) : TCPServer.new(host, port)
      @address = kind == :unix ? "unix:#{host}" : "tcp:#{host.include?(':') ? "[#{host}]" : host}:#{@listener.local_address.ip_port}"
      @path = host if kind == :unix
      background { accept }
    end

    # True when the call is to be worked on; false when this server drains. Waits while too many do.
    def take(call)
      @lock.synchronize do
        return false if @draining

        @under_way += 1
      end
      @queue << call
      true
    end

    # The next call to work on, nil when there will be none.
    def next_call
      @queue.pop
    end

    # A call that was taken has been answered.
    def done
      @lock.synchronize do
        @under_way -= 1
        @changed.broadcast
      end
    end

    # Takes no further call and tells the peers so; when the last answer is out, closes everything and lets
    # `next_call` end. Returns at once. Twice is fine.
    def drain
      @lock.synchronize do
        return if @draining

        @draining = true
      end
      background { finish }
    end

    private

    def accept
      loop do
        io = @listener.accept
        io.close if @connections.size >= CONNECTIONS_MAX
        background { serve(Connection.new(io, self)) } unless io.closed?
      rescue Errno::EMFILE, Errno::ENFILE, Errno::ECONNABORTED => e
        Katamari.logger.warn("Cannot accept a connection: #{e.message}")
        sleep(0.1)
      end
    rescue IOError, SystemCallError => e
      raise unless @draining && @listener.closed?

      e
    end

    def serve(connection)
      @lock.synchronize { @connections[connection] = true }
      connection.run
    ensure
      @lock.synchronize do
        @connections.delete(connection)
        @changed.broadcast
      end
    end

    def finish
      @listener.close
      File.unlink(@path) if @path && File.socket?(@path)
      connections.each { |connection| connection.say_drain if connection.of_mesh? }
      wait_until { @under_way.zero? }
      # A peer of the mesh closes its connection itself, so that none of its calls is on its way here meanwhile.
      wait_until(Wire.now + LEAVE_SECONDS) { @connections.each_key.none?(&:of_mesh?) }
      connections.each(&:close)
      @queue.close
    end

    def connections
      @lock.synchronize { @connections.keys }
    end

    def wait_until(deadline = nil)
      @lock.synchronize do
        until yield
          seconds = deadline && (deadline - Wire.now)
          break if seconds && seconds <= 0

          @changed.wait(@lock, seconds)
        end
      end
    end

    # A thread whose failure is that of the process: nothing else would notice.
    def background(&work)
      Thread.new(&work).tap { |thread| thread.abort_on_exception = true }
    end
  end
end
