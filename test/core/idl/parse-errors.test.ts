// Mistakes in IDL text: each gives one message with its position, what was found and what to do. Hostile text is
// refused in bounded time and memory.
import { parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import { KatamariError } from '../../../core/mod.ts';

import { describe, expect, test } from 'vitest';

function refusal(files: Record<string, string>): KatamariError {
  try {
    const idl = parseIdl({ main: 'main.thrift', files });
    for (const service of idl.services.values()) void service.id;
  } catch (error) {
    if (error instanceof KatamariError) return error;
    throw error;
  }
  throw new Error('the text was accepted');
}

const DEFINITION = 'a definition (include, const, typedef, enum, struct, union, exception or service)';

describe('parseIdl() refuses', () => {
  test.each([
    ['struct Work {}\nservice S {\n  Wrok f()\n}', '3:3: unknown type "Wrok", did you mean "Work"?'],
    ['struct A { 1: x.B b }', '1:15: unknown type "x.B": no included file is named "x"; add include "x.thrift"'],
    ['struct A {\n 1: i32 a\n 1: i32 b\n}', '3:9: duplicate field id 1 in A, give "b" another'],
    ['struct A {\n 1: i32 a\n 2: i32 a\n}', '3:9: duplicate field name "a" in A, rename one'],
    ['struct A {}\nenum A {X}', '2:6: duplicate type "A", rename one'],
    ['service A {}\nservice A {}', '2:9: duplicate service "A", rename one'],
    ['const i32 A = 1\nconst i32 A = 2', '2:11: duplicate constant "A", rename one'],
    ['service A { void f() void f() }', '1:27: duplicate method "f", this service has it already; rename one'],
    [
      'service B { void f() }\nservice A extends B { void f() }',
      '2:28: duplicate method "f", B has it already; rename one',
    ],
    ['service Base {}\nservice A extends Basee {}', '2:19: unknown service "Basee" to extend, did you mean "Base"?'],
    ['service A extends A {}', '1:9: service "A" extends itself, remove one "extends"'],
    ['service A extends B {}\nservice B extends A {}', '1:9: service "A" extends itself, remove one "extends"'],
    ['struct A { 1: i32 a = "x" }', '1:23: expected i32, got "x"'],
    ['struct A { 1: string a = 1 }', '1:26: expected string, got 1'],
    ['struct A { 1: bool a = 2 }', '1:24: expected bool, got 2'],
    ['struct A { 1: i8 a = 200 }', '1:22: expected i8, got 200, which does not fit into 8 bits'],
    [
      'const i64 A = 9223372036854775808',
      '1:15: expected i64, got 9223372036854775808, which does not fit into 64 bits',
    ],
    ['const i32 A = 1.5', '1:15: expected i32, got 1.5'],
    ['const double A = 1e999', '1:18: expected double, got 1e999, which is beyond a double'],
    ['const uuid A = "abc"', '1:16: expected uuid, got "abc"'],
    ['const map<string, i32> A = {"a": 1, "a": 2}', '1:28: expected map<string, i32>, got the key "a" twice'],
    ['enum E {A, B}\nstruct A { 1: E a = 7 }', '2:21: expected E, got 7; known: A = 0, B = 1'],
    ['enum E {A, B}\nstruct A { 1: E a = B }', '2:21: unknown constant "B", did you mean "E.B"?'],
    [
      'enum Shade {DARK, LIGHT}\nconst Shade A = Shade.DRAK',
      '2:17: enum Shade has no value "DRAK", did you mean "DARK"?',
    ],
    ['enum E {A}\nenum F {B}\nconst E X = F.B', '3:13: expected E, got a value of enum F'],
    ['const string A = "a"\nconst i32 B = A', '2:15: expected i32, got string (constant "A")'],
    ['const i32 A = 300\nconst i8 B = A', '2:14: expected i8, got 300, which does not fit into 8 bits (constant "A")'],
    ['struct A { 1: list<i32> a = {1: 2} }', '1:29: expected list<i32>, got a map'],
    ['struct B { 1: required i32 x }\nstruct A { 1: B a = {} }', '2:21: required field "x" of B is missing'],
    ['struct B { 1: i32 width }\nconst B A = {"witdh": 1}', '2:14: B has no field "witdh", did you mean "width"?'],
    [
      'union U {1: i32 a 2: i32 b}\nconst U X = {"a":1,"b":2}',
      '2:13: a value of union U must have exactly one field, got 2',
    ],
    ['struct A { 1: A a = {} }', '1:17: the default of A.a contains A itself without end, remove it'],
    ['const i32 A = B\nconst i32 B = A', '1:11: constant "A" refers to itself, give it a value'],
    ['typedef A B\ntypedef B A', '1:11: typedef "B" refers to itself, give it a type that is defined'],
    ['struct A {\n  32767: i32 a\n}', '2:3: field id 32767 is reserved, the mesh sends its context there; use another'],
    [
      'service S { void f(32767: i32 a) }',
      '1:20: field id 32767 is reserved, the mesh sends its context there; use another',
    ],
    ['struct A {\n  40000: i32 a\n}', '2:3: field id 40000 does not fit into 16 bits, use 1 to 32766'],
    [
      'struct A {\n  0: i32 a\n}',
      '2:3: field id 0 is not positive, and the Thrift compiler would make it -1; use 1 to 32766, or omit it',
    ],
    [
      'struct A {\n  -5: i32 a\n}',
      '2:3: field id -5 is not positive, and the Thrift compiler would make it -1; use 1 to 32766, or omit it',
    ],
    ['senum A { "a" }', '1:1: senum is not supported, use an enum, or a string'],
    ['enum E { A = 4294967296 }', '1:10: A = 4294967296 does not fit into 32 bits, as enum values must'],
    ['enum E { A, A }', '1:13: duplicate name "A" in enum E, rename one'],
    ['enum E { A = B }', '1:14: expected a whole number after "=", got "B"'],
    [
      'service S { void f() (katamari.timeout = "soon") }',
      '1:23: katamari.timeout is "soon", write a duration from 1ms to 24h: "250ms", "2s", "1.5m", "1h"',
    ],
    [
      'service S { void f() (katamari.cache = "25h") }',
      '1:23: katamari.cache is "25h", write a duration from 1ms to 24h: "250ms", "2s", "1.5m", "1h"',
    ],
    [
      'service S { void f() (katamari.idempotnt = "true") }',
      '1:23: unknown annotation "katamari.idempotnt", did you mean "katamari.idempotent"?',
    ],
    [
      'struct A { 1: i32 a (katamari.dif = "ignore") }',
      '1:22: unknown annotation "katamari.dif" of a field, did you mean "katamari.diff"?',
    ],
    [
      'struct A { 1: i32 a (katamari.timeout = "1s") }',
      '1:22: unknown annotation "katamari.timeout" of a field, it belongs to a method',
    ],
    ['service S { void f(1: i32 a (katamari.diff = "skip")) }', '1:30: katamari.diff is "skip", write "ignore"'],
    ['struct A { 1: i32 a (katamari.secret = "yes") }', '1:22: katamari.secret is "yes", write "true" or "false"'],
    [
      'service S { void f() (katamari.readonly, katamari.hedge = "p40") }',
      '1:42: katamari.hedge is "p40", write a percentile from p50 to p99.9, such as "p95"',
    ],
    [
      'service S {\n void f() (katamari.readonly,\n katamari.majority = "2 of 5") }',
      '3:2: katamari.majority is "2 of 5", write more than half of 2 to 9 copies, such as "2 of 3", "2 of 3 or fewer" or "2 of 3 versions"',
    ],
    [
      'service S { void f() (katamari.hedge = "p95") }',
      '1:18: "f" has katamari.hedge and is not idempotent, so it needs katamari.idempotent or katamari.readonly too',
    ],
    [
      'service S { i32 f() (katamari.readonly, katamari.hedge = "p95", katamari.majority = "2 of 3") }',
      '1:17: "f" has both katamari.hedge and katamari.majority, keep one of them',
    ],
    [
      'service S { i64 f(1: list<string> shards) (katamari.readonly, katamari.gather = "summ") }',
      '1:63: katamari.gather is "summ", did you mean "sum"?',
    ],
    [
      'service S { i64 f(1: list<string> shards) (katamari.gather = "sum") }',
      '1:17: "f" has katamari.gather, so it needs katamari.readonly too',
    ],
    [
      'service S { i64 f() (katamari.readonly, katamari.gather = "sum") }',
      '1:17: "f" has katamari.gather, so it needs a parameter "optional list<string> shards"',
    ],
    [
      'service S { i64 f(1: list<string> shards) (katamari.readonly, katamari.gather = "concat") }',
      '1:17: katamari.gather of "f" is "concat", which needs a result of lists, or structs with one list',
    ],
    ['service S { void f() (katamari.readonly = "yes") }', '1:23: katamari.readonly is "yes", write "true" or "false"'],
    [
      'service S { oneway i32 f() }',
      '1:24: oneway method "f" can return and throw nothing, make it "oneway void" without "throws"',
    ],
    [
      'struct A {}\nservice S { void f() throws (1: A a) }',
      '2:35: "a" in "throws" is not an exception, declare its type with "exception"',
    ],
    [
      'exception A {}\nservice S { void f() throws (1: A success) }',
      '2:35: an exception of a method cannot be named "success", which is the name of the result; rename it',
    ],
    ['struct A { 1: i32 a\nstruct B { 1: i32 b }', '2:1: expected "}", got "struct"'],
    ['struct A { 1: i32 a', '1:20: expected "}", got the end of the file'],
    ['service A { void f(', '1:20: expected a type, got the end of the file'],
    [
      'enum E { list }',
      '1:10: expected the name of a value, or "}", got "list", which is a keyword of the IDL; choose another name',
    ],
    ['struct A { 1: void a }', '1:15: expected a type, got "void"'],
    ['struct A { 1: 5 a }', '1:15: expected a type, got "5"'],
    ['struct A { 1: map<i32> a }', '1:22: expected "," between the types of key and value, got ">"'],
    ['struct A { 1: list a }', '1:20: expected "<" and ">" around the types, got "a"'],
    ['struct A {}\n}', `2:1: expected ${DEFINITION}, got "}"`],
    ['hello', `1:1: expected ${DEFINITION}, got "hello"`],
    ['struct A { 1: i32 a $ }', '1:21: "$" has no meaning in Thrift IDL, remove it or put it into quotes'],
    ['const string A = "abc\n"', '1:18: this string never ends, close it with " on the same line'],
    ['const string A = "a\\x"', '1:20: unknown escape "\\\\x" in a string; known: \\n \\r \\t \\" \\\' \\\\'],
    ['struct A {}\n/* abc', '2:1: this comment never ends, close it with */'],
    ['struct A { 1: i32 a = }', '1:23: expected a value after "=", got "}"'],
    ['const list<i32> A = [1, struct]', '1:25: expected a value, got "struct"'],
    ['struct A-B {}', '1:8: "A-B" is not a name, use letters, digits and underscores only'],
    ['struct A.B {}', '1:8: "A.B" has a dot, which is not allowed in the name of a definition'],
    ['struct A {} (a = 1)', '1:18: expected the value of the annotation in quotes, got "1"'],
    ['namespace "x"', '1:11: expected a language or * after "namespace", got "x"'],
    ['include "gone.thrift"', '1:9: included file "gone.thrift" not found, looked for "gone.thrift"'],
  ])('%j', (text, message) => {
    const error = refusal({ 'main.thrift': text });
    expect(error.message).toBe(`main.thrift:${message}`);
    expect(error.code).toBe('bad_request');
  });

  test('mistakes in included files, with the name of that file', () => {
    const files = { 'main.thrift': 'include "sub/a.thrift"', 'sub/a.thrift': '\nstruct Work { 1: Wrok b }' };
    expect(refusal(files).message).toBe('sub/a.thrift:2:18: unknown type "Wrok", did you mean "Work"?');
  });

  test('a name that an included file does not have', () => {
    const files = { 'main.thrift': 'include "a.thrift"\nstruct B { 1: a.Itme i }', 'a.thrift': 'struct Item {}' };
    expect(refusal(files).message).toBe('main.thrift:2:15: unknown type "a.Itme", did you mean "a.Item"?');
  });

  test('include cycles, naming the files on them', () => {
    const files = {
      'main.thrift': 'include "a.thrift"',
      'a.thrift': '// first\ninclude "b.thrift"',
      'b.thrift': 'include "a.thrift"',
    };
    expect(refusal(files).message).toBe(
      'b.thrift:1:9: include cycle a.thrift -> b.thrift -> a.thrift: move what they share into a file that includes neither',
    );
  });

  test('two included files of one name in one file', () => {
    const files = { 'main.thrift': 'include "a/x.thrift"\ninclude "b/x.thrift"', 'a/x.thrift': '', 'b/x.thrift': '' };
    expect(refusal(files).message).toBe(
      'main.thrift:2:9: two included files are named "x" here, rename one so that x.X means one thing',
    );
  });

  test('a source without its main file', () => {
    expect(refusal({ 'mian.thrift': '' }).message).toBe(
      'The IDL source says its main file is "main.thrift", which is not among its files, did you mean "mian.thrift"?',
    );
  });

  test('a file that does not exist, saying so', () => {
    expect(() => readIdlFile('/does/not/exist.thrift')).toThrow(
      /^Cannot read the IDL file "\/does\/not\/exist.thrift": /,
    );
  });
});

describe('parseIdl() bounds', () => {
  const many = (count: number, make: (i: number) => string): string =>
    Array.from({ length: count }, (_, i) => make(i)).join('\n');
  test.each([
    ['the size of a file', ' '.repeat(2 ** 20 + 1), 'the file has 1048577 characters, the limit is 1048576: split it'],
    [
      'nested types',
      `struct A { 1: ${'list<'.repeat(70)}i32${'>'.repeat(70)} a }`,
      'brackets are nested deeper than 64 levels',
    ],
    ['nested constants', `const list<i32> A = ${'['.repeat(100_000)}`, 'brackets are nested deeper than 64 levels'],
    ['nested annotations', `struct A {} ${'('.repeat(100_000)}`, 'brackets are nested deeper than 64 levels'],
    [
      'typedefs that double',
      `typedef i32 T0\n${many(60, (i) => `typedef map<T${i}, T${i}> T${i + 1}`)}`,
      'this type has more than 256 parts (containers and their elements), put parts of it into structs',
    ],
    [
      'typedefs in a row',
      `${many(5000, (i) => `typedef T${i + 1} T${i}`)}\ntypedef i32 T5000`,
      'a chain of more than 500 typedefs that refer to each other',
    ],
    [
      'constants in a row',
      `${many(5000, (i) => `const i32 C${i} = C${i + 1}`)}\nconst i32 C5000 = 1`,
      'a chain of more than 200 constants that refer to each other',
    ],
    [
      'defaults that double',
      `struct S0 { 1: list<i32> a = [1] }\n${many(60, (i) => `struct S${i + 1} { 1: S${i} a = {}, 2: S${i} b = {} }`)}`,
      'this value contains more than 10000 values',
    ],
    [
      'methods inherited over and over',
      `service A0 { void f0() }\n${many(3000, (i) => `service A${i + 1} extends A${i} { void f${i + 1}() }`)}`,
      'more than 20000 methods in all services together, inherited ones counted',
    ],
    [
      'services that extend one another',
      `${many(100, (i) => `service A${i} extends A${i + 1} {}`)}\nservice A100 {}`,
      'a chain of more than 64 services that extend each other',
    ],
  ])('%s', (_what, text, message) => {
    const error = refusal({ 'main.thrift': text });
    expect(error.message.replace(/^main\.thrift:\d+:\d+: /, '')).toBe(message);
    expect(error.code).toBe('bad_request');
  });

  test('the number of files', () => {
    const files: Record<string, string> = { 'main.thrift': many(100, (i) => `include "f${i}.thrift"`) };
    for (let i = 0; i < 100; i++) files[`f${i}.thrift`] = '';
    expect(refusal(files).message).toBe('The IDL of main.thrift has 101 files, the limit is 100');
  });

  test('all files together', () => {
    const files: Record<string, string> = { 'main.thrift': many(5, (i) => `include "f${i}.thrift"`) };
    for (let i = 0; i < 5; i++) files[`f${i}.thrift`] = ' '.repeat(1_000_000);
    expect(refusal(files).message).toBe(
      'f4.thrift:1:1: the files have more than 4194304 characters together, which is the limit',
    );
  });

  test('the text of an interface', () => {
    const text = `const string A = "${'x'.repeat(500_000)}"\nstruct S { ${many(100, (i) => `${i + 1}: string s${i} = A`)} }\nservice X { S f() }`;
    expect(refusal({ 'main.thrift': text }).message).toBe(
      'The canonical text of the interface has more than 4194304 characters, which is the limit: shorten its defaults',
    );
  });

  test('messages, whatever they quote', () => {
    expect(refusal({ 'main.thrift': `const i64 A = ${'9'.repeat(1_000_000)}` }).message.length).toBeLessThan(700);
    expect(refusal({ 'main.thrift': `struct A { 1: ${'x'.repeat(1_000_000)} a }` }).message.length).toBeLessThan(700);
  });
});
