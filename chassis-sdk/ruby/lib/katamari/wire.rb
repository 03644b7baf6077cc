# frozen_string_literal: true

# Encodes and decodes messages: framed strict binary, with a context before the body (field 32767). A received body
# must be one complete struct within the limits before it is decoded, because the library trusts every declared size.
# Limits: bytes and nesting of a message, as the mesh has set them, and bytes of a name.

require 'katamari/scanner'

module Katamari
  module Wire
    # Returns a limit of the mesh. Raises ArgumentError for a variable that is no number above 0.
    def self.limit(name, otherwise)
      value = ENV.fetch(name, otherwise.to_s)
      return value.to_i if value.match?(/\A[1-9]\d*\z/)

      raise ArgumentError, "#{name} is #{value.inspect}, expected a whole number above 0"
    end

    # Bytes of a message.
    FRAME_BYTES_MAX = limit('KATAMARI_FRAME_BYTES_MAX', 16 * 1024 * 1024)
    # Bytes by which a frame may be larger: the mesh adds a context to a call.
    CONTEXT_BYTES_MAX = 1024 * 1024
    # Largest frame whose rest is read and dropped, so that its connection lives on.
    SKIPPED_BYTES_MAX = 1 << 30
    # Nesting of structs and containers. A context has 3 levels.
    NESTING_MAX = [3, limit('KATAMARI_NESTING_MAX', 64)].max
    NAME_BYTES_MAX = 1024
    # Bytes of a message head without the name.
    HEAD_BYTES = 12
    # Time for a complete frame to arrive once it has begun, and for a peer to read what was written to it.
    FRAME_SECONDS_MAX = 30

    EMPTY_STRUCT = "\0".b.freeze
    CONTEXT_HEAD = "\x0c\x7f\xff".b.freeze
    STRICT_VERSION = 0x80010000

    # The library's protocol; the one in C if the extension is installed.
    BINARY = defined?(Thrift::BinaryProtocolAccelerated) ? Thrift::BinaryProtocolAccelerated : Thrift::BinaryProtocol

    # The bytes are not a valid message. The connection cannot be read any further.
    class Malformed < StandardError; end

    # A struct is nested deeper than the limit. Its frame is well formed, so the next one can be read.
    class TooDeep < Malformed; end

    # A frame above the limit: its first bytes, which hold its head, and its declared bytes.
    Oversized = Struct.new(:start, :bytes)

    # The peer did not send or read in time.
    class Late < StandardError; end

    # A received message. `context` has the bytes of the struct in field 32767, or nil; `body` is the struct without
    # that field.
    Message = Struct.new(:type, :name, :sequence_id, :context, :body) do
      # Raises Malformed, and TooDeep for a struct that is only nested too deep.
      def self.parse(frame)
        message = head_of(frame)
        body_at = HEAD_BYTES + message.name.bytesize
        size = frame.bytesize
        raise Malformed, 'the body is not one whole struct' if Scanner.new(frame).struct_end(body_at) != size

        context_end = message.context ? Scanner.new(frame).struct_end(body_at + 3) : body_at
        message.context = frame.byteslice(body_at + 3, context_end - body_at - 3) if message.context
        message.body = frame.byteslice(context_end, size - context_end)
        message
      rescue SystemStackError
        raise TooDeep, 'nested deeper than Ruby can recurse'
      end

      # Reads the head of a frame. The message has no body, and an empty context if a context follows.
      def self.head_of(frame)
        size = frame.bytesize
        raise Malformed, "a message of #{size} bytes ends inside its head" if size < HEAD_BYTES

        word, name_bytes = frame.unpack('NN')
        raise Malformed, format('not strict binary: it begins with 0x%08x', word) if word & 0xffff0000 != STRICT_VERSION
        raise Malformed, "a name of #{name_bytes} bytes" if name_bytes > NAME_BYTES_MAX || HEAD_BYTES + name_bytes > size

        body_at = HEAD_BYTES + name_bytes
        new(word & 0xff, frame.byteslice(8, name_bytes).force_encoding(Encoding::UTF_8), frame.byteslice(body_at - 4, 4).unpack1('l>'),
            frame.byteslice(body_at, 3) == CONTEXT_HEAD ? '' : nil, nil)
      end

      # Splits `method`, `Service:method` or `Service@version:method` into [service, version, method]; absent parts
      # are empty.
      def target
        before, _, method = name.rpartition(':')
        service, _, version = before.partition('@')
        [service, version, method]
      end

      # Decodes the context; nil if there is none.
      def read_context(struct_class)
        context && Wire.read(struct_class, context)
      end
    end

    class << self
      # Encodes a framed message. `context` is a struct to put before the body, or nil.
      def frame(type, name, sequence_id, body, context = nil)
        context_bytes = context ? CONTEXT_HEAD + Output.encode(context) : ''.b
        bytes = 12 + name.bytesize + context_bytes.bytesize + body.bytesize
        [bytes, STRICT_VERSION | type, name.bytesize].pack('NNN') << name.b << [sequence_id].pack('l>') << context_bytes << body
      end

      # Decodes a struct from bytes that have been scanned. Raises Malformed if the library cannot decode them, for
      # example because it does not know a type.
      def read(struct_class, bytes)
        struct_class.new.tap { |struct| struct.read(input(bytes)) }
      rescue StandardError => e
        raise Malformed, "a struct that cannot be read: #{e.message}"
      end

      # Returns a protocol that reads these bytes.
      def input(bytes)
        BINARY.new(Thrift::MemoryBufferTransport.new(bytes.dup))
      end

      # Converts a text of any encoding to valid UTF-8.
      def utf8(text)
        text = text.dup.force_encoding(Encoding::UTF_8) if text.encoding == Encoding::BINARY
        text.encode(Encoding::UTF_8, invalid: :replace, undef: :replace).scrub
      end

      # Encodes a TApplicationException. Truncates long messages.
      def application_exception(type, message)
        text = utf8(message)
        text = "#{text[0, MESSAGE_CHARS_MAX]}…" if text.length > MESSAGE_CHARS_MAX
        Output.encode(Thrift::ApplicationException.new(type, text))
      end

      # Returns the message of an encoded TApplicationException.
      def message_of(body)
        read(Thrift::ApplicationException, body).message.to_s
      end

      # Returns the time of the monotonic clock, in seconds.
      def now
        Process.clock_gettime(Process::CLOCK_MONOTONIC)
      end

      # [:unix, path] or [:tcp, host, port]. Raises ArgumentError.
      def parse_address(address)
        return [:unix, address.delete_prefix('unix:')] if address.start_with?('unix:')

        host, port = address.match(/\Atcp:(.*):(\d+)\z/)&.captures
        unless port && port.to_i < 65_536
          raise ArgumentError, "#{address.inspect} is not an address; expected unix:PATH or tcp:HOST:PORT"
        end

        [:tcp, host.delete_prefix('[').delete_suffix(']'), port.to_i]
      end
    end

    MESSAGE_CHARS_MAX = 8192
    private_constant :MESSAGE_CHARS_MAX
  end
end
