"""Serves `katamari.Content`, by which the mesh opens and closes the shards of a content server. The calls of one shard
run one after the other, in the order in which they arrive; those of different shards run in threads of their own, at
most THREADS_MAX. So pings, handlers and other shards do not wait for a slow open.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict

from thrift.Thrift import TApplicationException

from .content import Content, DamagedShard
from .errors import KatamariError
from .server import Call
from .service import Answer, failure_bytes, message_of
from .wire import (
    EMPTY_STRUCT,
    CloseArguments,
    OpenArguments,
    OpenResult,
    ShardFacts,
    ShardRefused,
    ShardsResult,
    strict_reader,
    struct_bytes,
)

CONTENT = 'katamari.Content'


class ContentControl:
    def __init__(self, content: Content[Any], end: Callable[[BaseException], None]) -> None:
        """@param end ends the process: `open` or `close` of the user has raised SystemExit or KeyboardInterrupt"""
        self._content = content
        self._end = end
        self._shards = _TurnsByShard()

    def take(self, call: Call) -> None:
        """Answers a call, at once or in another thread. @raises KatamariError if there is no such method, or its
        arguments are not valid"""
        if call.method == 'shards':
            call.answer(Answer(struct_bytes(ShardsResult(success=self._content.names))))
        elif call.method == 'open':
            opening = _arguments(OpenArguments(), call)
            run = functools.partial(self._open, opening.shard, opening.path)
            self._shards.add(opening.shard, functools.partial(self._run, call, run))
        elif call.method == 'close':
            closing = _arguments(CloseArguments(), call)
            run = functools.partial(self._close, closing.shard)
            self._shards.add(closing.shard, functools.partial(self._run, call, run))
        else:
            raise KatamariError('no_pool', f'{CONTENT} has no method "{call.method}"; it has open, close, shards')

    def _run(self, call: Call, run: Callable[[], Answer]) -> None:
        if time.monotonic() >= call.deadline:
            why = f'The deadline of {call.method} passed before this copy started it'
            call.refuse(KatamariError('timeout', why, stage='queue', not_run=True))
            return
        try:
            answer = run()
        except (SystemExit, KeyboardInterrupt) as error:
            self._end(error)
            return
        call.answer(answer)

    def _open(self, shard: str, path: str) -> Answer:
        try:
            opened = self._content.open_shard(shard, path)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            is_damaged = isinstance(error, DamagedShard)
            _log.warning('Shard %s is refused: %s', shard, error, exc_info=None if is_damaged else error)
            refused = ShardRefused(why=message_of(error), is_damaged=is_damaged)
            return Answer(struct_bytes(OpenResult(refused=refused)))
        facts = ShardFacts(entries=opened.entries, more=dict(opened.more))
        return Answer(struct_bytes(OpenResult(success=facts)))

    def _close(self, shard: str) -> Answer:
        try:
            self._content.close_shard(shard)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            _log.error('Shard %s was not closed', shard, exc_info=error)
            why = f'Content.close failed: {message_of(error)}'
            return Answer(failure_bytes(why, TApplicationException.INTERNAL_ERROR), is_exception=True)
        return Answer(EMPTY_STRUCT)


class _TurnsByShard:
    """Runs tasks in threads: those of one shard in order, at most THREADS_MAX shards at a time. The number of tasks
    that wait is that of the calls in flight, which the server limits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Tasks of each shard that has any.
        self._tasks: Dict[str, Deque[Callable[[], None]]] = {}
        #: Shards that wait for a thread.
        self._waiting: Deque[str] = deque()
        self._threads = 0

    def add(self, shard: str, task: Callable[[], None]) -> None:
        with self._lock:
            if shard in self._tasks:
                self._tasks[shard].append(task)
                return
            self._tasks[shard] = deque([task])
            self._waiting.append(shard)
            if self._threads == THREADS_MAX:
                return
            self._threads += 1
        threading.Thread(target=self._work, name='katamari-content', daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                shard = self._waiting.popleft()
            self._run_tasks(shard)

    def _run_tasks(self, shard: str) -> None:
        while True:
            with self._lock:
                if not self._tasks[shard]:
                    del self._tasks[shard]
                    return
                task = self._tasks[shard].popleft()
            task()


def _arguments(arguments: Any, call: Call) -> Any:
    """Returns the arguments of a call. @raises KatamariError bad_request"""
    try:
        arguments.read(strict_reader(call.frame, call.start))
        missing = [name for name, value in vars(arguments).items() if value is None]
        if missing:
            raise ValueError(f'{" and ".join(missing)} is missing')
    except Exception as error:
        why = f'The arguments of {CONTENT}.{call.method} do not match idl/content.thrift: {error}'
        raise KatamariError('bad_request', why) from error
    return arguments


#: Shards that are opened or closed at a time. The mesh opens 4 and closes 16.
THREADS_MAX = 20
_log = logging.getLogger('katamari')
