# frozen_string_literal: true

# Facts about a reply beside its value: which version replied, and how many shards are in the answer of an index.

module Katamari
  # A shard that is not wholly in an answer: `index@version/shard`, and why: NO_REPLICA, TIMED_OUT, FAILED,
  # OVERLOADED or CUT_SHORT. More may be added.
  AbsentShard = Struct.new(:shard, :lack)

  # How many shards of an index are in an answer: shards that the call was about, those of them that are wholly in the
  # answer, and the others in order of their names, at most 10.
  Coverage = Struct.new(:shards, :complete, :missing)

  # version  - of the service or index that replied; '' if the mesh did not name it.
  # coverage - nil for other services than indices, and for a declared exception.
  ReplyInfo = Struct.new(:version, :coverage) do
    # context - a Contract::ReplyContext, or nil.
    def self.of(context)
      return new('', nil) if context.nil?
      return new(context.version.to_s, nil) unless context.shards.to_i.positive?

      missing = (context.missingShards || []).map { |text| AbsentShard.new(*text.split(' ', 2)) }
      new(context.version.to_s, Coverage.new(context.shards, context.completeShards.to_i, missing))
    end
  end
end
