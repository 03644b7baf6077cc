"""What is believed of the bytes that come, and what is not."""

import unittest

from . import generated  # noqa: F401
from conformance.ttypes import Either, Everything, Leaf
from katamari_content import Content as of_content
from of_calls.katamari import ttypes as of_calls
from of_chassis.katamari import ttypes as of_chassis
from katamari.context import Context, Identity
from katamari.wire import (
    NESTING_MAX,
    CallContext,
    ChassisDetails,
    CloseArguments,
    Malformed,
    OpenArguments,
    OpenResult,
    ReplyContext,
    ShardFacts,
    ShardRefused,
    ShardsResult,
    check_struct,
    context_bytes,
    framed_message,
    position,
    read_head,
    reader,
    struct_bytes,
)

EVERYTHING = Everything(
    flag=True,
    tiny=-1,
    small=2,
    whole=3,
    large=1 << 60,
    real=0.5,
    text='käse',
    bytes=b'\x00\xff',
    colour=1,
    leaf=Leaf('leaf'),
    either=Either(leaf=Leaf('either')),
    numbers=[1, 2, 3],
    words={'a', 'b'},
    counts={'a': 1},
    nested={1: [Leaf('x'), Leaf('y')], 2: []},
    blobs=[b'', b'x'],
)


class Struct(unittest.TestCase):
    def test_of_every_type_is_found_whole(self):
        check_struct(struct_bytes(EVERYTHING), 0)

    def test_that_ends_at_any_earlier_byte_is_refused(self):
        whole = struct_bytes(EVERYTHING)
        for end in range(len(whole)):
            with self.subTest(end=end), self.assertRaises(Malformed):
                check_struct(whole[:end], 0)

    def test_with_something_behind_it_is_refused(self):
        with self.assertRaisesRegex(Malformed, r'has \d+ bytes, but \d+ were received'):
            check_struct(struct_bytes(EVERYTHING) + b'\x00', 0)

    def test_is_refused_when_nested_deeper_than_the_limit(self):
        def nested(levels):
            return b'\x0c\x00\x01' * (levels - 1) + b'\x00' * levels

        check_struct(nested(NESTING_MAX), 0)
        for levels in (NESTING_MAX + 1, 1_000_000):
            with self.assertRaisesRegex(Malformed, 'nested deeper than 64, the limit'):
                check_struct(nested(levels), 0)

    def test_is_refused_when_a_size_in_it_cannot_be_true(self):
        for field in (
            b'\x0b\x00\x01\x7f\xff\xff\xff',
            b'\x0b\x00\x01\xff\xff\xff\xff',
            b'\x0f\x00\x01\x08\x7f\xff\xff\xff',
            b'\x0f\x00\x01\x0c\x7f\xff\xff\xff',
            b'\x0e\x00\x01\x0b\x80\x00\x00\x00',
            b'\x0d\x00\x01\x0b\x0b\x7f\xff\xff\xff',
        ):
            with self.subTest(field=field), self.assertRaisesRegex(Malformed, 'are declared'):
                check_struct(field + b'\x00' * 64, 0)

    def test_is_refused_when_a_type_in_it_is_none(self):
        for field in (
            b'\x05\x00\x01\x00',
            b'\x0f\x00\x01\x07\x00\x00\x00\x01',
            b'\x0d\x00\x01\x63\x0b\x00\x00\x00\x01',
        ):
            with self.subTest(field=field), self.assertRaisesRegex(Malformed, 'is not a Thrift type'):
                check_struct(field + b'\x00' * 16, 0)


class Heads(unittest.TestCase):
    def test_come_back_as_they_were_written(self):
        for seq_id in (0, 1, -1, 0x7FFFFFFF, -0x80000000):
            head = read_head(framed_message(1, 'katamari.Chassis:ping', seq_id, b'\x00')[4:])
            self.assertEqual(head[:3], (1, 'katamari.Chassis:ping', seq_id))

    def test_that_are_none_are_refused(self):
        for frame in (b'', b'GET / HTTP/1.1\r\n', b'\x80\x01\x00\x01\x7f\xff\xff\xff', framed_message(1, 'x', 0)[4:-1]):
            with self.subTest(frame=frame), self.assertRaises(Malformed):
                read_head(frame)


class Contexts(unittest.TestCase):
    def test_have_the_numbers_and_types_that_the_idl_gives_them(self):
        for written, generated_struct in (
            (CallContext, of_calls.CallContext),
            (ReplyContext, of_calls.ReplyContext),
            (ChassisDetails, of_chassis.ChassisDetails),
            (OpenArguments, of_content.open_args),
            (CloseArguments, of_content.close_args),
            (OpenResult, of_content.open_result),
            (ShardFacts, of_content.ShardFacts),
            (ShardRefused, of_content.ShardRefused),
            (ShardsResult, of_content.shards_result),
        ):
            fields = {field[0]: self.shape(field) for field in written.thrift_spec if field}
            theirs = {field[0]: self.shape(field) for field in generated_struct.thrift_spec if field}
            self.assertEqual(fields, {number: theirs[number] for number in fields})
            if written not in (CallContext, ReplyContext):
                self.assertEqual(len(written.thrift_spec), len(generated_struct.thrift_spec), 'all of it')

    def shape(self, field):
        """Type, name without underscores, and types inside. An enum is an i32 for us."""
        number, type, name, inside, _ = field
        own = {'service': 'servicename'}.get(name, name.replace('_', '').lower())
        return type, own, None if type in (8, 12) else inside

    def test_are_read_and_what_is_behind_them_is_found(self):
        wrote = CallContext(time_left_us=1_500_000, caller='jörg', headers={b'x-shop': b'7', b'X-Odd': b'a\xff\x00'})
        frame = context_bytes(wrote) + b'\x00'
        source, found = reader(frame, 3), CallContext()
        found.read(source)
        self.assertEqual((found.__dict__, position(source)), (wrote.__dict__, len(frame) - 1))

    def test_name_the_caller_and_an_anonymous_one_when_they_name_none(self):
        wrote = CallContext(identity_name='billing', identity_roles=['finance', 'eu'], identity_how='mtls')
        frame = context_bytes(wrote) + b'\x00'
        source, found = reader(frame, 3), CallContext()
        found.read(source)
        self.assertEqual(Context('pay', 0.0, found).identity, Identity('billing', ('finance', 'eu'), 'mtls'))
        self.assertEqual(Context('pay', 0.0, CallContext()).identity, Identity('anonymous', (), 'anonymous'))

    def test_details_are_written_as_the_mesh_reads_them(self):
        details = ChassisDetails(service_name='S', more={'zone': 'b'}, concurrency=2)
        self.assertEqual(
            struct_bytes(details),
            b'\x0b\x00\x01\x00\x00\x00\x01S'
            b'\x0d\x00\x05\x0b\x0b\x00\x00\x00\x01\x00\x00\x00\x04zone\x00\x00\x00\x01b'
            b'\x08\x00\x08\x00\x00\x00\x02\x00',
        )


if __name__ == '__main__':
    unittest.main()
