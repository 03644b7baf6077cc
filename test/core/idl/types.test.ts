// The TypeScript types of an interface: their text, and that the compiler accepts them and code that uses them.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
  | { left?: undefined; right: string };

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
