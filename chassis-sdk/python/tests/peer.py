"""A chassis as a process, and the other end of its socket, for tests."""

import contextlib
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from katamari import address
from katamari.wire import (
    CONTEXT_FIELD,
    CallContext,
    ReplyContext,
    context_bytes,
    framed_message,
    position,
    read_head,
    reader,
)

from . import generated

PROGRAM = Path(__file__).with_name('does_as_told.py')


class Peer:
    """One connection, on which messages are sent and received as they are."""

    def __init__(self, connection):
        self.socket = connection
        connection.settimeout(10)

    def send(self, name, seq_id=1, body=b'\x00', context=None, type=1):
        before = b'' if context is None else context_bytes(context)
        self.socket.sendall(framed_message(type, name, seq_id, before, body))

    def receive(self):
        """The head of the next message, its ReplyContext or None, and its body."""
        (size,) = struct.unpack('>i', self._exactly(4))
        frame = self._exactly(size)
        head = read_head(frame)
        if not frame.startswith(CONTEXT_FIELD, head.body_start):
            return head, None, frame[head.body_start :]
        source, context = reader(frame, head.body_start + 3), ReplyContext()
        context.read(source)
        return head, context, frame[position(source) :]

    def is_closed(self):
        """Waits for the other side to close; False when it sends something instead."""
        with contextlib.suppress(ConnectionError):
            return self.socket.recv(1) == b''
        return True

    def close(self):
        self.socket.close()

    def _exactly(self, size):
        got = b''
        while len(got) < size:
            chunk = self.socket.recv(size - len(got))
            if not chunk:
                raise EOFError('closed')
            got += chunk
        return got


class Process:
    """A chassis, started as a resource manager would. It ends, and its folder goes, in what `add_cleanup` is given."""

    def __init__(self, add_cleanup, program=PROGRAM, **environment):
        folder = tempfile.TemporaryDirectory()
        add_cleanup(folder.cleanup)
        self.listen = f'unix:{folder.name}/chassis.sock'
        env = {
            **generated.ENVIRONMENT,
            'KATAMARI_LISTEN': self.listen,
            'KATAMARI_RESOURCE': 'Conformance@1.0.0/7',
            **environment,
        }
        self.process = subprocess.Popen(
            [sys.executable, program],
            env={name: value for name, value in env.items() if value is not None},
            cwd=folder.name,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        add_cleanup(self._end)

    def connect(self):
        end = time.monotonic() + 10
        while True:
            try:
                return Peer(address.connect(self.listen, 10))
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f'it does not listen: {self.output()}') from None
                time.sleep(0.01)

    def status(self):
        return self.process.wait(10)

    def output(self):
        """All that it wrote, once it has ended."""
        self.process.kill()
        return self.process.stdout.read()

    def _end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def arguments(kind, **fields):
    from katamari.wire import struct_bytes

    return struct_bytes(kind(**fields))


def context(seconds=10.0, **fields):
    return CallContext(time_left_us=int(seconds * 1e6), **fields)


def no_socket_left(listen):
    return not os.path.exists(listen[5:])
