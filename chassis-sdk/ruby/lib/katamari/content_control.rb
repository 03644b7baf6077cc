# frozen_string_literal: true

# Serves `katamari.Content`, by which the mesh opens and closes the shards of a content server. The calls of one shard
# run one after the other, in the order in which they arrive; those of different shards run in threads of their own, at
# most THREADS_MAX. So pings, handlers and other shards do not wait for a slow open.

module Katamari
  class ContentControl
    NAME = 'katamari.Content'
    # Shards that are opened or closed at a time. The mesh opens 4 and closes 16.
    THREADS_MAX = 20
    # Calls that wait for a thread, or for an earlier call of the same shard.
    WAITING_MAX = 1024

    # content - a Content.
    def initialize(content)
      @content = content
      @turns = TurnsByShard.new(THREADS_MAX, WAITING_MAX)
    end

    # Starts a call and returns at once. The block gets the Reply, later and in another thread.
    def take(call, &reply)
      case call.method_name
      when 'shards' then reply.call(result(Contract::ShardsResult.new(success: @content.names)))
      when 'open'
        args = read(Contract::OpenArgs, call, %w[shard path])
        turn(args.shard, call, reply) { open(args.shard, args.path) }
      when 'close'
        args = read(Contract::CloseArgs, call, %w[shard])
        turn(args.shard, call, reply) { close(args.shard) }
      else refuse(reply, :no_pool, "#{NAME} has no method #{call.method_name.inspect}; it has open, close, shards")
      end
    rescue Service::UnreadableArguments => e
      refuse(reply, :bad_request, "The arguments of #{NAME}.#{call.method_name} do not match idl/content.thrift: #{e.message}")
    end

    private

    def turn(shard, call, reply)
      is_taken = @turns.add(shard) do
        reply.call(call.context.abandoned? ? Service::Reply.too_late(call) : yield)
      end
      refuse(reply, :overloaded, "Cannot #{call.method_name} #{shard}: #{WAITING_MAX} calls are waiting, which is the limit") unless is_taken
    end

    def open(shard, path)
      opened = @content.open_shard(shard, path)
      result(Contract::OpenResult.new(success: Contract::ShardFacts.new(entries: opened.entries, more: opened.more)))
    rescue StandardError, ScriptError, SystemStackError => e
      Katamari.logger.warn("Shard #{shard} is refused: #{e.is_a?(DamagedShard) ? e.message : stack_of(e)}")
      refused = Contract::ShardRefused.new(why: Service.text_of(e), isDamaged: e.is_a?(DamagedShard))
      result(Contract::OpenResult.new(refused: refused))
    end

    def close(shard)
      @content.close_shard(shard)
      Service::Reply.new(Thrift::MessageTypes::REPLY, Wire::EMPTY_STRUCT)
    rescue StandardError, ScriptError, SystemStackError => e
      Katamari.logger.error("Shard #{shard} was not closed: #{stack_of(e)}")
      Service::Reply.failure("Content.close failed: #{Service.text_of(e)}")
    end

    def result(struct)
      Service::Reply.new(Thrift::MessageTypes::REPLY, Output.encode(struct))
    end

    def refuse(reply, code, why)
      reply.call(Service::Reply.refusal(Error.new(code, why, not_run: true)))
    end

    def read(struct_class, call, names)
      args = Wire.read(struct_class, call.body)
      names.each do |name|
        value = args.public_send(name)
        raise Service::UnreadableArguments, "#{name} is missing" if value.nil?
        raise Service::UnreadableArguments, "#{name} is not valid UTF-8" unless value.valid_encoding?
      end
      args
    rescue Thrift::ProtocolException, EOFError => e
      raise Service::UnreadableArguments, e.message
    end

    def stack_of(thrown)
      Wire.utf8(thrown.full_message(highlight: false).chomp)
    end
  end

  # Runs tasks in threads: those of one shard in order, several shards at a time.
  class TurnsByShard
    def initialize(threads_max, waiting_max)
      @threads_max = threads_max
      @waiting_max = waiting_max
      @lock = Mutex.new
      # Tasks of each shard that has any.
      @tasks = {}
      # Shards that wait for a thread.
      @waiting = []
      @threads = 0
      @count = 0
    end

    # Returns false if too many tasks wait.
    def add(shard, &task)
      @lock.synchronize do
        return false if @count >= @waiting_max

        @count += 1
        return !@tasks[shard].push(task).nil? if @tasks.key?(shard)

        @tasks[shard] = [task]
        @waiting << shard
        start_thread if @threads < @threads_max
      end
      true
    end

    private

    # The failure of a thread ends the process; otherwise it would go unnoticed.
    def start_thread
      @threads += 1
      Thread.new { work }.abort_on_exception = true
    end

    def work
      while (shard = next_shard)
        while (task = next_task(shard))
          task.call
        end
      end
    end

    def next_shard
      @lock.synchronize do
        @threads -= 1 if @waiting.empty?
        @waiting.shift
      end
    end

    def next_task(shard)
      @lock.synchronize do
        task = @tasks[shard].shift
        task.nil? ? @tasks.delete(shard) && nil : task.tap { @count -= 1 }
      end
    end
  end
end
