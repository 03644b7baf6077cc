# frozen_string_literal: true

# Bytes and messages: framed, strict binary, the context first in the body (field 32767). What comes in is one whole
# struct within the limits before any of it is decoded, because the library believes every size it reads. Limits:
# bytes of a frame, nesting, name.

require 'katamari/scanner'

module Katamari
  module Wire
    FRAME_BYTES_MAX = 16 * 1024 * 1024
    NESTING_MAX = 64
    NAME_BYTES_MAX = 1024
    # A frame that was begun must be whole after so many seconds, and a peer must take what is written to it.
    FRAME_SECONDS_MAX = 30

    EMPTY_STRUCT = "\0".b.freeze
    CONTEXT_HEAD = "\x0c\x7f\xff".b.freeze
    STRICT_VERSION = 0x80010000

    # The library's protocol: written in C where its extension is there.
    BINARY = defined?(Thrift::BinaryProtocolAccelerated) ? Thrift::BinaryProtocolAccelerated : Thrift::BinaryProtocol

    # The bytes are not what they should be: nothing sensible can be read from this connection any more.
    class Malformed < StandardError; end

    # The peer did not do in time what was waited for.
    class Late < StandardError; end

    # One message that has come. `context` is the bytes of the struct in field 32767, nil for none; `body` is the
    # struct without it.
    Message = Struct.new(:type, :name, :sequence_id, :context, :body) do
      def self.parse(frame)
        size = frame.bytesize
        raise Malformed, "a message of #{size} bytes ends inside its head" if size < 12

        word, name_bytes = frame.unpack('NN')
        raise Malformed, format('not strict binary: it begins with 0x%08x', word) if word & 0xffff0000 != STRICT_VERSION
        raise Malformed, "a name of #{name_bytes} bytes" if name_bytes > NAME_BYTES_MAX || 12 + name_bytes > size

        body_at = 12 + name_bytes
        raise Malformed, 'the body is not one whole struct' if Scanner.new(frame).struct_end(body_at) != size

        context_end = frame.byteslice(body_at, 3) == CONTEXT_HEAD ? Scanner.new(frame).struct_end(body_at + 3) : body_at
        new(word & 0xff, frame.byteslice(8, name_bytes).force_encoding(Encoding::UTF_8), frame.byteslice(body_at - 4, 4).unpack1('l>'),
            context_end == body_at ? nil : frame.byteslice(body_at + 3, context_end - body_at - 3),
            frame.byteslice(context_end, size - context_end))
      end

      # [service, version, method] of `method`, `Service:method` or `Service@version:method`; absent parts are empty.
      def target
        before, _, method = name.rpartition(':')
        service, _, version = before.partition('@')
        [service, version, method]
      end

      # The context as a struct of that class, nil when there is none.
      def read_context(struct_class)
        context && Wire.read(struct_class, context)
      end
    end

    class << self
      # One framed message; `context` is a struct to be placed first, nil for none.
      def frame(type, name, sequence_id, body, context = nil)
        context_bytes = context ? CONTEXT_HEAD + Output.encode(context) : ''.b
        bytes = 12 + name.bytesize + context_bytes.bytesize + body.bytesize
        [bytes, STRICT_VERSION | type, name.bytesize].pack('NNN') << name.b << [sequence_id].pack('l>') << context_bytes << body
      end

      # A struct of the class given, decoded; the bytes have been scanned. Raises Malformed where the library cannot
      # read on, as at types that are younger than it.
      def read(struct_class, bytes)
        struct_class.new.tap { |struct| struct.read(input(bytes)) }
      rescue StandardError => e
        raise Malformed, "a struct that cannot be read: #{e.message}"
      end

      # A protocol of the library that reads these bytes.
      def input(bytes)
        BINARY.new(Thrift::MemoryBufferTransport.new(bytes.dup))
      end

      # The text as valid UTF-8, whatever it was.
      def utf8(text)
        text = text.dup.force_encoding(Encoding::UTF_8) if text.encoding == Encoding::BINARY
        text.encode(Encoding::UTF_8, invalid: :replace, undef: :replace).scrub
      end

      # A TApplicationException. Long messages are cut.
      def application_exception(type, message)
        text = utf8(message)
        text = "#{text[0, MESSAGE_CHARS_MAX]}…" if text.length > MESSAGE_CHARS_MAX
        Output.encode(Thrift::ApplicationException.new(type, text))
      end

      # What the TApplicationException in these bytes says.
      def message_of(body)
        read(Thrift::ApplicationException, body).message.to_s
      end

      # Seconds on a clock that nobody sets.
      def now
        Process.clock_gettime(Process::CLOCK_MONOTONIC)
      end

      # [:unix, path] or [:tcp, host, port]. Raises ArgumentError.
      def parse_address(address)
        return [:unix, address.delete_prefix('unix:')] if address.start_with?('unix:')

        host, port = address.match(/\Atcp:(.*):(\d+)\z/)&.captures
        unless port && port.to_i < 65_536
          raise ArgumentError, "#{address.inspect} is no address; expected unix:PATH or tcp:HOST:PORT"
        end

        [:tcp, host.delete_prefix('[').delete_suffix(']'), port.to_i]
      end
    end

    MESSAGE_CHARS_MAX = 8192
    private_constant :MESSAGE_CHARS_MAX
  end
end
