// The backup of the desired state while the watches of its parts lag behind each other. The client is a fake, because a
// real Consul cannot delay one of them.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../../core/mod.ts';
import type { ConsulClient, ConsulEntry } from '../../../services/consul/mod.ts';
import { DesiredStateBackup } from '../../../services/master/desired-state-backup.ts';
import { EventLog, keysOf } from '../../../services/mesh/mod.ts';
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
  const client = {
    list: (prefix: string, { index: after = 0 }: { index?: number } = {}) =>
      after > 0 ? new Promise(() => undefined) : Promise.resolve(answers[prefix] ?? { index: 12, entries: [] }),
    get: () => Promise.resolve({ createIndex: RESTORED_AT, value: '{}', problem: '' }),
  };
  backup = new DesiredStateBackup({
    client: client as unknown as ConsulClient,
    mesh: 'test',
    dataDir: directory,
    events: new EventLog('test'),
    clock: systemClock,
    onError: () => undefined,
    onRestored: () => undefined,
  });
  await backup.start();
  await until('the route to be saved', () => saved().includes(`${keys.routes}A`));
}

describe('The backup', () => {
  test('keeps documents that a watch has not shown since the data were restored', async () => {
    await start(RESTORED_AT - 5);
    expect(saved().sort()).toEqual([A, `${keys.routes}A`]);
  });

  test('drops a document that was removed after that', async () => {
    await start(RESTORED_AT + 1);
    expect(saved()).toEqual([`${keys.routes}A`]);
  });
});
