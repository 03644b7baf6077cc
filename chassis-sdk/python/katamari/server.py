"""The socket server of a chassis: it listens, reads calls, writes replies and drains. Each connection has a thread
that reads it and passes calls to `take`. The resource manager holds one connection; plain Thrift clients may open
others.

A call above the limits of bytes or nesting is refused, and its connection lives on. A connection that sends another
malformed message is closed, because the start of the next message is unknown. Limits: connections, calls in flight on
each, the time for a complete frame, and the time for the peer to read a reply.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
import time
from typing import Callable, Iterator

from thrift.Thrift import TMessageType

from . import address
from .errors import KatamariError
from .service import Answer, failure_bytes
from .wire import (
    CONTEXT_BYTES_MAX,
    CONTEXT_FIELD,
    DRAIN_NOTICE,
    FRAME_BYTES_MAX,
    HEAD_BYTES,
    NAME_BYTES_MAX,
    SKIPPED_BYTES_MAX,
    CallContext,
    Head,
    Malformed,
    ReplyContext,
    TooDeep,
    check_struct,
    context_bytes,
    framed_message,
    position,
    read_head,
    reader,
)


class Call:
    """A received call. Call `answer` or `refuse` exactly once."""

    def __init__(self, connection: _Connection, head: Head, frame: bytes, is_whole: bool = True) -> None:
        """@param is_whole false for a call that is refused: its context is not read"""
        self._connection = connection
        self._head = head
        self.frame = frame
        self.context = CallContext()
        #: Offset of the arguments in the frame, after the context.
        self.start = head.body_start
        self.is_of_mesh = frame.startswith(CONTEXT_FIELD, head.body_start)
        if self.is_of_mesh and is_whole:
            self._read_context()
        target, _, self.method = head.name.rpartition(':')
        self.service = target.partition('@')[0] or self.context.service or ''
        left_us = self.context.time_left_us
        self.deadline = time.monotonic() + (TIMEOUT_WITHOUT_MESH_S if left_us is None else left_us / 1e6)

    def answer(self, answer: Answer, retire: bool = False) -> None:
        context = b''
        if self.is_of_mesh and (retire or answer.error is not None):
            reply_context = ReplyContext() if answer.error is None else answer.error.to_wire()
            reply_context.retire = retire or None
            context = context_bytes(reply_context)
        self._end(TMessageType.EXCEPTION if answer.is_exception else TMessageType.REPLY, context, answer.body)

    def refuse(self, error: KatamariError) -> None:
        """Replies with an error of the chassis itself."""
        context = b''
        if self.is_of_mesh:
            context = context_bytes(error.to_wire())
        self._end(TMessageType.EXCEPTION, context, failure_bytes(error.message, error.type))

    def _end(self, type: int, context: bytes, body: bytes) -> None:
        # The mesh sends oneway calls as ordinary calls, to learn when they end. Plain clients expect no reply to one.
        is_oneway = self._head.type == TMessageType.ONEWAY
        message = b'' if is_oneway else framed_message(type, self.method, self._head.seq_id, context, body)
        self._connection.end_call(message)

    def _read_context(self) -> None:
        source = reader(self.frame, self.start + len(CONTEXT_FIELD))
        try:
            self.context.read(source)
        except Exception as error:
            raise Malformed(f'the context in field 32767 cannot be decoded: {error}') from error
        self.start = position(source)


class Server:
    def __init__(self, listen: str, take: Callable[[Call], None]) -> None:
        """@param take receives every call, in the thread of its connection @raises ValueError, OSError"""
        self._listener, self.address = address.listen(listen)
        self.take = take
        self._changed = threading.Condition()
        self._connections: set[_Connection] = set()
        self._in_flight = 0
        self.is_draining = False
        threading.Thread(target=self._accept, name='katamari-accept', daemon=True).start()

    def drain(self) -> None:
        """Graceful shutdown: stops listening, sends the mesh a drain notice, waits for the calls in flight, then
        closes."""
        with self._changed:
            if self.is_draining:
                return
            self.is_draining = True
            connections = list(self._connections)
        self._stop_listening()
        for connection in connections:
            connection.announce_drain()
        with self._changed:
            self._changed.wait_for(lambda: self._in_flight == 0)
        end = time.monotonic() + LEAVE_S
        for connection in connections:
            connection.leave(max(0.0, end - time.monotonic()))

    def count(self, change: int) -> None:
        with self._changed:
            self._in_flight += change
            self._changed.notify_all()

    def forget(self, connection: _Connection) -> None:
        with self._changed:
            self._connections.discard(connection)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                if self.is_draining:
                    return
                # Most likely no file descriptor is free. Retry, because other connections will close.
                time.sleep(0.05)
                continue
            with self._changed:
                is_accepted = not self.is_draining and len(self._connections) < CONNECTIONS_MAX
                if is_accepted:
                    connection = _Connection(self, peer)
                    self._connections.add(connection)
            if is_accepted:
                connection.start()
            else:
                peer.close()

    def _stop_listening(self) -> None:
        # `close` alone does not wake a thread that blocks in `accept`, which keeps the socket open.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self.address.startswith('unix:'):
            with contextlib.suppress(OSError):
                os.unlink(self.address[5:])


class _Connection:
    def __init__(self, server: Server, peer: socket.socket) -> None:
        self._server = server
        self._socket = peer
        self._writing = threading.Lock()
        self._slots = threading.Semaphore(PIPELINE_MAX)
        self._gone = threading.Event()
        #: Whether the peer sends contexts. Then it is of the mesh and understands a drain notice.
        self._is_of_mesh = False

    def start(self) -> None:
        self._socket.settimeout(REQUEST_S)
        address.disable_nagle(self._socket)
        threading.Thread(target=self._read, name='katamari-read', daemon=True).start()

    def end_call(self, message: bytes) -> None:
        """Sends the reply of a call and frees its slot. @param message empty for a oneway call, which has no reply"""
        if message:
            self._write(message)
        self._slots.release()
        self._server.count(-1)

    def announce_drain(self) -> None:
        if self._is_of_mesh:
            self._write(DRAIN_NOTICE)

    def leave(self, within: float) -> None:
        """Closes the connection. A peer of the mesh closes it after a drain notice, so it first gets `within`
        seconds."""
        if self._is_of_mesh:
            self._gone.wait(within)
        self._hang_up()

    def _read(self) -> None:
        try:
            for frame in self._frames():
                self._take(frame)
        except Malformed as error:
            _log.warning('Closed a connection that sent an invalid message: %s', error)
        except OSError:
            pass
        finally:
            self._hang_up()
            self._socket.close()
            self._gone.set()
            self._server.forget(self)

    def _frames(self) -> Iterator[bytes]:
        unread = bytearray()
        begun = 0.0
        skip = 0
        while True:
            try:
                chunk = self._socket.recv(CHUNK_BYTES)
            except socket.timeout:
                chunk = None
            is_inside = bool(unread) or skip > 0
            if chunk == b'' or (is_inside and time.monotonic() - begun > REQUEST_S):
                return
            if not is_inside:
                begun = time.monotonic()
            unread += chunk or b''
            while skip > 0 or len(unread) >= 4:
                if skip > 0:
                    skipped = min(skip, len(unread))
                    del unread[:skipped]
                    skip -= skipped
                    if skip > 0:
                        break
                    begun = time.monotonic()
                    continue
                (size,) = _SIZE.unpack_from(unread)
                if not 0 <= size <= SKIPPED_BYTES_MAX:
                    raise Malformed(f'a frame of {size} bytes, limit is {FRAME_BYTES_MAX}')
                if size > FRAME_BYTES_MAX + CONTEXT_BYTES_MAX:
                    if self._refuse_oversized(bytes(unread[4:OVERSIZED_START_BYTES]), size):
                        skip = 4 + size
                        continue
                    break
                if len(unread) < 4 + size:
                    break
                frame = bytes(memoryview(unread)[4 : 4 + size])
                del unread[: 4 + size]
                begun = time.monotonic()
                yield frame

    def _refuse_oversized(self, start: bytes, size: int) -> bool:
        """Refuses a call of which only the begin is kept. Returns false while its head is incomplete."""
        if len(start) < 8:
            return False
        name_bytes = _SIZE.unpack_from(start, 4)[0]
        whole = HEAD_BYTES + max(0, min(name_bytes, NAME_BYTES_MAX)) + len(CONTEXT_FIELD)
        # What begins like no message is refused at once.
        if len(start) < whole and start.startswith(b'\x80\x01') and 0 <= name_bytes <= NAME_BYTES_MAX:
            return False
        head = self._head(start)
        why = f'it has {size} bytes, limit is {FRAME_BYTES_MAX}; send it in smaller pieces'
        self._refuse(Call(self, head, start, is_whole=False), 'too_large', why)
        return True

    def _head(self, frame: bytes) -> Head:
        head = read_head(frame)
        if head.type not in (TMessageType.CALL, TMessageType.ONEWAY):
            raise Malformed(f'message type {head.type}, expected a call (1) or a oneway call (4)')
        return head

    def _refuse(self, call: Call, code: str, why: str) -> None:
        self._slots.acquire()
        self._server.count(+1)
        call.refuse(KatamariError(code, f'Cannot take {call.method}: {why}', not_run=True))

    def _take(self, frame: bytes) -> None:
        head = self._head(frame)
        try:
            check_struct(frame, head.body_start)
        except TooDeep as error:
            self._refuse(Call(self, head, frame, is_whole=False), 'bad_request', str(error))
            return
        call = Call(self, head, frame)
        self._is_of_mesh = self._is_of_mesh or call.is_of_mesh
        # Backpressure: blocks, and so stops reading, while the peer has PIPELINE_MAX calls in flight.
        self._slots.acquire()
        self._server.count(+1)
        if self._server.is_draining:
            why = f'Cannot take {call.method}: this process is draining; send the call to another one'
            call.refuse(KatamariError('draining', why, not_run=True))
        else:
            self._server.take(call)

    def _write(self, message: bytes) -> None:
        try:
            with self._writing:
                self._socket.sendall(message)
        except OSError:
            # The peer disconnected or does not read. A part of the reply may be sent, so nothing can follow it.
            self._hang_up()

    def _hang_up(self) -> None:
        """Shuts the socket down. Only the reading thread closes it: otherwise its descriptor could be reused while
        that thread is in `recv`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


#: Timeout of a call without a deadline, from a client that is not the mesh.
TIMEOUT_WITHOUT_MESH_S = 60.0
#: Open connections. The same in every kit.
CONNECTIONS_MAX = 256
#: Maximum calls in flight on one connection.
PIPELINE_MAX = 1_024
#: Time for a complete frame to arrive once it has begun, and for the peer to read a reply.
REQUEST_S = 30.0
#: Time for the mesh to close its connection after a drain notice and the last reply.
LEAVE_S = 1.0
CHUNK_BYTES = 65_536
#: Length, head with the longest name, and what shows whether a context follows.
OVERSIZED_START_BYTES = 4 + HEAD_BYTES + NAME_BYTES_MAX + len(CONTEXT_FIELD)
_SIZE = struct.Struct('>i')
_log = logging.getLogger('katamari')
