// The TypeScript types of an interface: their text, and that the compiler accepts them and code that uses them.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseIdl, readIdlFile, writeTypes } from '../../../core/idl/mod.ts';
import { REPOSITORY } from '../../kit/tools/repository.ts';

const everything = parseIdl(readIdlFile(new URL('../../fixtures/idl/everything.thrift', import.meta.url)));
const old = parseIdl(readIdlFile(new URL('../../fixtures/idl/old.thrift', import.meta.url)));

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'katamari-types-'));
  // As in a user's project: the types of Node, and a package `katamari` with the two types that are imported from it.
  mkdirSync(join(folder, 'node_modules', 'katamari'), { recursive: true });
  symlinkSync(join(REPOSITORY, 'node_modules', '@types'), join(folder, 'node_modules', '@types'));
  symlinkSync(join(REPOSITORY, 'node_modules', 'undici-types'), join(folder, 'node_modules', 'undici-types'));
  writeFileSync(
    join(folder, 'node_modules', 'katamari', 'index.d.ts'),
    'export interface HandlerContext { timeLeftMs(): number }',
  );
  writeFileSync(
    join(folder, 'node_modules', 'katamari', 'package.json'),
    '{"name": "katamari", "exports": {".": {"types": "./index.d.ts"}, "./client": {"types": "./client.d.ts"}}}',
  );
  writeFileSync(
    join(folder, 'node_modules', 'katamari', 'client.d.ts'),
    'export interface CallOptions { readonly timeoutMs?: number }',
  );
  writeFileSync(join(folder, 'package.json'), '{"type": "module"}');
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Output of the TypeScript compiler in its strictest mode; '' if it reports nothing. */
function compile(files: Record<string, string>): string {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const options = ['--strict', '--noEmit', '--target', 'es2022', '--module', 'nodenext', '--types', 'node'];
  const strict = [
    '--exactOptionalPropertyTypes',
    '--noUncheckedIndexedAccess',
    '--isolatedDeclarations',
    '--declaration',
    '--erasableSyntaxOnly',
    '--allowImportingTsExtensions',
  ];
  const tsc = join(REPOSITORY, 'node_modules', 'typescript', 'bin', 'tsc');
  try {
    execFileSync('node', [tsc, ...options, ...strict, ...Object.keys(files)], {
      cwd: folder,
      encoding: 'utf8',
      stdio: 'pipe',
    });
    return '';
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}

/** Path of a file with the text without types, by the TypeScript compiler. */
function javascriptOf(text: string): string {
  writeFileSync(join(folder, 'emitted.ts'), text);
  const tsc = join(REPOSITORY, 'node_modules', 'typescript', 'bin', 'tsc');
  const options = ['--target', 'es2022', '--module', 'nodenext', '--types', 'node', '--outDir', 'out'];
  execFileSync('node', [tsc, ...options, 'emitted.ts'], { cwd: folder, encoding: 'utf8', stdio: 'pipe' });
  return join(folder, 'out', 'emitted.js');
}

describe('writeTypes()', () => {
  test("writes structs, enums, constants, handlers and the caller's interface, with their doc comments", () => {
    const idl = parseIdl({
      main: 'a.thrift',
      files: {
        'a.thrift': `
          /** Colors. */
          enum Colour { RED = 1, GREEN }
          union Either { 1: i64 left 2: string right }
          /**
           * Two lines,
           * one struct. */
          struct Thing { 1: required string name, /** Not always. */ 2: optional Colour colour, 3: map<string, list<binary>> parts, 4: optional i32 size = 3 }
          exception Oops { 1: string why }
          const map<string, i32> SIZES = {"it's": 1}
          service Things {
            /** Makes one. */
            Thing make(1: string name, 2: optional Either how) throws (1: Oops oops)
            oneway void forget()
          }`,
      },
    });
    expect(writeTypes(idl, 'a.thrift'))
      .toBe(`// Written by \`katamari types a.thrift\`. Do not edit: change the IDL and write it again.

import type { HandlerContext } from 'katamari';
import type { CallOptions } from 'katamari/client';

/** Colors. */
export const Colour = {
  RED: 1,
  GREEN: 2,
} as const;
export type Colour = (typeof Colour)[keyof typeof Colour];

export type Either =
  | { left: bigint; right?: undefined }
  | { left?: undefined; right: string }
  /** It holds nothing if it was sent with a field that this interface does not have. */
  | { left?: undefined; right?: undefined };

/** Thrown as \`new ThriftException('Oops', { ... })\`. */
export interface Oops {
  why: string;
}

/**
 * Two lines,
 * one struct.
 */
export interface Thing {
  name: string;
  /** Not always. */
  colour?: Colour | undefined;
  parts: Map<string, Buffer[]>;
  size: number;
}

export const SIZES: Map<string, number> = new Map([["it's", 1]]);

/** The handlers of Things. */
export type ThingsHandlers = {
  /** Makes one. */
  make: (args: { name: string; how?: Either | undefined }, ctx: HandlerContext) => Thing | Promise<Thing>;
  forget: (args: Record<string, never>, ctx: HandlerContext) => void | Promise<void>;
};

/** Things as its callers see it: \`mesh.service<Things>('Things')\`. */
export type Things = {
  /** Makes one. */
  make: (args: { name: string; how?: Either | undefined }, options?: CallOptions) => Promise<Thing>;
  forget: (args?: Record<string, never>, options?: CallOptions) => Promise<void>;
};
`);
  });

  test('writes types that the TypeScript compiler accepts at its strictest, for every construct', () => {
    const said = compile({
      'everything.ts': writeTypes(everything, 'everything.thrift'),
      'old.ts': writeTypes(old, 'old.thrift', { i64: 'number' }),
      'use.ts': `
        import { type Choice, Colour, type EverythingHandlers, LIST, PAIR } from './everything.ts';
        const all: Partial<EverythingHandlers> = {
          add: ({ a, b }) => a + b,
          sum: async ({ numbers, more }) => numbers.reduce((sum, number) => sum + number, more ?? 0n),
          choose({ choice }, ctx) { return ctx.timeLeftMs() > 0 && choice.text !== undefined ? { number: choice.text.length } : choice; },
          items: ({ colours }) => (colours.has(Colour.RED) ? [] : []),
          nothing() {},
        };
        export const given: Readonly<Record<string, (args: never, ctx: never) => unknown>> = all as EverythingHandlers;
        export const used: unknown[] = [all, LIST, PAIR.left, { tree: { value: 1 } } satisfies Choice];
      `,
    });
    expect(said).toBe('');
  });

  test('writes constants of every type and of every struct, and keeps their values', async () => {
    const files = {
      'more.thrift': `
        enum Level { LOW = -1, HIGH = 5, ALSO = 5 }
        struct Inner { 1: required string name, 2: i32 size = 3, 3: list<i64> parts, 4: optional binary raw }
        union Part { 1: i64 number, 2: Inner inner, 3: list<Part> parts }
        exception Broken { 1: string why, 2: Level level }
        const Inner INNER = {"name": "in"}
        service Base { Inner base(1: Part part) throws (1: Broken broken) }`,
      'all.thrift': `
        include "more.thrift"
        struct P { 1: i32 x, 2: list<i32> ys }
        struct Deep { 1: P p, 2: optional P maybe, 3: more.Inner inner = {"name": "d"}, 4: map<P, list<P>> by, 5: set<P> set }
        const P ORIGIN = {"x": 1}
        const P NONE = {}
        const P WHOLE = {"x": 1, "ys": [1]}
        const Deep DEEP = {"p": {}, "by": {{"x": 1}: [{"ys": []}, {}]}, "set": [{"x": 2}]}
        const list<Deep> DEEPS = [{}, {"maybe": {"x": 3}}]
        const map<string, P> NAMED = {"a": {}, "b": {"x": 2, "ys": [3]}}
        const set<P> SET = [{}, {"x": 1}]
        const map<P, P> PAIRS = {{"x": 1}: {}}
        const list<map<string, set<P>>> MANY = [{"a": [{}]}, {}]
        const more.Part PART = {"parts": [{"number": 5}, {"inner": {"name": "n"}}]}
        const list<more.Part> PARTS = [{"number": -9223372036854775808}, {"parts": []}]
        const more.Broken BROKEN = {"why": "no"}
        const more.Broken WORSE = {"level": more.Level.ALSO}
        const bool YES = true const i8 B = -128 const i16 SHORT = 5 const i64 L = -5
        const double ZERO = -0.0 const double BIG = 1e300 const double WHOLE_DOUBLE = 5
        const string TEXT = "it's \\"q\\" \\\\ \\n ☃" const binary BYTES = "ü" const uuid ID = "{123E4567-E89B-12D3-A456-426614174000}"
        const map<i64, binary> RAW = {-1: "a"} const map<bool, more.Level> LEVELS = {true: more.Level.LOW}
        const set<more.Level> SOME = [Level.HIGH, 5] const map<more.Level, double> RATES = {Level.LOW: 1}
        const list<string> EMPTY = [] const set<i32> EMPTY_SET = [] const map<uuid, i32> EMPTY_MAP = {}
        const map<more.Part, string> BY_PART = {{"number": 1}: "one"}
        const more.Inner SAME = more.INNER
        service S extends more.Base { Deep deep(1: P p = {}, 2: more.Inner inner = more.INNER) }`,
    };
    const idl = parseIdl({ main: 'all.thrift', files });
    const numbers = parseIdl({
      main: 'all.thrift',
      files: { ...files, 'all.thrift': files['all.thrift'].replace('-9223372036854775808', '7') },
    });
    const text = writeTypes(idl, 'all.thrift');
    expect(
      compile({
        'all.ts': text,
        'numbers.ts': writeTypes(numbers, 'all.thrift', { i64: 'number' }),
        'uses.ts': `
          import { DEEP, type Deep, INNER, ORIGIN, type P, PART, type S, type SHandlers } from './all.ts';
          export const p: P = ORIGIN;
          export const handlers: SHandlers = {
            base: ({ part }) => (part.inner !== undefined ? part.inner : { ...INNER, name: part.number?.toString() ?? 'none' }),
            deep: (): Deep => DEEP,
          };
          export const call = (service: S): Promise<unknown> => service.base({ part: PART });
        `,
      }),
    ).toBe('');
    // The values, as the generated file has them when it is loaded.
    const loaded = (await import(pathToFileURL(javascriptOf(text)).href)) as Readonly<Record<string, unknown>>;
    for (const [name, { value }] of idl.constants) expect(loaded[name.replace(/^.*\./, '')], name).toEqual(value);
    expect(Object.is(loaded['ZERO'], -0)).toBe(true);
  });

  // Words of TypeScript, and names that the generated text uses.
  test('writes types that the compiler accepts, whatever the types, constants and members are called', () => {
    const words =
      'Record Readonly Partial Omit Pick Promise Map Set Array Object String Buffer Uint8Array Error Date globalThis global require exports module NaN Infinity ' +
      'abstract accessor any as asserts await bigint boolean constructor declare defer delete export from get import infer instanceof intrinsic is keyof let module ' +
      'never new number object of out override package readonly satisfies self static symbol toString type undefined unique unknown using valueOf __proto__';
    const roles: readonly ((word: string) => string)[] = [
      (word) =>
        `struct ${word} { 1: i32 a 2: ${word} b 3: list<${word}> c 4: P d } service Svc { ${word} f(1: ${word} x) }`,
      (word) =>
        `union ${word} { 1: i32 a 2: ${word} b } const ${word} K = {"a": 1} service Svc { list<${word}> f(1: ${word} x) }`,
      (word) =>
        `enum ${word} { A = 1 } const ${word} K = ${word}.A const map<${word}, P> M = {1: {}} service Svc { ${word} f() }`,
      (word) => `const P ${word} = {} service Svc { P f() }`,
      (word) =>
        `struct X { 1: P ${word} } enum E { ${word} = 2 } union U { 1: P ${word} 2: i32 z } const X C = {"${word}": {}} const E D = E.${word}`,
      (word) =>
        `exception Y { 1: P ${word} } service Svc { P ${word}(1: P ${word}) throws (1: Y ${word === 'a' ? 'b' : 'a'}) }`,
      (word) => `service ${word} { P f(1: set<i32> x) void g() }`,
    ];
    const files: Record<string, string> = {};
    for (const [n, word] of [...new Set(words.split(' '))].entries()) {
      for (const [role, write] of roles.entries()) {
        const idl = `struct P { 1: i32 x } ${write(word)}`;
        files[`word_${n}_${role}.ts`] = writeTypes(
          parseIdl({ main: 'a.thrift', files: { 'a.thrift': idl } }),
          'a.thrift',
        );
      }
    }
    expect(compile(files)).toBe('');
  });

  test('writes types that refuse values that the interface does not allow', () => {
    const said = compile({
      'everything.ts': writeTypes(everything, 'everything.thrift'),
      'wrong.ts': `
        import { type Choice, Colour, type EverythingHandlers } from './everything.ts';
        export const both: Choice = { number: 1, text: 'x' };
        export const colour: Colour = 7;
        export const handlers: Pick<EverythingHandlers, 'add'> = { add: ({ a }) => String(a) };
      `,
    });
    const lines = said.split('\n').filter((line) => line.startsWith('wrong.ts('));
    expect(lines.map((line) => line.replace(/\(\d+,.*/, ''))).toHaveLength(3);
  });

  test('writes i64 as number on request, and refuses constants that this would round', () => {
    expect(writeTypes(old, 'old.thrift', { i64: 'number' })).not.toContain('bigint');
    expect(() => writeTypes(everything, 'everything.thrift', { i64: 'number' })).toThrow(
      'The constant 9223372036854775807 is not exact as a number, generate the types with i64 as bigint',
    );
  });

  test('keeps doc comments from ending early, and type names from hiding those of the language', () => {
    const text = writeTypes(
      parseIdl({
        main: 'a.thrift',
        files: {
          'a.thrift':
            'struct Map { 1: map<string, Map> Map }\nenum delete { A }\nstruct HandlerContext {}\nservice S { Map m(1: delete d) }',
        },
      }),
      'a.thrift',
    );
    expect(compile({ 'names.ts': text })).toBe('');
    expect(text).toContain('export interface Map_2 {\n  Map: Map<string, Map_2>;\n}');
  });
});
