# frozen_string_literal: true

# The shards that a content server has open. The mesh says which shards to open and close, ContentControl receives these
# calls, and handlers use the shards through Content#use. A shard is closed only when no call uses it. The user's code
# that opens and closes shards runs in threads of this gem, while handlers run.

module Katamari
  # What the block of Content.new returns.
  class OpenedShard
    # What the handlers get.
    attr_reader :shard
    # Number of documents or records.
    attr_reader :entries
    # Facts for people: format, codec, analyzer. A Hash of Strings.
    attr_reader :more

    # Raises ArgumentError for a number of entries that does not fit an i64.
    def initialize(shard, entries:, more: {})
      unless entries.is_a?(Integer) && (0...2**63).cover?(entries)
        raise ArgumentError, "entries is #{entries.inspect}; expected a whole number, 0 or more"
      end

      @shard = shard
      @entries = entries
      @more = more.to_h { |name, value| [name.to_s, value.to_s] }.freeze
    end
  end

  # Raise it while a shard is opened, when its files are not as they should be. The mesh fetches them again.
  class DamagedShard < StandardError; end

  # A call asks for a shard that is not open here. The mesh asks another copy.
  class ShardNotOpen < Error
    def initialize(message)
      super(:no_pool, message)
    end
  end

  # Makes a chassis a content server.
  #
  #   content = Katamari::Content.new(close: ->(file, _name) { file.close }) do |path, _name|
  #     file = File.open(path)
  #     Katamari::OpenedShard.new(file, entries: file.count)
  #   end
  #   Katamari.serve(Lines::Processor, Handler.new(content), content: content, ...)
  class Content
    NAMES_SHOWN_MAX = 20

    # A shard from the begin of `open` until it is closed. opened - nil while it is being opened.
    Entry = Struct.new(:path, :opened, :closing, :uses) do
      def open?
        !opened.nil? && !closing
      end
    end
    private_constant :Entry

    # close - called with a shard and its name; closes all its files. No call uses the shard any more.
    #
    # The block opens a shard. It gets the path of a file or folder, read-only, and the name of the shard,
    # `index@version/shard`, and returns an OpenedShard. What it raises tells the operator why the shard is refused;
    # DamagedShard also asks for the files anew.
    def initialize(close: nil, &open)
      raise ArgumentError, 'Katamari::Content.new needs a block that opens a shard' if open.nil?

      @open = open
      @close = close
      @entries = {}
      @lock = Mutex.new
      @changed = ConditionVariable.new
    end

    # Names of the open shards, in order.
    def names
      @lock.synchronize { open_names }
    end

    # Calls the block with a Hash of open shards by name, and returns its result. The shards stay open until the block
    # ends.
    #
    # names - the shards of the call; nil or empty means all that are open.
    #
    # Raises Katamari::Error with code :no_pool if one of them is not open. If the handler lets it pass, the caller gets
    # this code.
    def use(names = nil)
      used = enter(names)
      begin
        yield used.transform_values { |entry| entry.opened.shard }
      ensure
        leave(used)
      end
    end

    # For the mesh: opens a shard, or returns what its first open returned. Waits while it is being opened or closed.
    # Raises what the block of Content.new raises, ArgumentError if the shard is open from another path.
    def open_shard(name, path)
      known = @lock.synchronize do
        wait_until { settled?(name) }
        @entries[name].tap { |entry| @entries[name] = Entry.new(path, nil, false, 0) if entry.nil? }
      end
      return open_anew(name, path) if known.nil?
      return known.opened if known.path == path

      raise ArgumentError, "#{name} is open from #{known.path}; close it first"
    end

    # For the mesh: waits for the calls that use a shard, then closes it. Does nothing for an unknown shard. Raises what
    # `close` raises; the shard is not open then either.
    def close_shard(name)
      entry = @lock.synchronize do
        wait_until { settled?(name) }
        @entries[name]&.tap do |found|
          found.closing = true
          wait_until { found.uses.zero? }
        end
      end
      return if entry.nil?

      begin
        @close&.call(entry.opened.shard, name)
      ensure
        forget(name)
      end
    end

    private

    def open_anew(name, path)
      opened = @open.call(path, name)
      raise TypeError, "the block of Content.new returned #{opened.class}, expected Katamari::OpenedShard" unless opened.is_a?(OpenedShard)

      @lock.synchronize do
        @entries[name].opened = opened
        @changed.broadcast
      end
      opened
    ensure
      forget(name) unless opened.is_a?(OpenedShard)
    end

    def enter(names)
      @lock.synchronize do
        wanted = names.nil? || names.empty? ? open_names : names
        wanted.to_h { |name| [name, find(name)] }.each_value { |entry| entry.uses += 1 }
      end
    end

    def leave(used)
      @lock.synchronize do
        used.each_value { |entry| entry.uses -= 1 }
        @changed.broadcast
      end
    end

    def forget(name)
      @lock.synchronize do
        @entries.delete(name)
        @changed.broadcast
      end
    end

    # Whether the shard is open or unknown.
    def settled?(name)
      !@entries.key?(name) || @entries[name].open?
    end

    def wait_until
      @changed.wait(@lock) until yield
    end

    def open_names
      @entries.select { |_name, entry| entry.open? }.keys.sort
    end

    def find(name)
      return @entries[name] if @entries[name]&.open?

      names = open_names
      shown = names.empty? ? 'none' : names.first(NAMES_SHOWN_MAX).join(', ')
      others = names.size > NAMES_SHOWN_MAX ? " and #{names.size - NAMES_SHOWN_MAX} more" : ''
      raise ShardNotOpen, "Shard #{name} is not open here; open are #{shown}#{others}"
    end
  end
end
