# frozen_string_literal: true

# A socket as a row of frames: a length of 4 bytes, then so many bytes. Memory grows with what has come, never with
# what was declared, and every wait within a frame has its limit. Limits: Wire::FRAME_BYTES_MAX,
# Wire::FRAME_SECONDS_MAX.

require 'socket'

module Katamari
  module Wire
    # A socket that frames are read from by one thread and written to by any.
    class FrameSocket
      def initialize(io)
        @io = io
        @io.setsockopt(:TCP, :NODELAY, 1) if @io.local_address.ip?
        @buffer = String.new(encoding: Encoding::BINARY)
        @chunk = String.new(encoding: Encoding::BINARY)
        @writing = Mutex.new
      end

      # The next frame, nil when the peer has closed. For its first byte it waits until `deadline`, for ever without
      # one. Raises Malformed, Late, or what the socket raises.
      def read(deadline = nil)
        return unless fill(1, deadline)

        begun_until = [deadline, Wire.now + FRAME_SECONDS_MAX].compact.min
        return unless fill(4, begun_until)

        length = @buffer.unpack1('l>')
        if length.negative? || length > FRAME_BYTES_MAX
          raise Malformed, "a frame of #{length} bytes is declared, limit is #{FRAME_BYTES_MAX}"
        end
        return unless fill(4 + length, begun_until)

        @buffer.slice!(0, 4 + length).byteslice(4, length)
      end

      # Writes all of it. Raises what the socket raises; the peer has FRAME_SECONDS_MAX to take it.
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

      # Whether anything lies unread: an idle connection on which something has come has ended, or is about to.
      def readable?
        !@buffer.empty? || !IO.select([@io], nil, nil, 0).nil?
      end

      # Ends it; a thread that reads it is woken.
      def close
        @io.shutdown(Socket::SHUT_RDWR)
      rescue IOError, SystemCallError
        nil
      ensure
        @io.close
      end

      private

      # True when the buffer holds `bytes`, false when the stream ended before. It grows with what has come, not with
      # what is declared.
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
