"""Calls to other services, seen from the mesh that is called."""

import contextvars
import os
import socket
import tempfile
import threading
import time
import unittest
from unittest import mock

from . import generated  # noqa: F401
from conformance import Conformance
from conformance.ttypes import Declared
import katamari
from katamari import address
from katamari.context import Context, current
from katamari.service import failure_bytes
from katamari.wire import (
    CONTEXT_FIELD,
    CallContext,
    ReplyContext,
    context_bytes,
    framed_message,
    position,
    read_head,
    reader,
    struct_bytes,
)
from thrift.Thrift import TApplicationException

REPLY, EXCEPTION = 2, 3


class Mesh:
    """Listens where the mesh would; `script` answers each call, in the thread of its connection: (socket, head, context, arguments)."""

    def __init__(self, case, script):
        folder = tempfile.TemporaryDirectory()
        case.addCleanup(folder.cleanup)
        self.script = script
        self.connections = 0
        self.listener, self.address = address.listen(f'unix:{folder.name}/mesh.sock')
        case.addCleanup(self.listener.close)
        case.addCleanup(self.listener.shutdown, socket.SHUT_RDWR)
        threading.Thread(target=self._accept, daemon=True).start()
        patch = mock.patch.dict(os.environ, {'KATAMARI_MESH': self.address, 'KATAMARI_RESOURCE': 'Shop@1.0.0/2'})
        patch.start()
        case.addCleanup(patch.stop)

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection):
        with connection, connection.makefile('rb') as stream:
            while True:
                size = stream.read(4)
                if not size:
                    return
                frame = stream.read(int.from_bytes(size, 'big'))
                head = read_head(frame)
                assert frame.startswith(CONTEXT_FIELD, head.body_start)
                source, found = reader(frame, head.body_start + 3), CallContext()
                found.read(source)
                if self.script(connection, head, found, frame[position(source) :]) == 'close':
                    return


def reply(connection, head, **fields):
    body = struct_bytes(getattr(Conformance, f'{head.name}_result')(**fields))
    # The mesh says more in its answers than a chassis needs to know.
    connection.sendall(
        framed_message(REPLY, head.name, head.seq_id, context_bytes(ReplyContext(retry_after_ms=1)), body)
    )


def fail(connection, head, message, kind=6, **context):
    before = context_bytes(ReplyContext(**context)) if context else b''
    connection.sendall(framed_message(EXCEPTION, head.name, head.seq_id, before, failure_bytes(message, kind)))


class Calls(unittest.TestCase):
    def working_on(self, seconds, **fields):
        token = current.set(Context('order', time.monotonic() + seconds, CallContext(**fields)))
        self.addCleanup(current.reset, token)

    def test_hand_on_the_trace_and_the_time_that_is_left(self):
        seen = []

        def script(connection, head, context, body):
            seen.append(context)
            reply(connection, head, success='meant')

        Mesh(self, script)
        other = katamari.client(Conformance, version='^1.0.0')
        self.working_on(5, traceparent='00-0af7-b7ad-01', tracestate='a=b', key='not handed on')
        self.assertEqual(other.echoText('hte'), 'meant')
        self.assertEqual(katamari.client(Conformance, timeout=0.5).echoText('hte'), 'meant')
        first, second = seen
        self.assertEqual(
            (first.service, first.version, first.traceparent, first.tracestate, first.caller, first.key),
            ('Conformance', '^1.0.0', '00-0af7-b7ad-01', 'a=b', 'chassis Shop@1.0.0/2', None),
        )
        self.assertTrue(4_000_000 < first.time_left_us <= 5_000_000)
        self.assertTrue(0 < second.time_left_us <= 500_000)

    def test_raise_what_the_method_declares_and_what_the_other_failed_with(self):
        def script(connection, head, _context, _body):
            if head.name == 'refuse':
                reply(connection, head, declared=Declared(why='no', number=3))
            else:
                fail(connection, head, 'Conformance.collapse failed: boom')

        Mesh(self, script)
        other = katamari.client(Conformance)
        with self.assertRaises(Declared) as declared:
            other.refuse('no', 3)
        self.assertEqual(declared.exception.number, 3)
        with self.assertRaisesRegex(TApplicationException, 'collapse failed: boom') as failed:
            other.collapse('boom')
        self.assertNotIsInstance(failed.exception, katamari.KatamariError)

    def test_raise_what_the_mesh_says_with_its_code(self):
        said = {'error_code': 2, 'retry_after_ms': 40, 'stage': 1, 'not_run': True}
        Mesh(self, lambda connection, head, *_: fail(connection, head, '64 wait, limit is 64', **said))
        with self.assertRaisesRegex(katamari.KatamariError, '64 wait, limit is 64') as raised:
            katamari.client(Conformance).echoText('x')
        error = raised.exception
        self.assertEqual(
            (error.code, error.retry_after_ms, error.stage, error.not_run), ('overloaded', 40, 'queue', True)
        )

    def test_tell_the_facts_about_a_reply_and_ask_for_coverage(self):
        seen, infos = [], []
        facts = {'version': '2.1.0', 'shards': 40, 'complete_shards': 39, 'missing_shards': ['wiki@2.1.0/p-7 TIMED_OUT']}

        def script(connection, head, context, _body):
            seen.append((context.service, context.min_coverage))
            if head.name == 'echoText':
                body = struct_bytes(Conformance.echoText_result(success='meant'))
                before = context_bytes(ReplyContext(**facts))
                connection.sendall(framed_message(REPLY, head.name, head.seq_id, before, body))
            elif head.name == 'refuse':
                reply(connection, head, declared=Declared(why='no', number=3))
            else:
                fail(connection, head, 'boom', **{'error_code': 13} if len(seen) > 3 else {})

        Mesh(self, script)
        other = katamari.client(Conformance, service='wiki', min_coverage=0.9, on_reply=infos.append)
        self.assertEqual(other.echoText('hte'), 'meant')
        missing = (katamari.AbsentShard('wiki@2.1.0/p-7', 'TIMED_OUT'),)
        self.assertEqual(infos, [katamari.ReplyInfo('2.1.0', katamari.Coverage(40, 39, missing))])
        with self.assertRaises(Declared):
            other.refuse('no', 3)
        self.assertEqual(infos[1:], [katamari.ReplyInfo('', None)])
        for expected in (TApplicationException, katamari.KatamariError):
            with self.assertRaisesRegex(expected, 'boom'):
                other.collapse('boom')
        self.assertEqual(len(infos), 2)
        self.assertEqual(katamari.client(Conformance).echoText('hte'), 'meant')
        self.assertEqual(seen, [*[('wiki', 0.9)] * 4, ('Conformance', None)])

    def test_raise_what_their_callback_raises_and_the_next_one_works(self):
        Mesh(self, lambda connection, head, *_: reply(connection, head, success='meant'))
        told = []

        def tell(info):
            told.append(info)
            if len(told) == 1:
                raise LookupError('too little')

        other = katamari.client(Conformance, on_reply=tell)
        with self.assertRaisesRegex(LookupError, 'too little'):
            other.echoText('x')
        self.assertEqual((other.echoText('x'), len(told)), ('meant', 2))
        with self.assertRaisesRegex(ValueError, 'min_coverage is 2, expected a share from 0 to 1'):
            katamari.client(Conformance, min_coverage=2)

    def test_end_when_nobody_answers_and_the_next_one_gets_its_own_answer(self):
        silent = [True]

        def script(connection, head, *_):
            if silent:
                silent.pop()
                return
            reply(connection, head, success='second')

        mesh = Mesh(self, script)
        other = katamari.client(Conformance, timeout=0.05)
        with self.assertRaisesRegex(
            katamari.KatamariError, 'Conformance.echoText got no reply before its deadline'
        ) as raised:
            other.echoText('x')
        self.assertEqual(raised.exception.code, 'timeout')
        self.assertEqual(katamari.client(Conformance).echoText('x'), 'second')
        self.assertEqual(mesh.connections, 2)

    def test_are_not_sent_when_no_time_is_left(self):
        mesh = Mesh(self, lambda *_: self.fail('it was sent'))
        self.working_on(0)
        with self.assertRaisesRegex(
            katamari.KatamariError, 'Cannot call Conformance.echoText: no time is left'
        ) as raised:
            katamari.client(Conformance).echoText('x')
        self.assertEqual((raised.exception.code, raised.exception.not_run, mesh.connections), ('timeout', True, 0))

    def test_fail_when_the_connection_ends_or_brings_nonsense(self):
        answers = [
            lambda connection, head: connection.sendall(b'\x7f\xff\xff\xff'),
            lambda connection, head: connection.sendall(framed_message(REPLY, head.name, head.seq_id + 1, b'\x00')),
            lambda connection, head: connection.sendall(
                framed_message(REPLY, head.name, head.seq_id, b'\x0f\x00\x00\x0b\x7f\xff\xff\xff\x00')
            ),
            lambda connection, head: connection.sendall(b'\x00\x00\x00\x20\x80'),
            lambda connection, head: None,
        ]

        def script(connection, head, *_):
            if answers:
                answers.pop(0)(connection, head)
                return 'close'
            reply(connection, head, success='well')

        Mesh(self, script)
        other = katamari.client(Conformance, timeout=5)
        for _ in range(len(answers)):
            with self.assertRaises(katamari.KatamariError) as raised:
                other.echoText('x')
            self.assertEqual((raised.exception.code, raised.exception.not_run), ('resource_failed', False))
        self.assertEqual(other.echoText('x'), 'well')

    def test_of_many_threads_share_a_client_and_a_few_connections(self):
        def script(connection, head, _context, body):
            given = Conformance.echoText_args()
            given.read(reader(body, 0))
            reply(connection, head, success=given.value)

        mesh = Mesh(self, script)
        other = katamari.client(Conformance)
        found = []

        def work(name):
            found.extend(other.echoText(f'{name} {n}') == f'{name} {n}' for n in range(50))

        threads = [threading.Thread(target=contextvars.copy_context().run, args=(work, name)) for name in 'abcd']
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        self.assertEqual(found, [True] * 200)
        self.assertLessEqual(mesh.connections, 4)

    def test_that_are_oneway_wait_for_nobody(self):
        heard = threading.Event()

        def script(connection, head, *_):
            if head.name == 'note':
                heard.set()
            else:
                reply(connection, head, success='next')

        mesh = Mesh(self, script)
        other = katamari.client(Conformance)
        other.note('a')
        self.assertTrue(heard.wait(10))
        self.assertEqual((other.echoText('x'), mesh.connections), ('next', 1))

    def test_use_no_connection_that_was_closed_meanwhile(self):
        closed = threading.Event()

        def script(connection, head, *_):
            reply(connection, head, success='well')
            connection.shutdown(socket.SHUT_RDWR)
            closed.set()
            return 'close'

        Mesh(self, script)
        other = katamari.client(Conformance)
        for _ in range(3):
            closed.clear()
            self.assertEqual(other.echoText('x'), 'well')
            self.assertTrue(closed.wait(10))

    def test_say_that_there_is_no_mesh(self):
        with mock.patch.dict(os.environ, {'KATAMARI_MESH': 'unix:/nowhere/at/all'}):
            with self.assertRaisesRegex(
                katamari.KatamariError, 'The mesh at unix:/nowhere/at/all cannot be reached'
            ) as raised:
                katamari.client(Conformance).echoText('x')
        self.assertEqual((raised.exception.code, raised.exception.not_run), ('resource_failed', True))
        with self.assertRaisesRegex(LookupError, 'called outside of a call'):
            katamari.context()
