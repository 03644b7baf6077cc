"""Facts about a reply beside its value: which version replied, and how many shards are in the answer of an index."""

from __future__ import annotations

from typing import NamedTuple

from .wire import ReplyContext


class AbsentShard(NamedTuple):
    """A shard that is not wholly in an answer."""

    #: `index@version/shard`
    shard: str
    #: Why: NO_REPLICA, TIMED_OUT, FAILED, OVERLOADED or CUT_SHORT. More may be added.
    lack: str


class Coverage(NamedTuple):
    """How many shards of an index are in an answer."""

    #: Shards that the call was about.
    shards: int
    #: Those of them that are wholly in the answer.
    complete: int
    #: The others in order of their names, at most 10.
    missing: tuple[AbsentShard, ...]


class ReplyInfo(NamedTuple):
    """Facts about a reply."""

    #: Version of the service or index that replied; '' if the mesh did not name it.
    version: str
    #: None for other services than indices, and for a declared exception.
    coverage: Coverage | None

    @classmethod
    def of_wire(cls, context: ReplyContext) -> ReplyInfo:
        return cls(context.version or '', _coverage_of(context))


def _coverage_of(context: ReplyContext) -> Coverage | None:
    if not context.shards:
        return None
    missing = (text.partition(' ') for text in context.missing_shards or ())
    named = tuple(AbsentShard(shard, lack) for shard, _, lack in missing)
    return Coverage(context.shards, context.complete_shards or 0, named)
