"""A chassis as a process: what its socket answers, and how it ends."""

import signal
import tempfile
import time
import unittest
from pathlib import Path

from .peer import Process, arguments, context, no_socket_left
from conformance import Conformance
from of_chassis.katamari import Chassis
from katamari.wire import FRAME_BYTES_MAX, reader
from thrift.Thrift import TApplicationException
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TFramedTransport

CALL, REPLY, EXCEPTION, ONEWAY = 1, 2, 3, 4


def said(body):
    failure = TApplicationException()
    failure.read(reader(body, 0))
    return failure


def working(peer, ms, seq_id=1):
    peer.send('work', seq_id, arguments(Conformance.work_args, ms=ms), context())


def own_program(case, does, options):
    """A chassis of its own for service Kit, of which every method does the same."""
    folder = tempfile.TemporaryDirectory()
    case.addCleanup(folder.cleanup)
    program = Path(folder.name, 'program.py')
    program.write_text(
        'import subprocess, sys, katamari\n'
        'from kit import Kit\n'
        'class Handler:\n'
        f'    inherited = pair = count = number = refuse = seen = lambda *_: {does}\n'
        f'katamari.serve(Kit, Handler(), idl={str(Path(__file__).with_name("kit.thrift"))!r}, {options})\n'
    )
    return Process(case.addCleanup, program, KATAMARI_LIFELINE='stdin')


class Limits(unittest.TestCase):
    def test_are_those_of_the_mesh(self):
        chassis = Process(self.addCleanup, KATAMARI_FRAME_BYTES_MAX='20000000', KATAMARI_NESTING_MAX='900')
        peer = chassis.connect()
        self.addCleanup(peer.close)
        large = b'x' * 19_000_000
        peer.send('echoBinary', 1, arguments(Conformance.echoBinary_args, value=large), context())
        self.assertEqual(len(peer.receive()[2]), len(large) + 8)
        # An unknown field, which is skipped.
        deep = b'\x0c\x00\x63' + b'\x0f\x00\x01\x0c\x00\x00\x00\x01' * 440 + b'\x00' * 442
        peer.send('nothing', 2, deep, context())
        self.assertEqual(peer.receive()[0].type, REPLY)

    def test_that_make_no_sense_are_refused(self):
        chassis = Process(self.addCleanup, KATAMARI_NESTING_MAX='deep')
        self.assertEqual(chassis.status(), 1)
        self.assertIn("KATAMARI_NESTING_MAX is 'deep', expected a whole number above 0", chassis.output())


class Serving(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.chassis = Process(cls.addClassCleanup, CONFORMANCE_CONCURRENCY='1')

    def setUp(self):
        self.peer = self.chassis.connect()
        self.addCleanup(self.peer.close)

    def test_answers_the_control_service_while_a_handler_works(self):
        working(self.peer, 600, seq_id=5)
        self.peer.send('katamari.Chassis:ping', 6)
        self.peer.send('katamari.Chassis:describe', 7)
        self.assertEqual([self.peer.receive()[0].seq_id for _ in range(3)], [6, 7, 5])

    def test_refuses_what_it_does_not_offer_with_the_code_of_the_mesh(self):
        for name, words in (
            ('lost', 'Conformance has no method "lost"; it has .*echo'),
            ('katamari.Chassis:lost', 'katamari.Chassis has no method "lost"; it has describe, ping, drain'),
            ('Other:echo', 'This is Conformance@1.0.0; it does not offer Other'),
        ):
            self.peer.send(name, context=context())
            head, reply, body = self.peer.receive()
            self.assertEqual((head.type, reply.error_code), (EXCEPTION, 1))
            self.assertEqual(said(body).type, TApplicationException.UNKNOWN_METHOD)
            self.assertRegex(said(body).message, words)
        self.peer.send('lost')
        self.assertIsNone(self.peer.receive()[1], 'who sent no context gets none')

    def test_does_not_begin_what_has_no_time_left(self):
        working(self.peer, 500, seq_id=1)
        self.peer.send('note', 2, arguments(Conformance.note_args, line='late'), context(0.05))
        self.peer.send('noted', 3, context=context())
        self.assertEqual(self.peer.receive()[0].seq_id, 1)
        head, reply, body = self.peer.receive()
        self.assertEqual(
            (head.seq_id, head.type, reply.error_code, reply.stage, reply.not_run), (2, EXCEPTION, 3, 1, True)
        )
        self.assertEqual(said(body).message, 'The deadline of note passed before this copy started it')
        self.assertEqual(self.peer.receive()[2], b'\x0f\x00\x00\x0b\x00\x00\x00\x00\x00')

    def test_closes_a_connection_that_brings_no_message_and_serves_the_others(self):
        frames = (
            b'GET / HTTP/1.1\r\n\r\n',
            (0x7FFFFFFF).to_bytes(4, 'big'),
            (FRAME_BYTES_MAX * 2).to_bytes(4, 'big') + b'no message of Thrift',
            b'\x00\x00\x00\x03\x80\x01\x00',
            b'\x00\x00\x00\x0d\x80\x01\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00',
        )
        for frame in frames:
            stranger = self.chassis.connect()
            stranger.socket.sendall(frame)
            self.assertTrue(stranger.is_closed())
            stranger.close()
        self.peer.send('nothing')
        self.assertEqual(self.peer.receive()[0].type, REPLY)

    def test_takes_a_whole_frame_and_answers_what_is_too_large_for_one_with_words(self):
        most = FRAME_BYTES_MAX - 12 - len('echoBinary') - 8
        large = b'x' * (most + 1)
        self.peer.send('echoBinary', 1, arguments(Conformance.echoBinary_args, value=large), context(headers={'x': 'y' * 2000}))
        head, reply, body = self.peer.receive()
        self.assertEqual((head.type, reply.error_code), (EXCEPTION, 8))
        self.assertEqual(
            said(body).message,
            'Conformance.echoBinary failed: what it returned has 16777195 bytes, limit is 16777194; return less at once',
        )
        self.peer.send('echoBinary', 2, arguments(Conformance.echoBinary_args, value=large[1:]), context())
        self.assertEqual(len(self.peer.receive()[2]), most + 8)
        fits = b'x' * (10 << 20)
        self.peer.send('echoBinary', 3, arguments(Conformance.echoBinary_args, value=fits), context())
        self.assertEqual(len(self.peer.receive()[2]), len(fits) + 8)

    def test_refuses_a_call_beyond_the_limits_and_serves_the_others_on_its_connection(self):
        # Longer than a busy machine needs to read the large call.
        working(self.peer, 5000, seq_id=1)
        self.peer.send('echoBinary', 2, b'x' * (FRAME_BYTES_MAX + (1 << 20)), context())
        self.peer.send('echoBinary', 3, b'\x0c\x00\x01' * 64 + b'\x00' * 65, context())
        self.peer.send('nothing', 4, context=context())
        received = [self.peer.receive() for _ in range(4)]
        self.assertEqual([head.seq_id for head, _, _ in received], [2, 3, 1, 4])
        self.assertEqual([reply and reply.error_code for _, reply, _ in received], [8, 9, None, None])
        self.assertRegex(said(received[0][2]).message, 'Cannot take echoBinary: it has .* limit is 16777216; send')
        self.assertRegex(said(received[1][2]).message, 'nested deeper than 64, the limit')

    def test_forgets_the_context_of_a_call_with_the_call(self):
        for given in ({'key': 'k', 'attempt': 2, 'traceparent': '00-a', 'headers': {'X-shop': 'ü'}}, {}):
            headers = {name.encode(): value.encode() for name, value in given.get('headers', {}).items()}
            self.peer.send('report', context=context(5, caller='me', **{**given, 'headers': headers}))
            result = Conformance.report_result()
            result.read(reader(self.peer.receive()[2], 0))
            found = result.success
            self.assertTrue(0 < found.timeLeftMs <= 5000)
            self.assertEqual(
                (found.caller, found.key, found.attempt, found.traceparent, found.headers),
                (
                    'me',
                    given.get('key', ''),
                    given.get('attempt', 0),
                    given.get('traceparent', ''),
                    given.get('headers', {}),
                ),
            )


class Serve(unittest.TestCase):
    def test_tells_the_mesh_what_it_was_told(self):
        chassis = own_program(
            self, '1', "version='2.1.0', concurrency=3, tags=['a'], roles=('b', 'c'), more={'zone': 'd'}"
        )
        peer = chassis.connect()
        self.addCleanup(peer.close)
        peer.send('katamari.Chassis:describe')
        result = Chassis.describe_result()
        result.read(reader(peer.receive()[2], 0))
        found = result.success
        self.assertEqual(
            (found.serviceName, found.version, found.concurrency, found.tags, found.roles, found.more),
            ('Kit', '2.1.0', 3, ['a'], ['b', 'c'], {'zone': 'd'}),
        )
        self.assertEqual((found.idlMain, set(found.idlFiles)), ('kit.thrift', {'kit.thrift'}))
        self.assertRegex(found.sdk, r'^python \d+\.\d+\.\d+ on \w+ 3\.')

    def test_keeps_standard_input_from_handlers_and_their_children(self):
        chassis = own_program(
            self, "subprocess.run(['cat'], stdout=-1, text=True).stdout + sys.stdin.read()", "version='1.0.0'"
        )
        peer = chassis.connect()
        self.addCleanup(peer.close)
        peer.send('inherited')
        self.assertEqual(peer.receive()[2], b'\x0b\x00\x00\x00\x00\x00\x00\x00')

    def test_refuses_options_that_make_no_sense(self):
        for options, words in (
            ("version='1.0.0', concurrency=0", 'concurrency is 0; it must be at least 1'),
            ("version='1.0.0', tags='fast'", "tags is the string \"fast\", expected a list of strings: ['fast']"),
        ):
            chassis = own_program(self, '1', options)
            self.assertEqual(chassis.status(), 78)
            self.assertIn(words, chassis.output())


class Ending(unittest.TestCase):
    def start(self, **environment):
        chassis = Process(self.addCleanup, **environment)
        peer = chassis.connect()
        self.addCleanup(peer.close)
        return chassis, peer

    def test_logs_the_stack_of_what_failed_with_its_name(self):
        chassis, peer = self.start()
        peer.send('collapse', body=arguments(Conformance.collapse_args, why='boom'))
        self.assertEqual(said(peer.receive()[2]).message, 'Conformance.collapse failed: boom')
        output = chassis.output()
        self.assertRegex(output, r'ERROR Conformance@1.0.0/7 katamari: Conformance.collapse failed\nTraceback .*\n')
        self.assertIn('RuntimeError: boom', output)

    def test_by_sigterm_finishes_what_is_under_way_and_refuses_what_comes(self):
        chassis, peer = self.start(CONFORMANCE_CONCURRENCY='1')
        working(peer, 1000, seq_id=5)
        peer.send('katamari.Chassis:ping', 6)
        self.assertEqual(peer.receive()[0].seq_id, 6)
        chassis.process.send_signal(signal.SIGTERM)
        self.assertEqual(peer.receive()[0].name, 'katamari.Link:drain')
        peer.send('nothing', 7, context=context())
        head, reply, _ = peer.receive()
        self.assertEqual((head.seq_id, reply.error_code, reply.not_run), (7, 5, True))
        self.assertEqual(peer.receive()[0].seq_id, 5)
        peer.close()
        self.assertEqual(chassis.status(), 0)
        self.assertTrue(no_socket_left(chassis.listen))

    def test_by_drain_needs_no_signal_with_many_at_work_either(self):
        chassis, peer = self.start(CONFORMANCE_CONCURRENCY='3')
        for seq_id in (1, 2, 3):
            working(peer, 300, seq_id)
        peer.send('katamari.Chassis:drain', 9)
        self.assertEqual({peer.receive()[0].seq_id for _ in range(5)}, {0, 1, 2, 3, 9})
        peer.close()
        self.assertEqual(chassis.status(), 0)

    def test_with_its_manager_does_not_wait_for_a_handler(self):
        chassis, peer = self.start(KATAMARI_LIFELINE='stdin')
        working(peer, 60_000)
        chassis.process.stdin.close()
        self.assertEqual(chassis.status(), 0)

    def test_after_a_call_that_retires_it_says_so_in_the_answer(self):
        chassis, peer = self.start()
        peer.send('retire', context=context())
        head, reply, body = peer.receive()
        self.assertEqual((head.type, reply.retire, body), (REPLY, True, b'\x00'))
        self.assertEqual(peer.receive()[0].name, 'katamari.Link:drain')
        peer.close()
        self.assertEqual(chassis.status(), 0)

    def test_when_a_handler_wants_it_has_the_status_that_it_asked_for(self):
        for concurrency in '1', '2':
            with self.subTest(concurrency=concurrency):
                chassis = own_program(self, 'sys.exit(9)', f"version='1.0.0', concurrency={concurrency}")
                peer = chassis.connect()
                self.addCleanup(peer.close)
                peer.send('pair')
                self.assertEqual(chassis.status(), 9)


class ByHand(unittest.TestCase):
    def test_is_a_framed_server_for_any_client_on_the_usual_port(self):
        end = time.monotonic() + 20
        while True:
            chassis = Process(self.addCleanup, KATAMARI_LISTEN=None, KATAMARI_RESOURCE=None)
            line = chassis.process.stdout.readline()
            # The port is everybody's: tests of another chassis may have it for a moment.
            if 'Address already in use' not in line + (
                chassis.output() if line == 'Traceback (most recent call last):\n' else ''
            ):
                break
            self.assertLess(time.monotonic(), end, 'the port is never free')
        self.assertEqual(line, 'Conformance@1.0.0 listens on tcp:127.0.0.1:9095 (framed Thrift)\n')
        transport = TFramedTransport(TSocket('127.0.0.1', 9095))
        transport.open()
        client = Conformance.Client(TBinaryProtocol(transport))
        self.assertEqual(client.echoText('käse'), 'käse')
        client.note('once')
        self.assertEqual(client.noted(), ['once'])
        with self.assertRaisesRegex(
            TApplicationException, 'relay failed: KATAMARI_MESH is not set: only a chassis that a mesh has'
        ):
            client.relay('x')
        transport.close()
        chassis.process.send_signal(signal.SIGINT)
        self.assertEqual(chassis.status(), 0)

    def test_that_cannot_listen_says_where(self):
        chassis = Process(self.addCleanup, KATAMARI_LISTEN='unix:/nowhere/at/all')
        self.assertEqual(chassis.status(), 1)
        self.assertIn('Cannot listen at unix:/nowhere/at/all: No such file or directory', chassis.output())
