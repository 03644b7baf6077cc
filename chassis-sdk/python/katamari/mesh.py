"""Calls from handlers to other services. A generated client sends its messages to the mesh at KATAMARI_MESH, preceded
by a context with the remaining time and the trace of the current call. Create a client once and use it in every call
and thread: each call takes a connection from a pool. A connection on which a call failed is closed.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import socket
import struct
import threading
import time
from types import ModuleType
from typing import Any, Callable

from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.Thrift import TApplicationException, TMessageType
from thrift.transport.TTransport import CReadableTransport, TTransportBase

from . import address
from .context import current
from .errors import KatamariError
from .replies import ReplyInfo
from .wire import (
    CONTEXT_BYTES_MAX,
    CONTEXT_FIELD,
    FRAME_BYTES_MAX,
    SKIPPED_BYTES_MAX,
    CallContext,
    Head,
    Malformed,
    ReplyContext,
    TooDeep,
    check_struct,
    context_bytes,
    read_head,
    reader,
)


def client(
    module: ModuleType,
    *,
    service: str = '',
    version: str = '',
    timeout: float | None = None,
    min_coverage: float | None = None,
    on_reply: Callable[[ReplyInfo], object] | None = None,
) -> Any:
    """Returns a generated client of another service of the mesh: `katamari.client(Speller).correct('hte')`.

    The timeout of each call is the remaining time of the call that the handler works on (60 s outside of a call), or
    `timeout` if that is less. A call raises the declared exceptions of its method, KatamariError if the mesh refused
    or failed it, and TApplicationException if the other service failed.

    @param module the generated module of that service
    @param service its name in the mesh, as that of an index; '' for the name of the module
    @param version exact, or a SemVer range; '' lets the mesh choose
    @param timeout in seconds
    @param min_coverage share of the shards of an index that must be in the answer, from 0 to 1. It precedes the
        parameter `minCoverage` of a method, and is also for methods without one.
    @param on_reply called with the facts about each reply, in the thread of the call, before its method returns the
        value or raises the declared exception. Not called for other errors. What it raises, the method raises.
    """
    mesh = _mesh(os.environ.get('KATAMARI_MESH', ''))
    target = _Target(service or module.__name__.rpartition('.')[2], version, timeout, min_coverage, on_reply)
    return module.Client(_Protocol(_Exchange(mesh, target)))


class TooLarge(Exception):
    """A reply above the limit."""


class _Target:
    def __init__(
        self,
        service: str,
        version: str,
        timeout: float | None,
        min_coverage: float | None,
        on_reply: Callable[[ReplyInfo], object] | None,
    ) -> None:
        if min_coverage is not None and not 0 <= min_coverage <= 1:
            raise ValueError(f'min_coverage is {min_coverage!r}, expected a share from 0 to 1')
        self.service = service
        self.version = version
        self.timeout = timeout
        self.min_coverage = min_coverage
        self.on_reply = on_reply

    def deadline(self) -> float:
        """Returns the deadline of a call that starts now, as a time.monotonic() value."""
        current_call = current.get()
        now = time.monotonic()
        inherited = now + TIMEOUT_OUTSIDE_S if current_call is None else current_call.deadline
        return inherited if self.timeout is None else min(inherited, now + self.timeout)

    def context(self, deadline: float) -> CallContext:
        """Returns the context to send with a call that starts now."""
        context = CallContext(
            time_left_us=int(max(0.0, deadline - time.monotonic()) * 1e6),
            service=self.service,
            version=self.version or None,
            min_coverage=self.min_coverage,
            caller=f'chassis {os.environ.get("KATAMARI_RESOURCE", "")}'.rstrip(),
        )
        current_call = current.get()
        if current_call is not None:
            context.traceparent = current_call.traceparent or None
            context.tracestate = current_call.tracestate or None
        return context


class _Mesh:
    """Pool of idle connections to the mesh."""

    def __init__(self, where: str) -> None:
        self.address = where
        self._idle: list[socket.socket] = []
        self._lock = threading.Lock()

    def take(self, deadline: float) -> socket.socket:
        """Takes an idle connection or opens one. @raises KatamariError if the mesh cannot be reached"""
        if not self.address:
            why = 'KATAMARI_MESH is not set: only a chassis that a mesh has started can call other services'
            raise KatamariError('no_pool', why, not_run=True)
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect(deadline)
            if _is_open(connection):
                return connection
            connection.close()

    def give_back(self, connection: socket.socket) -> None:
        with self._lock:
            if len(self._idle) < IDLE_MAX:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self, deadline: float) -> socket.socket:
        try:
            return address.connect(self.address, min(CONNECT_S, _left(deadline)))
        except (OSError, ValueError) as error:
            why = f'The mesh at {self.address} cannot be reached: {error}'
            raise KatamariError('resource_failed', why, not_run=True) from error


class _Exchange(threading.local, TTransportBase, CReadableTransport):  # type: ignore[misc]
    """Transport of a generated client, one per thread: buffers the call that is written, then the reply."""

    def __init__(self, mesh: _Mesh, target: _Target) -> None:
        self._mesh = mesh
        self.target = target
        self._out = io.BytesIO()
        self._in = io.BytesIO()
        self._connection: socket.socket | None = None
        self._method = ''
        self._is_oneway = False
        self._deadline = 0.0
        self._seq_id = 0

    def begin(self, method: str, is_oneway: bool) -> int:
        """Starts a call and returns its sequence id. Drops the state of an earlier call that did not finish."""
        self._discard()
        self._out = io.BytesIO()
        self._method, self._is_oneway = method, is_oneway
        self._deadline = self.target.deadline()
        self._seq_id = self._seq_id % 0x7FFFFFFF + 1
        if self._deadline <= time.monotonic():
            raise KatamariError('timeout', f'Cannot call {self._label()}: no time is left', not_run=True)
        return self._seq_id

    def context(self) -> bytes:
        return context_bytes(self.target.context(self._deadline))

    def write(self, data: bytes) -> None:
        self._out.write(data)

    def flush(self) -> None:
        """Sends the call."""
        message = self._out.getvalue()
        if len(message) > FRAME_BYTES_MAX + CONTEXT_BYTES_MAX:
            why = f'Cannot call {self._label()}: its arguments have {len(message)} bytes, limit is {FRAME_BYTES_MAX}; send less at once'
            raise KatamariError('too_large', why, not_run=True)
        self._connection = connection = self._mesh.take(self._deadline)
        try:
            connection.settimeout(_left(self._deadline))
            connection.sendall(_SIZE.pack(len(message)) + message)
        except OSError as error:
            self._discard()
            raise KatamariError('resource_failed', f'{self._label()} could not be sent to the mesh: {error}') from error
        if self._is_oneway:
            self._give_back()

    def receive(self) -> None:
        """Waits for the reply, which `read` then returns. @raises KatamariError"""
        try:
            (size,) = _SIZE.unpack(self._receive_exactly(4))
            if not 0 <= size <= SKIPPED_BYTES_MAX:
                raise Malformed(f'a frame of {size} bytes, limit is {FRAME_BYTES_MAX}')
            if size > FRAME_BYTES_MAX + CONTEXT_BYTES_MAX:
                raise TooLarge(f'it has {size} bytes, limit is {FRAME_BYTES_MAX}')
            frame = self._receive_exactly(size)
            head = self._head_of(frame)
            failure = _failure_in(frame, head)
        except socket.timeout as error:
            self._discard()
            raise KatamariError('timeout', f'{self._label()} got no reply before its deadline', stage='service') from error
        except (OSError, EOFError) as error:
            self._discard()
            why = f'The connection to the mesh failed before {self._label()} got a reply: {error}'
            raise KatamariError('resource_failed', why) from error
        except (TooLarge, TooDeep) as error:
            self._discard()
            raise KatamariError('too_large', f'The reply to {self._label()} is beyond the limits: {error}') from error
        except Malformed as error:
            self._discard()
            raise KatamariError('resource_failed', f'The reply to {self._label()} cannot be decoded: {error}') from error
        self._give_back()
        if failure is not None:
            raise failure
        if self.target.on_reply is not None and head.type == TMessageType.REPLY:
            self.target.on_reply(ReplyInfo.of_wire(_context_in(frame, head)))
        self._in = io.BytesIO(frame)

    def read(self, size: int) -> bytes:
        return self._in.read(size)

    # Members that the accelerated reader of the thrift library needs.
    @property
    def cstringio_buf(self) -> io.BytesIO:
        return self._in

    def cstringio_refill(self, partial: bytes, wanted: int) -> io.BytesIO:
        raise EOFError(f'the reply to {self._label()} ends too early')

    def isOpen(self) -> bool:
        return True

    def open(self) -> None:
        pass

    def close(self) -> None:
        self._discard()

    def _head_of(self, frame: bytes) -> Head:
        """Returns the head of a reply, whose body is then one whole struct."""
        head = read_head(frame)
        if head.seq_id != self._seq_id:
            raise Malformed(f'it has sequence id {head.seq_id}, expected {self._seq_id}')
        check_struct(frame, head.body_start)
        return head

    def _receive_exactly(self, size: int) -> bytes:
        assert self._connection is not None, 'a generated client sends before it receives'
        received = bytearray()
        while len(received) < size:
            # The mesh replies at the deadline with a more specific error, so wait a little longer for it.
            self._connection.settimeout(_left(self._deadline) + REPLY_GRACE_S)
            chunk = self._connection.recv(min(size - len(received), CHUNK_BYTES))
            if not chunk:
                raise EOFError('the connection was closed')
            received += chunk
        return bytes(received)

    def _give_back(self) -> None:
        if self._connection is not None:
            self._mesh.give_back(self._connection)
        self._connection = None

    def _discard(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
        self._connection = None

    def _label(self) -> str:
        return f'{self.target.service}.{self._method}'


class _Protocol(TBinaryProtocolAccelerated):  # type: ignore[misc]
    """Strict binary protocol that puts a context between the head of a call and its arguments."""

    def writeMessageBegin(self, name: str, ttype: int, seqid: int) -> None:
        seq_id = self.trans.begin(name, ttype == TMessageType.ONEWAY)
        super().writeMessageBegin(name, ttype, seq_id)
        self.trans.write(self.trans.context())

    def readMessageBegin(self) -> Any:
        self.trans.receive()
        return super().readMessageBegin()


def _failure_in(frame: bytes, head: Head) -> KatamariError | None:
    """Returns the error of the mesh in a reply, if any. The generated code reads the errors of the other service."""
    if head.type != TMessageType.EXCEPTION:
        return None
    context = _context_in(frame, head)
    if not context.error_code:
        return None
    # The exception follows the context, which it skips as an unknown field.
    exception = TApplicationException()
    exception.read(reader(frame, head.body_start))
    return KatamariError.of_wire(context, exception.message or 'The mesh gave no reason')


def _context_in(frame: bytes, head: Head) -> ReplyContext:
    """Returns the context of a reply, without fields if it has none."""
    context = ReplyContext()
    if frame.startswith(CONTEXT_FIELD, head.body_start):
        context.read(reader(frame, head.body_start + len(CONTEXT_FIELD)))
    return context


@functools.lru_cache(maxsize=1)
def _mesh(where: str) -> _Mesh:
    """Returns the connection pool of the process."""
    return _Mesh(where)


def _is_open(idle: socket.socket) -> bool:
    """Whether an idle connection is open: its peer sends nothing, so readable data means that it closes."""
    idle.setblocking(False)
    try:
        idle.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _left(deadline: float) -> float:
    """Returns the seconds until the deadline, at least 0.001: a timeout of 0 would make the socket non-blocking."""
    return max(0.001, deadline - time.monotonic())


#: Timeout of a call that is made outside of a handler.
TIMEOUT_OUTSIDE_S = 60.0
#: Extra time after the deadline for the error reply of the mesh.
REPLY_GRACE_S = 0.2
CONNECT_S = 5.0
#: Maximum idle connections that are kept.
IDLE_MAX = 16
CHUNK_BYTES = 1 << 20
_SIZE = struct.Struct('>i')
