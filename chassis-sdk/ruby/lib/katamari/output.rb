# frozen_string_literal: true

# The library's binary protocol for what this process sends, without the head of messages (the head is Wire's) and
# with what the library leaves out: numbers that do not fit are refused, not cut; text must be UTF-8; a binary String
# keeps the encoding that its owner gave it; nothing is nested deeper than the mesh lets pass.

module Katamari
  class Output < Wire::BINARY
    # Type of the message that was written, a constant of Thrift::MessageTypes; nil for none.
    attr_reader :message_type
    attr_reader :message_name

    # The bytes of one struct.
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

    # Containers of scalars and empty ones are no level of their own in the count of those who read.
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

      raise EncodingError, "#{text[0, 40].inspect} is no valid UTF-8, which a string must be; bytes need the type binary in the IDL"
    end

    # The library marks the String it is given as binary; a copy shares its bytes.
    def write_binary(bytes)
      super(bytes.dup)
    end

    private

    def enter(is_leaf)
      @depth += 1
      raise RangeError, "nested deeper than #{Wire::NESTING_MAX}" if @depth > Wire::NESTING_MAX && !is_leaf
    end

    # In its pure form the library writes heads of fields with write_byte and write_i16 too; those fit.
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
