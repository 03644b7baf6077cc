import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
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
