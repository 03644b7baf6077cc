"""The shards that a content server has open. The mesh says which shards to open and close, `content_control` receives
these calls, and handlers use the shards through `Content.use`. A shard is closed only when no call uses it.

`open` and `close` of the user run in threads of the package. Handlers run meanwhile.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from typing import Callable, Dict, Generic, Iterable, Iterator, Mapping, TypeVar

from .errors import KatamariError

Shard = TypeVar('Shard')


@dataclass(frozen=True)
class OpenedShard(Generic[Shard]):
    """What `open` returns. @raises TypeError, ValueError for facts that the mesh cannot take"""

    #: What the handlers get.
    shard: Shard
    #: Number of documents or records.
    entries: int
    #: Facts for people: format, codec, analyzer.
    more: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.entries, int):
            raise TypeError(f'entries is {self.entries!r}, expected a whole number')
        if not 0 <= self.entries < 1 << 63:
            raise ValueError(f'entries is {self.entries}, expected 0 to 2**63 - 1')
        for name, value in self.more.items():
            if not (isinstance(name, str) and isinstance(value, str)):
                raise TypeError(f'more has {name!r}: {value!r}, expected text; use str() for other values')


class DamagedShard(Exception):
    """Raise it in `open` when the files of a shard are not as they should be. The mesh fetches them again."""


class ShardNotOpen(KatamariError):
    """A call asks for a shard that is not open here. The mesh asks another copy."""


class _Entry(Generic[Shard]):
    """A shard from the begin of `open` until it is closed."""

    def __init__(self, path: str) -> None:
        self.path = path
        #: None while it is being opened.
        self.opened: OpenedShard[Shard] | None = None
        self.is_closing = False
        #: Calls that use it.
        self.uses = 0

    @property
    def is_open(self) -> bool:
        return self.opened is not None and not self.is_closing


class Content(Generic[Shard]):
    """Makes a chassis a content server:

    content = katamari.Content(open=lambda path, name: katamari.OpenedShard(read(path), entries=1))
    katamari.serve(Words, Handler(), idl='words.thrift', version='1.0.0', content=content)
    """

    def __init__(
        self,
        open: Callable[[str, str], OpenedShard[Shard]],
        close: Callable[[Shard, str], None] | None = None,
    ) -> None:
        """
        @param open gets the path of a file or folder, read-only, and the name of the shard, `index@version/shard`. What
            it raises tells the operator why the shard is refused; DamagedShard also asks for the files anew
        @param close gets the shard and its name, and closes all its files. No call uses the shard any more
        """
        self._open = open
        self._close = close
        self._changed = threading.Condition()
        self._entries: Dict[str, _Entry[Shard]] = {}

    @property
    def names(self) -> list[str]:
        """Names of the open shards, in order."""
        with self._changed:
            return self._names()

    @contextlib.contextmanager
    def use(self, names: Iterable[str] | None = None) -> Iterator[Mapping[str, Shard]]:
        """A context with open shards by name. They stay open until it ends.

        @param names the shards of the call; None or none means all that are open
        @raises KatamariError no_pool if one of them is not open. If the handler lets it pass, the caller gets this code
        """
        with self._changed:
            used = {name: self._find(name) for name in dict.fromkeys(names or ()) or self._names()}
            for entry in used.values():
                entry.uses += 1
        try:
            yield {name: entry.opened.shard for name, entry in used.items() if entry.opened is not None}
        finally:
            with self._changed:
                for entry in used.values():
                    entry.uses -= 1
                self._changed.notify_all()

    def open_shard(self, name: str, path: str) -> OpenedShard[Shard]:
        """Opens a shard, or returns what its first `open` returned. Waits while it is being opened or closed. For the
        mesh. @raises what `open` raises, ValueError if it is open from another path"""
        with self._changed:
            self._changed.wait_for(lambda: name not in self._entries or self._entries[name].is_open)
            known = self._entries.get(name)
            if known is not None and known.opened is not None:
                if known.path == path:
                    return known.opened
                raise ValueError(f'{name} is open from {known.path}; close it first')
            entry = self._entries[name] = _Entry(path)
        try:
            opened = self._open(path, name)
            if not isinstance(opened, OpenedShard):
                raise TypeError(f'open returned {type(opened).__name__}, expected katamari.OpenedShard')
        except BaseException:
            self._forget(name)
            raise
        with self._changed:
            entry.opened = opened
            self._changed.notify_all()
        return opened

    def close_shard(self, name: str) -> None:
        """Waits for the calls that use a shard, then closes it. Does nothing for an unknown shard. For the mesh.
        @raises what `close` raises; the shard is not open then either"""
        with self._changed:
            self._changed.wait_for(lambda: name not in self._entries or self._entries[name].is_open)
            entry = self._entries.get(name)
            if entry is None or entry.opened is None:
                return
            entry.is_closing = True
            self._changed.wait_for(lambda: entry.uses == 0)
        try:
            if self._close is not None:
                self._close(entry.opened.shard, name)
        finally:
            self._forget(name)

    def _forget(self, name: str) -> None:
        with self._changed:
            del self._entries[name]
            self._changed.notify_all()

    def _names(self) -> list[str]:
        return sorted(name for name, entry in self._entries.items() if entry.is_open)

    def _find(self, name: str) -> _Entry[Shard]:
        entry = self._entries.get(name)
        if entry is not None and entry.is_open:
            return entry
        names = self._names()
        others = f' and {len(names) - _NAMES_SHOWN_MAX} more' if len(names) > _NAMES_SHOWN_MAX else ''
        shown = ', '.join(names[:_NAMES_SHOWN_MAX]) or 'none'
        raise ShardNotOpen('no_pool', f'Shard {name} is not open here; open are {shown}{others}')


_NAMES_SHOWN_MAX = 20
