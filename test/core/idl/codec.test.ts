// Strict binary and plain JavaScript values: which values are accepted, which are refused with which message, and
// that hostile bytes cost little.
import { decodeStruct, encodeStruct, type Idl, parseIdl, readIdlFile, valueOfResult } from '../../../core/idl/mod.ts';
import { type Method, type StructType, ThriftException } from '../../../core/thrift/mod.ts';
import { describe, expect, test } from 'vitest';
const idl = parseIdl(readIdlFile(new URL('../../fixtures/idl/everything.thrift', import.meta.url)));
const old = parseIdl(readIdlFile(new URL('../../fixtures/idl/old.thrift', import.meta.url)));

function struct(name: string, from: Idl = idl): StructType {
  const found = from.structs.get(name);
  if (found === undefined) throw new Error(`no struct ${name}`);
  return found;
}

function own(text: string, name = 'S'): StructType {
  return struct(name, parseIdl({ main: 's.thrift', files: { 's.thrift': text } }));
}

function hex(...parts: string[]): Buffer {
  return Buffer.from(parts.join('').replace(/\s/g, ''), 'hex');
}

describe('encodeStruct()', () => {
  test('writes strict binary with fields in the order of the file', () => {
    const bytes = encodeStruct(struct('Numbers'), { flag: true, tiny: -1, small: 2, normal: 3, big: 4n, real: 0.5 });
    expect(bytes).toEqual(
      hex(
        '02 0001 01',
        '03 0002 ff',
        '06 0003 0002',
        '08 0004 00000003',
        '0a 0005 0000000000000004',
        '04 0006 3fe0000000000000',
        '00',
      ),
    );
  });

  test('takes numbers for i64 if they are exact integers', () => {
    const big = (value: unknown): string => encodeStruct(struct('Numbers'), { big: value }).toString('hex', 3, 11);
    expect(big(-1)).toBe('ffffffffffffffff');
    expect(big(-(2 ** 32))).toBe('ffffffff00000000');
    expect(big(Number.MAX_SAFE_INTEGER)).toBe('001fffffffffffff');
    expect(big(Number.MIN_SAFE_INTEGER)).toBe('ffe0000000000001');
    expect(big(-(2n ** 63n))).toBe('8000000000000000');
  });

  test('takes arrays and Sets for sets, Maps and objects for maps', () => {
    const type = struct('Containers');
    const plain = encodeStruct(type, {
      names: ['a', 'b'],
      byNumber: { '-7': 'x' },
      byBig: { 8: 'y' },
      byFlag: { true: 1 },
      byColour: { RED: 1, 5: 2 },
    });
    const rich = encodeStruct(type, {
      names: new Set(['a', 'b']),
      byNumber: new Map([[-7, 'x']]),
      byBig: new Map([[8n, 'y']]),
      byFlag: new Map([[true, 1]]),
      // Keys that look like numbers come first in every JavaScript object.
      byColour: new Map([
        [5, 2],
        [0, 1],
      ]),
    });
    expect(plain).toEqual(rich);
  });

  test('writes the defaults of absent fields, so that every reader sees the same values', () => {
    const bytes = encodeStruct(own('struct S { 1: i32 a = 7 2: optional i32 b = 8 3: i32 c }'), {});
    expect(bytes).toEqual(hex('08 0001 00000007', '08 0002 00000008', '00'));
  });

  test('writes uuids as sixteen bytes', () => {
    const bytes = encodeStruct(struct('Leftovers', old), { id: '123E4567-e89b-12d3-a456-426614174000' });
    expect(bytes).toEqual(hex('10 0006 123e4567e89b12d3a456426614174000', '00'));
    expect(decodeStruct(struct('Leftovers', old), bytes)).toEqual({ id: '123e4567-e89b-12d3-a456-426614174000' });
  });

  test('encodes a value whose getter encodes another value in the meantime', () => {
    const inner = struct('Tree');
    const value = {
      get value() {
        return encodeStruct(inner, { value: 1 }).length;
      },
      children: [{ value: 2 }],
    };
    expect(decodeStruct(inner, encodeStruct(inner, value))).toEqual({ value: 8, children: [{ value: 2 }] });
  });

  test('works after a refusal', () => {
    expect(() => encodeStruct(struct('Tree'), { value: 1, children: [{ value: 'x' }] })).toThrow();
    expect(encodeStruct(struct('Tree'), { value: 1 })).toEqual(hex('08 0001 00000001 00'));
  });

  const refused: readonly (readonly [string, Record<string, unknown>, string])[] = [
    ['Numbers', { flag: 1 }, 'flag: expected bool, got 1'],
    ['Numbers', { tiny: 128 }, 'tiny: expected i8 (-128 to 127), got 128'],
    ['Numbers', { small: -32769 }, 'small: expected i16 (-32768 to 32767), got -32769'],
    ['Numbers', { normal: 2 ** 31 }, 'normal: expected i32 (-2147483648 to 2147483647), got 2147483648'],
    ['Numbers', { normal: 1.5 }, 'normal: expected i32, got 1.5'],
    ['Numbers', { normal: Number.NaN }, 'normal: expected i32, got NaN'],
    ['Numbers', { normal: 'seven' }, 'normal: expected i32, got "seven"'],
    ['Numbers', { normal: null }, 'normal: expected i32, got null'],
    ['Numbers', { big: 2n ** 63n }, 'big: expected i64 (64 bits), got 9223372036854775808n'],
    ['Numbers', { big: 2 ** 53 }, 'big: expected i64 as bigint (or a whole number up to 2^53), got 9007199254740992'],
    ['Numbers', { big: '5' }, 'big: expected i64, got "5"'],
    ['Numbers', { real: '1' }, 'real: expected double, got "1"'],
    ['Numbers', { falg: true }, 'Numbers: Numbers has no field "falg", did you mean "flag"?'],
    ['Texts', { text: 5 }, 'text: expected string, got 5'],
    ['Texts', { text: 'a\uD800b' }, 'text: expected text, got half a surrogate pair, which UTF-8 cannot carry'],
    ['Texts', { bytes: 'abc' }, 'bytes: expected binary (a Buffer or Uint8Array), got "abc"'],
    [
      'Texts',
      { colour: 'RED' },
      'colour: expected a number of enum Colour (RED = 0, GREEN = 5, BLUE = 6, constructor = 100), got "RED"',
    ],
    ['Item', {}, 'name: expected string, got nothing, and the field is required'],
    ['Item', { name: 'x', pair: { left: 'l' } }, 'pair.right: expected string, got nothing, and the field is required'],
    ['Choice', {}, 'Choice: expected exactly one field of union Choice (number, text, tree, choices), got 0'],
    [
      'Choice',
      { number: 1, text: 'x' },
      'Choice: expected exactly one field of union Choice (number, text, tree, choices), got 2',
    ],
    ['Containers', { numbers: 5 }, 'numbers: expected list<i32>, got 5'],
    ['Containers', { numbers: [1, 'two'] }, 'numbers[1]: expected i32, got "two"'],
    ['Containers', { numbers: new Set([1]) }, 'numbers: expected list<i32>, got a Set of 1'],
    ['Containers', { names: ['a', 'a'] }, 'names[1]: "a" is in the set twice'],
    [
      'Containers',
      {
        pairs: [
          { left: 'l', right: 'r' },
          { left: 'l', right: 'r' },
        ],
      },
      'pairs[1]: an object is in the set twice',
    ],
    ['Containers', { byNumber: { x: 'y' } }, 'byNumber["x"]: expected i32, got "x"'],
    ['Containers', { byNumber: { '01': 'y' } }, 'byNumber["01"]: expected i32, got "01"'],
    [
      'Containers',
      { byColour: { PINK: 1 } },
      'byColour["PINK"]: expected a number of enum Colour (RED = 0, GREEN = 5, BLUE = 6, constructor = 100), got "PINK"',
    ],
    ['Containers', { byReal: { 1: 'y' } }, 'byReal: expected map<double, string>, got an object'],
    [
      'Containers',
      { trees: new Map([['oak', { value: 1, children: [{ value: 1 }, { value: 'x' }] }]]) },
      'trees["oak"].children[1].value: expected i32, got "x"',
    ],
    ['Containers', { nested: new Map([[1, new Map([[2, [1n, 'x']]])]]) }, 'nested[1][2][1]: expected i64, got "x"'],
  ];
  test.each(refused.map(([name, value, message]) => ({ name, value, message })))(
    'refuses $name: $message',
    ({ name, value, message }) => {
      expect(() => encodeStruct(struct(name), value)).toThrow(new RegExp(`^${escape(message)}$`));
    },
  );

  test('refuses cyclic values, at the depth limit', () => {
    const tree: Record<string, unknown> = { value: 1 };
    tree['parent'] = tree;
    expect(() => encodeStruct(struct('Tree'), tree)).toThrow(
      /^(parent\.){16}\.\.(\.parent){16}: values are nested deeper than 1000 levels$/,
    );
  });

  test('refuses values that defaults make too long', () => {
    const type = own(`struct D { 1: string text = "${'x'.repeat(100_000)}" }\nstruct S { 1: list<D> all }`);
    const all = Array.from({ length: 1000 }, () => ({}));
    expect(() => encodeStruct(type, { all })).toThrow(
      /^all\[\d+\]\.text: the value is longer than 67108864 bytes, the limit$/,
    );
  });
});

describe('decodeStruct()', () => {
  test('reads fields in any order and skips unknown ones of any type', () => {
    const unknown = [
      '0c 0100 0f 0001 0c 00000001 00 00',
      '0d 0101 0b 0f 00000001 00000001 61 03 00000002 0102',
      '0e 0102 0a 00000001 0000000000000001',
      '0f 0103 00 00000000',
      '10 0104 00000000000000000000000000000000',
      '0c 7fff 0a 0001 0000000000000001 00',
    ].join('');
    const bytes = hex(unknown, '08 0004 00000003', unknown, '02 0001 01', '00');
    expect(decodeStruct(struct('Numbers'), bytes)).toEqual({ normal: 3, flag: true });
  });

  test('applies a fresh copy of each default', () => {
    const type = own('struct S { 1: list<i32> a = [1], 2: optional string b = "x", 3: i32 c }');
    const one = decodeStruct(type, hex('00'));
    expect(one).toEqual({ a: [1], b: 'x' });
    (one['a'] as number[]).push(2);
    expect(decodeStruct(type, hex('00'))).toEqual({ a: [1], b: 'x' });
  });

  test('returns unknown enum numbers as they are', () => {
    expect(decodeStruct(struct('Texts'), hex('08 0003 00000063 00'))).toEqual({ colour: 99 });
  });

  test('returns i64 as number on request, and refuses to round', () => {
    const type = struct('Numbers');
    const encoded = (big: bigint): Buffer => encodeStruct(type, { big });
    expect(decodeStruct(type, encoded(-(2n ** 53n - 1n)), { i64: 'number' })).toEqual({ big: Number.MIN_SAFE_INTEGER });
    expect(decodeStruct(type, encoded(5n))).toEqual({ big: 5n });
    expect(() => decodeStruct(type, encoded(2n ** 53n), { i64: 'number' })).toThrow(
      /^big: expected i64 that a number holds exactly, got 9007199254740992; decode with i64: 'bigint'$/,
    );
  });

  test('copies binary, so that the message may be reused', () => {
    const bytes = hex('0b 0002 00000002 6162 00');
    const decoded = decodeStruct(struct('Texts'), bytes);
    bytes.fill(0);
    expect(decoded['bytes']).toEqual(Buffer.from('ab'));
  });

  test('reads views into larger buffers', () => {
    const bytes = hex('ff ff 08 0004 00000003 00 ff');
    expect(decodeStruct(struct('Numbers'), new Uint8Array(bytes).subarray(2, 10))).toEqual({ normal: 3 });
  });

  test('sets own properties, whatever their names', () => {
    const type = own('struct S { 1: i32 __proto__ 2: i32 constructor 3: map<string, i32> m }');
    const value = JSON.parse('{"__proto__": 1, "constructor": 2, "m": {"__proto__": 3}}') as Record<string, unknown>;
    const decoded = decodeStruct(type, encodeStruct(type, value));
    expect(Object.keys(decoded)).toEqual(['__proto__', 'constructor', 'm']);
    expect(Object.getPrototypeOf(decoded)).toBe(Object.prototype);
    expect(decodeStruct(type, encodeStruct(type, {}))).toEqual({});
  });

  test.each([
    ['Numbers', '', 'Numbers: the bytes end in the middle: 1 more were expected, 0 are left'],
    ['Numbers', '08 0004 0000', 'normal: the bytes end in the middle: 4 more were expected, 2 are left'],
    ['Numbers', '08 0004 00000001', 'Numbers: the bytes end in the middle: 1 more were expected, 0 are left'],
    ['Numbers', '00 00', 'Numbers: 1 bytes follow after the end'],
    ['Numbers', '0b 0004 00000000 00', 'normal: expected i32, got string'],
    ['Numbers', '05 0064 00', 'Numbers: type 5 is not a Thrift wire type'],
    ['Texts', '0b 0001 7fffffff 61', 'text: a size of 2147483647 is declared, but 1 bytes are left'],
    ['Texts', '0b 0001 ffffffff 61', 'text: a size of -1 is declared, but 1 bytes are left'],
    ['Texts', '0b 0001 00000002 c328 00', 'text: expected text in UTF-8, got other bytes'],
    ['Item', '00', 'name: expected string, got nothing, and the field is required'],
    [
      'Choice',
      '08 0001 00000001 0b 0002 00000000 00',
      'Choice: expected exactly one field of union Choice (number, text, tree, choices), got 2',
    ],
    ['Containers', '0f 0001 08 7fffffff 00', 'numbers: a size of 2147483647 is declared, but 1 bytes are left'],
    ['Containers', '0f 0001 08 00000002 00000001 00', 'numbers: a size of 2 is declared, but 5 bytes are left'],
    ['Containers', '0f 0001 0a 00000001 0000000000000001 00', 'numbers: expected elements of type i32, got i64'],
    ['Containers', '0e 0002 0b 00000002 00000001 61 00000001 61 00', 'names[1]: "a" is in the set twice'],
    [
      'Containers',
      '0d 0005 08 0b 00000002 00000001 00000000 00000001 00000000 00',
      'byNumber: a key is in the map twice',
    ],
    [
      'Containers',
      '0d 0005 0b 0b 00000001 00000000 00000000 00',
      'byNumber: expected map<i32, string>, got a map of string to string',
    ],
    ['Containers', '0f 0064 0c 7fffffff 00', 'Containers: a size of 2147483647 is declared, but 1 bytes are left'],
  ])('refuses %s %s', (name, bytes, message) => {
    expect(() => decodeStruct(struct(name), hex(bytes))).toThrow(new RegExp(`^${escape(message)}$`));
  });

  test('a union with a field that the interface does not have holds nothing, wherever it is', () => {
    const newer = own('union U { 1: i32 a 3: double c } struct S { 1: U u 2: list<U> l 3: map<U, U> m 4: set<U> s }');
    const older = own('union U { 1: i32 a 2: i32 b } struct S { 1: U u 2: list<U> l 3: map<U, U> m 4: set<U> s }');
    const [first, second] = [{ c: 1 }, { c: 2 }];
    const value = { u: first, l: [first, { a: 5 }], m: new Map([[first, { a: 6 }]]), s: [first, second] };
    const read = decodeStruct(older, encodeStruct(newer, value));
    expect(read).toEqual({ u: {}, l: [{}, { a: 5 }], m: new Map([[{}, { a: 6 }]]), s: new Set([{}, {}]) });
    expect(() => encodeStruct(older, { u: read['u'] })).toThrow(
      /^u: expected exactly one field of union U \(a, b\), got 0$/,
    );
    expect(decodeStruct(struct('Choice'), hex('00'))).toEqual({});
  });

  test('refuses more than 1000 levels, known or skipped', () => {
    const levels = (count: number, id: string): Buffer => hex(`0c ${id}`.repeat(count), '00'.repeat(count + 1));
    expect(() => decodeStruct(struct('Tree'), levels(999, '0003'))).not.toThrow();
    expect(() => decodeStruct(struct('Tree'), levels(1_000, '0003'))).toThrow(
      /values are nested deeper than 1000 levels$/,
    );
    expect(() => decodeStruct(struct('Tree'), levels(999, '0063'))).not.toThrow();
    expect(() => decodeStruct(struct('Tree'), levels(1_000, '0063'))).toThrow(
      /values are nested deeper than 1000 levels$/,
    );
  });

  test('refuses few bytes that would expand to much memory', () => {
    const empty = own('struct E {}\nstruct S { 1: list<E> all }');
    const head = hex('0f 0001 0c 001e8480');
    expect(() => decodeStruct(empty, Buffer.concat([head, Buffer.alloc(2_000_001)]))).toThrow(
      /^all\[\d+\]: more than 1000000 values in one message$/,
    );
    const defaults = own(`struct D { 1: list<i32> a = [${'1,'.repeat(5000)}] }\nstruct S { 1: list<D> all }`);
    expect(() => decodeStruct(defaults, Buffer.concat([head, Buffer.alloc(2_000_001)]))).toThrow(
      /^all\[\d+\]\.a: more than 1000000 values in one message$/,
    );
  });
});

function escape(text: string): string {
  return text.replace(/[$()*+.?[\\\]^{|}]/g, String.raw`\$&`);
}

describe('valueOfResult()', () => {
  const { services } = parseIdl({
    main: 's.thrift',
    files: {
      's.thrift':
        'exception E { 1: string why } service S { string f() throws (1: E constructor, 2: E toString) void g() }',
    },
  });
  const method = (name: string): Method => services.get('S')?.methods.get(name) as Method;
  const decoded = (name: string, value: Record<string, unknown>): unknown =>
    valueOfResult(method(name), decodeStruct(method(name).result, encodeStruct(method(name).result, value)));

  test('returns the value, also beside exceptions that are named like properties of every object', () => {
    expect(decoded('f', { success: 'well' })).toBe('well');
    expect(decoded('g', {})).toBeUndefined();
  });

  test('throws the declared exception', () => {
    expect(() => decoded('f', { toString: { why: 'no' } })).toThrow(new ThriftException('E', { why: 'no' }));
  });
});
