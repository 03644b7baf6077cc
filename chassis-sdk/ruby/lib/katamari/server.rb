# frozen_string_literal: true

# The socket server of the chassis: it listens, holds the connections, and queues calls for the worker threads. It
# counts the calls in flight, so that a drain can wait for the last one. Limits: connections, and queued calls; while
# the queue is full, connections are not read (backpressure).

require 'socket'

module Katamari
  class Server
    CONNECTIONS_MAX = 256
    WAITING_MAX = 1024
    # Time for a peer of the mesh to close its connection after the drain notice and the last reply, in seconds.
    LEAVE_SECONDS = 1

    # The address with the actual port; nil before `listen`.
    attr_reader :address
    # The encoded result of katamari.Chassis.describe.
    attr_reader :description

    # content - a ContentControl, nil for a chassis that is no content server.
    def initialize(details, content = nil)
      @content = content
      @description = Output.encode(Contract::DescribeResult.new(success: details)).freeze
      @queue = SizedQueue.new(WAITING_MAX)
      @connections = {}.compare_by_identity
      @in_flight = 0
      @draining = false
      @lock = Mutex.new
      @changed = ConditionVariable.new
    end

    # Raises ArgumentError for an invalid address, SystemCallError if it is not available.
    def listen(address)
      kind, host, port = Wire.parse_address(address)
      @listener = kind == :unix ? UNIXServer.new(host) : TCPServer.new(host, port)
      @address = kind == :unix ? "unix:#{host}" : "tcp:#{host.include?(':') ? "[#{host}]" : host}:#{@listener.local_address.ip_port}"
      @path = host if kind == :unix
      background { accept }
    end

    # Queues the call, or starts one of the control service of content servers, which does not wait for handlers.
    # Returns false if this server drains. Blocks while the queue is full.
    def take(call)
      @lock.synchronize do
        return false if @draining

        @in_flight += 1
      end
      @content && call.service_name == ContentControl::NAME ? control(call) : @queue << call
      true
    end

    # Returns the next call; nil after a drain.
    def next_call
      @queue.pop
    end

    # Counts a call as ended.
    def done
      @lock.synchronize do
        @in_flight -= 1
        @changed.broadcast
      end
    end

    # Starts a drain and returns at once. New calls are refused and peers of the mesh get a drain notice. After the
    # last reply, all connections close and `next_call` returns nil. May be called twice.
    def drain
      @lock.synchronize do
        return if @draining

        @draining = true
      end
      background { finish }
    end

    private

    def control(call)
      @content.take(call) do |reply|
        call.connection.answer(call, reply)
        done
      end
    end

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
      connections.each { |connection| connection.send_drain_notice if connection.of_mesh? }
      wait_until { @in_flight.zero? }
      # Let peers of the mesh close their connections, so that no call is in transit when the connection closes.
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

    # Starts a thread. Its failure ends the process; otherwise it would go unnoticed.
    def background(&work)
      Thread.new(&work).tap { |thread| thread.abort_on_exception = true }
    end
  end
end
