# frozen_string_literal: true

# The library's binary protocol for the structs that this process sends (Wire encodes message heads), with checks that
# the library lacks: a number out of range is an error and never truncated, text must be UTF-8, and nesting is limited
# as in the mesh. A binary String keeps its encoding.

module Katamari
  class Output < Wire::BINARY
    # Type of the written message, a constant of Thrift::MessageTypes; nil if there is none.
    attr_reader :message_type
    attr_reader :message_name

    # Encodes one struct.
    def self.encode(struct)
      buffer = Thrift::MemoryBufferTransport.new
      struct.write(new(buffer))
      buffer.read(buffer.available)
    end

    def initialize(transport)
      super
      @depth = 0
    end

    def write_message_begin(name, type, _sequence_id)
      @message_name = name
      @message_type = type
    end

    # Empty containers and containers of fixed-size scalars do not count as a nesting level, as in Wire::Scanner.
    def write_struct_begin(name)
      enter(false)
      super
    end

    def write_struct_end
      @depth -= 1
      super
    end

    def write_list_begin(type, size)
      enter(size.zero? || Wire::Scanner::FIXED.key?(type))
      super
    end

    def write_list_end
      @depth -= 1
      super
    end

    def write_set_begin(type, size)
      enter(size.zero? || Wire::Scanner::FIXED.key?(type))
      super
    end

    def write_set_end
      @depth -= 1
      super
    end

    def write_map_begin(key_type, value_type, size)
      enter(size.zero?)
      super
    end

    def write_map_end
      @depth -= 1
      super
    end

    def write_string(text)
      utf8 = text.encoding == Encoding::UTF_8 ? text : text.encode(Encoding::UTF_8)
      return super(utf8) if utf8.valid_encoding?

      raise EncodingError, "#{text[0, 40].inspect} is not valid UTF-8; declare the type binary in the IDL to send bytes"
    end

    # The library sets the encoding of its argument to binary, so it gets a copy, which shares the bytes.
    def write_binary(bytes)
      super(bytes.dup)
    end

    private

    def enter(is_leaf)
      @depth += 1
      raise RangeError, "nested deeper than #{Wire::NESTING_MAX}" if @depth > Wire::NESTING_MAX && !is_leaf
    end

    # Without its C extension, the library also writes field heads with these methods. Their values are always in
    # range.
    module Ranges
      { write_byte: 8, write_i16: 16 }.each do |name, bits|
        define_method(name) do |number|
          limit = 1 << (bits - 1)
          raise RangeError, "#{number} does not fit an i#{bits}" unless number >= -limit && number < limit

          super(number)
        end
      end
    end
    prepend Ranges
  end
end
