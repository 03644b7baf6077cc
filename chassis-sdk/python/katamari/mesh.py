"""How handlers call other services: generated clients whose messages go to the mesh at KATAMARI_MESH, with the time left and the trace of the
call that is being worked on placed first. A client may be made once and used in every call, by every thread: each call takes a connection from
a small store, and what has gone wrong on a connection ends it.
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
from typing import Any

from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.Thrift import TApplicationException, TMessageType
from thrift.transport.TTransport import CReadableTransport, TTransportBase

from . import address
from .context import current
from .errors import KatamariError
from .wire import (
    CONTEXT_FIELD,
    FRAME_BYTES_MAX,
    CallContext,
    Malformed,
    ReplyContext,
    check_struct,
    context_bytes,
    read_head,
    reader,
)


def client(service: ModuleType, *, version: str = '', timeout: float | None = None) -> Any:
    """A generated client of another service of the mesh: `katamari.client(Speller).correct('hte')`.

    Each call has the time that is left of the one being worked on (60 s outside of one), or `timeout` if that is less. It raises the declared
    exceptions of its method, KatamariError for what the mesh says, and TApplicationException for what the other service failed with.

    @param service the generated module of that service
    @param version exact, or a SemVer range; '' lets the mesh choose
    @param timeout in seconds
    """
    mesh = _mesh(os.environ.get('KATAMARI_MESH', ''))
    target = _Target(service.__name__.rpartition('.')[2], version, timeout)
    return service.Client(_Protocol(_Exchange(mesh, target)))


class _Target:
    def __init__(self, service: str, version: str, timeout: float | None) -> None:
        self.service = service
        self.version = version
        self.timeout = timeout

    def deadline(self) -> float:
        """On the clock of time.monotonic()."""
        working_on = current.get()
        now = time.monotonic()
        inherited = now + TIMEOUT_OUTSIDE_S if working_on is None else working_on.deadline
        return inherited if self.timeout is None else min(inherited, now + self.timeout)

    def context(self, deadline: float) -> CallContext:
        """What travels with a call that begins now."""
        context = CallContext(
            time_left_us=int(max(0.0, deadline - time.monotonic()) * 1e6),
            service=self.service,
            version=self.version or None,
            caller=f'chassis {os.environ.get("KATAMARI_RESOURCE", "")}'.rstrip(),
        )
        working_on = current.get()
        if working_on is not None:
            context.traceparent = working_on.traceparent or None
            context.tracestate = working_on.tracestate or None
        return context


class _Mesh:
    """Connections to the mesh that no call uses now."""

    def __init__(self, where: str) -> None:
        self.address = where
        self._idle: list[socket.socket] = []
        self._lock = threading.Lock()

    def lend(self, deadline: float) -> socket.socket:
        """@raises KatamariError when there is no way to the mesh"""
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
    """What a thread is writing to the mesh, then the answer to it."""

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
        """A new call; what an earlier one has left behind is dropped. Returns its sequence id."""
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
        if len(message) > FRAME_BYTES_MAX:
            why = f'Cannot call {self._label()}: its arguments are {len(message)} bytes, limit is {FRAME_BYTES_MAX}; send less at once'
            raise KatamariError('too_large', why, not_run=True)
        self._connection = connection = self._mesh.lend(self._deadline)
        try:
            connection.settimeout(_left(self._deadline))
            connection.sendall(_SIZE.pack(len(message)) + message)
        except OSError as error:
            self._discard()
            raise KatamariError('resource_failed', f'{self._label()} could not be sent to the mesh: {error}') from error
        if self._is_oneway:
            self._give_back()

    def receive(self) -> None:
        """Waits for the answer; `read` reads it. @raises KatamariError"""
        try:
            (size,) = _SIZE.unpack(self._receive_exactly(4))
            if not 0 <= size <= FRAME_BYTES_MAX:
                raise Malformed(f'a frame of {size} bytes, limit is {FRAME_BYTES_MAX}')
            frame = self._receive_exactly(size)
            failure = self._failure_in(frame)
        except socket.timeout as error:
            self._discard()
            raise KatamariError('timeout', f'{self._label()} was not answered in its time', stage='service') from error
        except (OSError, EOFError) as error:
            self._discard()
            why = f'The mesh broke off before it answered {self._label()}: {error}'
            raise KatamariError('resource_failed', why) from error
        except Malformed as error:
            self._discard()
            raise KatamariError('resource_failed', f'The answer to {self._label()} cannot be read: {error}') from error
        self._give_back()
        if failure is not None:
            raise failure
        self._in = io.BytesIO(frame)

    def read(self, size: int) -> bytes:
        return self._in.read(size)

    # What the library's fast reader asks for.
    @property
    def cstringio_buf(self) -> io.BytesIO:
        return self._in

    def cstringio_refill(self, partial: bytes, wanted: int) -> io.BytesIO:
        raise EOFError(f'the answer to {self._label()} ends too early')

    def isOpen(self) -> bool:
        return True

    def open(self) -> None:
        pass

    def close(self) -> None:
        self._discard()

    def _failure_in(self, frame: bytes) -> KatamariError | None:
        """What the mesh itself has to say. What the other service says is read by the generated code."""
        head = read_head(frame)
        if head.seq_id != self._seq_id:
            raise Malformed(f'it has sequence id {head.seq_id}, that of the call was {self._seq_id}')
        check_struct(frame, head.body_start)
        if head.type != TMessageType.EXCEPTION or not frame.startswith(CONTEXT_FIELD, head.body_start):
            return None
        source = reader(frame, head.body_start + len(CONTEXT_FIELD))
        context = ReplyContext()
        context.read(source)
        if not context.error_code:
            return None
        said = TApplicationException()
        said.read(source)
        return KatamariError.of_wire(context, said.message or 'The mesh did not say why')

    def _receive_exactly(self, size: int) -> bytes:
        assert self._connection is not None, 'a generated client sends before it receives'
        received = bytearray()
        while len(received) < size:
            # The mesh answers at the deadline itself, and knows more about what happened.
            self._connection.settimeout(_left(self._deadline) + ANSWER_GRACE_S)
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
    """Strict binary, with a context between the head of a call and its arguments."""

    def writeMessageBegin(self, name: str, ttype: int, seqid: int) -> None:
        seq_id = self.trans.begin(name, ttype == TMessageType.ONEWAY)
        super().writeMessageBegin(name, ttype, seq_id)
        self.trans.write(self.trans.context())

    def readMessageBegin(self) -> Any:
        self.trans.receive()
        return super().readMessageBegin()


@functools.lru_cache(maxsize=1)
def _mesh(where: str) -> _Mesh:
    """One store of connections for the process."""
    return _Mesh(where)


def _is_open(idle: socket.socket) -> bool:
    """Nothing comes on an idle connection but its end."""
    idle.setblocking(False)
    try:
        idle.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _left(deadline: float) -> float:
    """Seconds; never 0, which would mean not to wait at all and to say so in another way."""
    return max(0.001, deadline - time.monotonic())


#: Time of a call that is made outside of a handler.
TIMEOUT_OUTSIDE_S = 60.0
#: How long after the deadline the mesh is waited for to say what came of the call.
ANSWER_GRACE_S = 0.2
CONNECT_S = 5.0
#: Connections that are kept for the next calls.
IDLE_MAX = 16
CHUNK_BYTES = 1 << 20
_SIZE = struct.Struct('>i')
