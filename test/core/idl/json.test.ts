// The JSON mapping: every row of the table in both directions, and the messages of refusals.
import { decodeParams, encodeResult } from '../../../core/idl/json.ts';
import {
  decodeResult,
  decodeStruct,
  encodeParams,
  encodeStruct,
  parseIdl,
  readIdlFile,
} from '../../../core/idl/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import type { Method } from '../../../core/thrift/mod.ts';
import { describe, expect, test } from 'vitest';
const everything = parseIdl(readIdlFile(new URL('../../fixtures/idl/everything.thrift', import.meta.url)));
const old = parseIdl(readIdlFile(new URL('../../fixtures/idl/old.thrift', import.meta.url)));

function method(name: string, idl = everything, service = 'Everything'): Method {
  const found = idl.services.get(service)?.methods.get(name);
  if (found === undefined) throw new Error(`no method ${name}`);
  return found;
}

function refusal(run: () => unknown): KatamariError {
  try {
    run();
  } catch (error) {
    if (error instanceof KatamariError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('encodeParams()', () => {
  test('takes params by name, by position, and no params', () => {
    const add = method('add');
    expect(decodeStruct(add.args, encodeParams(add, { a: 2, b: 40 }))).toEqual({ a: 2, b: 40 });
    expect(encodeParams(add, [2, 40])).toEqual(encodeParams(add, { a: 2, b: 40 }));
    expect(encodeParams(method('ping'), undefined)).toEqual(Buffer.of(0));
    expect(encodeParams(method('ping'), {})).toEqual(Buffer.of(0));
    expect(encodeParams(method('ping'), [])).toEqual(Buffer.of(0));
    expect(encodeParams(method('ping'), null)).toEqual(Buffer.of(0));
  });

  test('uses the order of the file, not of the ids, for params by position', () => {
    const reverse = method('reverse');
    expect(decodeStruct(reverse.args, encodeParams(reverse, ['YWI=', true]))).toEqual({
      bytes: Buffer.from('ab'),
      twice: true,
    });
  });

  test('applies defaults and omits absent optional arguments', () => {
    const { args } = method('sum');
    expect(decodeStruct(args, encodeParams(method('sum'), {}))).toEqual({ numbers: [1n, 2n] });
    expect(decodeStruct(args, encodeParams(method('sum'), { more: null }))).toEqual({ numbers: [1n, 2n] });
    expect(decodeStruct(args, encodeParams(method('sum'), [[5]]))).toEqual({ numbers: [5n] });
    expect(decodeStruct(method('add').args, encodeParams(method('add'), [1]))).toEqual({ a: 1, b: -128 });
  });

  test('takes null for optional fields of structs', () => {
    const texts = method('texts');
    expect(decodeStruct(texts.args, encodeParams(texts, [{ text: 'x', colour: null }]))).toEqual({
      texts: { text: 'x' },
    });
  });

  test.each([
    [
      'numbers',
      [{ flag: true, tiny: -128, small: 32767, normal: -2147483648, real: -0.5 }],
      { flag: true, tiny: -128, small: 32767, normal: -2147483648, real: -0.5 },
    ],
    ['numbers', [{ big: 9007199254740991 }], { big: 9007199254740991n }],
    ['numbers', [{ big: '9007199254740993' }], { big: 9007199254740993n }],
    ['numbers', [{ big: '-9223372036854775808' }], { big: -(2n ** 63n) }],
    ['numbers', [{ big: '5' }], { big: 5n }],
    ['numbers', [{ real: 'NaN' }], { real: Number.NaN }],
    ['numbers', [{ real: '-Infinity' }], { real: Number.NEGATIVE_INFINITY }],
    ['numbers', [{ real: 3 }], { real: 3 }],
    ['texts', [{ text: 'ünï ☃ \u0000', bytes: '' }], { text: 'ünï ☃ \u0000', bytes: Buffer.alloc(0) }],
    ['texts', [{ bytes: 'AP8=' }], { bytes: Buffer.from([0, 255]) }],
    ['texts', [{ colour: 'GREEN' }], { colour: 5 }],
    ['texts', [{ colour: 5 }], { colour: 5 }],
    ['texts', [{ colour: 'constructor' }], { colour: 100 }],
    ['choose', [{ text: 'x' }], { text: 'x' }],
    ['containers', [{ names: ['a', 'b'] }], { names: new Set(['a', 'b']) }],
    ['containers', [{ byNumber: { '-1': 'x' } }], { byNumber: new Map([[-1, 'x']]) }],
    ['containers', [{ byBig: { '9223372036854775807': 'x' } }], { byBig: new Map([[2n ** 63n - 1n, 'x']]) }],
    [
      'containers',
      [{ byFlag: { true: 1, false: 0 } }],
      {
        byFlag: new Map([
          [true, 1],
          [false, 0],
        ]),
      },
    ],
    [
      'containers',
      [{ byColour: { RED: 1, 5: 2 } }],
      {
        byColour: new Map([
          [5, 2],
          [0, 1],
        ]),
      },
    ],
    [
      'containers',
      [
        {
          byReal: [
            [0.5, 'x'],
            ['NaN', 'y'],
          ],
        },
      ],
      {
        byReal: new Map([
          [0.5, 'x'],
          [Number.NaN, 'y'],
        ]),
      },
    ],
  ])('takes %s %o', (name, params, value) => {
    const { args } = method(name);
    const [field] = args.fields;
    expect(decodeStruct(args, encodeParams(method(name), params))[field?.name ?? '']).toEqual(value);
  });

  test('takes uuids in either case', () => {
    const sameId = method('sameId', old, 'Old');
    const bytes = encodeParams(sameId, { id: '123E4567-E89B-12D3-A456-426614174000' });
    expect(decodeParams(sameId, bytes)).toEqual({ id: '123e4567-e89b-12d3-a456-426614174000' });
  });

  test('takes keys such as __proto__ as data', () => {
    const table = method('table');
    const params: unknown = JSON.parse('{"table": {"__proto__": "a", "constructor": "b"}}');
    const decoded = decodeParams(table, encodeParams(table, params));
    expect(JSON.stringify(decoded)).toBe('{"table":{"__proto__":"a","constructor":"b"}}');
    expect(refusal(() => encodeParams(table, JSON.parse('{"table": {}, "__proto__": {}}'))).message).toBe(
      'params: table has no parameter "__proto__"; known: table',
    );
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  const wrong: readonly (readonly [string, unknown, string])[] = [
    ['add', 5, 'params: expected an object or an array, got 5'],
    ['add', 'x', 'params: expected an object or an array, got "x"'],
    ['add', { b: 1 }, 'params.a: expected i32, got nothing; add takes (a: i32, b: i32)'],
    ['add', [], 'params.a: expected i32, got nothing; add takes (a: i32, b: i32)'],
    ['add', [1, 2, 3], 'params: expected at most 2, got 3; add takes (a: i32, b: i32)'],
    ['add', { a: 1, c: 2 }, 'params: add has no parameter "c"; known: a, b'],
    ['add', { num1: 2, a: 1 }, 'params: add has no parameter "num1"; known: a, b'],
    ['ping', { a: 1 }, 'params: ping has no parameter "a"'],
    ['ping', [1], 'params: expected at most 0, got 1; ping takes ()'],
    ['add', { a: 'seven' }, 'params.a: expected i32, got "seven"'],
    ['add', { a: null }, 'params.a: expected i32, got null'],
    ['add', { a: true }, 'params.a: expected i32, got true'],
    ['add', { a: 1e10 }, 'params.a: expected i32 (-2147483648 to 2147483647), got 10000000000'],
    ['numbers', { numbers: [] }, 'params.numbers: expected Numbers, got an array of 0'],
    ['numbers', { numbers: { flag: 'true' } }, 'params.numbers.flag: expected bool, got "true"'],
    ['numbers', { numbers: { normal: '5' } }, 'params.numbers.normal: expected i32, got "5"'],
    [
      'numbers',
      { numbers: { big: 9007199254740992 } },
      'params.numbers.big: expected i64, got 9007199254740992, which may have lost digits; write it as a string',
    ],
    ['numbers', { numbers: { big: 1.5 } }, 'params.numbers.big: expected i64, got 1.5'],
    [
      'numbers',
      { numbers: { big: '007' } },
      'params.numbers.big: expected i64 (a whole number, or one in a string), got "007"',
    ],
    [
      'numbers',
      { numbers: { big: '9223372036854775808' } },
      'params.numbers.big: expected i64 (64 bits), got "9223372036854775808"',
    ],
    [
      'numbers',
      { numbers: { real: '1.5' } },
      'params.numbers.real: expected double (a number, "NaN", "Infinity" or "-Infinity"), got "1.5"',
    ],
    ['numbers', { numbers: { flg: true } }, 'params.numbers: Numbers has no field "flg", did you mean "flag"?'],
    ['texts', { texts: { bytes: 'a' } }, 'params.texts.bytes: expected binary (a base64 string), got "a"'],
    ['texts', { texts: { bytes: 'YWI' } }, 'params.texts.bytes: expected binary (a base64 string), got "YWI"'],
    ['texts', { texts: { bytes: 'YWJ=' } }, 'params.texts.bytes: expected binary (a base64 string), got "YWJ="'],
    ['texts', { texts: { bytes: 'YW I=' } }, 'params.texts.bytes: expected binary (a base64 string), got "YW I="'],
    ['texts', { texts: { bytes: '_-8=' } }, 'params.texts.bytes: expected binary (a base64 string), got "_-8="'],
    [
      'texts',
      { texts: { text: 'a\uDC00' } },
      'params.texts.text: expected text, got half a surrogate pair, which UTF-8 cannot carry',
    ],
    ['texts', { texts: { colour: 'GREN' } }, 'params.texts.colour: expected Colour, got "GREN", did you mean "GREEN"?'],
    [
      'texts',
      { texts: { colour: 'X' } },
      'params.texts.colour: expected Colour, got "X"; known: RED, GREEN, BLUE, constructor',
    ],
    [
      'texts',
      { texts: { colour: 'toString' } },
      'params.texts.colour: expected Colour, got "toString"; known: RED, GREEN, BLUE, constructor',
    ],
    [
      'texts',
      { texts: { colour: 77 } },
      'params.texts.colour: expected Colour, got 77; known: RED, GREEN, BLUE, constructor',
    ],
    [
      'choose',
      { choice: {} },
      'params.choice: expected exactly one field of union Choice (number, text, tree, choices), got 0',
    ],
    [
      'choose',
      { choice: { number: 1, text: 'x' } },
      'params.choice: expected exactly one field of union Choice (number, text, tree, choices), got 2',
    ],
    [
      'choose',
      { choice: { choices: [{ tree: { value: 1, children: [{ value: 'x' }] } }] } },
      'params.choice.choices[0].tree.children[0].value: expected i32, got "x"',
    ],
    [
      'containers',
      { containers: { numbers: { 0: 1 } } },
      'params.containers.numbers: expected list<i32>, got an object',
    ],
    ['containers', { containers: { numbers: [1, null] } }, 'params.containers.numbers[1]: expected i32, got null'],
    ['containers', { containers: { names: ['a', 'b', 'a'] } }, 'params.containers.names[2]: "a" is in the set twice'],
    [
      'containers',
      { containers: { byNumber: [] } },
      'params.containers.byNumber: expected map<i32, string> (an object), got an array of 0',
    ],
    [
      'containers',
      { containers: { byNumber: { '1.0': 'x' } } },
      'params.containers.byNumber["1.0"]: expected i32, got "1.0"',
    ],
    ['containers', { containers: { byNumber: { 1: 2 } } }, 'params.containers.byNumber["1"]: expected string, got 2'],
    ['containers', { containers: { byFlag: { yes: 1 } } }, 'params.containers.byFlag["yes"]: expected bool, got "yes"'],
    [
      'containers',
      { containers: { byColour: { RED: 1, 0: 2 } } },
      'params.containers.byColour["RED"]: the key is in the map twice',
    ],
    [
      'containers',
      { containers: { byReal: { 1: 'x' } } },
      'params.containers.byReal: expected map<double, string> (an array of [key, value]), got an object',
    ],
    [
      'containers',
      { containers: { byReal: [[1, 'x', 2]] } },
      'params.containers.byReal[0]: expected [key, value], got an array of 3',
    ],
    [
      'containers',
      {
        containers: {
          byReal: [
            [1, 'x'],
            [1, 'y'],
          ],
        },
      },
      'params.containers.byReal[1][0]: the key is in the map twice',
    ],
    [
      'containers',
      { containers: { byPair: [[{ left: 'l', right: 'r' }, ['x']]] } },
      'params.containers.byPair[0][1][0]: expected i32, got "x"',
    ],
  ];
  test.each(wrong.map(([name, params, message]) => ({ name, params, message })))(
    'refuses: $message',
    ({ name, params, message }) => {
      const error = refusal(() => encodeParams(method(name), params));
      expect(error.message).toBe(message);
      expect(error.code).toBe('bad_request');
      expect(error.facts.jsonRpcCode).toBe(-32602);
    },
  );

  test('refuses params nested deeper than 1000 levels', () => {
    let choice: unknown = { number: 1 };
    for (let i = 0; i < 600; i++) choice = { choices: [choice] };
    expect(refusal(() => encodeParams(method('choose'), { choice })).message).toMatch(
      /values are nested deeper than 1000 levels$/,
    );
  });
});

describe('decodeResult()', () => {
  test('returns values, null for void, and declared exceptions by their plain name', () => {
    expect(decodeResult(method('add'), encodeStruct(method('add').result, { success: 42 }))).toEqual({
      ok: true,
      value: 42,
    });
    expect(decodeResult(method('ping'), Buffer.of(0))).toEqual({ ok: true, value: null });
    const refused = encodeStruct(method('echo').result, { refused: { why: 'no' } });
    expect(decodeResult(method('echo'), refused)).toEqual({
      ok: false,
      exception: 'Refused',
      fields: { why: 'no', level: 'MIDDLE' },
    });
  });

  test('returns every type as the table says', () => {
    const item = method('containers');
    const value = {
      numbers: [1],
      names: new Set(['a']),
      pairs: new Set([{ left: 'l', right: 'r' }]),
      trees: new Map([['oak', { value: 1 }]]),
      byNumber: new Map([[-1, 'x']]),
      byBig: new Map([[2n ** 63n - 1n, 'y']]),
      byFlag: new Map([[true, Number.NaN]]),
      byColour: new Map([
        [5, 1],
        [77, 2],
      ]),
      byReal: new Map([[Number.POSITIVE_INFINITY, 'z']]),
      byPair: new Map([[{ left: 'l', right: 'r' }, [1]]]),
      byBytes: new Map([[Buffer.from([255]), true]]),
    };
    expect(decodeResult(item, encodeStruct(item.result, { success: value }))).toEqual({
      ok: true,
      value: {
        numbers: [1],
        names: ['a'],
        pairs: [{ left: 'l', right: 'r' }],
        trees: { oak: { value: 1 } },
        byNumber: { '-1': 'x' },
        byBig: { '9223372036854775807': 'y' },
        byFlag: { true: 'NaN' },
        byColour: { GREEN: 1, '77': 2 },
        byReal: [['Infinity', 'z']],
        byPair: [[{ left: 'l', right: 'r' }, [1]]],
        byBytes: [['/w==', true]],
      },
    });
  });

  test.each([
    [0n, 0],
    [-1n, -1],
    [2n ** 53n - 1n, 9007199254740991],
    [-(2n ** 53n) + 1n, -9007199254740991],
    [2n ** 53n, '9007199254740992'],
    [2n ** 63n - 1n, '9223372036854775807'],
    [-(2n ** 63n), '-9223372036854775808'],
    [-(2n ** 32n) - 1n, -4294967297],
  ])('gives i64 %s without losing a digit', (big, json) => {
    expect(decodeResult(method('sum'), encodeStruct(method('sum').result, { success: big }))).toEqual({
      ok: true,
      value: json,
    });
  });

  test('omits absent optional fields and fills in defaults', () => {
    const items = method('items');
    expect(decodeResult(items, encodeStruct(items.result, { success: [{ name: 'a' }] }))).toEqual({
      ok: true,
      value: [
        {
          name: 'a',
          count: 7,
          colour: 'GREEN',
          words: ['one', 'two'],
          sizes: { a: 1 },
          pair: { left: 'l', right: 'r' },
          toString: true,
        },
      ],
    });
  });

  test.each([
    ['00', 'The reply of add does not match its own interface: result: expected i32 or an exception, got neither'],
    ['0b00000000000000', 'The reply of add does not match its own interface: result.success: expected i32, got string'],
    [
      '0800000000',
      'The reply of add does not match its own interface: result.success: the bytes end in the middle: 4 more were expected, 2 are left',
    ],
  ])('blames the chassis for the answer %s', (bytes, message) => {
    const error = refusal(() => decodeResult(method('add'), Buffer.from(bytes, 'hex')));
    expect(error.message).toBe(message);
    expect(error.code).toBe('resource_failed');
  });
});

describe('encodeResult()', () => {
  test('is the inverse of decodeResult()', () => {
    const thrown = { ok: false, exception: 'Refused', fields: { why: 'no', level: 'HIGH' } } as const;
    expect(decodeResult(method('echo'), encodeResult(method('echo'), thrown))).toEqual(thrown);
    expect(encodeResult(method('ping'), { ok: true, value: null })).toEqual(Buffer.of(0));
    expect(decodeResult(method('half'), encodeResult(method('half'), { ok: true, value: 'NaN' }))).toEqual({
      ok: true,
      value: 'NaN',
    });
  });

  test('refuses results and exceptions that the method does not declare', () => {
    expect(refusal(() => encodeResult(method('ping'), { ok: true, value: 1 })).message).toBe(
      'result: ping returns nothing, got 1',
    );
    expect(refusal(() => encodeResult(method('add'), { ok: true, value: 'x' })).message).toBe(
      'result.success: expected i32, got "x"',
    );
    expect(refusal(() => encodeResult(method('echo'), { ok: false, exception: 'Refusd', fields: {} })).message).toBe(
      'result: echo does not throw "Refusd", did you mean "Refused"?',
    );
  });
});
