// The canonical text of an interface: equal for equal interfaces, and Thrift IDL that the real compiler takes.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { toolPath } from '../../kit/tools/tools.ts';

function service(text: string, more: Record<string, string> = {}, name = 'S'): Interface {
  const found = parseIdl({ main: 'main.thrift', files: { 'main.thrift': text, ...more } }).services.get(name);
  if (found === undefined) throw new Error(`no service ${name}`);
  return found;
}

function fixture(file: string, name: string): Interface {
  const found = parseIdl(readIdlFile(new URL(`../../fixtures/idl/${file}.thrift`, import.meta.url))).services.get(name);
  if (found === undefined) throw new Error(`no service ${name}`);
  return found;
}

/** Runs the Thrift compiler on the text. @throws Error with its messages when it refuses the text */
function compile(text: string, generator: string): void {
  const folder = mkdtempSync(join(tmpdir(), 'katamari-canonical-'));
  try {
    const file = join(folder, 'canonical.thrift');
    writeFileSync(file, text);
    execFileSync(toolPath('thrift'), ['--gen', generator, '-o', folder, file], { stdio: 'pipe' });
    expect(readdirSync(folder).filter((name) => name.startsWith('gen-'))).toHaveLength(1);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe('Interface.canonical', () => {
  test('is the service with its parents’ methods and all types they need, in a fixed order', () => {
    const calculator = service(
      `include "shared.thrift"
      typedef i32 Number
      const Number SEVEN = 7
      struct Unused { 1: i32 a }
      /** What to do. */
      enum Operation { SUBTRACT = 2, ADD = 1 }
      struct Work { 2: Number b = SEVEN; 1: required Number a, 3: Operation op = Operation.ADD }
      exception Oops { 1: string why }
      service S extends shared.Shared {
        oneway void zip() // in passing
        Number calculate(1: Work work) throws (1: Oops oops) (katamari.timeout = "2s", katamari.readonly = "true", other = "x")
      }`,
      {
        'shared.thrift': 'struct Entry { 1: map<string, list<binary>> data }\nservice Shared { Entry get(1: i64 key) }',
      },
    );
    expect(calculator.canonical).toBe(`enum Operation {
  ADD = 1
  SUBTRACT = 2
}

struct Entry {
  1: map<string, list<binary>> data
}

exception Oops {
  1: string why
}

struct Work {
  1: required i32 a
  2: i32 b = 7
  3: Operation op = Operation.ADD
}

service S {
  i32 calculate(1: Work work) throws (1: Oops oops) (katamari.readonly = "true", katamari.timeout = "2000ms")
  Entry get(1: i64 key)
  oneway void zip()
}
`);
    expect(calculator.id).toMatch(/^[0-9a-f]{64}$/);
  });

  const BASE = 'struct A { 1: i32 a }\nstruct B { 1: A a = {"a": 1} }\nservice S { B f(1: A a, 2: i32 n) }';
  test.each([
    ['another order', 'service S { B f(1: A a, 2: i32 n) }\nstruct B { 1: A a = {"a": 1} }\nstruct A { 1: i32 a }', {}],
    ['comments', `/** doc */ ${BASE} // end`, {}],
    ['other annotations', BASE.replace('1: i32 a }', '1: i32 a (x = "y") } (z)'), {}],
    ['typedefs', `typedef i32 N\ntypedef A AA\n${BASE.replaceAll('i32 n', 'N n').replace('(1: A', '(1: AA')}`, {}],
    ['constants', `const i32 ONE = 1\n${BASE.replace('"a": 1', '"a": ONE')}`, {}],
    ['types that nothing needs', `${BASE}\nstruct C {}\nenum E { X }`, {}],
    [
      'types in another file',
      'include "x.thrift"\nstruct B { 1: x.A a = {"a": 1} }\nservice S { B f(1: x.A a, 2: i32 n) }',
      { 'x.thrift': 'struct A { 1: i32 a }' },
    ],
    [
      'methods from a parent',
      'include "x.thrift"\nservice S extends x.T {}',
      { 'x.thrift': BASE.replace('service S', 'service T') },
    ],
  ])('is the same with %s', (_what, text, more) => {
    expect(service(text, more).canonical).toBe(service(BASE).canonical);
    expect(service(text, more).id).toBe(service(BASE).id);
  });

  test.each([
    ['the name of a parameter', BASE.replace('i32 n', 'i32 m')],
    ['the order of parameters, which positional calls go by', BASE.replace('1: A a, 2: i32 n', '2: i32 n, 1: A a')],
    ['a type', BASE.replace('i32 n', 'i64 n')],
    ['an id', BASE.replace('2: i32', '3: i32')],
    ['a default', BASE.replace('"a": 1', '"a": 2')],
    ['requiredness', BASE.replace('1: i32 a', '1: required i32 a')],
    ['an annotation that the mesh obeys', BASE.replace('n) }', 'n) (katamari.idempotent = "true") }')],
    ['a method more', BASE.replace('n) }', 'n) void g() }')],
  ])('differs in %s', (_what, text) => {
    expect(service(text).id).not.toBe(service(BASE).id);
  });

  test('keeps the annotations that the mesh obeys', () => {
    const votes = 'katamari.idempotent = "true", katamari.majority = "2 of 3 versions or fewer"';
    const hedge = 'katamari.readonly = "true", katamari.timeout = "1500ms", katamari.hedge = "p99.5"';
    const text = `service S {\n  i32 f() (${votes})\n  i32 g() (${hedge})\n}\n`;
    expect(service(text).canonical).toBe(text);
  });

  test('distinguishes types of one name in two files', () => {
    const { canonical } = service(
      'include "x.thrift"\ninclude "y.thrift"\nstruct A { 1: x.A a 2: y.A b }\nstruct x_A {}\nservice S { A f(1: x_A x) }',
      { 'x.thrift': 'struct A { 1: i32 x }', 'y.thrift': 'struct A { 1: i32 y }' },
    );
    expect(canonical).toContain('struct A {\n  1: x_A_2 a\n  2: y_A b\n}');
    expect(canonical).toContain('struct x_A_2 {\n  1: i32 x\n}');
    compile(canonical, 'json');
  });

  test.each([
    ['everything', 'Everything'],
    ['everything', 'base.Base'],
    ['old', 'Old'],
  ])('of %s, service %s, means the same when it is read again', (file, name) => {
    const first = fixture(file, name);
    const again = service(first.canonical, {}, first.service);
    expect(again.canonical).toBe(first.canonical);
    expect(again.id).toBe(first.id);
  });

  test.each(['json', 'py', 'js:node', 'java', 'cpp', 'go'])(
    'is accepted by the Thrift compiler, for %s',
    (generator) => {
      compile(fixture('everything', 'Everything').canonical, generator);
      compile(fixture('everything', 'base.Base').canonical, generator);
    },
  );

  test('writes values that compilers resolve before the values that need them', () => {
    const { canonical } = service(
      'struct A { 1: Z z = {"y": {"text": "quote \\" back \\\\ line \\n"}} }\nstruct Y { 1: string text }\nstruct Z { 1: Y y = {"text": "t"} }\nservice S { A f() }',
    );
    expect(canonical.match(/struct \w/g)).toEqual(['struct Y', 'struct Z', 'struct A']);
    compile(canonical, 'json');
    expect(service(canonical).canonical).toBe(canonical);
  });

  test('does the same for values nested in another value', () => {
    const { canonical } = service(
      'union Y { 1: i32 n } union Z { 1: list<Y> ys } struct A { 1: map<string, Z> z = {"k": {"ys": [{"n": 1}]}} } service S { A f() }',
    );
    expect(canonical.match(/(?:struct|union) \w/g)).toEqual(['union Z', 'union Y', 'struct A']);
    compile(canonical, 'json');
    expect(service(canonical).canonical).toBe(canonical);
  });

  test('is tested on a fixture that the Thrift compiler accepts', () => {
    const folder = mkdtempSync(join(tmpdir(), 'katamari-fixture-'));
    const file = new URL('../../fixtures/idl/everything.thrift', import.meta.url).pathname;
    execFileSync(toolPath('thrift'), ['-r', '--gen', 'py', '-o', folder, file], { stdio: 'pipe' });
    expect(existsSync(join(folder, 'gen-py'))).toBe(true);
    rmSync(folder, { recursive: true });
  });
});
