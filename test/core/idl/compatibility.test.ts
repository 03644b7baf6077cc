import { describe, expect, test } from 'vitest';
import { drift, type Drift } from '../../kit/tools/drift.ts';
import { changesBetween, parseIdl, type Compatibility } from '../../../core/idl/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';

function serviceOf(text: string): Interface {
  const found = parseIdl({ main: 'x.thrift', files: { 'x.thrift': text } }).services.get('S');
  if (found === undefined) throw new Error('No service S');
  return found;
}

const BASE = 'enum E { A = 1, B = 2 } struct P { 1: i32 n } exception X { 1: string why }';
const one = (line: string, types = BASE): Interface => serviceOf(`${types} service S { ${line} }`);

/** The verdict on the changes together, and the outcomes of calls. */
function expectTruth(verdicts: readonly Compatibility[], { understood, lost }: Drift): void {
  const says = { understood: verdicts.includes('breaks') ? undefined : true, lost: verdicts.some(isBad) };
  expect({ understood: says.understood && understood > 0, lost: lost > 0 }).toEqual(says);
}

function isBad(verdict: Compatibility): boolean {
  return verdict === 'sometimes' || verdict === 'breaks';
}

describe('changesBetween()', () => {
  const cases: readonly [old: Interface, now: Interface, changes: readonly string[]][] = [
    [one('i32 a(1: i32 n)'), one('i32 a(1: i32 n) void b()'), ['b was added: fine, breaks']],
    [one('i32 a() void b()'), one('i32 a()'), ['b was removed: breaks, fine']],
    [one('void a()'), one('oneway void a()'), ['a became oneway: breaks, breaks']],
    [
      one('void a(1: i32 n)'),
      one('void a(1: i32 n, 2: i32 m)'),
      ['a: parameter 2 m was added: fine, fine', 'a: order of parameters 1 became 1, 2: json, json'],
    ],
    [one('void a(1: i32 n)'), one('void a(1: i64 n)'), ['a: parameter 1 n i32 became i64: breaks, breaks']],
    [one('void a(1: i32 n)'), one('void a(1: E n)'), ['a: parameter 1 n i32 became E: sometimes, json']],
    [one('void a(1: string n)'), one('void a(1: string m)'), ['a: parameter 1 n is called m now: json, json']],
    [one('i32 a()'), one('E a()'), ['a: result i32 became E: json, sometimes']],
    [one('E a()'), one('i32 a()'), ['a: result E became i32: sometimes, json']],
    [
      one('void a(1: binary n)'),
      one('void a(1: string n)'),
      ['a: parameter 1 n binary became string: sometimes, json'],
    ],
    [
      one('void a(1: string n)'),
      one('void a(1: binary n)'),
      ['a: parameter 1 n string became binary: json, sometimes'],
    ],
    [
      one('P a()'),
      one('P a()', BASE.replace('1: i32 n', '1: i32 n = 7')),
      ['struct P: field 1 n default none became 7: json, fine'],
    ],
    [one('void a(1: i32 n = 1)'), one('void a(1: i32 n = 2)'), ['a: parameter 1 n default 1 became 2: json, json']],
    [
      one('void a(1: optional i32 n = 1)'),
      one('void a(1: optional i32 n)'),
      ['a: parameter 1 n default 1 became none: sometimes, fine'],
    ],
    [
      one('void a(1: list<i32> n)'),
      one('void a(1: list<i64> n)'),
      ['a: parameter 1 n [element] i32 became i64: breaks, breaks'],
    ],
    [
      one('void a(1: map<i32, P> n)'),
      one('void a(1: map<i32, string> n)'),
      ['a: parameter 1 n [value] P became string: breaks, breaks'],
    ],
    [one('i32 a()'), one('void a()'), ['a: result was removed: breaks, fine']],
    [one('void a()'), one('i32 a()'), ['a: result was added: fine, breaks']],
    [one('i32 a()'), one('i64 a()'), ['a: result i32 became i64: breaks, breaks']],
    [one('void a()'), one('void a() throws (1: X x)'), ['a: exception 1 x was added: sometimes, fine']],
    [one('void a() throws (1: X x)'), one('void a()'), ['a: exception 1 x was removed: fine, sometimes']],
    // A required field. A side that does not know it gets different results depending on the direction of the struct.
    [
      one('void a(1: P p)'),
      one('void a(1: P p)', BASE.replace('1: i32 n', '1: i32 n, 2: required i32 m')),
      ['struct P: field 2 m was added, required: breaks, fine'],
    ],
    [
      one('P a()'),
      one('P a()', BASE.replace('1: i32 n', '1: i32 n, 2: required i32 m')),
      ['struct P: field 2 m was added, required: fine, breaks'],
    ],
    [
      one('P a(1: P p)'),
      one('P a(1: P p)', BASE.replace('1: i32 n', '1: i32 n, 2: required i32 m')),
      ['struct P: field 2 m was added, required: breaks, breaks'],
    ],
    [
      one('void a(1: P p)'),
      one('void a(1: P p)', BASE.replace('1: i32 n', '')),
      ['struct P: field 1 n was removed: fine, fine'],
    ],
    [
      one('void a(1: P p)'),
      one('void a(1: P p)', BASE.replace('1: i32 n', '1: required i32 n')),
      ['struct P: field 1 n default became required: sometimes, fine'],
    ],
    [
      one('P a()'),
      one('P a()', BASE.replace('1: i32 n', '1: required i32 n')),
      ['struct P: field 1 n default became required: fine, sometimes'],
    ],
    [
      one('void a(1: P p)'),
      one('void a(1: P p)', BASE.replace('1: i32 n', '1: optional i32 n')),
      ['struct P: field 1 n default became optional: fine, fine'],
    ],
    // A union holds one field, so a reader that does not know that field has nothing.
    [
      one('void a(1: U u)', `${BASE} union U { 1: i32 n }`),
      one('void a(1: U u)', `${BASE} union U { 1: i32 n, 2: string t }`),
      ['union U: field 2 t was added: fine, sometimes'],
    ],
    [
      one('U a()', `${BASE} union U { 1: i32 n, 2: string t }`),
      one('U a()', `${BASE} union U { 1: i32 n }`),
      ['union U: field 2 t was removed: fine, sometimes'],
    ],
    [
      one('void a(1: U u)', `${BASE} struct U { 1: optional i32 n, 2: optional string t }`),
      one('void a(1: U u)', `${BASE} union U { 1: i32 n, 2: string t }`),
      ['struct U became union: sometimes, json'],
    ],
    // Enum values: a reader meets a number that it does not know.
    [
      one('void a(1: E e)'),
      one('void a(1: E e)', BASE.replace('B = 2', 'B = 2, C = 3')),
      ['enum E: C = 3 was added: fine, sometimes'],
    ],
    [one('E a()'), one('E a()', BASE.replace('B = 2', 'B = 2, C = 3')), ['enum E: C = 3 was added: sometimes, fine']],
    [one('E a()'), one('E a()', BASE.replace(', B = 2', '')), ['enum E: B = 2 was removed: fine, sometimes']],
    [one('E a()'), one('E a()', BASE.replace('B = 2', 'Z = 2')), ['enum E: B = 2 is called Z now: json, json']],
    [one('E a()'), one('E a()', BASE.replace('B = 2', 'B = 3')), ['enum E: B 2 became 3: breaks, breaks']],
  ];
  for (const [old, now, changes] of cases) {
    test(`finds: ${changes.join('; ')}`, () => {
      const found = changesBetween(old, now);
      expect(
        found.map(({ where, what, oldCallers, newCallers }) => `${where} ${what}: ${oldCallers}, ${newCallers}`),
      ).toEqual(changes);
      // A verdict that something breaks includes the reason.
      for (const { oldCallers, newCallers, why } of found)
        expect(why === '').toBe(oldCallers === 'fine' && newCallers === 'fine');
      // The verdict matches what happens.
      expectTruth(
        found.map(({ oldCallers }) => oldCallers),
        drift(old, now),
      );
      expectTruth(
        found.map(({ newCallers }) => newCallers),
        drift(now, old),
      );
    });
  }

  test('finds nothing where only comments, field order and files differ, and terminates on recursive types', () => {
    const tree = 'struct T { 1: i32 n, 2: optional list<T> below } service S { T turn(1: T t) }';
    const same =
      '/** A tree. */ struct T { 2: optional list<T> below, 1: i32 n } service S { /* turns */ T turn(1: T t) }';
    expect(changesBetween(serviceOf(tree), serviceOf(same))).toEqual([]);
    expect(changesBetween(serviceOf(tree), serviceOf(tree.replace('1: i32 n', '1: i64 n')))).toHaveLength(1);
  });
});
