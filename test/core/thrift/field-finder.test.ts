// The finder of one field: it agrees with the codec on random interfaces and values, and ends for any bytes.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { argumentFinder, encodeStruct, parseIdl } from '../../../core/idl/mod.ts';
import { FieldFinder, type Method, type StructType, type Type } from '../../../core/thrift/mod.ts';
import { anyArgs, anyIdl } from '../../kit/interfaces/any-interface.ts';
import { randomStruct } from '../../kit/interfaces/random-struct.ts';
import { Random } from '../../kit/tools/random.ts';

const SEED = Math.floor(Math.random() * 2 ** 31);

function methodOf(idl: string, name = 'm'): Method {
  const { services } = parseIdl({ main: 'any.thrift', files: { 'any.thrift': idl } });
  return [...services.values()][0]?.methods.get(name) as Method;
}

const anyCall = anyIdl.chain((idl) => {
  const method = methodOf(idl);
  return anyArgs(method).map((value) => ({ method, value }));
});

interface Leaf {
  readonly path: string;
  readonly type: Type;
}

/** The scalars below a struct that a path of at most three names leads to. */
function leavesOf(struct: StructType, path = 'args', depth = 3): Leaf[] {
  return struct.fields.flatMap(({ name, type }): Leaf[] => {
    if (type.kind === 'struct') return depth > 1 ? leavesOf(type.struct, `${path}.${name}`, depth - 1) : [];
    return [{ path: `${path}.${name}`, type }];
  });
}

/** What the finder should find in a value, by the names of the path. */
function expectedAt(value: unknown, names: readonly string[], type: Type): string {
  let found = value;
  for (const name of names) {
    const inside = (found ?? {}) as Record<string, unknown>;
    found = Object.hasOwn(inside, name) ? inside[name] : undefined;
  }
  if (found === undefined || found === null) return '';
  if (type.kind === 'binary') return Buffer.from(found as Uint8Array).toString('base64');
  const text = String(found as string | number | bigint | boolean);
  return type.kind === 'uuid' ? text.toLowerCase() : text;
}

const FOUND = new Set<Type['kind']>(['bool', 'i8', 'i16', 'i32', 'i64', 'enum', 'string', 'binary', 'uuid']);

describe('FieldFinder.find()', () => {
  test('finds what the codec has encoded, in any interface', () => {
    let [some, none] = [0, 0];
    fc.assert(
      fc.property(anyCall, ({ method, value }) => {
        const bytes = encodeStruct(method.args, value);
        for (const { path, type } of leavesOf(method.args)) {
          const finder = argumentFinder(method, path);
          expect(finder instanceof FieldFinder, path).toBe(FOUND.has(type.kind));
          if (!(finder instanceof FieldFinder)) continue;
          const found = finder.find(bytes);
          if (hasDefault(method.args, path)) continue;
          expect(found, path).toBe(expectedAt(value, path.split('.').slice(1), type));
          if (found === '') none++;
          else some++;
        }
      }),
      { numRuns: 150, seed: SEED },
    );
    expect(Math.min(some, none), `seed ${SEED}`).toBeGreaterThan(10);
  });

  test('finds the value between others, in a buffer that goes on, and in plain bytes', () => {
    const method = methodOf(`
      struct Deep { 1: list<map<string, list<i32>>> noise  4: i64 id }
      struct User { 1: Deep other  2: string name  3: Deep deep }
      service S { void m(1: set<string> before, 2: User user, 3: string after) }`);
    const deep = (id: number): object => ({ noise: [new Map([['a', [1, 2]]])], id });
    const user = { other: deep(7), name: 'n', deep: deep(Number.MAX_SAFE_INTEGER) };
    const bytes = encodeStruct(method.args, { before: new Set(['x']), user, after: 'y' });
    const finder = argumentFinder(method, 'args.user.deep.id') as FieldFinder;
    expect(finder.find(bytes)).toBe(String(Number.MAX_SAFE_INTEGER));
    expect(finder.find(Buffer.concat([bytes, Buffer.of(1, 2, 3)]))).toBe(String(Number.MAX_SAFE_INTEGER));
    expect(finder.find(Uint8Array.from(bytes))).toBe(String(Number.MAX_SAFE_INTEGER));
  });

  test('takes the first 1,000 bytes of a long value, and cuts no character', () => {
    const method = methodOf('service S { void m(1: string text, 2: binary bytes) }');
    const texts = argumentFinder(method, 'args.text') as FieldFinder;
    const text = (value: string): string => texts.find(encodeStruct(method.args, { text: value }));
    expect(text('x'.repeat(1_000))).toBe('x'.repeat(1_000));
    expect(text('x'.repeat(2 ** 20))).toBe('x'.repeat(1_000));
    for (const sign of ['é', '€', '😀'])
      for (let before = 990; before <= 1_000; before++) {
        const found = text(`${'x'.repeat(before)}${sign.repeat(20)}`);
        expect(found).toBe(
          `${'x'.repeat(before)}${sign.repeat(Math.floor((1_000 - before) / Buffer.byteLength(sign)))}`,
        );
      }
    const binary = argumentFinder(method, 'args.bytes') as FieldFinder;
    const bytes = Buffer.alloc(2 ** 20, 7);
    expect(binary.find(encodeStruct(method.args, { bytes }))).toBe(bytes.subarray(0, 1_000).toString('base64'));
  });

  test('finds nothing in a field of another type, and in an empty one', () => {
    const path = 'args.user.id';
    const method = (user: string): Method => methodOf(`struct U { ${user} } service S { void m(1: U user) }`);
    const finder = argumentFinder(method('1: string id'), path) as FieldFinder;
    expect(finder.find(encodeStruct(method('1: i32 id').args, { user: { id: 5 } }))).toBe('');
    expect(finder.find(encodeStruct(method('1: string id').args, { user: { id: '' } }))).toBe('');
    expect(finder.find(encodeStruct(method('2: string id').args, { user: { id: 'x' } }))).toBe('');
    expect(finder.find(encodeStruct(methodOf('service S { void m(1: string user) }').args, { user: 'x' }))).toBe('');
  });

  test('ends for any bytes, throws nothing, and never reads past the end', () => {
    const random = new Random(SEED);
    const finders = [[1], [1, 2], [5, 5, 5]].flatMap((ids) =>
      (['string', 'binary', 'i64', 'bool', 'uuid', 'enum'] as const).map((kind) => new FieldFinder(ids, kind)),
    );
    for (let i = 0; i < 2_000; i++) {
      const bytes = i % 2 === 0 ? random.bytes(random.below(40)) : randomStruct(random);
      // Small ids, so that fields are met.
      for (let at = 1; at + 1 < bytes.length; at += 3) if (random.below(2) === 0) bytes[at] = 0;
      for (let flips = random.below(4); flips > 0 && bytes.length > 0; flips--)
        bytes[random.below(bytes.length)] = random.pick([0, 1, 2, 5, 11, 12, 13, 15, 127, 255]);
      const end = random.below(bytes.length + 1);
      const [one, other] = [Buffer.from(bytes), Buffer.from(bytes)];
      other.fill(255, end);
      for (const finder of finders) {
        const found = finder.find(one.subarray(0, end));
        if (found !== finder.find(other.subarray(0, end)) || found.length > 1_400)
          throw new Error(`seed ${SEED}, bytes ${i}: found ${found} in ${one.toString('hex')} up to ${end}`);
      }
    }
  });

  test('reads no more of a huge field than its size', () => {
    const method = methodOf('service S { void m(1: string big, 2: list<i64> numbers, 3: string id) }');
    const finder = argumentFinder(method, 'args.id') as FieldFinder;
    const whole = encodeStruct(method.args, { big: 'x'.repeat(1_000), numbers: [1, 2, 3], id: 'me' });
    expect(finder.find(whole)).toBe('me');
    for (const [at, size] of [
      [3, 2 ** 31 - 1],
      [3, -1],
      [1_011, 2 ** 31 - 1],
      [1_011, -1],
    ] as const) {
      const bytes = Buffer.from(whole);
      bytes.writeInt32BE(size, at);
      expect(finder.find(bytes), `size ${size} at ${at}`).toBe('');
    }
  });
});

describe('argumentFinder()', () => {
  const method = methodOf(
    `enum Tier { A }
     struct User { 1: i64 id  2: list<User> friends  3: double score  4: Tier tier }
     service S { void m(1: User user, 2: string text) }`,
  );
  const cases: readonly (readonly [string, string])[] = [
    ['args.usr.id', 'm has no argument "usr", did you mean "user"?'],
    ['args.user.ids', 'args.user of m has no field "ids", did you mean "id"?'],
    ['args.user', 'args.user of m is User, expected string, binary, bool, a whole number, an enum or uuid'],
    ['args.user.score', 'args.user.score of m is double, expected string,'],
    ['args.user.friends', 'args.user.friends of m is list<User>, expected string,'],
    ['args.user.friends.id', 'args.user.friends of m is list<User>, expected a struct'],
    ['args.text.id', 'args.text of m is string, expected a struct'],
  ];
  for (const [path, text] of cases)
    test(`says why a method does not have ${path}`, () => {
      const problem = argumentFinder(method, path);
      expect(problem).toMatchObject({ text: expect.stringContaining(text) as unknown });
    });

  test('finds every type that has one text for a value', () => {
    expect(argumentFinder(method, 'args.user.tier')).toBeInstanceOf(FieldFinder);
    expect(argumentFinder(method, 'args.user.id')).toBeInstanceOf(FieldFinder);
  });
});

/** Whether a field on the path has a default: the codec writes it where the value has none. */
function hasDefault(struct: StructType, path: string): boolean {
  let { fields } = struct;
  for (const name of path.split('.').slice(1)) {
    const field = fields.find((one) => one.name === name);
    if (field?.defaultValue !== undefined) return true;
    if (field?.type.kind === 'struct') ({ fields } = field.type.struct);
  }
  return false;
}
