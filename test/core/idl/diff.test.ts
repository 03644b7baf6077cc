// Descriptions of the differences between two interfaces.
import { describeDifference, parseIdl } from '../../../core/idl/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { describe, expect, test } from 'vitest';

function service(text: string): Interface {
  const found = parseIdl({ main: 'main.thrift', files: { 'main.thrift': text } }).services.get('S');
  if (found === undefined) throw new Error('no service S');
  return found;
}

const BASE = `
  enum E { A = 1, B = 2 }
  struct T { 1: i32 a, 2: optional T next, 3: E e = E.A }
  exception X { 1: string why }
  service S {
    i32 add(1: i32 num1, 2: i32 num2)
    T get(1: list<T> all) throws (1: X x)
  }`;

describe('describeDifference()', () => {
  test('returns nothing for equal interfaces', () => {
    expect(describeDifference(service(BASE), service(`// other text\n${BASE}`))).toBe('');
  });

  test.each([
    ['i32 num2', 'i64 num2', 'add: parameter 2 num2: i32 here, i64 there'],
    ['i32 num2', 'i32 other', 'add: parameter 2: num2 here, other there'],
    [', 2: i32 num2', '', 'add: parameter 2 num2: only here'],
    ['i32 num2)', 'i32 num2, 3: bool more)', 'add: parameter 3 more: only there'],
    ['1: i32 num1, 2: i32 num2', '2: i32 num2, 1: i32 num1', 'add: order of parameters: 1, 2 here, 2, 1 there'],
    ['i32 add(', 'string add(', 'add: returns: i32 here, string there'],
    ['i32 add(1: i32 num1, 2: i32 num2)', '', 'add: only here'],
    ['service S {', 'service S { void more()', 'more: only there'],
    [
      'i32 add(1: i32 num1, 2: i32 num2)',
      'i32 add(1: i32 num1, 2: i32 num2) (katamari.timeout = "2s")',
      'add: katamari.timeout: none here, 2000ms there',
    ],
    [
      'i32 add(1: i32 num1, 2: i32 num2)',
      'i32 add(1: i32 num1, 2: i32 num2) (katamari.readonly = "true", katamari.majority = "2 of 3 or fewer")',
      'add: katamari.majority: none here, 2 of 3 or fewer there',
    ],
    [
      'i32 add(1: i32 num1, 2: i32 num2)',
      'i32 add(1: i32 num1, 2: i32 num2) (katamari.readonly = "true", katamari.hedge = "p95")',
      'add: katamari.hedge: none here, p95 there',
    ],
    ['throws (1: X x)', '', 'get: exception 1 x: only here'],
    ['list<T> all', 'set<T> all', 'get: parameter 1 all: list<T> here, set<T> there'],
    ['1: i32 a', '1: required i32 a', 'struct T: field 1 a: default here, required there'],
    ['1: i32 a', '1: i32 a = 5', 'struct T: field 1 a: default: none here, 5 there'],
    ['E e = E.A', 'E e = E.B', 'struct T: field 3 e: default: "A" here, "B" there'],
    ['B = 2', 'B = 3', 'enum E: B: 2 here, 3 there'],
    [', B = 2', '', 'enum E: B = 2: only here'],
    ['1: string why', '1: string reason', 'exception X: field 1: why here, reason there'],
    ['struct T {', 'union T {', 'T: struct here, union there'],
  ])('%s -> %s', (from, to, line) => {
    const text = describeDifference(service(BASE), service(BASE.replace(from, to)));
    expect(text.split('\n')).toContain(line);
  });

  test('lists each difference once, and counts those beyond thirty', () => {
    const wide = (type: string): Interface =>
      service(
        `struct T { ${Array.from({ length: 40 }, (_, i) => `${i + 1}: ${type} f${i}`).join(' ')} }\nservice S { T a(1: T t) T b(1: T t) }`,
      );
    const lines = describeDifference(wide('i32'), wide('i64')).split('\n');
    expect(lines).toHaveLength(31);
    expect(lines[0]).toBe('struct T: field 1 f0: i32 here, i64 there');
    expect(lines.at(-1)).toBe('and 10 more differences');
  });
});
