// The Java kit, built as a user does: its examples and the service of `katamari conform` in a real mesh, its control
// services as a manager calls them, and `katamari conform` itself. Properties that conform checks are not tested again.

import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { chassisInterface, contentInterface } from '../../core/rpc/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import { CONTENT_CONFORMANCE, expectContentConformance } from '../kit/tools/content-exam.ts';
import { isAlive, startTestMesh, type TestMesh } from '../kit/mesh/mesh.ts';
import { JAVA_BUILD_MS, JAVA_EXAMPLES, javaPrograms } from '../kit/tools/java-kit.ts';
import { type ManagedChassis, withManagedChassis } from '../kit/tools/managed-chassis.ts';
import { expectReplyInfo } from '../kit/tools/reply-info-exam.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { runKatamari } from '../kit/tools/run.ts';
import { until } from '../kit/tools/wait.ts';

const CONFORMANCE = path.join(REPOSITORY, 'idl', 'conformance.thrift');
const START_MS = 60_000;

let command: (name: string) => string[];
let mesh: TestMesh;
beforeAll(async () => {
  command = await javaPrograms();
  const conformance = (version: string, concurrency: number) => ({
    service: 'Conformance',
    version: '1.0.0',
    command: command('ConformanceChassis'),
    env: { CONFORMANCE_IDL: CONFORMANCE, CONFORMANCE_CONCURRENCY: String(concurrency) },
  });
  const example = (service: string) => ({
    service,
    version: '1.0.0',
    command: command(`${service}Chassis`),
    cwd: JAVA_EXAMPLES,
  });
  mesh = await startTestMesh([conformance('1.0.0', 3), example('Shop'), example('Speller')], { timeout: '20s' });
  await mesh.mesh.whenReady;
}, JAVA_BUILD_MS);
afterAll(async () => {
  await mesh?.end();
});

const pidOf = (pool: string): number => mesh.pool(pool).resources[0]?.pid ?? 0;

describe('A chassis in Java', () => {
  test('describes itself, and its interface', async () => {
    const pools = mesh.mesh.status().pools.map(({ id, alive, tags }) => [id, alive, tags]);
    expect(pools).toEqual(expect.arrayContaining([['Shop@1.0.0', 1, []]]));
    const idl = await (await fetch(`${mesh.mesh.addresses.jsonRpc}/idl/Shop.thrift`)).text();
    expect(idl).toContain('exception OutOfStock');
  });

  test('returns values and declared exceptions', async () => {
    expect((await mesh.call('Shop.order', { item: 'tea', pieces: 2 })).result).toBe(500);
    expect((await mesh.call('Shop.order', { item: 'ink', pieces: 1 })).error).toMatchObject({
      code: -32_050,
      data: { exception: 'OutOfStock', item: 'ink', left: 0 },
    });
  });

  test('calls others within its deadline, and gets the errors of the mesh', async () => {
    expect((await mesh.call('Shop.search', ['teh tea'])).result).toEqual(['teh tea', 'the tea']);
    const { error } = await mesh.call('Conformance.relay', ['x'], { 'katamari-roles': 'exam' });
    expect(error?.message).toMatch(/^Conformance\.relay failed: /);
    const line = / warning Conformance@1\.0\.0\/\d: Conformance\.relay failed: no_pool: /;
    await until('the line in the log', () => mesh.lines.some((one) => line.test(one)));
    expect(mesh.lines.some((one) => /at ConformanceChassis\.relay/.test(one))).toBe(false);
  });

  const EXAM = { 'katamari-roles': 'exam' };

  test('reports an undeclared exception with its message, logs its stack, and survives', async () => {
    const before = pidOf('Conformance@1.0.0');
    const { error } = await mesh.call('Conformance.collapse', ['the roof fell in'], EXAM);
    expect(error?.message).toBe('Conformance.collapse failed: the roof fell in');
    const none = await mesh.call('Conformance.collapse', ['null'], EXAM);
    expect(none.error?.message).toBe('Conformance.collapse failed: it returned null, but the IDL declares a result');
    await until('its stack in the log', () =>
      mesh.lines.some((line) => /Conformance@1\.0\.0\/1 .*at ConformanceChassis\.collapse/.test(line)),
    );
    expect(pidOf('Conformance@1.0.0')).toBe(before);
  });

  test('gives handlers the context of a call', async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const headers = { ...EXAM, traceparent, 'katamari-key': 'k', 'katamari-timeout-ms': '5000' };
    const { result } = await mesh.call('Conformance.report', [], headers);
    expect(result).toMatchObject({ key: 'k', attempt: 0 });
    const { timeLeftMs, caller } = result as { timeLeftMs: number; caller: string };
    expect(timeLeftMs > 0 && timeLeftMs <= 5000).toBe(true);
    expect(caller).toContain('json-rpc');
  });

  test('runs as many concurrent calls as it declares', async () => {
    const calls = [1, 2, 3].map(() => mesh.call('Conformance.work', [1_000], EXAM));
    await until('three calls in one process', () => mesh.pool('Conformance@1.0.0').resources[0]?.inFlight === 3);
    expect((await Promise.all(calls)).map(({ result }) => result)).toEqual([1_000, 1_000, 1_000]);
  });

  test('is replaced after its reply on request of a handler', async () => {
    const before = pidOf('Conformance@1.0.0');
    expect((await mesh.call('Conformance.retire', [], EXAM)).error).toBe(undefined);
    await until('its end', () => !isAlive(before));
    await until('the next one', () => mesh.pool('Conformance@1.0.0').alive === 1);
    expect(mesh.pool('Conformance@1.0.0').restartsByReason).toEqual({ retired: 1 });
  });
});

const managed = (
  program: string,
  env: Readonly<Record<string, string>>,
  use: (chassis: ManagedChassis) => Promise<void>,
): Promise<void> => withManagedChassis(command(program), env, use);

const control = (chassis: ManagedChassis, name: string): Promise<unknown> =>
  chassis.ask(chassisInterface(), 'katamari.Chassis', name);

describe('The Java kit', () => {
  test.each(['1', '4'])(
    'conforms with concurrency %s',
    async (concurrency) => {
      const { code, stdout, stderr } = await runKatamari(['conform', '--tcp', '--', ...command('ConformanceChassis')], {
        env: { CONFORMANCE_IDL: CONFORMANCE, CONFORMANCE_CONCURRENCY: concurrency },
      });
      expect([code, /(\d+) checks, \1 ok\.\n$/.test(stdout) || stdout + stderr]).toEqual([0, true]);
    },
    120_000,
  );

  test(
    'tells handlers the facts about replies to their calls',
    () => expectReplyInfo(command('ConformanceChassis'), { CONFORMANCE_IDL: CONFORMANCE }),
    START_MS,
  );

  test(
    'describes every configured property',
    async () => {
      const env = { CONFORMANCE_IDL: CONFORMANCE, CONFORMANCE_CONCURRENCY: '3' };
      await managed('ConformanceChassis', env, async (chassis) => {
        expect(await control(chassis, 'describe')).toEqual({
          serviceName: 'Conformance',
          version: '1.0.0',
          roles: ['exam'],
          tags: ['java', 'fixture'],
          more: { language: 'Java' },
          idlMain: 'conformance.thrift',
          idlFiles: { 'conformance.thrift': readFileSync(CONFORMANCE, 'utf8') },
          concurrency: 3,
          sdk: expect.stringMatching(/^java 0\.1\.0 on /),
        });
      });
    },
    START_MS,
  );

  test(
    'finds includes in folders after that of the including file',
    async () => {
      const folder = mkdtempSync(path.join(tmpdir(), 'katamari-java-includes-'));
      const files = {
        'idl/main.thrift': 'include "deep/a.thrift"\nservice Conformance {}',
        'idl/b.thrift': 'wrong',
        'one/deep/a.thrift': 'include "b.thrift" include "../a.thrift"',
        'one/a.thrift': '',
        'one/b.thrift': 'include "c.thrift" include "../outside.thrift"',
        'one/c.thrift': '',
        'outside.thrift': '',
      };
      try {
        for (const [name, text] of Object.entries(files)) {
          mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
          writeFileSync(path.join(folder, name), text);
        }
        const env = {
          CONFORMANCE_IDL: path.join(folder, 'idl', 'main.thrift'),
          CONFORMANCE_INCLUDES: path.join(folder, 'one'),
        };
        await managed('ConformanceChassis', env, async (chassis) => {
          const { idlFiles } = (await control(chassis, 'describe')) as { idlFiles: object };
          expect(Object.keys(idlFiles).sort()).toEqual([
            '-I2/../outside.thrift',
            '-I2/a.thrift',
            '-I2/b.thrift',
            '-I2/c.thrift',
            '-I2/deep/a.thrift',
            'main.thrift',
          ]);
        });
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
    START_MS,
  );

  test(
    'answers pings while its only thread is busy, and still ends with its manager',
    async () => {
      await managed('ConformanceChassis', { CONFORMANCE_IDL: CONFORMANCE }, async (chassis) => {
        const conformance = parseIdl(readIdlFile(CONFORMANCE)).services.get('Conformance') as Interface;
        let isAnswered = false;
        const working = chassis.ask(conformance, '', 'work', { ms: 1_000_000 }).finally(() => (isAnswered = true));
        working.catch(() => undefined);
        expect(await control(chassis, 'ping')).toBe(null);
        expect(isAnswered).toBe(false);
        chassis.child.stdin?.end();
        expect(await chassis.ended).toBe(0);
      });
    },
    START_MS,
  );

  const started = (env: Readonly<Record<string, string>>): Promise<{ code: number | null; said: string }> =>
    new Promise((resolve) => {
      const [java = '', ...args] = command('ConformanceChassis');
      const child = spawn(java, args, { env: { CONFORMANCE_IDL: CONFORMANCE, KATAMARI_LIFELINE: 'stdin', ...env } });
      let said = '';
      child.stderr.on('data', (part: Buffer) => (said += part.toString()));
      child.once('close', (code) => resolve({ code, said }));
    });

  test.each([
    ['an IDL file that is not there', { CONFORMANCE_IDL: 'gone.thrift' }, 'Cannot read the IDL file "gone.thrift"'],
    [
      'an IDL without its service',
      { CONFORMANCE_IDL: CONTENT_CONFORMANCE },
      'has no service "Conformance"; it has Con',
    ],
    ['a limit that is none', { KATAMARI_NESTING_MAX: 'deep' }, 'KATAMARI_NESTING_MAX is "deep", expected a whole'],
    ['no call at a time', { CONFORMANCE_CONCURRENCY: '0' }, 'concurrency is 0; it must be at least 1'],
  ])(
    'says in one line why it cannot start: %s',
    async (_what, env, why) => {
      const { code, said } = await started(env);
      expect([code, said.includes(why), said.split('\n').length]).toEqual([78, true, 2]);
      expect(said).toMatch(/^This chassis cannot start with \//);
    },
    START_MS,
  );
});

describe('A content server in Java', () => {
  const env = { CONFORMANCE_IDL: CONTENT_CONFORMANCE };

  test.each(['1', '3'])(
    'conforms with concurrency %s',
    (concurrency) => expectContentConformance(command('ContentConformanceChassis'), concurrency, env),
    120_000,
  );

  test(
    'lets calls that came before a close use the shard, even if they start after it',
    async () => {
      const folder = mkdtempSync(path.join(tmpdir(), 'katamari-java-shards-'));
      const shard = path.join(folder, 'shard');
      writeFileSync(shard, 'entries 3');
      const service = parseIdl(readIdlFile(CONTENT_CONFORMANCE)).services.get('ContentConformance') as Interface;
      await managed('ContentConformanceChassis', env, async (chassis) => {
        const ask = (name: string, params: object = {}): Promise<unknown> =>
          chassis.ask(contentInterface(), 'katamari.Content', name, { ...params });
        const hold = (): Promise<unknown> => chassis.ask(service, '', 'hold', { shards: ['i@1.0.0/a'], ms: 100 });
        expect(await ask('open', { shard: 'i@1.0.0/a', path: shard })).toEqual({
          entries: 3,
          more: { format: 'lines' },
        });
        // It runs one call at a time, so most of these start after the close.
        const calls = Array.from({ length: 5 }, hold);
        const closed = ask('close', { shard: 'i@1.0.0/a' });
        const late = expect(hold()).rejects.toMatchObject({
          code: 'no_pool',
          message: 'Shard i@1.0.0/a is not open here; open are none',
        });
        expect(await Promise.all(calls)).toEqual(calls.map(() => ['i@1.0.0/a']));
        await closed;
        await late;
      });
      rmSync(folder, { recursive: true });
    },
    START_MS,
  );
});
