"""The shards of a content server: what opens, closes and uses them, by turns and at once."""

import threading
import time
import unittest

from katamari import Content, DamagedShard, KatamariError, OpenedShard
from katamari.content_control import _TurnsByShard


def in_thread(case, work):
    """Starts work in a thread. Returns a function that waits for its end and returns its result or raises its error."""
    done = []

    def run():
        try:
            done.append((work(), None))
        except Exception as error:
            done.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result():
        thread.join(10)
        case.assertTrue(done, 'it does not end')
        found, error = done[0]
        if error is not None:
            raise error
        return found

    return result


class Recorded:
    """Content that notes what it does, and waits in `open` and `close` while it is told to."""

    def __init__(self, errors=()):
        self.told = []
        self.opening, self.closing = threading.Event(), threading.Event()
        self.may_open, self.may_close = threading.Event(), threading.Event()
        self.may_open.set()
        self.may_close.set()
        self.errors = list(errors)
        self.content = Content(open=self.open, close=self.close)

    def open(self, path, name):
        self.told.append(f'open {name}')
        self.opening.set()
        assert self.may_open.wait(10)
        if self.errors:
            raise self.errors.pop(0)
        return OpenedShard(f'opened {path}', entries=3)

    def close(self, shard, name):
        self.closing.set()
        assert self.may_close.wait(10)
        self.told.append(f'close {name}')


class Opening(unittest.TestCase):
    def test_happens_once_for_all_that_ask_at_the_same_time_and_later(self):
        shards = Recorded()
        shards.may_open.clear()
        first = in_thread(self, lambda: shards.content.open_shard('i@1/a', '/a'))
        self.assertTrue(shards.opening.wait(10))
        second = in_thread(self, lambda: shards.content.open_shard('i@1/a', '/a'))
        shards.may_open.set()
        self.assertIs(first(), second())
        self.assertIs(shards.content.open_shard('i@1/a', '/a'), first())
        self.assertEqual(shards.told, ['open i@1/a'])
        shards.content.open_shard('i@1/B', '/a')
        self.assertEqual(shards.content.names, ['i@1/B', 'i@1/a'])

    def test_from_another_path_is_refused(self):
        content = Recorded().content
        content.open_shard('i@1/a', '/a')
        with self.assertRaisesRegex(ValueError, '^i@1/a is open from /a; close it first$'):
            content.open_shard('i@1/a', '/b')

    def test_that_fails_leaves_nothing_open_and_can_be_tried_again(self):
        for error in (OSError('no licence'), DamagedShard('checksum differs')):
            content = Recorded([error]).content
            with self.assertRaises(type(error)):
                content.open_shard('i@1/a', '/a')
            self.assertEqual(content.names, [])
            self.assertEqual(content.open_shard('i@1/a', '/b').shard, 'opened /b')

    def test_names_what_open_should_have_returned(self):
        content = Content(open=lambda path, name: [path])
        with self.assertRaisesRegex(TypeError, 'open returned list, expected katamari.OpenedShard'):
            content.open_shard('i@1/a', '/a')
        for make, words in (
            (lambda: OpenedShard('x', entries='3'), "entries is '3', expected a whole number"),
            (lambda: OpenedShard('x', entries=-1), 'entries is -1, expected 0 to'),
            (lambda: OpenedShard('x', entries=1, more={'version': 8}), "more has 'version': 8, expected text"),
        ):
            with self.assertRaisesRegex((TypeError, ValueError), words):
                make()


class Closing(unittest.TestCase):
    def test_waits_for_the_calls_that_use_the_shard_and_lets_no_other_in(self):
        shards = Recorded()
        content = shards.content
        content.open_shard('i@1/a', '/a')
        with content.use(['i@1/a']), content.use():
            closed = in_thread(self, lambda: content.close_shard('i@1/a'))
            end = time.monotonic() + 10
            while content.names and time.monotonic() < end:
                time.sleep(0.001)
            with self.assertRaises(KatamariError) as refused, content.use(['i@1/a']):
                pass
            self.assertEqual(refused.exception.code, 'no_pool')
            self.assertEqual(refused.exception.message, 'Shard i@1/a is not open here; open are none')
            self.assertEqual(shards.told, ['open i@1/a'])
        closed()
        self.assertEqual(shards.told, ['open i@1/a', 'close i@1/a'])

    def test_again_waits_for_the_first_and_does_nothing_for_an_unknown_shard(self):
        shards = Recorded()
        shards.content.close_shard('i@1/unknown')
        shards.content.open_shard('i@1/a', '/a')
        shards.may_close.clear()
        first = in_thread(self, lambda: shards.content.close_shard('i@1/a'))
        self.assertTrue(shards.closing.wait(10))
        second = in_thread(self, lambda: shards.content.close_shard('i@1/a'))
        again = in_thread(self, lambda: shards.content.open_shard('i@1/a', '/b'))
        shards.may_close.set()
        first()
        # `second` comes before or after the shard is open again; then it closes that one.
        second()
        self.assertEqual(again().shard, 'opened /b')
        self.assertEqual(shards.told[:3], ['open i@1/a', 'close i@1/a', 'open i@1/a'])

    def test_that_fails_says_so_and_the_shard_can_be_opened_again(self):
        def close(shard, name):
            raise OSError('the file is locked')

        content = Content(open=lambda path, name: OpenedShard(path, entries=1), close=close)
        content.open_shard('i@1/a', '/a')
        with self.assertRaisesRegex(OSError, 'the file is locked'):
            content.close_shard('i@1/a')
        self.assertEqual(content.open_shard('i@1/a', '/b').shard, '/b')


class Using(unittest.TestCase):
    def test_gives_the_shards_that_a_call_names_or_all(self):
        content = Recorded().content
        content.open_shard('i@1/b', '/y')
        content.open_shard('i@1/a', '/x')
        every = {'i@1/a': 'opened /x', 'i@1/b': 'opened /y'}
        for names, found in ((['i@1/b', 'i@1/b'], {'i@1/b': 'opened /y'}), ([], every), (None, every)):
            with content.use(names) as shards:
                self.assertEqual(list(shards.items()), list(found.items()))

    def test_lists_what_is_open_when_it_is_asked_for_something_else(self):
        content = Recorded().content
        for number in range(25):
            content.open_shard(f'i@1/{number:02}', '/x')
        with self.assertRaisesRegex(KatamariError, 'i@1/x is not open here; open are i@1/00, .* i@1/19 and 5 more$'):
            with content.use(['i@1/00', 'i@1/x']):
                pass
        content.close_shard('i@1/00')

    def test_ends_with_a_call_that_fails(self):
        content = Recorded().content
        content.open_shard('i@1/a', '/x')
        with self.assertRaises(ZeroDivisionError), content.use():
            raise ZeroDivisionError
        content.close_shard('i@1/a')
        self.assertEqual(content.names, [])


class TurnsByShard(unittest.TestCase):
    def test_keep_the_order_of_a_shard_and_let_others_run(self):
        turns = _TurnsByShard()
        gate, ended = threading.Event(), threading.Event()
        ran = []
        turns.add('a', lambda: gate.wait(10))
        for number in range(100):
            turns.add('a', lambda number=number: ran.append(number))
        turns.add('a', ended.set)
        for number in range(50):
            other = threading.Event()
            turns.add(f'b{number}', other.set)
            self.assertTrue(other.wait(10))
        self.assertEqual(ran, [])
        gate.set()
        self.assertTrue(ended.wait(10))
        self.assertEqual(ran, list(range(100)))


if __name__ == '__main__':
    unittest.main()
