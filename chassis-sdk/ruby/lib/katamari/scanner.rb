# frozen_string_literal: true

# Finds the end of a strict-binary struct without its IDL, and refuses malformed data, and nesting beyond the limit.
# Declared sizes are compared with the available bytes. It allocates nothing per value.

module Katamari
  module Wire
    class Scanner
      # Sizes of the fixed-size types, and the minimum sizes of all types, in bytes.
      FIXED = { 2 => 1, 3 => 1, 4 => 8, 6 => 2, 8 => 4, 10 => 8, 16 => 16 }.freeze
      LEAST = FIXED.merge(11 => 4, 12 => 1, 13 => 6, 14 => 5, 15 => 5).freeze

      def initialize(bytes)
        @bytes = bytes
        @size = bytes.bytesize
      end

      # Returns the offset after the struct that begins at `at`. Raises Malformed.
      def struct_end(at, depth = 1)
        check_depth(depth)
        until (type = byte(at)).zero?
          at = value_end(type, at + 3, depth)
        end
        at + 1
      end

      private

      def value_end(type, at, depth)
        if type == 11 then within(at + 4 + integer(at))
        elsif (bytes = FIXED[type]) then within(at + bytes)
        elsif type == 12 then struct_end(at, depth + 1)
        elsif type == 13 then map_end(at, depth + 1)
        elsif type == 14 || type == 15 then list_end(at, depth + 1)
        else raise Malformed, "#{type} is no type of Thrift"
        end
      end

      def list_end(at, depth)
        type = byte(at)
        elements = count(at + 1, type)
        at += 5
        return at if elements.zero?
        return within(at + elements * FIXED[type]) if FIXED.key?(type)

        check_depth(depth)
        elements.times { at = value_end(type, at, depth) }
        at
      end

      def map_end(at, depth)
        key = byte(at)
        value = byte(at + 1)
        pairs = count(at + 2, key, value)
        at += 6
        return at if pairs.zero?

        check_depth(depth)
        pairs.times { at = value_end(value, value_end(key, at, depth), depth) }
        at
      end

      # Reads the count at that offset. Raises Malformed unless that many values of each of these types can follow. An
      # empty container may name any type.
      def count(at, *types)
        found = integer(at)
        return found if found.zero?

        least = types.sum { |type| LEAST[type] || raise(Malformed, "#{type} is no type of Thrift") }
        return found if found * least <= @size - at - 4

        raise Malformed, "#{found} values are declared, #{@size - at - 4} bytes follow"
      end

      # Reads the integer as unsigned. A negative count becomes larger than the data, so it is refused.
      def integer(at)
        within(at + 4)
        @bytes.getbyte(at) << 24 | @bytes.getbyte(at + 1) << 16 | @bytes.getbyte(at + 2) << 8 | @bytes.getbyte(at + 3)
      end

      def byte(at)
        @bytes.getbyte(at) || raise(Malformed, 'the bytes end inside the struct')
      end

      def within(at)
        at <= @size ? at : raise(Malformed, 'the bytes end inside the struct')
      end

      def check_depth(depth)
        raise TooDeep, "structs and containers are nested deeper than #{NESTING_MAX}, the limit" if depth > NESTING_MAX
      end
    end
  end
end
