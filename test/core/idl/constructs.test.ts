// Every construct of the Thrift language, with the official compiler (0.17 or later) as the reference. What both
// accept must mean the same to both: types, ids, defaults and constants are compared with the compiler's own JSON. A
// refusal says where, what, and what to write instead.
import { parseIdl, type Idl } from '../../../core/idl/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import { describe, expect, test } from 'vitest';
import { judge, meaningOf } from '../../kit/interfaces/idl-judge.ts';

type Files = Readonly<Record<string, string>>;

/** One text, or files by name with the main one first. */
function filesOf(text: string | Files): Files {
  return typeof text === 'string' ? { 'main.thrift': text } : text;
}

function parse(text: string | Files): Idl {
  const files = filesOf(text);
  return parseIdl({ main: Object.keys(files)[0] ?? '', files });
}

function refusal(text: string | Files): string {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof KatamariError) return error.message;
    throw error;
  }
  return 'nothing';
}

function title(text: string | Files): string {
  return Object.values(filesOf(text)).join(' ~ ').replaceAll(/\s+/g, ' ').slice(0, 110);
}

describe('means the same to us and to the Thrift compiler:', () => {
  const SHARED = {
    'shared.thrift': `
      enum Level { LOW = 1, HIGH = 5 }
      struct Pair { 1: i32 left, 2: i32 right }
      const i32 LIMIT = 9
      const string NAME = "shared"
      typedef list<Pair> Pairs
      exception Refused { 1: string why }
      service Base { Pair swap(1: Pair pair) throws (1: Refused refused) }`,
  };
  const both: readonly (string | Files)[] = [
    // Base types and containers.
    'struct A { 1: bool a 2: byte b 3: i8 c 4: i16 d 5: i32 e 6: i64 f 7: double g 8: string h 9: binary i }',
    'struct A { 1: list<i32> a 2: set<string> b 3: map<string, list<set<i64>>> c 4: map<list<i32>, map<A, i8>> d }',
    // Enums.
    'enum E { A, B = 5, C, D = -3, F, G = 0x10, H, I = -0x2, J = +4 }',
    'enum E { A = 1, B = 1 } enum F {} const E X = E.B const list<E> Y = [1, E.A]',
    'enum E { A (x = "y"), B = 2 (z); C } (w = "v")',
    // Typedefs, also before the type that they name.
    'typedef S T typedef list<T> L struct S { 1: optional T a 2: L b } typedef L M struct U { 1: M c }',
    'typedef E F enum E { A = 3 } const F X = E.A typedef i64 N const N Y = 5 typedef binary B const B Z = "z"',
    'enum E { A = 3 } typedef E F const F X = F.A',
    'typedef i32 A; typedef i32 B,',
    // Numbers.
    'const bool A = true const bool B = false const bool C = 1 const bool D = 0',
    'const i32 A = true const i8 B = false const double C = true',
    'const i8 A = -128 const i16 B = 32767 const i32 C = -2147483648 const i64 D = 9223372036854775807',
    'const i64 A = -9223372036854775808 const i64 B = 9007199254740993 const map<i64, i64> C = {9007199254740993: -9007199254740993}',
    'const i32 A = 0x7f const i32 B = -0x80 const i32 C = 0xFF const i32 D = 010 const i32 E = +5 const double F = 0x10',
    'const double A = 1 const double B = 1.5 const double C = -1e3 const double D = 1.5E-10 const double E = .5 const double F = -.5e1',
    'const double A = 3.14159265358979 const double B = +2.5 const double C = 1e+3 const double D = 0.0000000001 const double E = -0.0',
    // Strings.
    `const string A = "it's \\"q\\" \\\\ \\n\\t\\r" const string B = 'say "hi" \\'x\\'' const string C = "" const binary D = 'b'`,
    'const string A = "ünïcödé ☃ 😀" const string B = "// no comment # /* */ { 1: }" const string C = "tab\traw"',
    // Containers with every separator and with none, and either bracket when empty.
    'const list<i32> A = [1, 2, 3] const list<i32> B = [] const list<i32> C = [1; 2 3,] const set<string> D = ["a" \'b\']',
    'const map<string, i32> A = {"a": 1, "b": 2;} const map<string, i32> B = {} const list<list<i32>> C = [[1], [], [2, 3]]',
    'const map<i32, map<string, list<double>>> A = {1: {"a": [1, 2.5]}, -2: {}} const map<bool, i8> B = {true: 1, 0: 2}',
    'const list<i32> A = {} const set<i32> B = {} const map<i32, i32> C = [] const set<set<i32>> D = [[1], [2, 3]]',
    'const set<i32> A = [1, 2, 1, 0x2] const set<string> B = ["a", \'a\'] const set<list<i32>> C = [[1], [1]]',
    "const map<double, i32> A = {-1.1 : 1, 2.5:-1,} struct S { 1: list<i64> a = [-127, 0xffffffffff, +3] } const S B = {'a' : []}",
    // Structs as values; omitted fields have their default.
    'struct P { 1: i32 a = 3, 2: string b, 3: required bool c } const P A = {"a": 1, "b": "x", "c": 1} const list<P> B = [{"c": true}]',
    'struct B { 1: i32 x = 1, 2: optional string s } struct A { 1: list<B> a = [{"x": 4}, {}], 2: map<string, B> b = {"k": {}}, 3: B c = {} }',
    'union U { 1: i32 a 2: string b } const U A = {"b": "x"} struct S { 1: U u = {"a": 1} }',
    // References.
    'const i32 A = 5 const i32 B = A const i64 C = A const double D = A const list<i32> E = [A, B] const bool F = true const bool G = F',
    'const string A = "a" const map<string, string> B = {A: A} struct S { 1: string s = A 2: list<string> t = [A, "b"] }',
    'enum E { A = 1, B } const E X = E.B const i32 Y = E.A const double Z = E.B const map<E, string> M = {E.A: "a"} struct S { 1: E e = E.B }',
    // Structs, unions, exceptions.
    'struct S { 1: required i32 a = 1 2: optional i32 b = 2 3: i32 c = 3 4: required string d 5: optional bool e } struct T {}',
    'union U { 1: required i32 a 2: optional string b 3: i8 c = 1 } exception X { 1: string why = "because" 2: i32 code }',
    'struct A { 1: required A a } struct B { 1: optional C c } struct C { 1: optional B b } union D { 1: D d 2: list<D> e }',
    'struct A { 1: A & a 2: i32 & b }',
    'struct A xsd_all { 1: string a xsd_optional xsd_nillable xsd_attrs { 1: string b } }',
    'struct A { 1: map cpp_type "m" <string, i32> a 2: set cpp_type "s" <i32> b 3: list<i32> cpp_type "v" c }',
    // Ids.
    'struct S { i32 a, i32 b, 3: i32 c, i32 d } struct T { -1: i32 a, -2: i32 b } struct U { i32 a, -2: i32 b, i32 c }',
    'struct S { 3: i32 c, 1: i32 a, 2: i32 b } struct T { 0x10: i32 a, +2: i32 b, 32766: i32 c }',
    // Services.
    'exception X { 1: string w } service S { i32 a(1: i32 n) throws (1: X x, 2: X y), list<i32> b(), void c(1: i32 a = 5; 2: string b = "x") }',
    'service S { oneway void a(1: i32 n), async void b(), T c() } struct T {}',
    'service S { void a(1: optional i32 b, 2: required i32 c), void b(i32 x i32 y), void c(1: i32 x,) } service T {}',
    'exception X {} typedef X Y service S { void a() throws (1: Y x), void b() throws (X x) }',
    'service P { void a() } service S extends P { void b() } service T extends S {}',
    // Includes.
    {
      'main.thrift': `include "shared.thrift"
        struct A { 1: shared.Pair p = {"right": 2}, 2: shared.Level l = shared.Level.HIGH, 3: i32 n = shared.LIMIT, 4: shared.Pairs q }
        const shared.Level X = shared.Level.LOW const i32 Y = shared.Level.HIGH const list<string> Z = [shared.NAME]
        service S extends shared.Base { shared.Pair b() throws (1: shared.Refused x) }`,
      ...SHARED,
    },
    { 'main.thrift': 'include "a.thrift" include "a.thrift" struct A { 1: a.S s }', 'a.thrift': 'struct S {}' },
    {
      'main.thrift': 'include "a.thrift" include "b.thrift" struct A { 1: a.S s, 2: b.T t }',
      'a.thrift': 'include "c.thrift" typedef c.R S',
      'b.thrift': 'include "c.thrift" typedef c.R T',
      'c.thrift': 'struct R { 1: i32 a }',
    },
    {
      'main.thrift': 'include "deep/x.thrift" struct A { 1: x.S s }',
      'deep/x.thrift': 'include "y.thrift" struct S { 1: y.T t }',
      'deep/y.thrift': 'struct T {}',
    },
    { 'main.thrift': "include 'a.b.thrift' struct A { 1: a.b.S s }", 'a.b.thrift': 'struct S {}' },
    // Declarations that we ignore, and annotations in every place.
    'namespace * a.b namespace java a.b namespace cpp a (x = "y") namespace py.twisted a namespace xsd a (uri = "http://x") struct A {}',
    'cpp_include "vector" struct A {}',
    'struct A { 1: i32 a (x = "y", z) 2: list<i32 (x = "y")> (z = "w") b } (w = "v"; u.t = "t") typedef string (x = "y") B typedef i32 C (x = "y")',
    'const i32 (a = "b") D = 1 enum E { A (x) } (y) union U { 1: i32 a (z = "a") } (b) exception X { 1: i32 a (z) } (b)',
    'exception X {} service S { void a(1: i32 b (c = "d")) throws (1: X x (i)) (e = "f"), i32 (g) b() } (g = "h")',
    // Comments, line ends, names.
    '# shell\n// C++\n/* block */\n/** doc */\n/***/ /**/ /****/\nstruct A { /* in */ 1: /** x */ i32 a // end\n# end\n}',
    '/* a /* b */ struct A{1:i32 a,2:i32 b;3:i32 c 4:i32 d}',
    '\uFEFFstruct A {\r\n  1: i32 a\r\n}\r',
    'struct A { 1: i32 _a 2: i32 a1 3: i32 A_B } const i32 A = 1',
    '',
  ];
  test.each(both.map((text) => [title(text), text] as const))('%s', (_title, text) => {
    const { verdict, says, meaning } = judge(filesOf(text));
    expect(verdict === 'refuses' ? says : 'takes').toBe('takes');
    expect(meaningOf(parse(text))).toEqual(meaning);
  });
});

describe('means to us what a plainer text means to the Thrift compiler, some version of which refuses it:', () => {
  test.each([
    // Words of earlier and of later versions.
    ['struct A { 1: slist a }', 'struct A { 1: string a }'],
    ['cpp_namespace a php_namespace A java_package a xsd_namespace "x" struct A {}', 'struct A {}'],
    ['struct A { 1: list cpp_type "v" <i32> a }', 'struct A { 1: list<i32> a }'],
    [
      'struct A { 1: i32 a }, struct B {}; enum E { F }, const i32 C = 1; service S {};',
      'struct A { 1: i32 a } struct B {} enum E { F } const i32 C = 1 service S {}',
    ],
    // Order is irrelevant here.
    ['struct A {} namespace java x', 'struct A {}'],
    ['const i32 B = A const i32 A = 5', 'const i32 A = 5 const i32 B = A'],
    [
      'service S extends P { void b() } service P { void a() }',
      'service P { void a() } service S extends P { void b() }',
    ],
    ['service S { void a() throws (1: X x) } exception X {}', 'exception X {} service S { void a() throws (1: X x) }'],
    // Constants of any type can be named.
    [
      'const list<i32> A = [1] const map<string, list<i32>> B = {"a": A}',
      'const list<i32> A = [1] const map<string, list<i32>> B = {"a": [1]}',
    ],
    [
      'struct P { 1: i32 a } const P A = {"a": 1} struct Q { 1: P p = A }',
      'struct P { 1: i32 a } const P A = {"a": 1} struct Q { 1: P p = {"a": 1} }',
    ],
    ['const i32 A = 0X7F', 'const i32 A = 127'],
    ['const i32 A = 5 (x = "y")', 'const i32 A = 5'],
  ])('%s', (text, plainer) => {
    const meaning = meaningOf(parse(text));
    expect(meaning).toEqual(judge({ 'main.thrift': plainer }).meaning);
    const judgement = judge({ 'main.thrift': text });
    if (judgement.meaning !== undefined) expect(meaning).toEqual(judgement.meaning);
  });

  test.each(
    'namespace cpp_include include void bool byte i8 i16 i32 i64 double string binary uuid map list set oneway async typedef struct union exception extends throws service enum const required optional senum slist cpp_type xsd_all class from self'.split(
      ' ',
    ),
  )('a field that is called %s', (word) => {
    const text = `struct A { 1: i32 NAME, 2: required map<i32, B> b } struct B { 1: list<i32> NAME 2: optional A a } service S { A m(1: B NAME) }`;
    // Where the field stands alone, and where a value or another field follows immediately.
    const meaning = JSON.stringify(meaningOf(parse(text.replaceAll('NAME', word))));
    expect(meaning).toBe(JSON.stringify(judge({ 'main.thrift': text }).meaning).replaceAll('NAME', word));
    expect(parse(`struct A { 1: i64 ${word} = 3 }`).structs.get('A')?.fields[0]).toMatchObject({
      name: word,
      defaultValue: 3n,
    });
  });

  test('uuid, which not every compiler version knows, and its values', () => {
    const idl = parse('struct A { 1: uuid a = "{123E4567-e89b-12d3-a456-426614174000}", 2: list<uuid> b }');
    expect(meaningOf(idl).structs['A']?.fields).toEqual([
      ['1 default uuid a', '123e4567-e89b-12d3-a456-426614174000'],
      ['2 default list<uuid> b'],
    ]);
  });
});

describe('is refused by us and by the Thrift compiler:', () => {
  test.each<readonly [string | Files, string]>([
    ['enum E { A, A }', '1:13: duplicate name "A" in enum E, rename one'],
    ['enum E { A = 2147483647, B }', '1:26: B = 2147483648 does not fit into 32 bits, as enum values must'],
    ['enum E { A = 4294967296 }', '1:10: A = 4294967296 does not fit into 32 bits, as enum values must'],
    ['enum E { A,, B }', '1:12: expected the name of a value, or "}", got ","'],
    ['typedef A B typedef B A', '1:11: typedef "B" refers to itself, give it a type that is defined'],
    [
      'const i64 A = 9223372036854775808',
      '1:15: expected i64, got 9223372036854775808, which does not fit into 64 bits',
    ],
    ['const i32 A = 1.0', '1:15: expected i32, got 1.0'],
    ['const double A = 1.', '1:19: "." has no meaning in Thrift IDL, remove it or put it into quotes'],
    ['const double A = "1"', '1:18: expected double, got "1"'],
    ['const string A = 1', '1:18: expected string, got 1'],
    ['const string A = true', '1:18: expected string, got true'],
    ['const bool A = "true"', '1:16: expected bool, got "true"'],
    ['const string A = "a\nb"', '1:18: this string never ends, close it with " on the same line'],
    ['const string A = "\\x41"', '1:19: unknown escape "\\\\x" in a string; known: \\n \\r \\t \\" \\\' \\\\'],
    ['const list<i32> A = [1,,2]', '1:24: expected a value, got ","'],
    ['const list<i32> A = ["a"]', '1:22: expected i32, got "a"'],
    ['struct P { 1: i32 a } const P A = []', '1:35: expected P, got a list'],
    ['struct P { 1: i32 a } const P A = {a: 1}', '1:36: expected the name of a field of P in quotes'],
    ['struct P { 1: i32 a } const P A = {"b": 1}', '1:36: P has no field "b"; known: a'],
    [
      'union U { 1: i32 a = 1 2: string b = "x" }',
      '1:34: a second default in union U, which holds one field; keep one',
    ],
    ['enum E { A = 1 } const E X = A', '1:30: unknown constant "A", did you mean "E.A"?'],
    ['enum E { A = 1 } const E X = 7', '1:30: expected E, got 7; known: A = 1'],
    ['enum E { A = 1 } const E X = E.C', '1:30: enum E has no value "C"; known: A'],
    ['enum E { A = 1 } const string X = E.A', '1:35: expected string, got 1'],
    ['enum E { A = 1 } enum F { B = 1 } const E X = F.B', '1:47: expected E, got a value of enum F'],
    ['const i32 A = A', '1:11: constant "A" refers to itself, give it a value'],
    ['const string A = "a" const i32 B = A', '1:36: expected i32, got string (constant "A")'],
    ['struct S { 1: Thing a } struct Think {}', '1:15: unknown type "Thing", did you mean "Think"?'],
    ['struct S { 1: x.Y a }', '1:15: unknown type "x.Y": no included file is named "x"; add include "x.thrift"'],
    ['struct S { 1: i32 a, 1: i32 b }', '1:29: duplicate field id 1 in S, give "b" another'],
    ['struct S { 1: i32 a, 2: i32 a }', '1:29: duplicate field name "a" in S, rename one'],
    ['struct S { 1: required optional i32 a }', '1:24: expected a type, got "optional"'],
    ['struct S { 1: void a }', '1:15: expected a type, got "void"'],
    ['struct S { a: i32 }', '1:13: expected the name of the field, got ":"'],
    [
      'struct S { 1: i32 true }',
      '1:19: expected the name of the field, got "true", which is a keyword of the IDL; choose another name',
    ],
    ['struct list {}', '1:8: expected a name, got "list", which is a keyword of the IDL; choose another name'],
    ['struct Ä {}', '1:8: "Ä" has no meaning in Thrift IDL, remove it or put it into quotes'],
    ['struct A { 1: i32 a.b }', '1:19: "a.b" has a dot, which is not allowed in the name of a field'],
    ['struct S {} service S {}', '1:21: duplicate service "S", rename one'],
    ['service S {} struct S {}', '1:21: duplicate type "S", rename one'],
    ['struct S {} typedef i32 S', '1:25: duplicate type "S", rename one'],
    ['const i32 A = 1 const i32 A = 2', '1:27: duplicate constant "A", rename one'],
    [
      'exception X {} service S { oneway void a() throws (1: X x) }',
      '1:40: oneway method "a" can return and throw nothing, make it "oneway void" without "throws"',
    ],
    [
      'struct X {} service S { void a() throws (1: X x) }',
      '1:47: "x" in "throws" is not an exception, declare its type with "exception"',
    ],
    ['service S { void a() void a() }', '1:27: duplicate method "a", this service has it already; rename one'],
    [
      'service P { void a() } service S extends P { void a() }',
      '1:51: duplicate method "a", P has it already; rename one',
    ],
    ['service S extends S {}', '1:9: service "S" extends itself, remove one "extends"'],
    ['service S extends Q {}', '1:19: unknown service "Q" to extend; known: S'],
    ['/* never', '1:1: this comment never ends, close it with */'],
    ['struct A {', '1:11: expected a type, got the end of the file'],
    ['senum A { "a", "b" }', '1:1: senum is not supported, use an enum, or a string'],
    // From fbthrift, which is another language.
    [
      '@Doc{text = "x"} struct A {}',
      '1:1: annotations with @ belong to fbthrift, not to Apache Thrift: remove it, or write (name = "value") after the definition',
    ],
    ['struct A { 1: float a }', '1:15: unknown type "float": Thrift has no numbers of that size, use double'],
    ['service S { stream<i32> a() }', '1:19: "stream" takes no types in <>, only list, set and map do'],
    [
      'package "x.y/z"',
      '1:1: expected a definition (include, const, typedef, enum, struct, union, exception or service), got "package"',
    ],
    // Includes.
    [
      { 'main.thrift': 'include "a.thrift"', 'a.thrift': 'include "main.thrift"' },
      'a.thrift:1:9: include cycle main.thrift -> a.thrift -> main.thrift: move what they share into a file that includes neither',
    ],
    [
      {
        'main.thrift': 'include "a.thrift" struct A { 1: b.S s }',
        'a.thrift': 'include "b.thrift"',
        'b.thrift': 'struct S {}',
      },
      '1:34: unknown type "b.S": no included file is named "b"; add include "b.thrift"; known: a',
    ],
  ])('%j', (text, message) => {
    expect(refusal(text)).toBe(/^\d/.test(message) ? `main.thrift:${message}` : message);
    expect(judge(filesOf(text)).verdict).toBe('refuses');
  });
});

describe('a value of an enum of an included file,', () => {
  const FILES: Files = {
    'objects.thrift': `
      enum Format { NONE = 0, BASE64 = 1, HEX = 5 }
      enum Shade { NONE = 7, RED = 8 }
      typedef Format Fmt
      const Format BEST = Format.BASE64
      const Format SAME = Fmt.HEX
      const i32 NUMBER = 1
      const list<Format> ALL = [Format.HEX, Format.NONE]
      struct Options { 1: Format format = Format.HEX, 2: optional map<Format, list<Format>> more }`,
    'deep/paths.thrift': `
      include "../objects.thrift"
      enum Mode { OFF = 2, ON = 3 }
      typedef objects.Format Inner
      struct Nested { 1: objects.Options options = {"format": Format.NONE}, 2: Mode mode = Mode.ON }`,
  };
  const HEAD = `
    include "objects.thrift"
    include "deep/paths.thrift"
    enum Own { NONE = 10, HEX = 11 }
    typedef objects.Format Mine
    typedef paths.Inner Twice
    `;
  const filesWith = (text: string): Files => ({ 'main.thrift': HEAD + text, ...FILES });
  const NAMES = [
    'Format.HEX',
    'Format.NONE',
    'objects.Format.HEX',
    'objects.HEX',
    'Fmt.HEX',
    'objects.Fmt.NONE',
    'Mine.HEX',
    'Inner.HEX',
    'paths.Inner.BASE64',
    'paths.Format.HEX',
    'Twice.HEX',
    '5',
    '0x1',
  ];
  const PLACES = [
    'struct T { 1: objects.Format f = NAME }',
    'struct T { 1: optional objects.Fmt f = NAME }',
    'struct T { 1: required Mine f = NAME 2: Twice g = NAME }',
    'struct T { 1: list<objects.Format> f = [NAME, NAME], 2: set<Mine> g = [NAME], 3: map<Mine, list<Twice>> h = {NAME: [NAME]} }',
    'struct T { 1: map<string, map<objects.Format, i32>> f = {"a": {NAME: 3}} }',
    'struct T { 1: paths.Inner f = NAME } struct U { 1: T t = {"f": NAME} 2: list<T> l = [{"f": NAME}, {}] }',
    'union T { 1: objects.Format f = NAME }',
    'exception T { 1: objects.Format f = NAME }',
    'service T { void f(1: objects.Format f = NAME) }',
    'const objects.Format C = NAME const Mine D = NAME const Twice E = NAME',
    'const list<objects.Format> C = [NAME] const map<i32, objects.Format> D = {1: NAME} const map<Mine, i32> E = {NAME: 1}',
  ];
  test.each(PLACES)('by every name that the compiler knows: %s', (place) => {
    for (const name of NAMES) {
      const files = filesWith(place.replaceAll('NAME', name));
      const { says, meaning } = judge(files);
      expect(meaning, `${name}: ${says}`).toBeDefined();
      expect(meaningOf(parse(files)), name).toEqual(meaning);
    }
  });

  test.each([
    // A file that is not included by this one, but by one that is.
    ['const paths.Nested C = {"options": {"format": Format.BASE64}, "mode": Mode.OFF}'],
    ['const paths.Nested C = {"mode": paths.Mode.OFF, "options": {"format": paths.Format.NONE}}'],
    ['const objects.Options C = {"format": Format.NONE, "more": {Fmt.HEX: [Format.BASE64, 5]}}'],
    ['const i32 C = objects.Format.HEX const i64 D = objects.Shade.NONE const double E = objects.Format.HEX'],
    ['const i32 C = objects.NUMBER const list<i32> D = [objects.NUMBER, objects.Format.BASE64]'],
    ['const Own C = Own.NONE struct T { 1: Own own = Own.HEX, 2: objects.Shade shade = Shade.NONE }'],
  ])('with the meaning that the compiler gives it: %s', (text) => {
    const { says, meaning } = judge(filesWith(text));
    expect(meaning, says).toBeDefined();
    expect(meaningOf(parse(filesWith(text)))).toEqual(meaning);
  });

  test.each([
    ['const objects.Format C = objects.BEST', 'const objects.Format C = 1'],
    ['const objects.Format C = objects.BEST const objects.Format D = C', 'const Mine C = 1 const Mine D = 1'],
    ['struct T { 1: Mine m = objects.SAME }', 'struct T { 1: Mine m = 5 }'],
    ['const list<objects.Format> C = objects.ALL', 'const list<objects.Format> C = [5, 0]'],
    ['const i32 C = objects.BEST', 'const i32 C = 1'],
    ['const i32 C = Mine.HEX const i32 D = objects.Fmt.HEX', 'const i32 C = 5 const i32 D = 5'],
  ])('or by a constant, which the compiler does not take: %s', (text, plainer) => {
    expect(judge(filesWith(text)).verdict).toBe('refuses');
    expect(meaningOf(parse(filesWith(text)))).toEqual(judge(filesWith(plainer)).meaning);
  });

  test.each([
    ['const objects.Format C = HEX', 'unknown constant "HEX", did you mean "objects.Format.HEX"?'],
    ['const objects.Format C = Format.HEXX', 'enum objects.Format has no value "HEXX", did you mean "HEX"?'],
    ['const objects.Format C = 6', 'expected objects.Format, got 6; known: NONE = 0, BASE64 = 1, HEX = 5'],
    ['const i32 C = Format.HEX', 'unknown constant or enum value "Format.HEX"; known: C'],
    ['const i32 C = objects.HEX', 'unknown constant or enum value "objects.HEX"; known: C'],
  ])('and refuses what the compiler refuses: %s', (text, message) => {
    expect(judge(filesWith(text)).verdict).toBe('refuses');
    expect(refusal(filesWith(text)).replace(/^main.thrift:\d+:\d+: /, '')).toBe(message);
  });

  // The compiler takes the value of that name from the enum that is expected, whatever stands before the name.
  test.each([
    ['const objects.Format C = objects.Shade.NONE', 'expected objects.Format, got a value of enum objects.Shade'],
    ['const objects.Format C = Own.NONE', 'expected objects.Format, got a value of enum Own'],
    ['const objects.Format C = Nothing.HEX', 'unknown constant "Nothing.HEX", did you mean "objects.Format.HEX"?'],
  ])('and refuses the value of another enum: %s', (text, message) => {
    expect(judge(filesWith(text)).verdict).not.toBe('refuses');
    expect(refusal(filesWith(text)).replace(/^main.thrift:\d+:\d+: /, '')).toBe(message);
  });

  test('and refuses a name that is a constant to us and another value to the compiler', () => {
    const files = {
      'main.thrift': 'include "a.thrift" const a.E C = a.HEX',
      'a.thrift': 'enum E { HEX = 1, OLD = 2 } const E HEX = E.OLD',
    };
    expect(judge(files).meaning?.constants).toEqual({ C: ['i32', 1] });
    expect(refusal(files)).toBe(
      'main.thrift:1:34: "a.HEX" is a constant, but compilers take it for the value HEX of enum a.E; rename one',
    );
  });

  test('and looks into each included file once, however many files include it', () => {
    const files: Record<string, string> = { 'main.thrift': 'include "f0.thrift" const f0.E C = Gone.X' };
    for (let n = 0; n < 90; n++)
      files[`f${n}.thrift`] = [1, 2, 3]
        .filter((step) => n + step < 90)
        .map((step) => `include "f${n + step}.thrift"\n`)
        .join('');
    files['f0.thrift'] += 'enum E { X = 1 }';
    expect(refusal(files)).toBe('main.thrift:1:36: unknown constant "Gone.X", did you mean "f0.E.X"?');
  });
});

// Accepted by the compiler, with a meaning that differs between languages or from the text.
describe('is refused by us, but accepted by the Thrift compiler:', () => {
  test.each<readonly [string | Files, string]>([
    ['const bool A = 2', '1:16: expected bool, got 2'],
    ['const i8 A = 200', '1:14: expected i8, got 200, which does not fit into 8 bits'],
    ['const i16 A = 40000', '1:15: expected i16, got 40000, which does not fit into 16 bits'],
    ['const i32 A = 4294967296', '1:15: expected i32, got 4294967296, which does not fit into 32 bits'],
    ['const i32 A = 300 const i8 B = A', '1:32: expected i8, got 300, which does not fit into 8 bits (constant "A")'],
    ['const double A = 1e999', '1:18: expected double, got 1e999, which is beyond a double'],
    ['const list<i32> A = {1: 2}', '1:21: expected list<i32>, got a map'],
    ['const map<i32, i32> A = [1]', '1:25: expected map<i32, i32>, got a list'],
    ['const map<string, i32> A = {"a": 1, "a": 2}', '1:28: expected map<string, i32>, got the key "a" twice'],
    ['struct P { 1: i32 a } const P A = {"a": 1, "a": 2}', '1:44: field "a" is given twice'],
    ['struct P { 1: required i32 a } const P A = {}', '1:44: required field "a" of P is missing'],
    [
      'union U { 1: i32 a 2: i32 b } const U A = {"a": 1, "b": 2}',
      '1:43: a value of union U must have exactly one field, got 2',
    ],
    ['union U { 1: i32 a 2: i32 b } const U A = {}', '1:43: a value of union U must have exactly one field, got 0'],
    ['enum E { A = true }', '1:14: expected a whole number after "=", got "true"'],
    [
      'struct S { -5: i32 a }',
      '1:12: field id -5 is not positive, and the Thrift compiler would make it -1; use 1 to 32766, or omit it',
    ],
    [
      'struct S { 0: i32 a }',
      '1:12: field id 0 is not positive, and the Thrift compiler would make it -1; use 1 to 32766, or omit it',
    ],
    ['struct S { 32767: i32 a }', '1:12: field id 32767 is reserved, the mesh sends its context there; use another'],
    ['struct S { 32768: i32 a }', '1:12: field id 32768 does not fit into 16 bits, use 1 to 32766'],
    [
      'service S { oneway i32 a() }',
      '1:24: oneway method "a" can return and throw nothing, make it "oneway void" without "throws"',
    ],
    [
      'exception X {} service S { void a() throws (1: X success) }',
      '1:50: an exception of a method cannot be named "success", which is the name of the result; rename it',
    ],
    ['include "gone.thrift"', '1:9: included file "gone.thrift" not found, looked for "gone.thrift"'],
    [
      {
        'main.thrift': 'include "a/x.thrift" include "b/x.thrift" struct A { 1: x.S s }',
        'a/x.thrift': 'struct S {}',
        'b/x.thrift': 'struct T {}',
      },
      '1:30: two included files are named "x" here, rename one so that x.X means one thing',
    ],
  ])('%j', (text, message) => {
    expect(refusal(text)).toBe(`main.thrift:${message}`);
    expect(judge(filesOf(text)).verdict).not.toBe('refuses');
  });
});
