// Comparisons of two replies by the types of their interfaces, and the paths that name what differs.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  compareReplies,
  describeDifference,
  encodeStruct,
  parseIdl,
  shortArguments,
  type CompareOptions,
  type ReplyComparison,
  type MethodReply,
} from '../../../core/idl/mod.ts';
import { writeApplicationException, type Interface, type Method } from '../../../core/thrift/mod.ts';
import { anyIdl, anyValue } from '../../kit/interfaces/any-interface.ts';

const TYPES = `
enum Colour { RED = 1, BLUE = 2 }
struct Hit { 1: string id, 2: double score, 3: optional string note, 4: i64 took (katamari.diff = "ignore") }
struct User { 1: string name, 2: string password (katamari.secret), 3: optional User friend }
union Choice { 1: i32 number, 2: string text }
exception Wrong { 1: string why }
exception Other { 1: string why }
`;

function interfaceOf(text: string): Interface {
  const found = parseIdl({ main: 'a.thrift', files: { 'a.thrift': text } }).services.get('S');
  if (found === undefined) throw new Error('no service S');
  return found;
}

function methodOf(type: string, more = TYPES): Method {
  const text = `${more} service S { ${type} m() throws (1: Wrong wrong, 2: Other other) }`;
  return interfaceOf(text).methods.get('m') as Method;
}

function replyOf(method: Method, success: unknown): MethodReply {
  return { method, isException: false, body: encodeStruct(method.result, { success }) };
}

function compare(type: string, one: unknown, other: unknown, options?: CompareOptions): ReplyComparison {
  const method = methodOf(type);
  return compareReplies(replyOf(method, one), replyOf(method, other), options);
}

/** `path at one other` of each difference. */
function differences(found: ReplyComparison): readonly string[] {
  if (found.kind === 'skipped') throw new Error(found.why);
  if (found.kind === 'equal') return [];
  return found.differences.map(({ path, at, one, other }) => `${path} ${at} ${one || 'nothing'} ${other || 'nothing'}`);
}

const hit = (id: string, score: number, more = {}): object => ({ id, score, took: 1n, ...more });

describe('compareReplies() finds equal', () => {
  test.each<[string, unknown, unknown]>([
    ['i32', 1, 1],
    ['set<string>', new Set(['a', 'b']), new Set(['b', 'a'])],
    ['set<set<i32>>', new Set([new Set([1, 2]), new Set([3])]), new Set([new Set([3]), new Set([2, 1])])],
    ['map<string, i32>', new Map([['a', 1], ['b', 2]]), new Map([['b', 2], ['a', 1]])], // oxfmt-ignore
    ['double', 0.1 + 0.2, 0.3],
    ['double', Number.NaN, Number.NaN],
    ['double', 0, -0],
    ['set<double>', new Set([0.1 + 0.2, 1]), new Set([1, 0.3])],
    ['map<double, double>', new Map([[0.1 + 0.2, 1]]), new Map([[0.3, 1 + 1e-12]])],
    ['list<Hit>', [hit('a', 1)], [hit('a', 1, { took: 99n })]],
    ['set<Hit>', new Set([hit('a', 1), hit('b', 2)]), new Set([hit('b', 2, { took: 5n }), hit('a', 1 + 1e-12)])],
    ['map<Hit, i32>', new Map([[hit('a', 1), 1]]), new Map([[hit('a', 1, { took: 5n }), 1]])],
  ])('%s, row %#', (type, one, other) => {
    expect(compare(type, one, other)).toEqual({ kind: 'equal' });
  });
});

describe('compareReplies() names', () => {
  test.each<[string, unknown, unknown, readonly string[]]>([
    ['i32', 1, 2, ['(result) (result) 1 2']],
    ['double', 1, 1.0001, ['(result) (result) 1 1.0001']],
    ['double', Number.POSITIVE_INFINITY, 1, ['(result) (result) "Infinity" 1']],
    ['Colour', 1, 2, ['(result) (result) "RED" "BLUE"']],
    ['binary', Buffer.from('a'), Buffer.from('b'), ['(result) (result) "YQ==" "Yg=="']],
    ['list<i32>', [1, 2, 3], [1, 5, 6], ['[] [1] 2 5']],
    ['list<i32>', [1, 2], [1], ['[] [1] 2 nothing']],
    ['list<Hit>', [hit('a', 1), hit('b', 2)], [hit('a', 1), hit('b', 3)], ['[].score [1].score 2 3']],
    ['list<Hit>', [hit('a', 1)], [hit('a', 1, { note: 'x' })], ['[].note [0].note nothing "x"']],
    ['map<string, i32>', new Map([['a', 1]]), new Map([['a', 2]]), ['{} {"a"} 1 2']],
    ['map<string, i32>', new Map([['a', 1]]), new Map([['b', 1]]), ['{} {"a"} 1 nothing']],
    [
      'map<string, list<Hit>>',
      new Map([['a', [hit('a', 1)]]]),
      new Map([['a', [hit('a', 2)]]]),
      ['{}[].score {"a"}[0].score 1 2'],
    ],
    ['set<string>', new Set(['a', 'b']), new Set(['a', 'c']), ['[] [] "b" "c"']],
    ['Choice', { number: 1 }, { text: 'a' }, ['number number 1 nothing', 'text text nothing "a"']],
    ['Hit', hit('a', 1), hit('b', 2), ['id id "a" "b"', 'score score 1 2']],
    ['User', { name: 'a', password: 'p' }, { name: 'a', password: 'q' }, ['password password "***" "***"']],
    [
      'User',
      { name: 'a', password: 'p', friend: { name: 'b', password: 'p' } },
      { name: 'a', password: 'p', friend: { name: 'c', password: 'q' } },
      ['friend.name friend.name "b" "c"', 'friend.password friend.password "***" "***"'],
    ],
  ])('%s, row %#', (type, one, other, expected) => {
    expect(differences(compare(type, one, other))).toEqual(expected);
  });

  test('no difference that the route leaves out', () => {
    const [one, other] = [[hit('a', 1, { note: 'x' })], [hit('a', 2, { note: 'y' })]];
    const ignore = new Set(['[].score']);
    expect(differences(compare('list<Hit>', one, other, { ignore }))).toEqual(['[].note [0].note "x" "y"']);
    expect(compare('list<Hit>', one, other, { ignore: new Set(['[]']) })).toEqual({ kind: 'equal' });
    expect(compare('set<Hit>', new Set(one), new Set(other), { ignore: new Set(['[].score', '[].note']) })).toEqual({
      kind: 'equal',
    });
    const totals = [new Map([['a', 1]]), new Map([['b', 1]])] as const;
    expect(compare('map<string, i32>', ...totals, { ignore: new Set(['{}']) })).toEqual({ kind: 'equal' });
  });

  test('a tolerance of its own', () => {
    expect(compare('double', 100, 101, { tolerance: 0.02 })).toEqual({ kind: 'equal' });
    expect(differences(compare('double', 100, 103, { tolerance: 0.02 }))).toEqual(['(result) (result) 100 103']);
  });

  test('both answers, without secrets', () => {
    const found = compare('User', { name: 'a', password: 'p' }, { name: 'b', password: 'p' });
    expect(found).toMatchObject({
      one: '{"name":"a","password":"***"}',
      other: '{"name":"b","password":"***"}',
    });
  });

  test('a bounded number of paths, and short values', () => {
    const fields = Array.from({ length: 50 }, (_, i) => `${i + 1}: string f${i}`).join(', ');
    const method = methodOf('Wide', `${TYPES} struct Wide { ${fields} }`);
    const wide = (text: string): MethodReply =>
      replyOf(method, Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`f${i}`, text])));
    const found = compareReplies(wide('a'.repeat(1_000)), wide('b'.repeat(1_000)));
    if (found.kind !== 'different') throw new Error(found.kind);
    expect(found.differences).toHaveLength(20);
    expect(found.differences[0]?.one.length).toBeLessThan(210);
    expect(found.one.length).toBeLessThan(1_010);
  });
});

describe('compareReplies() of exceptions', () => {
  const method = methodOf('i32');
  const thrown = (name: string, why: string): MethodReply => ({
    method,
    isException: false,
    body: encodeStruct(method.result, { [name]: { why } }),
  });
  const failed = (message: string, type: number): MethodReply => ({
    method,
    isException: true,
    body: writeApplicationException(message, type),
  });

  test('an answer and an exception differ as a whole', () => {
    expect(differences(compareReplies(replyOf(method, 1), thrown('wrong', 'no')))).toEqual([
      '(result) (result) 1 {"exception":"Wrong","why":"no"}',
    ]);
    expect(differences(compareReplies(thrown('wrong', 'no'), thrown('other', 'no')))).toEqual([
      '(result) (result) {"exception":"Wrong","why":"no"} {"exception":"Other","why":"no"}',
    ]);
    expect(differences(compareReplies(replyOf(method, 1), failed('broken', 6)))).toEqual([
      '(result) (result) 1 {"error":"broken"}',
    ]);
  });

  test('equal exceptions are compared by their fields', () => {
    expect(compareReplies(thrown('wrong', 'no'), thrown('wrong', 'no'))).toEqual({ kind: 'equal' });
    expect(differences(compareReplies(thrown('wrong', 'a'), thrown('wrong', 'b')))).toEqual([
      'Wrong.why Wrong.why "a" "b"',
    ]);
    // Their texts have positions and addresses.
    expect(compareReplies(failed('a', 6), failed('b', 6))).toEqual({ kind: 'equal' });
  });

  test('an answer that does not match its interface differs', () => {
    const broken: MethodReply = { method, isException: false, body: Uint8Array.of(11, 0, 0, 0) };
    const [found] = differences(compareReplies(replyOf(method, 1), broken));
    expect(found).toContain('The answer does not match its interface');
    const empty: MethodReply = { method, isException: false, body: Uint8Array.of(0) };
    expect(differences(compareReplies(replyOf(method, 1), empty))).toHaveLength(1);
  });
});

describe('compareReplies() of two versions', () => {
  const older = methodOf('Answer', `${TYPES} struct Answer { 1: i32 total, 2: string name, 3: optional string gone }`);
  const newer = methodOf(
    'Answer',
    `${TYPES} struct Answer { 1: i64 total, 2: string label, 4: optional string fresh, 5: i32 extra (katamari.diff = "ignore") }`,
  );

  test('matches fields by id, and whole numbers of any size', () => {
    const one = replyOf(older, { total: 1, name: 'a' });
    expect(compareReplies(one, replyOf(newer, { total: 1n, label: 'a', extra: 3 }))).toEqual({ kind: 'equal' });
    expect(differences(compareReplies(one, replyOf(newer, { total: 2n, label: 'b' })))).toEqual([
      'total total 1 2',
      'name name "a" "b"',
    ]);
  });

  test('a field that only one version has differs where it is set', () => {
    expect(
      differences(
        compareReplies(
          replyOf(older, { total: 1, name: 'a', gone: 'x' }),
          replyOf(newer, { total: 1n, label: 'a', fresh: 'y' }),
        ),
      ),
    ).toEqual(['gone gone "x" nothing', 'fresh fresh nothing "y"']);
  });

  test('a value of another kind differs', () => {
    expect(differences(compareReplies(replyOf(methodOf('i32'), 1), replyOf(methodOf('double'), 1)))).toHaveLength(1);
    expect(
      differences(compareReplies(replyOf(methodOf('list<i32>'), [1]), replyOf(methodOf('set<i32>'), new Set([1])))),
    ).toHaveLength(1);
  });
});

describe('compareReplies() skips', () => {
  test('large replies, but not equal ones', () => {
    const [one, other] = ['a'.repeat(200_000), 'b'.repeat(200_000)];
    expect(compare('string', one, one)).toEqual({ kind: 'equal' });
    expect(compare('string', one, other)).toEqual({
      kind: 'skipped',
      why: 'a reply has 200008 bytes, limit is 131072',
    });
    expect(compare('string', one, other, { bytesMax: 1_000_000 }).kind).toBe('different');
  });

  test('replies with many values', () => {
    const many = Array.from({ length: 60_000 }, () => true);
    expect(compare('list<bool>', many, [...many.slice(1), false])).toEqual({
      kind: 'skipped',
      why: 'more than 50000 values to compare',
    });
  });

  test('no set of many different texts', () => {
    const texts = (from: number): Set<string> => new Set(Array.from({ length: 1_000 }, (_, i) => `text ${from + i}`));
    expect(differences(compare('set<string>', texts(0), texts(5_000)))).toHaveLength(1);
  });
});

test('shortArguments() masks secrets and cuts', () => {
  const method = interfaceOf(
    `${TYPES} service S { void m(1: User user, 2: string token (katamari.secret), 3: list<i32> numbers) }`,
  ).methods.get('m') as Method;
  const args = encodeStruct(method.args, { user: { name: 'a', password: 'p' }, token: 't', numbers: [1, 2, 3, 4, 5] });
  const text = '{"user":{"name":"a","password":"***"},"token":"***","numbers":[1,2,3,4,5]}';
  expect(shortArguments(method, args, 1_000)).toBe(text);
  expect(shortArguments(method, args, 60)).toBe(`${text.slice(0, 60)}...`);
  expect(shortArguments(method, Uint8Array.of(1), 60)).toBe('(1 bytes that do not match the interface)');
});

describe('annotations of fields', () => {
  const plain = interfaceOf('service S { void m(1: string a) }');

  test('are part of the identity of an interface', () => {
    const secret = interfaceOf('service S { void m(1: string a (katamari.secret)) }');
    expect(secret.canonical).toContain('1: string a (katamari.secret = "true")');
    expect(describeDifference(plain, secret)).toBe('m: parameter 1 a: katamari.secret: none here, true there');
    expect(interfaceOf(secret.canonical).id).toBe(secret.id);
  });

  test('change nothing that say nothing', () => {
    expect(interfaceOf('service S { void m(1: string a (katamari.secret = "false", other = "x")) }').id).toBe(plain.id);
  });
});

const anyReplies = anyIdl.chain((text) => {
  const method = parseIdl({ main: 'any.thrift', files: { 'any.thrift': text } })
    .services.get('Any')
    ?.methods.get('m') as Method;
  const value = anyValue(method.returns, 3);
  return fc.record({ method: fc.constant(method), one: value, other: value });
});

describe('compareReplies() of any interface', () => {
  test('agrees with the bytes about equal values, and with itself in the other direction', () => {
    fc.assert(
      fc.property(anyReplies, ({ method, one, other }) => {
        fc.pre(method.returns.kind !== 'void');
        const [a, b] = [replyOf(method, one), replyOf(method, other)];
        // Decoded again, so that the comparison does not end at the bytes.
        const again = { ...a, body: Buffer.concat([Uint8Array.of(2, 0x7f, 0xf0, 1), a.body]) };
        expect(compareReplies(a, again)).toEqual({ kind: 'equal' });
        const [there, back] = [compareReplies(a, b), compareReplies(b, a)];
        expect(there.kind).toBe(back.kind);
        if (there.kind !== 'different' || back.kind !== 'different') return;
        expect(there.differences.map(({ path }) => path).sort()).toEqual(
          back.differences.map(({ path }) => path).sort(),
        );
      }),
      { numRuns: 200 },
    );
  });
});
