"""Encodes and decodes framed strict-binary Thrift messages: their heads, the extent of the struct after the head, and
the structs of Katamari, of which the contexts travel in field 32767 before all other fields. These structs are written
by hand; they must match idl/katamari.thrift, idl/chassis.thrift and idl/content.thrift.

Declared sizes are compared with the received bytes before the library decodes anything: its accelerated reader would
allocate memory for every element that a list declares, and recurse until the stack overflows. Limits: bytes and nesting
of a message, as the mesh has set them.
"""

from __future__ import annotations

import os
import struct
from typing import Any, NamedTuple

from thrift.protocol.TBase import TBase
from thrift.protocol.TBinaryProtocol import TBinaryProtocol, TBinaryProtocolAccelerated
from thrift.Thrift import TMessageType, TType
from thrift.transport.TTransport import TMemoryBuffer

_HEAD = struct.Struct('>Ii')
_I32 = struct.Struct('>i')
_VERSION_1 = 0x80010000
_STRING = TType.STRING
#: Bytes of the types that have a fixed size; 16 is uuid.
_SIZES = {
    TType.BOOL: 1,
    TType.BYTE: 1,
    TType.I16: 2,
    TType.I32: 4,
    TType.I64: 8,
    TType.DOUBLE: 8,
    16: 16,
}
_LEAST = {TType.STRING: 4, TType.STRUCT: 1, TType.MAP: 6, TType.SET: 5, TType.LIST: 5}


def _limit(name: str, otherwise: int) -> int:
    """Returns a limit of the mesh. @raises ValueError for a variable that is no number above 0"""
    value = os.environ.get(name) or str(otherwise)
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise ValueError(f'{name} is {value!r}, expected a whole number above 0')
    return int(value)


#: Bytes of a message.
FRAME_BYTES_MAX = _limit('KATAMARI_FRAME_BYTES_MAX', 16 * 1024 * 1024)
#: Bytes by which a frame may be larger: the mesh adds a context to a call.
CONTEXT_BYTES_MAX = 1024 * 1024
#: Largest frame whose rest is read and dropped, so that its connection lives on.
SKIPPED_BYTES_MAX = 1 << 30
#: Nesting depth of structs and containers, including the argument struct. A context has 3 levels.
NESTING_MAX = max(3, _limit('KATAMARI_NESTING_MAX', 64))
NAME_BYTES_MAX = 1024
#: Bytes of a message head without the name.
HEAD_BYTES = 12


class Malformed(Exception):
    """The bytes are not a valid message of the mesh. The connection cannot be read any further."""


class TooDeep(Malformed):
    """A struct that is nested deeper than the limit. Its frame is well formed, so the next one can be read."""


class Head(NamedTuple):
    type: int
    name: str
    seq_id: int
    #: Offset of the first byte after the head.
    body_start: int


def read_head(frame: bytes) -> Head:
    try:
        word, name_bytes = _HEAD.unpack_from(frame)
        if word & 0xFFFF0000 != _VERSION_1:
            raise Malformed(f'it begins with 0x{word:08x}, expected 0x8001 and the message type')
        if not 0 <= name_bytes <= NAME_BYTES_MAX:
            raise Malformed(f'a method name of {name_bytes} bytes, limit is {NAME_BYTES_MAX}')
        name = frame[8 : 8 + name_bytes].decode('utf-8')
        (seq_id,) = _I32.unpack_from(frame, 8 + name_bytes)
    except (struct.error, UnicodeDecodeError) as error:
        raise Malformed(f'its head cannot be decoded: {error}') from error
    return Head(word & 0xFF, name, seq_id, HEAD_BYTES + name_bytes)


def framed_message(type: int, name: str, seq_id: int, *parts: bytes) -> bytes:
    """Encodes a message as a frame: its length, head and body."""
    text = name.encode('utf-8')
    body = b''.join((_HEAD.pack(_VERSION_1 | type, len(text)), text, _I32.pack(seq_id), *parts))
    return _I32.pack(len(body)) + body


def check_struct(frame: bytes, start: int) -> None:
    """@raises Malformed unless the bytes from `start` to the end are exactly one struct, TooDeep if it is nested deeper
    than NESTING_MAX."""
    try:
        end = _skip(frame, start, TType.STRUCT, NESTING_MAX)
    except (IndexError, struct.error) as error:
        raise Malformed('its struct ends before the stop byte') from error
    except RecursionError as error:
        raise TooDeep('structs and containers are nested deeper than Python can recurse') from error
    if end != len(frame):
        raise Malformed(f'its struct has {end - start} bytes, but {len(frame) - start} were received')


def _skip(data: bytes, at: int, kind: int, levels: int) -> int:
    """Returns the offset after a value. It may be past the end of the data; the next read then fails."""
    size = _SIZES.get(kind)
    if size is not None:
        return at + size
    if kind == _STRING:
        return at + 4 + _count(data, at, 1)
    if levels == 0:
        raise TooDeep(f'structs and containers are nested deeper than {NESTING_MAX}, the limit')
    if kind == TType.STRUCT:
        return _skip_struct(data, at, levels - 1)
    if kind == TType.MAP:
        key, value = data[at], data[at + 1]
        count = _count(data, at + 2, _least(key) + _least(value))
        at += 6
        for _ in range(count):
            at = _skip(data, _skip(data, at, key, levels - 1), value, levels - 1)
        return at
    if kind not in (TType.LIST, TType.SET):
        raise Malformed(f'type {kind} is not a Thrift type')
    element = data[at]
    count = _count(data, at + 1, _least(element))
    return _skip_elements(data, at + 5, element, count, levels - 1)


# Large values spend most of their time in these two functions, so they handle the common types without recursion.


def _skip_struct(data: bytes, at: int, levels: int) -> int:
    while True:
        kind = data[at]
        if kind == 0:
            return at + 1
        at += 3
        size = _SIZES.get(kind)
        at = _skip(data, at, kind, levels) if size is None else at + size


def _skip_elements(data: bytes, at: int, kind: int, count: int, levels: int) -> int:
    if kind in _SIZES:
        return at + count * _SIZES[kind]
    if kind == _STRING:
        length_at = _I32.unpack_from
        for _ in range(count):
            (length,) = length_at(data, at)
            if length < 0:
                raise Malformed(f'{length} bytes are declared')
            at += 4 + length
        return at
    if kind == TType.STRUCT and levels > 0:
        for _ in range(count):
            at = _skip_struct(data, at, levels - 1)
        return at
    for _ in range(count):
        at = _skip(data, at, kind, levels)
    return at


def _count(data: bytes, at: int, each: int) -> int:
    """Reads a declared count. @raises Malformed unless that many items of at least `each` bytes can follow"""
    count: int = _I32.unpack_from(data, at)[0]
    if count < 0 or count * each > len(data) - at - 4:
        raise Malformed(f'{count} elements or bytes are declared, {len(data) - at - 4} bytes follow')
    return count


def _least(kind: int) -> int:
    """Returns the minimum size of a value in bytes."""
    size = _SIZES.get(kind) or _LEAST.get(kind)
    if size is None:
        raise Malformed(f'type {kind} is not a Thrift type')
    return size


class _Struct(TBase):  # type: ignore[misc]
    """Base of the hand-written structs. Absent fields are None."""

    thrift_spec: tuple[Any, ...]

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update({field[2]: None for field in self.thrift_spec if field is not None})
        self.__dict__.update(fields)


class CallContext(_Struct):
    """Context of a call (idl/katamari.thrift)."""

    time_left_us: int | None
    service: str | None
    version: str | None
    key: str | None
    traceparent: str | None
    tracestate: str | None
    caller: str | None
    attempt: int | None
    headers: dict[bytes, bytes] | None
    identity_name: str | None
    identity_roles: list[str] | None
    identity_how: str | None
    min_coverage: float | None


class ReplyContext(_Struct):
    """Context of a reply (idl/katamari.thrift)."""

    version: str | None
    error_code: int | None
    retry_after_ms: int | None
    stage: int | None
    not_run: bool | None
    retire: bool | None
    shards: int | None
    complete_shards: int | None
    missing_shards: list[str] | None


class ChassisDetails(_Struct):
    """How a chassis describes itself (idl/chassis.thrift)."""

    service_name: str
    version: str
    roles: list[str]
    tags: list[str]
    more: dict[str, str]
    idl_main: str
    idl_files: dict[str, str]
    concurrency: int
    sdk: str
    holds_shards: bool | None


class Described(_Struct):
    """The result of katamari.Chassis.describe."""

    success: ChassisDetails


class OpenArguments(_Struct):
    """The arguments of katamari.Content.open (idl/content.thrift)."""

    shard: str
    path: str


class CloseArguments(_Struct):
    """The arguments of katamari.Content.close."""

    shard: str


class ShardFacts(_Struct):
    """What was found in a shard (idl/content.thrift)."""

    entries: int
    more: dict[str, str]


class ShardRefused(_Struct):
    """Why a shard cannot be opened (idl/content.thrift)."""

    why: str
    is_damaged: bool


class OpenResult(_Struct):
    """The result of katamari.Content.open: one of the two."""

    success: ShardFacts | None
    refused: ShardRefused | None


class ShardsResult(_Struct):
    """The result of katamari.Content.shards."""

    success: list[str]


def _text(id: int, name: str) -> tuple[Any, ...]:
    return (id, TType.STRING, name, 'UTF8', None)


def _texts(id: int, name: str) -> tuple[Any, ...]:
    return (id, TType.LIST, name, (TType.STRING, 'UTF8', False), None)


def _text_map(id: int, name: str) -> tuple[Any, ...]:
    return (id, TType.MAP, name, (TType.STRING, 'UTF8', TType.STRING, 'UTF8', False), None)


# In the form that the compiler writes: the index of a field is its id. None marks fields that this package skips.
CallContext.thrift_spec = (
    None,
    (1, TType.I64, 'time_left_us', None, None),
    _text(2, 'service'),
    _text(3, 'version'),
    None,
    None,
    None,
    _text(7, 'key'),
    _text(8, 'traceparent'),
    _text(9, 'tracestate'),
    _text(10, 'caller'),
    (11, TType.I32, 'attempt', None, None),
    None,
    # Header values are bytes. As text, the library would replace those that are not UTF-8.
    (13, TType.MAP, 'headers', (TType.STRING, 'BINARY', TType.STRING, 'BINARY', False), None),
    _text(14, 'identity_name'),
    _texts(15, 'identity_roles'),
    _text(16, 'identity_how'),
    None,
    (18, TType.DOUBLE, 'min_coverage', None, None),
)
ReplyContext.thrift_spec = (
    None,
    _text(1, 'version'),
    *(None,) * 5,
    (7, TType.I32, 'error_code', None, None),
    (8, TType.I64, 'retry_after_ms', None, None),
    (9, TType.I32, 'stage', None, None),
    (10, TType.BOOL, 'not_run', None, None),
    (11, TType.BOOL, 'retire', None, None),
    None,
    (13, TType.I32, 'shards', None, None),
    (14, TType.I32, 'complete_shards', None, None),
    _texts(15, 'missing_shards'),
)
ChassisDetails.thrift_spec = (
    None,
    _text(1, 'service_name'),
    _text(2, 'version'),
    _texts(3, 'roles'),
    _texts(4, 'tags'),
    _text_map(5, 'more'),
    _text(6, 'idl_main'),
    _text_map(7, 'idl_files'),
    (8, TType.I32, 'concurrency', None, None),
    _text(9, 'sdk'),
    # ahead: this package accepts no calls beyond `concurrency` (no prefetch).
    None,
    (11, TType.BOOL, 'holds_shards', None, None),
)
Described.thrift_spec = ((0, TType.STRUCT, 'success', [ChassisDetails, ChassisDetails.thrift_spec], None),)
OpenArguments.thrift_spec = (None, _text(1, 'shard'), _text(2, 'path'))
CloseArguments.thrift_spec = (None, _text(1, 'shard'))
ShardFacts.thrift_spec = (None, (1, TType.I64, 'entries', None, None), _text_map(2, 'more'))
ShardRefused.thrift_spec = (None, _text(1, 'why'), (2, TType.BOOL, 'is_damaged', None, None))
OpenResult.thrift_spec = (
    (0, TType.STRUCT, 'success', [ShardFacts, ShardFacts.thrift_spec], None),
    (1, TType.STRUCT, 'refused', [ShardRefused, ShardRefused.thrift_spec], None),
)
ShardsResult.thrift_spec = (_texts(0, 'success'),)


def struct_bytes(value: Any) -> bytes:
    """Encodes a struct of generated code or of this file."""
    buffer = TMemoryBuffer()
    value.write(TBinaryProtocolAccelerated(buffer))
    written: bytes = buffer.getvalue()
    return written


def context_bytes(value: TBase) -> bytes:
    """Encodes a context as field 32767, to be placed before the first field of a struct."""
    return CONTEXT_FIELD + struct_bytes(value)


def reader(frame: bytes, at: int) -> TBinaryProtocolAccelerated:
    """Returns a protocol that reads from offset `at`; `position` returns its current offset."""
    buffer = TMemoryBuffer(frame)
    buffer.cstringio_buf.seek(at)
    return TBinaryProtocolAccelerated(buffer)


def strict_reader(frame: bytes, at: int) -> TBinaryProtocol:
    """Returns a protocol in Python, which is slower and refuses text that is not UTF-8."""
    return TBinaryProtocol(TMemoryBuffer(frame[at:]))


def position(protocol: TBinaryProtocolAccelerated) -> int:
    at: int = protocol.trans.cstringio_buf.tell()
    return at


#: Head of field 32767 of type struct.
CONTEXT_FIELD = b'\x0c\x7f\xff'
EMPTY_STRUCT = b'\x00'
DRAIN_NOTICE = framed_message(TMessageType.ONEWAY, 'katamari.Link:drain', 0, EMPTY_STRUCT)
