// Included files: where they are found, with the Thrift compiler as the reference, and that the source that leaves
// this machine is whole without the folders.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Idl, parseIdl, readIdlFile } from '../../../core/idl/mod.ts';
import { toolPath } from '../../kit/tools/tools.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-includes-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function write(files: Readonly<Record<string, string | Buffer>>): void {
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(folder, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, text);
  }
}

/** Reads the file, moves away from the disk, and compiles what was read. */
function read(main: string, ...includes: string[]): Idl {
  const source = readIdlFile(
    path.join(folder, main),
    includes.map((one) => path.join(folder, one)),
  );
  return parseIdl(JSON.parse(JSON.stringify(source)) as typeof source);
}

/** What the compiler says about the file; '' if it accepts it. */
function compiles(main: string, ...includes: string[]): string {
  const folders = includes.flatMap((one) => ['-I', path.join(folder, one)]);
  mkdirSync(path.join(folder, 'out'), { recursive: true });
  const args = [...folders, '-out', path.join(folder, 'out'), '--gen', 'json', path.join(folder, main)];
  const { status, stdout, stderr } = spawnSync(toolPath('thrift'), args, { encoding: 'utf8' });
  return status === 0 && !stderr.includes('Could not find include file') ? '' : stdout + stderr;
}

function limitOf(idl: Idl): unknown {
  return idl.services.get('S')?.methods.get('f')?.args.fields[0]?.defaultValue;
}

const MAIN = 'include "shared.thrift" service S { void f(1: i32 limit = shared.LIMIT) }';

describe('readIdlFile() with include folders', () => {
  test('looks beside the including file first, then into the folders in their order', () => {
    write({
      'main/main.thrift': MAIN,
      'one/shared.thrift': 'const i32 LIMIT = 1',
      'two/shared.thrift': 'const i32 LIMIT = 2',
    });
    expect(compiles('main/main.thrift')).toContain('Could not find include file shared.thrift');
    expect(() => read('main/main.thrift')).toThrow(
      'included file "shared.thrift" not found, looked for "shared.thrift"',
    );
    for (const [includes, limit] of [
      [['one', 'two'], 1],
      [['two', 'one'], 2],
      [['two'], 2],
    ] as const) {
      expect(compiles('main/main.thrift', ...includes)).toBe('');
      expect(limitOf(read('main/main.thrift', ...includes))).toBe(limit);
    }
    write({ 'main/shared.thrift': 'const i32 LIMIT = 3' });
    expect(limitOf(read('main/main.thrift', 'one', 'two'))).toBe(3);
  });

  test('finds what a file in a folder includes: beside it, above it, and in other folders', () => {
    write({
      'main/main.thrift': 'include "deep/a.thrift" service S { void f(1: i32 limit = a.LIMIT), a.V g(1: a.U u) }',
      'one/deep/a.thrift':
        'include "b.thrift" include "../c.thrift" include "far/d.thrift" const i32 LIMIT = d.LIMIT typedef b.T V struct U { 1: c.C c }',
      'one/deep/b.thrift': 'include "../../outside.thrift" struct T { 1: outside.O o }',
      'one/c.thrift': 'struct C {}',
      'one/b.thrift': 'struct Wrong {}',
      'main/b.thrift': 'struct Wrong {}',
      'main/c.thrift': 'struct Wrong {}',
      'two/far/d.thrift': 'include "e.thrift" const i32 LIMIT = e.LIMIT',
      'two/far/e.thrift': 'const i32 LIMIT = 7',
      'one/e.thrift': 'const i32 LIMIT = 8',
      'outside.thrift': 'struct O {}',
    });
    expect(compiles('main/main.thrift', 'one', 'two')).toBe('');
    const idl = read('main/main.thrift', 'one', 'two');
    expect(limitOf(idl)).toBe(7);
    expect(Object.keys(idl.source.files)).toEqual(
      [
        'main.thrift',
        '-I1/deep/a.thrift',
        '-I1/deep/b.thrift',
        '-I1/../outside.thrift',
        '-I1/c.thrift',
        '-I2/far/d.thrift',
        '-I2/far/e.thrift',
      ].filter((name) => Object.hasOwn(idl.source.files, name)),
    );
    expect(Object.keys(idl.source.files)).toHaveLength(7);
  });

  test('takes a file that is reached in several ways for one, also where folders overlap', () => {
    write({
      'idl/main.thrift':
        'include "common/x.thrift" include "y.thrift" include "common/deep/z.thrift" const x.X A = {"a": 1} service S { void f(1: i32 limit = y.LIMIT), x.X g(1: z.Z t) }',
      'idl/common/x.thrift': 'include "y.thrift" typedef y.T X',
      'idl/common/y.thrift': 'struct T { 1: i32 a } const i32 LIMIT = 4',
      'idl/common/deep/z.thrift': 'include "common/y.thrift" typedef y.T Z',
    });
    expect(compiles('idl/main.thrift', 'idl', 'idl/common')).toBe('');
    const idl = read('idl/main.thrift', 'idl', 'idl/common');
    expect(limitOf(idl)).toBe(4);
    expect([...idl.structs.keys()]).toEqual(['y.T']);
    const method = idl.services.get('S')?.methods.get('g');
    expect(method?.returns).toEqual(method?.args.fields[0]?.type);
  });

  test('takes folders as URLs, and names one that is missing', () => {
    write({ 'main.thrift': MAIN, 'one/shared.thrift': 'const i32 LIMIT = 1', file: '' });
    const main = pathToFileURL(path.join(folder, 'main.thrift'));
    expect(limitOf(parseIdl(readIdlFile(main, [pathToFileURL(path.join(folder, 'one'))])))).toBe(1);
    for (const wrong of ['none', 'file']) {
      expect(() => readIdlFile(main, [path.join(folder, wrong)])).toThrow(
        `The include folder "${path.join(folder, wrong)}" does not exist, or is not a folder`,
      );
    }
  });

  test('reports an error with the name of the folder', () => {
    write({ 'main.thrift': MAIN, 'one/x/shared.thrift': '', 'one/shared.thrift': 'const i32 LIMIT = "x"' });
    expect(() => read('main.thrift', 'one/x', 'one')).toThrow('shared.LIMIT');
    expect(() => read('main.thrift', 'one')).toThrow('-I1/shared.thrift:1:19: expected i32, got "x"');
  });
});

describe('A source that another process sent', () => {
  test.each([
    ['an absolute path', '/etc/hostname'],
    ['a path out of its folder', '../../../../etc/hostname'],
    ['a path out of an include folder', '-I1/../../etc/hostname'],
  ])('reads nothing from this disk: %s', (_what, wanted) => {
    const files = { 'main.thrift': `include "${wanted}"`, '-I1/x.thrift': '' };
    expect(() => parseIdl({ main: 'main.thrift', files })).toThrow(`included file "${wanted}" not found`);
  });
});

describe('A file that is not UTF-8', () => {
  test('is read if the other bytes are in comments, and refused if they are in a string', () => {
    const latin = (text: string): Buffer => Buffer.from(text, 'latin1');
    write({
      'main.thrift': latin('// caf\xe9\n/** Stra\xdfe */ service S { void f(1: string s = "x") }'),
      'string.thrift': latin('const string S = "caf\xe9"'),
      'name.thrift': latin('struct caf\xe9 {}'),
      'ok.thrift': 'const string S = "café \ufffd"',
    });
    expect(read('main.thrift').services.get('S')?.doc).toBe('Stra\ufffde');
    expect(() => read('string.thrift')).toThrow(
      'string.thrift:1:18: this string is not UTF-8, save the file in that encoding',
    );
    expect(() => read('name.thrift')).toThrow('has no meaning in Thrift IDL');
    expect(read('ok.thrift').constants.get('S')?.value).toBe('café \ufffd');
  });
});
