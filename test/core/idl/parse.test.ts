// The parsed form of IDL text: every construct of the fixtures, resolved.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Idl, parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import type { Type } from '../../../core/thrift/mod.ts';
import { describe, expect, test } from 'vitest';
const EVERYTHING = new URL('../../fixtures/idl/everything.thrift', import.meta.url);
const OLD = new URL('../../fixtures/idl/old.thrift', import.meta.url);

const everything = parseIdl(readIdlFile(EVERYTHING));
const old = parseIdl(readIdlFile(OLD));

function parse(text: string, more: Record<string, string> = {}): Idl {
  return parseIdl({ main: 'main.thrift', files: { 'main.thrift': text, ...more } });
}

/** A type as short text. */
function show(type: Type): string {
  if (type.kind === 'enum') return type.enum.name;
  if (type.kind === 'struct') return type.struct.name;
  if (type.kind === 'list' || type.kind === 'set') return `${type.kind}<${show(type.element)}>`;
  if (type.kind === 'map') return `map<${show(type.key)}, ${show(type.value)}>`;
  return type.kind;
}

function fieldsOf(idl: Idl, struct: string): string[] {
  const fields = idl.structs.get(struct)?.fields ?? [];
  return fields.map((field) => `${field.id} ${field.requiredness} ${show(field.type)} ${field.name}`);
}

function method(idl: Idl, service: string, name: string) {
  const found = idl.services.get(service)?.methods.get(name);
  if (found === undefined) throw new Error(`no method ${service}.${name}`);
  return found;
}

describe('readIdlFile()', () => {
  test('reads a file and what it includes, by the names they are included under', () => {
    const source = readIdlFile(EVERYTHING);
    expect(source.main).toBe('everything.thrift');
    expect(Object.keys(source.files).sort()).toEqual(['common/base.thrift', 'everything.thrift']);
  });

  test('takes a path, a file URL, or a file URL as text', () => {
    const path = EVERYTHING.pathname;
    expect(readIdlFile(path)).toEqual(readIdlFile(EVERYTHING));
    expect(readIdlFile(String(EVERYTHING))).toEqual(readIdlFile(EVERYTHING));
  });

  test('resolves relative paths up and down, also between included files', () => {
    const folder = mkdtempSync(join(tmpdir(), 'katamari-idl-'));
    mkdirSync(join(folder, 'a'));
    mkdirSync(join(folder, 'b'));
    writeFileSync(join(folder, 'a', 'main.thrift'), 'include "../b/one.thrift"\nstruct S { 1: one.T t }');
    writeFileSync(join(folder, 'b', 'one.thrift'), 'include "two.thrift"\ntypedef two.U T');
    writeFileSync(join(folder, 'b', 'two.thrift'), 'struct U { 1: i32 a }');
    const source = readIdlFile(pathToFileURL(join(folder, 'a', 'main.thrift')));
    expect(Object.keys(source.files).sort()).toEqual(['../b/one.thrift', '../b/two.thrift', 'main.thrift']);
    expect(fieldsOf(parseIdl(source), 'S')).toEqual(['1 default two.U t']);
    rmSync(folder, { recursive: true });
  });
});

describe('parseIdl()', () => {
  test('gives services of the main file by name and those of included files by qualified name', () => {
    expect([...everything.services.keys()]).toEqual(['Everything', 'base.Base']);
    expect(everything.services.get('base.Base')?.service).toBe('Base');
  });

  test('lists a service’s inherited methods first, and says which service declares them', () => {
    const names = [...(everything.services.get('Everything')?.methods.keys() ?? [])];
    expect(names.slice(0, 4)).toEqual(['ping', 'heaviest', 'echo', 'sum']);
    expect(method(everything, 'Everything', 'ping').declaredBy).toBe('base.Base');
    expect(method(everything, 'Everything', 'sum').declaredBy).toBe('Everything');
  });

  test('resolves typedefs of typedefs, also across files', () => {
    expect(fieldsOf(everything, 'All').slice(-2)).toEqual(['9 default i64 at', '10 default i64 moment']);
    expect(fieldsOf(everything, 'Containers')[12]).toBe('13 default list<map<string, i32>> tables');
  });

  test('distinguishes types of one name in two files', () => {
    expect(fieldsOf(everything, 'All')[3]).toBe('4 default Item item');
    expect(fieldsOf(everything, 'All')[5]).toBe('6 default base.Item other');
  });

  test('distinguishes two included files of one name by their folder', () => {
    const idl = parse('include "a/x.thrift"\ninclude "b.thrift"\nstruct S { 1: x.T one 2: b.U two }', {
      'a/x.thrift': 'struct T { 1: i32 a }',
      'b.thrift': 'include "b/x.thrift"\ntypedef x.T U',
      'b/x.thrift': 'struct T { 1: string a }',
    });
    expect(fieldsOf(idl, 'S')).toEqual(['1 default x.T one', '2 default b_x.T two']);
    expect([...idl.structs.keys()].sort()).toEqual(['S', 'b_x.T', 'x.T']);
  });

  test('makes recursive types cyclic objects', () => {
    const tree = everything.structs.get('Tree');
    const children = tree?.fields[1]?.type;
    expect(children?.kind === 'list' && children.element.kind === 'struct' && children.element.struct === tree).toBe(
      true,
    );
  });

  test('makes fields of unions optional', () => {
    expect(everything.structs.get('Choice')?.kind).toBe('union');
    expect(fieldsOf(everything, 'Choice')).toEqual([
      '1 optional i32 number',
      '2 optional string text',
      '3 optional Tree tree',
      '4 optional list<Choice> choices',
    ]);
  });

  test('gives fields without an id the ids -1, -2 and so on, as the Apache compiler does', () => {
    expect(fieldsOf(everything, 'Old')).toEqual([
      '-1 default string first',
      '-2 default i32 second',
      '-3 required bool third',
      '5 default string fifth',
    ]);
    expect(method(everything, 'Everything', 'add').throws.map((field) => field.id)).toEqual([-1]);
    expect(fieldsOf(old, 'Leftovers').at(-1)).toBe('-1 default i32 negative');
  });

  test('puts the result first and the exceptions after it into the result struct', () => {
    const { result, returns } = method(everything, 'Everything', 'echo');
    expect(show(returns)).toBe('All');
    expect(result.fields.map((field) => `${field.id} ${field.name} ${show(field.type)}`)).toEqual([
      '0 success All',
      '1 broken Broken',
      '2 refused base.Refused',
    ]);
    expect(method(everything, 'Everything', 'nothing').result.fields).toEqual([]);
  });

  test('numbers enum values: explicit, hexadecimal and consecutive', () => {
    expect([...(everything.enums.get('Colour')?.byName ?? [])]).toEqual([
      ['RED', 0],
      ['GREEN', 5],
      ['BLUE', 6],
      ['constructor', 100],
    ]);
    expect([...(everything.enums.get('base.Level')?.byName ?? [])]).toEqual([
      ['LOW', 0],
      ['MIDDLE', 16],
      ['HIGH', 17],
      ['NEGATIVE', -2],
    ]);
  });

  test.each([
    ['YES', true],
    ['ONE', true],
    ['TINY', -128],
    ['BYTE', 127],
    ['MINUS', -2147483648],
    ['HEX', -128],
    ['BIG', 9223372036854775807n],
    ['SAME_AS_LIMIT', 100n],
    ['RATIO', 1.61803],
    ['WHOLE', 3],
    ['TINY_DOUBLE', -1.5e-300],
    ['TEXT', 'a "quoted" text,\nwith \'lines\' and \\, ünïcödé ☃'],
    ['SINGLE', 'single "quotes"'],
    ['BYTES', Buffer.from('bytes')],
    ['FAVOURITE', 6],
    ['LEVEL', 17],
    ['USUAL', 0],
    ['base.USUAL', 17],
    ['COLOUR_AS_NUMBER', 5],
    ['LIST', [1, 2, 100]],
    ['LOOSE', [1, 2, 3]],
    ['SET', new Set(['a', 'b'])],
    ['COLOURS', [0, 5]],
    ['PAIR', { left: 'a "quoted" text,\nwith \'lines\' and \\, ünïcödé ☃', right: 'r' }],
  ])('gives constant %s its value', (name, value) => {
    expect(everything.constants.get(name)?.value).toEqual(value);
  });

  test('gives constant maps as Maps, also inside one another', () => {
    expect(everything.constants.get('MAP')?.value).toEqual(
      new Map([
        ['a', [1]],
        ['b', []],
        ['c', [1, 2, 100]],
      ]),
    );
    expect(everything.constants.get('DEEP')?.value).toEqual(
      new Map([
        [1, new Map([[0, 'red']])],
        [2, new Map()],
      ]),
    );
  });

  test('gives defaults as handlers see them, with those of nested structs filled in', () => {
    const idl = parse(`
      struct Inner { 1: i32 a = 1, 2: string b = "b", 3: optional i64 c }
      struct Outer { 1: Inner inner = {"b": "other"} }
      const Inner EMPTY = {}
    `);
    expect(idl.structs.get('Outer')?.fields[0]?.defaultValue).toEqual({ a: 1, b: 'other' });
    expect(idl.constants.get('EMPTY')?.value).toEqual({ a: 1, b: 'b' });
    const item = everything.structs.get('Item')?.fields.map((field) => field.defaultValue);
    expect(item).toEqual([
      undefined,
      undefined,
      7,
      5,
      ['one', 'two'],
      new Map([['a', 1n]]),
      { left: 'l', right: 'r' },
      undefined,
      true,
    ]);
    expect(method(everything, 'Everything', 'sum').args.fields[0]?.defaultValue).toEqual([1n, 2n]);
    expect(method(everything, 'Everything', 'add').args.fields[1]?.defaultValue).toBe(-128);
  });

  test('reads the annotations that the mesh uses, and keeps the others', () => {
    const echo = method(everything, 'Everything', 'echo');
    expect([echo.isReadonly, echo.isIdempotent, echo.cacheMs, echo.timeoutMs]).toEqual([true, true, 30_000, 0]);
    const choose = method(everything, 'Everything', 'choose');
    expect([choose.isReadonly, choose.isIdempotent, choose.cacheMs, choose.timeoutMs]).toEqual([false, true, 0, 2000]);
    expect(choose.annotations['other']).toBe('kept');
    const ping = method(everything, 'Everything', 'ping');
    expect([ping.isReadonly, ping.isIdempotent, ping.cacheMs, ping.timeoutMs]).toEqual([false, false, 0, 0]);
    expect(everything.structs.get('Item')?.fields[7]?.annotations['note']).toBe('named as what every object has');
  });

  test.each([
    ['250ms', 250],
    ['2s', 2000],
    ['1.5 m', 90_000],
    ['24h', 86_400_000],
  ])('reads the duration %s', (text, ms) => {
    const idl = parse(`service S { void f() (katamari.timeout = "${text}") }`);
    expect(method(idl, 'S', 'f').timeoutMs).toBe(ms);
  });

  test('attaches doc comments to the declaration that follows', () => {
    expect(everything.structs.get('Tree')?.doc).toBe('A tree: a recursive type.');
    expect(everything.services.get('Everything')?.doc).toBe('The service.');
    expect(method(everything, 'Everything', 'echo').doc).toBe('Returns its argument.');
    expect(method(everything, 'Everything', 'sum').doc).toBe('');
    expect(everything.structs.get('base.Item')?.doc).toBe('Has the same plain name as a type of the main file.');
    const idl = parse('struct S {\n  /**\n   * Two\n   *   lines.\n   */\n  1: i32 a // not this\n  2: i32 b\n}');
    expect(idl.structs.get('S')?.fields.map((field) => field.doc)).toEqual(['Two\n  lines.', '']);
  });

  test('reads constructs of old Thrift versions', () => {
    expect(method(old, 'Old', 'forget').oneway).toBe(true);
    expect(fieldsOf(old, 'Leftovers')).toEqual([
      '1 default string words',
      '2 default string text',
      '3 default map<string, i32> counts',
      '4 default list<i32> numbers',
      '5 default i32 hex',
      '6 default uuid id',
      '-1 default i32 negative',
    ]);
    expect(old.structs.get('Words')?.fields.map((field) => field.defaultValue)).toEqual([
      undefined,
      undefined,
      3,
      0.5,
      -5,
    ]);
  });

  test('takes any mix of separators, and none', () => {
    const idl = parse(
      'struct A{1:i32 a,2:i32 b;3:i32 c 4:i32 d};service S{void f(1:i32 a;2:i32 b 3:i32 c,),void g();void h()}',
    );
    expect(fieldsOf(idl, 'A')).toHaveLength(4);
    expect([...(idl.services.get('S')?.methods.keys() ?? [])]).toEqual(['f', 'g', 'h']);
    expect(method(idl, 'S', 'f').args.fields).toHaveLength(3);
  });

  test('takes a user type named uuid, where there is one', () => {
    expect(fieldsOf(parse('typedef string uuid\nstruct A { 1: uuid a }'), 'A')).toEqual(['1 default string a']);
    expect(fieldsOf(parse('struct A { 1: uuid a }'), 'A')).toEqual(['1 default uuid a']);
  });

  test('takes fields and methods named like properties that every JavaScript object has', () => {
    const idl = parse(
      'struct A { 1: i32 constructor 2: i32 __proto__ 3: i32 toString }\nservice S { void hasOwnProperty() }',
    );
    expect(fieldsOf(idl, 'A').map((text) => text.split(' ').at(-1))).toEqual(['constructor', '__proto__', 'toString']);
    expect(method(idl, 'S', 'hasOwnProperty').name).toBe('hasOwnProperty');
  });

  test('takes text with Windows line ends and a byte order mark', () => {
    expect(fieldsOf(parse('\uFEFFstruct A {\r\n  1: i32 a\r\n}\r\n'), 'A')).toEqual(['1 default i32 a']);
  });
});
