// The audit log of a real mesh process: on a full disk the mesh goes on and the gap is recorded; after a SIGKILL the
// chain goes on; a changed configuration is recorded.

import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runtimeName } from '../../core/mod.ts';
import { FrozenDisk } from '../kit/cluster/frozen-disk.ts';
import { SmallDisk } from '../kit/cluster/small-disk.ts';
import { work } from '../kit/mesh/mesh.ts';
import { startMeshProcess, type MeshProcess, type MeshProcessOptions } from '../kit/mesh/mesh-process.ts';
import { runKatamari, type RunResult } from '../kit/tools/run.ts';
import { until } from '../kit/tools/wait.ts';

const BUSY_MS = 120_000;

let directory: string;
let mesh: MeshProcess | undefined;
beforeEach(() => (directory = mkdtempSync(path.join(tmpdir(), 'katamari-audit-'))));
afterEach(async () => {
  await mesh?.end();
  rmSync(directory, { recursive: true, force: true });
}, BUSY_MS);

async function start(options: MeshProcessOptions = {}): Promise<MeshProcess> {
  mesh = await startMeshProcess({ directory, ...options });
  return mesh;
}

const ask = async (one: MeshProcess, method: string, params: Record<string, unknown>): Promise<unknown> => {
  const { result, error } = await one.call(`Katamari.${method}`, { token: one.adminToken, ...params });
  return error === undefined ? result : error.message;
};

const audit = (...args: string[]): Promise<RunResult> =>
  runKatamari(['audit', ...args, '--data-dir', path.join(directory, 'data')]);

const lines = async (): Promise<Readonly<Record<string, unknown>>[]> =>
  (await audit('--json')).stdout
    .split('\n')
    .filter((line) => line.endsWith('"}'))
    .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);

describe('The audit log of a mesh', () => {
  test(
    'goes on after a SIGKILL, also when the last line was cut off',
    async () => {
      const first = await start();
      await ask(first, 'setSettings', { settings: { timeoutMs: 1_111 } });
      await first.kill();
      const file = path.join(directory, 'data', 'audit', 'audit-000001.jsonl');
      expect(statSync(file).mode & 0o777).toBe(0o600);
      const {
        seq,
        sum: _,
        ...line
      } = JSON.parse(readFileSync(file, 'utf8').trimEnd().split('\n').at(-1) as string) as {
        seq: number;
        sum: string;
      };
      appendFileSync(file, JSON.stringify({ seq: seq + 1, ...line }).slice(0, 100));
      const cut = await audit('verify');
      expect(cut.stderr).toContain('the line is cut off or was altered, and no line after it reports a repair');
      const second = await start({ settings: { timeout: '3s', admin: { token: 'a-root-token-of-the-file' } } });
      await ask(second, 'setSettings', { settings: { timeoutMs: 2_222 } });
      await second.stop();
      const verified = await audit('verify');
      expect(verified).toMatchObject({ code: 0, stderr: '' });
      expect(verified.stdout).toContain('1 of them report a line that a crash cut off.');
      const found = await lines();
      expect(found.map(({ action }) => action)).toEqual([
        'audit_opened',
        'configure',
        'setSettings',
        'audit_repaired',
        'configure',
        'setSettings',
      ]);
      // The token of the file is not the root token any more.
      expect(found[5]).toMatchObject({ result: 'refused', code: 'wrong_token', who: '' });
      expect(found[4]).toMatchObject({ who: 'katamari.yaml', subject: 'settings', before: { timeoutMs: 10_000 } });
      expect(found[4]).toMatchObject({ after: { timeoutMs: 3_000, admin: { token: '***' } } });
    },
    BUSY_MS,
  );

  test.skipIf(process.getuid?.() !== 0)(
    'on a full disk: the mesh serves and changes on, says so, and records the gap later',
    async () => {
      mkdirSync(path.join(directory, 'data'), { mode: 0o700 });
      const disk = new SmallDisk(path.join(directory, 'data', 'audit'));
      try {
        const one = await start();
        let changes = 0;
        const change = async (): Promise<void> => {
          const settings = { timeoutMs: 1_000 + ++changes };
          expect(await ask(one, 'setSettings', { settings })).toEqual(settings);
        };
        await change();
        disk.fill();
        await until(
          'the disk to be full',
          async () => {
            await change();
            return one.output().includes('audit_failed');
          },
          BUSY_MS,
        );
        expect(one.output()).toContain('ENOSPC');
        for (let at = 0; at < 20; at++) await change();
        const metrics = await (await fetch(`${one.addresses.stats}/metrics`)).text();
        expect(metrics).toMatch(/^katamari_audit_write_failures_total [1-9]/m);
        disk.empty();
        await until('the log to be written again', () => one.output().includes('audit_restored'), BUSY_MS);
        await change();
        const found = await lines();
        expect(found.filter(({ action }) => action === 'setSettings')).toHaveLength(changes);
        expect(found.filter(({ action }) => action === 'audit_gap')).toMatchObject([
          { reason: expect.stringContaining('ENOSPC'), facts: { lost: 0 } },
        ]);
        expect(await audit('verify')).toMatchObject({ code: 0 });
      } finally {
        await mesh?.end();
        disk.end();
      }
    },
    BUSY_MS,
  );

  // Deno writes to open files on its main thread, so a disk that hangs stops the process.
  test.skipIf(process.getuid?.() !== 0 || runtimeName() === 'deno')(
    'on a disk that does not answer: the mesh serves and changes on, says so, and has every line later',
    async () => {
      mkdirSync(path.join(directory, 'data'), { mode: 0o700 });
      const folder = path.join(directory, 'data', 'audit');
      const disk = new FrozenDisk(folder);
      chmodSync(folder, 0o700);
      try {
        const one = await start({ deployments: [work()] });
        let changes = 0;
        const change = async (): Promise<void> => {
          const settings = { timeoutMs: 10_000 + ++changes };
          expect(await ask(one, 'setSettings', { settings })).toEqual(settings);
        };
        await change();
        disk.freeze();
        await until(
          'the hang to be told',
          async () => {
            await change();
            return one.output().includes('the disk has not answered');
          },
          BUSY_MS,
        );
        for (let at = 0; at < 20; at++) await change();
        expect((await one.call('Work.say', { text: 'serves' })).result).toBe('serves');
        disk.thaw();
        await until('the log to be written again', () => one.output().includes('audit_restored'), BUSY_MS);
        await change();
        const found = await lines();
        expect(found.filter(({ action }) => action === 'setSettings')).toHaveLength(changes);
        expect(await audit('verify')).toMatchObject({ code: 0 });
        expect(await one.stop()).toBe(0);
      } finally {
        disk.thaw();
        await mesh?.end();
        disk.end();
      }
    },
    BUSY_MS,
  );

  test(
    'knows two root tokens during a rotation, without a restart',
    async () => {
      const one = await start();
      const file = path.join(directory, 'data', 'admin-token');
      const renewed = 'a-new-root-token-with-many-letters';
      const code = async (token: string): Promise<unknown> => {
        const { error } = await one.call('Katamari.getDrained', { token });
        return error === undefined ? 'ok' : error.data?.['code'];
      };
      expect(await code(renewed)).toBe('wrong_token');
      writeFileSync(file, `${renewed}\n${one.adminToken}\n`, { mode: 0o600 });
      await until('the new token to be known', async () => (await code(renewed)) === 'ok');
      expect(await code(one.adminToken)).toBe('ok');
      const env = { KATAMARI_URL: one.addresses.jsonRpc, KATAMARI_TOKEN_FILE: file };
      expect(await runKatamari(['token', 'list'], { env })).toMatchObject({ code: 0 });
      writeFileSync(file, `${renewed}\n`, { mode: 0o600 });
      await until('the old token to be refused', async () => (await code(one.adminToken)) !== 'ok');
      expect(await code(renewed)).toBe('ok');
    },
    BUSY_MS,
  );
});
