// SIGHUP on a real process: it applies what can change while the process runs, names the rest, refuses a broken file,
// and cuts no call.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fixture, work } from '../kit/mesh/mesh.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { until } from '../kit/tools/wait.ts';

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

let folder: string;
let mesh: MeshProcess | undefined;
beforeEach(() => (folder = mkdtempSync(path.join(tmpdir(), 'katamari-reload-'))));
afterEach(async () => {
  await mesh?.end();
  mesh = undefined;
  rmSync(folder, { recursive: true, force: true });
});

interface File {
  deployments: Record<string, unknown>[];
  [key: string]: unknown;
}

const file = (): string => path.join(folder, 'katamari.yaml');
const read = (): File => JSON.parse(readFileSync(file(), 'utf8')) as File;

/** Sends SIGHUP and returns what the process says about it. */
async function hangup(change: (text: File) => File | string): Promise<string> {
  const up = mesh as MeshProcess;
  const changed = change(read());
  writeFileSync(file(), typeof changed === 'string' ? changed : JSON.stringify(changed, null, 1));
  const before = reports().length;
  process.kill(up.pid, 'SIGHUP');
  return await until('the report', () => reports()[before]);
}

function reports(): string[] {
  const lines = (mesh as MeshProcess).output().split('\n');
  return lines.flatMap((line) => /"msg":"SIGHUP: (.*)"\}$/.exec(line)?.[1] ?? []);
}

async function alive(): Promise<Record<string, number>> {
  const { pools } = await (mesh as MeshProcess).status();
  return Object.fromEntries(pools.map((pool): [string, number] => [`${pool.service}@${pool.version}`, pool.alive]));
}

describe('SIGHUP', () => {
  test('applies deployments, routes and the timeout, and cuts no call', async () => {
    mesh = await startMeshProcess({
      directory: folder,
      deployments: [work({ count: 2 })],
      settings: { timeout: '20s' },
    });
    const up = mesh;
    await until('both', async () => (await alive())['Work@1.0.0'] === 2);
    const calls = Array.from({ length: 4 }, () => up.call('Work@1.0.0.take', { ms: 1_500 }));
    await until('two to run', () => up.ledger().length === 2);
    const [first] = read().deployments;
    const second = { ...first, version: '2.0.0', env: { ...(first?.['env'] as object), WORK_VERSION: '2.0.0' } };
    const told = await hangup((text) => ({
      ...text,
      timeout: '5s',
      routes: { Work: { weights: { '1.0.0': 0, '2.0.0': 1 } } },
      deployments: [{ ...first, count: 1, tags: ['changed'] }, second],
    }));
    expect(told).toBe('applied timeout, routes.Work, Work@1.0.0, Work@2.0.0');
    await until('the new state', async () => JSON.stringify(await alive()) === '{"Work@1.0.0":1,"Work@2.0.0":2}');
    for (const call of calls) expect((await call).error).toBe(undefined);
    expect((await up.status()).timeoutMs).toBe(5_000);
    await until(
      'the route',
      async () => (await up.call('Work.say', { text: 'x' })).headers.get('katamari-version') === '2.0.0',
    );
    expect(await hangup((text) => ({ ...text, deployments: [second] }))).toBe('applied Work@1.0.0');
    await until('the drain', async () => JSON.stringify(await alive()) === '{"Work@2.0.0":2}');
    expect(await hangup((text) => text)).toBe('the configuration has not changed');
    // The audit log has each change when it applies, and the next start has nothing to add.
    const configured = (): string[] =>
      readFileSync(path.join(folder, 'data', 'audit', 'audit-000001.jsonl'), 'utf8')
        .split('\n')
        .filter((line) => line.includes('"configure"'))
        .map((line) => JSON.parse(line) as { subject: string; after: unknown })
        .map(({ subject, after }) => `${subject}${after === null ? ' removed' : ''}`);
    const recorded = ['settings', 'Work@1.0.0', 'settings', 'route Work', 'Work@1.0.0', 'Work@2.0.0'];
    await until('all lines', () => configured().length > recorded.length);
    expect(configured()).toEqual([...recorded, 'Work@1.0.0 removed']);
    expect(await up.stop()).toBe(0);
    mesh = await startMeshProcess({ directory: folder, config: file() });
    expect(configured().length).toBe(recorded.length + 1);
  });

  test('names what needs a restart, and applies the rest', async () => {
    mesh = await startMeshProcess({ directory: folder, deployments: [work()], settings: { timeout: '20s' } });
    const change = (text: File): File => ({
      ...text,
      timeout: '7s',
      limits: { frame: '8MiB' },
      link: { secret: 'x'.repeat(32) },
    });
    expect(await hangup(change)).toBe('applied timeout; limits.frame, link.secret need a restart of this process');
    expect((await mesh.status()).timeoutMs).toBe(7_000);
    expect(await hangup((text) => text)).toBe('limits.frame, link.secret need a restart of this process');
    expect(mesh.output()).not.toContain('x'.repeat(32));
  });

  test('refuses a broken file with line and key, and the old one stays in force', async () => {
    writeFileSync(path.join(folder, 'plain.thrift'), 'service Plain { i32 pid( }');
    mesh = await startMeshProcess({ directory: folder, deployments: [work()] });
    const refused = 'the changed configuration is refused, and the old one stays in force: ';
    const good = readFileSync(file(), 'utf8');
    const line = good.split('\n').findIndex((text) => text.includes('"count"')) + 1;
    expect(await hangup(() => good.replace(/"count": 1/, '"count": "many"'))).toBe(
      `${refused}katamari.yaml:${line}: deployments[0].count: found \\"many\\", expected a whole number, 0 to 10000`,
    );
    expect(await hangup(() => '{ deployments: [')).toMatch(new RegExp(`^${refused}katamari.yaml:1`));
    const plain = { service: 'Plain', version: '1.0.0', kit: 'none', idl: 'plain.thrift', command: fixture('work.ts') };
    writeFileSync(file(), good);
    expect(await hangup((text) => ({ ...text, deployments: [...text.deployments, plain] }))).toMatch(
      /refused, .*: katamari\.yaml:\d+: deployments\[1\]: plain\.thrift:1:27: expected a type/,
    );
    rmSync(file());
    process.kill(mesh.pid, 'SIGHUP');
    await until('the report', () => reports().length === 4);
    expect(reports()[3]).toContain('refused');
    expect(await alive()).toEqual({ 'Work@1.0.0': 1 });
    expect((await mesh.call('Work.say', { text: 'serves' })).result).toBe('serves');
    expect(await mesh.stop()).toBe(0);
  });
});
