import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { REPOSITORY } from '../../../kit/tools/repository.ts';
import { runInside } from '../run-inside.ts';

let cwd: string;
beforeAll(() => {
  cwd = mkdtempSync(path.join(tmpdir(), 'katamari-idl-'));
  const write = (name: string, text: string): void => writeFileSync(path.join(cwd, name), text);
  write('shared.thrift', 'struct P { 1: i32 n }');
  write(
    'old.thrift',
    'include "shared.thrift" service S { void a(1: shared.P p, 2: i32 m) void b() } service T { void t() }',
  );
  write(
    'new.thrift',
    'include "shared.thrift" service S { void a(1: shared.P p, 2: i64 m) void b() void c() } service T { void t() }',
  );
  write('wrong.thrift', 'service S { void }');
});
afterAll(() => rmSync(cwd, { recursive: true }));

describe('katamari types', () => {
  test('writes constants of structs that omit fields, which the TypeScript compiler accepts', async () => {
    const idl = 'struct P { 1: i32 x, 2: list<i32> ys }\nconst P ORIGIN = {"x": 1}\nservice S { P get() }\n';
    writeFileSync(path.join(cwd, 'struct-constant.thrift'), idl);
    const { code } = await runInside(['types', 'struct-constant.thrift', '--out', 'struct-constant.ts'], { cwd });
    expect(code).toBe(0);
    writeFileSync(
      path.join(cwd, 'katamari.d.ts'),
      "declare module 'katamari' { export interface HandlerContext { method: string } }\ndeclare module 'katamari/client' { export interface CallOptions { key?: string } }",
    );
    const tsc = path.join(REPOSITORY, 'node_modules', 'typescript', 'bin', 'tsc');
    const options = ['--strict', '--noEmit', '--target', 'es2022', '--module', 'nodenext', '--types', ''];
    const run = spawnSync('node', [tsc, ...options, 'katamari.d.ts', 'struct-constant.ts'], { cwd, encoding: 'utf8' });
    expect(run.stdout).toBe('');
    expect(run.status).toBe(0);
  });
});

describe('katamari idl diff', () => {
  test('prints one line a change, and exits with 1 when existing callers break', async () => {
    const { code, stdout } = await runInside(['idl', 'diff', 'old.thrift', 'new.thrift'], { cwd });
    expect(code).toBe(1);
    expect(stdout.split('\n')).toEqual([
      'OLD CALLERS  NEW CALLERS  CHANGE',
      'breaks       breaks       a: parameter 2 m i32 became i64: the reader refuses it, or reads it as absent',
      'fine         breaks       c was added: an old chassis does not have it',
      '',
      'S: incompatible. A chassis of the new version does not understand old callers. Give it a new major version and run both side by side.',
      'T: no change on the wire',
      '',
    ]);
  });

  test('exits with 0 when they do not; prints JSON on request, and one service alone', async () => {
    const { code, stdout } = await runInside(['idl', 'diff', 'old.thrift', 'new.thrift', '--service', 'T', '--json'], {
      cwd,
    });
    expect([code, JSON.parse(stdout)]).toEqual([
      0,
      { isCompatible: true, services: [{ service: 'T', isCompatible: true, changes: [] }] },
    ]);
  });

  test('finds includes in folders', async () => {
    const write = (name: string, text: string): void => {
      mkdirSync(path.dirname(path.join(cwd, name)), { recursive: true });
      writeFileSync(path.join(cwd, name), text);
    };
    write(
      'deep/a.thrift',
      'include "x/common.thrift" include "shared.thrift" service S { void a(1: common.C c, 2: shared.P p) }',
    );
    write('folder/x/common.thrift', 'struct C {}');
    const without = await runInside(['idl', 'diff', 'deep/a.thrift', 'deep/a.thrift'], { cwd });
    expect([without.code, without.stderr]).toEqual([
      78,
      'katamari: a.thrift:1:9: included file "x/common.thrift" not found, looked for "x/common.thrift"\n',
    ]);
    const found = await runInside(['idl', 'diff', '-I', 'folder', '-I', '.', 'deep/a.thrift', 'deep/a.thrift'], {
      cwd,
    });
    expect([found.code, found.stdout]).toEqual([0, 'S: no change on the wire\n']);
    const types = await runInside(['types', '--include', 'folder', '-I.', 'deep/a.thrift'], { cwd });
    expect([types.code, types.stdout]).toEqual([0, expect.stringContaining('export interface C {}')]);
    const missing = await runInside(['types', '-I', 'none', 'deep/a.thrift'], { cwd });
    expect([missing.code, missing.stderr]).toEqual([
      78,
      `katamari: The include folder "${path.join(cwd, 'none')}" does not exist, or is not a folder\n`,
    ]);
  });

  test('names missing and invalid files, and unknown services', async () => {
    for (const [args, code, words] of [
      [['none.thrift', 'new.thrift'], 2, 'none.thrift: no such file'],
      [['old.thrift', 'wrong.thrift'], 78, 'wrong.thrift:1'],
      [['old.thrift', 'new.thrift', '--service', 'U'], 2, 'old.thrift has no service "U"; it has S, T'],
    ] as const) {
      const result = await runInside(['idl', 'diff', ...args], { cwd });
      expect(result.code).toBe(code);
      expect(result.stderr).toContain(words);
    }
  });
});
