// The backup of the desired state while the watches of its parts lag behind each other. The client is a fake, because a
// real Consul cannot delay one of them.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../../core/mod.ts';
import { consulClient, type ConsulClient, type ConsulEntry } from '../../../services/consul/mod.ts';
import type { Election } from '../../../services/master/election.ts';
import { DesiredStateBackup } from '../../../services/master/desired-state-backup.ts';
import { EventLog, keysOf } from '../../../services/mesh/mod.ts';
import { startConsul } from '../../kit/consul/consul.ts';
import { until } from '../../kit/tools/wait.ts';

const keys = keysOf('test');
const A = `${keys.deployments}A/1.0.0`;
/** Index at which the marker was written, after the data were restored. */
const RESTORED_AT = 10;

let directory: string;
let backup: DesiredStateBackup | undefined;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'katamari-backup-'));
  writeFileSync(path.join(directory, 'wanted.json'), JSON.stringify({ mesh: 'test', documents: { [A]: '{"a":1}' } }));
});
afterEach(async () => {
  await backup?.close();
  rmSync(directory, { recursive: true, force: true });
});

const saved = (): string[] =>
  Object.keys(
    (JSON.parse(readFileSync(path.join(directory, 'wanted.json'), 'utf8')) as { documents: object }).documents,
  );

/** Starts with a Consul that shows no deployment at `index`, and a route at a later one. */
async function start(index: number): Promise<void> {
  const route = { key: `${keys.routes}A`, value: '{}', problem: '', createIndex: 12 } as ConsulEntry;
  const answers: Readonly<Record<string, { index: number; entries: ConsulEntry[] }>> = {
    [keys.deployments]: { index, entries: [] },
    [keys.routes]: { index: 12, entries: [route] },
  };
  const restored = { key: A, value: '{"a":2}', problem: '', createIndex: 9 } as ConsulEntry;
  const asked = new Set<string>();
  const client = {
    list: (prefix: string, { index: after = 0 }: { index?: number } = {}) => {
      if (after > 0) return new Promise(() => undefined);
      const isFirst = !asked.has(prefix);
      asked.add(prefix);
      // The watch of deployments lags: a later read finds the one that was restored.
      if (!isFirst && prefix === keys.deployments) return Promise.resolve({ index: 12, entries: [restored] });
      return Promise.resolve(answers[prefix] ?? { index: 12, entries: [] });
    },
    get: () => Promise.resolve({ createIndex: RESTORED_AT, value: '{}', problem: '' }),
  };
  backup = new DesiredStateBackup({
    client: client as unknown as ConsulClient,
    mesh: 'test',
    dataDir: directory,
    events: new EventLog('test'),
    clock: systemClock,
    onError: () => undefined,
    onChange: () => undefined,
    onRestored: () => undefined,
    offer: () => undefined,
    othersMs: 0,
  });
  await backup.start();
  await until('the route to be saved', () => saved().includes(`${keys.routes}A`));
}

describe('The backup', () => {
  test('has documents that a watch has not shown since the data were restored', async () => {
    await start(RESTORED_AT - 5);
    expect(saved().sort()).toEqual([A, `${keys.routes}A`]);
    expect(backup?.documents.get(A)).toBe('{"a":2}');
  });

  test('drops a document that was removed after that', async () => {
    await start(RESTORED_AT + 1);
    expect(saved()).toEqual([`${keys.routes}A`]);
  });
});

describe('A restore', () => {
  test('writes manifests before all else, also one that is larger than a transaction, and leaves them out of the audit', async () => {
    const consul = await startConsul('real');
    const client = consulClient({ address: consul.address });
    const manifest = `${keys.manifests}${'a'.repeat(64)}`;
    const large = JSON.stringify({ shards: 'x'.repeat(480_000) });
    const documents = { [A]: '{"a":1}', [`${keys.indices}wiki/1.0.0`]: '{}', [manifest]: large };
    writeFileSync(path.join(directory, 'wanted.json'), JSON.stringify({ mesh: 'test', documents }));
    const restored: string[] = [];
    const written: string[] = [];
    const common = { client, mesh: 'test', events: new EventLog('test'), clock: systemClock };
    backup = new DesiredStateBackup({
      ...common,
      dataDir: directory,
      onError: () => undefined,
      onChange: () => undefined,
      onRestored: (name) => restored.push(name),
      offer: () => undefined,
      othersMs: 0,
    });
    await backup.start();
    const election = {
      write: async (_: number, [{ key, value }]: readonly [{ key: string; value: string }]) => {
        written.push(key, (await client.get(manifest))?.value === large ? 'after the manifest' : 'too early');
        await client.put(key, value);
        return { kind: 'done', index: 1 };
      },
    };
    expect(await backup.restore(election as unknown as Election, 1)).toBe(true);
    expect((await client.get(manifest))?.value).toBe(large);
    expect(restored.sort()).toEqual(['A@1.0.0', 'indices/wiki/1.0.0']);
    expect(written.filter((text) => text === 'after the manifest').length).toBe(3);
    await backup.close();
    await consul.close();
  });
});
