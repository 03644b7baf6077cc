# frozen_string_literal: true

# Reads and writes frames on a socket: a length of 4 bytes, then that many bytes. The buffer grows with the received
# bytes, never with the declared length. Of a frame above the limit only the begin is kept, so that its call can be
# refused and the connection lives on. Limits: the size of a frame (Wire::FRAME_BYTES_MAX and room for a context), and
# the time for a complete frame (Wire::FRAME_SECONDS_MAX).

require 'socket'

module Katamari
  module Wire
    # One thread reads frames from it. Any thread may write.
    class FrameSocket
      def initialize(io)
        @io = io
        @io.setsockopt(:TCP, :NODELAY, 1) if @io.local_address.ip?
        @buffer = String.new(encoding: Encoding::BINARY)
        @chunk = String.new(encoding: Encoding::BINARY)
        # Bytes of an oversized frame that are to be dropped.
        @skip = 0
        @writing = Mutex.new
      end

      # Returns the next frame, an Oversized for one above the limit; nil if the peer has closed. Waits for its first
      # byte until `deadline`, or forever without one. Raises Malformed, Late, or a socket error.
      def read(deadline = nil)
        return unless skip([deadline, Wire.now + FRAME_SECONDS_MAX].compact.min) && fill(1, deadline)

        begun_until = [deadline, Wire.now + FRAME_SECONDS_MAX].compact.min
        return unless fill(4, begun_until)

        length = @buffer.unpack1('l>')
        if length.negative? || length > SKIPPED_BYTES_MAX
          raise Malformed, "a frame of #{length} bytes is declared, limit is #{FRAME_BYTES_MAX}"
        end
        return oversized(length, begun_until) if length > FRAME_BYTES_MAX + CONTEXT_BYTES_MAX
        return unless fill(4 + length, begun_until)

        @buffer.slice!(0, 4 + length).byteslice(4, length)
      end

      # Writes all bytes. Raises Late if the peer does not read them within FRAME_SECONDS_MAX, or a socket error.
      def write(bytes)
        deadline = Wire.now + FRAME_SECONDS_MAX
        @writing.synchronize do
          rest = bytes
          until rest.empty?
            written = @io.write_nonblock(rest, exception: false)
            if written == :wait_writable
              wait(deadline) { |seconds| IO.select(nil, [@io], nil, seconds) }
            else
              rest = rest.byteslice(written, rest.bytesize - written)
            end
          end
        end
      end

      # Whether there is unread data. On an idle connection, that means that it has closed or is about to.
      def readable?
        !@buffer.empty? || !IO.select([@io], nil, nil, 0).nil?
      end

      # Closes the socket and wakes the thread that reads it.
      def close
        @io.shutdown(Socket::SHUT_RDWR)
      rescue IOError, SystemCallError
        nil
      ensure
        @io.close
      end

      private

      # Keeps the head of a frame above the limit and what follows it, which may be a context.
      def oversized(length, deadline)
        return unless fill(12, deadline)

        word, name_bytes = @buffer.unpack('x4NN')
        is_message = word & 0xffff0000 == STRICT_VERSION && name_bytes <= NAME_BYTES_MAX
        start_bytes = is_message ? HEAD_BYTES + name_bytes + CONTEXT_HEAD.bytesize : 8
        return unless fill(4 + start_bytes, deadline)

        @skip = 4 + length
        Oversized.new(@buffer.byteslice(4, start_bytes), length)
      end

      # Drops the rest of an oversized frame. Returns false if the stream ends earlier.
      def skip(deadline)
        while @skip.positive?
          return false if @buffer.empty? && !fill(1, deadline)

          dropped = [@skip, @buffer.bytesize].min
          @buffer.slice!(0, dropped)
          @skip -= dropped
        end
        true
      end

      # Reads until the buffer has `bytes` bytes. Returns false if the stream ends earlier.
      def fill(bytes, deadline)
        while @buffer.bytesize < bytes
          case @io.read_nonblock(CHUNK_BYTES, @chunk, exception: false)
          when :wait_readable then wait(deadline) { |seconds| IO.select([@io], nil, nil, seconds) }
          when nil then return false
          else @buffer << @chunk
          end
        end
        true
      end

      def wait(deadline)
        seconds = deadline && (deadline - Wire.now)
        raise Late, 'the peer took too long' if seconds && seconds <= 0

        yield seconds
      end

      CHUNK_BYTES = 65_536
      private_constant :CHUNK_BYTES
    end
  end
end
