"""From the bytes of the arguments to those of the answer."""

import asyncio
import unittest

from . import generated  # noqa: F401
from kit import Kit
from kit.ttypes import Lax, Refused, Strict, Tree
from katamari.errors import KatamariError
from katamari.service import Service
from katamari.wire import reader, struct_bytes
from thrift.Thrift import TApplicationException


class SpecialRefusal(Refused):
    pass


class Unspeakable(BaseException):
    def __str__(self):
        raise ValueError


class Handler:
    def inherited(self, word):
        return word.upper()

    def pair(self, first, second):
        return f'{first} {second}'

    def count(self, tree, lax):
        return len(tree.children or ())

    def number(self, what):
        if what == 'special':
            raise SpecialRefusal(why='special')
        if what == 'misfit':
            raise Refused(why=7)
        if what == 'silent':
            raise KeyError
        if what == 'broken':
            raise Unspeakable
        if what == 'mesh':
            raise KatamariError('no_pool', 'nobody there')
        return {'none': None, 'text': 'seven', 'large': 1 << 40}.get(what, 7)

    def refuse(self, why):
        raise Refused(why=why)

    def seen(self, word):
        return 'nobody hears this'


class Calls(unittest.TestCase):
    def setUp(self):
        self.service = Service(Kit, Handler())
        self.service.check_handler()

    def call(self, name, **arguments):
        module = Kit if hasattr(Kit, f'{name}_args') else __import__('kit.Base', fromlist=['Base'])
        method = self.service.method(name)
        answer = method.run(method.read(struct_bytes(getattr(module, f'{name}_args')(**arguments)), 0))
        result = (
            TApplicationException() if answer.is_exception else getattr(module, f'{name}_result', Kit.refuse_result)()
        )
        result.read(reader(answer.body, 0))
        return result

    def failure(self, name, **arguments):
        with self.assertLogs('katamari', 'ERROR') as logs:
            result = self.call(name, **arguments)
        self.assertIn('Traceback', logs.output[0])
        self.assertNotIn('Traceback', result.message)
        self.assertEqual(result.type, TApplicationException.INTERNAL_ERROR)
        return result.message

    def test_log_an_error_of_the_mesh_in_one_line_without_its_stack(self):
        with self.assertLogs('katamari', 'WARNING') as logs:
            result = self.call('number', what='mesh')
        self.assertEqual(result.message, 'Kit.number failed: nobody there')
        self.assertEqual(logs.output, ['WARNING:katamari:Kit.number failed: no_pool: nobody there'])

    def test_give_arguments_in_the_order_of_the_idl(self):
        self.assertEqual(self.call('pair', first='a', second='b').success, 'a b')

    def test_reach_inherited_methods(self):
        self.assertEqual(self.call('inherited', word='a').success, 'A')

    def test_answer_with_declared_exceptions_and_those_derived_from_them(self):
        self.assertEqual(self.call('refuse', why='no').refused.why, 'no')
        self.assertEqual(self.call('number', what='special').refused.why, 'special')

    def test_of_oneway_methods_answer_with_an_empty_struct(self):
        self.assertEqual(self.call('seen', word='x').__dict__, Kit.refuse_result().__dict__)

    def test_fail_with_a_message_when_what_is_returned_does_not_fit(self):
        self.assertEqual(
            self.failure('number', what='none'), 'Kit.number failed: it returned None, but the IDL declares a result'
        )
        self.assertRegex(
            self.failure('number', what='text'), 'Kit.number failed: what it returned does not match the IDL: '
        )
        self.assertRegex(
            self.failure('number', what='large'), 'Kit.number failed: what it returned does not match the IDL: '
        )

    def test_fail_with_a_message_when_an_exception_does_not_fit_or_says_nothing(self):
        self.assertRegex(self.call('number', what='misfit').message, 'the Refused it raised does not match the IDL: ')
        self.assertEqual(self.failure('number', what='silent'), 'Kit.number failed: KeyError')
        self.assertEqual(self.failure('number', what='broken'), 'Kit.number failed: Unspeakable')

    def test_without_a_required_field_are_refused_however_deep_it_is(self):
        good = Tree(children=[Tree(leaves={'a': Strict('x')})])
        self.assertEqual(self.call('count', tree=good, lax=Lax(1)).success, 1)
        # In bytes, because some versions of the compiler refuse to write this: tree { children [ { leaves { 'a': {} }
        # } ] }
        lacking = b'\x0c\x00\x01' b'\x0f\x00\x01\x0c\0\0\0\1' b'\x0d\x00\x02\x0b\x0c\0\0\0\1' b'\0\0\0\1a' b'\0\0\0\0'
        with self.assertRaisesRegex(
            KatamariError, 'The arguments of Kit.count do not match its interface: Required field text'
        ) as refused:
            self.service.method('count').read(lacking, 0)
        self.assertEqual(refused.exception.code, 'bad_request')

    def test_with_text_that_is_not_utf_8_are_refused(self):
        pair = self.service.method('pair')
        good = struct_bytes(Kit.pair_args(first='caf\u00e9', second='\ufffd'))
        self.assertEqual(pair.read(good, 0), ['caf\u00e9', '\ufffd'])
        bad = good.replace('\u00e9'.encode(), b'\xe9\x28')
        for binary in (bad, bad.replace(b'\xe9\x28', b'\xc3\xc3')):
            with self.assertRaisesRegex(
                KatamariError, "The arguments of Kit.pair do not match its interface: 'utf-8' codec can't decode byte"
            ) as refused:
                pair.read(binary, 0)
            self.assertEqual(refused.exception.code, 'bad_request')
        # Where text is nested, and where the type has none.
        leaves = struct_bytes(Kit.count_args(tree=Tree(children=[Tree(leaves={'key': Strict('text')})]), lax=Lax(-1)))
        self.assertEqual(self.service.method('count').read(leaves, 0)[1].number, -1)
        for word in (b'key', b'text'):
            with self.assertRaises(KatamariError):
                self.service.method('count').read(leaves.replace(word, b'\xff' * len(word)), 0)

    def test_of_unknown_methods_are_refused(self):
        with self.assertRaisesRegex(KatamariError, 'Kit has no method "nothing"; it has .*pair') as refused:
            self.service.method('nothing')
        self.assertEqual(
            (refused.exception.code, refused.exception.type), ('no_pool', TApplicationException.UNKNOWN_METHOD)
        )


class Handlers(unittest.TestCase):
    def test_that_lack_a_method_are_refused(self):
        with self.assertRaisesRegex(TypeError, 'Kit has no handler for .*pair.*; write a method for each'):
            Service(Kit, object()).check_handler()

    def test_that_are_coroutines_are_refused(self):
        class Async(Handler):
            async def pair(self, first, second):
                await asyncio.sleep(0)

        with self.assertRaisesRegex(TypeError, 'The handlers pair of Kit are async; write plain functions'):
            Service(Kit, Async()).check_handler()

    def test_need_a_generated_module(self):
        with self.assertRaisesRegex(TypeError, 'is not a generated service: pass its module'):
            Service(Handler, Handler())
