// Temporary and data directories that cannot be used as they are: the mesh runs elsewhere or says why it does not.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { rejectionOf } from '../kit/tools/rejection.ts';
import { work } from '../kit/mesh/mesh.ts';
import { MeshEnded, startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';

import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';

let folder: string;
let mesh: MeshProcess | undefined;
beforeEach(() => (folder = mkdtempSync('/tmp/katamari-dirs-')));
afterEach(async () => {
  await mesh?.end();
  mesh = undefined;
  rmSync(folder, { recursive: true, force: true });
});

const at = (name: string): string => path.join(folder, name);

describe('A mesh', () => {
  test.each<[string, () => string]>([
    ['of 130 characters', () => (mkdirSync(at('x'.repeat(130))), at('x'.repeat(130)))],
    ['that is missing', () => at('none')],
    ['that is a file', () => (writeFileSync(at('file'), ''), at('file'))],
    ['that all may write to', () => (mkdirSync(at('open')), chmodSync(at('open'), 0o777), at('open'))],
  ])('works with a TMPDIR %s: it says so, and its sockets are in another private directory', async (_, make) => {
    const TMPDIR = make();
    mesh = await startMeshProcess({ deployments: [work({ count: 2 })], env: { TMPDIR } });
    expect((await mesh.call('Work.say', { text: 'hello' })).result).toBe('hello');
    expect(mesh.output()).toContain(`"msg":"${TMPDIR} `);
    expect(mesh.output()).toContain('the sockets of chassis are in /tmp"');
    const { listeners } = await mesh.status();
    const inside = listeners.find(({ name }) => name === 'inside')?.address ?? '';
    const sockets = path.dirname(inside.replace('unix:', ''));
    expect(sockets).toMatch(/^\/tmp\/katamari-/);
    expect(statSync(sockets).mode & 0o777).toBe(0o700);
    expect(readdirSync(sockets)).toContain('mesh.sock');
  });

  test('has a private data directory, also one that existed', async () => {
    mkdirSync(at('data'), { mode: 0o755 });
    chmodSync(at('data'), 0o755);
    mesh = await startMeshProcess({ directory: folder });
    expect(mesh.output()).toContain(`dataDir: ${at('data')} could be entered by other users (mode 755)`);
    expect(statSync(at('data')).mode & 0o777).toBe(0o700);
    const open = filesIn(at('data')).filter((file) => (statSync(file).mode & 0o077) !== 0);
    expect(open).toEqual([]);
  });

  test('does not start with a data directory that is a file, or that other programs use', async () => {
    writeFileSync(at('data'), '');
    expect(await endOf()).toEqual([78, expect.stringContaining(`${at('data')} is not a directory`)]);
    rmSync(at('data'));
    mkdirSync(at('data'));
    chmodSync(at('data'), 0o755);
    writeFileSync(at('data/letter'), '');
    expect(await endOf()).toEqual([78, expect.stringContaining('has files of other programs')]);
  });
});

async function endOf(): Promise<[number | null, string]> {
  const error = await rejectionOf(startMeshProcess({ directory: folder }));
  if (!(error instanceof MeshEnded)) throw error;
  return [error.code, error.stderr];
}

function filesIn(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(directory, entry.name);
    return entry.isDirectory() ? [file, ...filesIn(file)] : [file];
  });
}
