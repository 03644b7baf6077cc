// The policy in Consul and on disk: whatever is wrong with a document changes nothing, and a broken file denies all.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { KatamariError, systemClock } from '../../../core/mod.ts';
import { identityOf } from '../../../core/rpc/mod.ts';
import { PolicyStore } from '../../../services/access/mod.ts';
import { consulClient, type ConsulClient } from '../../../services/consul/mod.ts';
import { documentSigner, EventLog, keysOf, Reachability, type AccessPolicy } from '../../../services/mesh/mod.ts';
import { startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { until } from '../../kit/tools/wait.ts';

const SECRET = 'a secret of this mesh, long enough';
const ALICE = identityOf('alice', 'token');
const ALLOW_A = 'rules: [{ who: alice, may: A.a }]';
const ALLOW_B = 'rules: [{ who: alice, may: B.b }]';

let consul: TestConsul;
let client: ConsulClient;
let folder: string;
let stores: { store: PolicyStore; applied: (AccessPolicy | undefined)[]; events: EventLog }[];
let meshes = 0;
let mesh: string;

beforeAll(async () => {
  consul = await startConsul('embedded');
});
afterAll(() => consul.close());
beforeEach(() => {
  mesh = `mesh${++meshes}`;
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-policy-'));
  client = consulClient({ address: consul.address, signer: documentSigner(mesh, () => [SECRET]) });
  stores = [];
});
afterEach(async () => {
  for (const { store } of stores) await store.close();
  client.close();
  rmSync(folder, { recursive: true, force: true });
});

async function open(name = 'one', by: ConsulClient = client): Promise<(typeof stores)[number]> {
  const events = new EventLog(name);
  const applied: (AccessPolicy | undefined)[] = [];
  const store = new PolicyStore({
    client: by,
    mesh,
    dataDir: path.join(folder, name),
    events,
    reachability: new Reachability('consul', events),
    clock: systemClock,
    apply: (policy) => applied.push(policy),
  });
  const opened = { store, applied, events };
  stores.push(opened);
  await store.start();
  return opened;
}

/** Whether the policy that was applied last lets alice call A.a and B.b; 'all' for no policy. */
function inForce({ applied }: { readonly applied: readonly (AccessPolicy | undefined)[] }): string {
  const policy = applied.at(-1);
  if (policy === undefined) return 'all';
  const rights = policy.rightsOf(ALICE);
  const may = (service: string, method: string): boolean =>
    rights.mayCall({ service, version: '1.0.0', method, poolRoles: [] });
  return `${may('A', 'a') ? 'A' : ''}${may('B', 'b') ? 'B' : ''}` || 'nothing';
}

const told = ({ events }: { readonly events: EventLog }): string =>
  events
    .after(0)
    .map(({ text }) => text)
    .join('\n');

describe('A policy', () => {
  test('is in force in every process, with compare-and-set and a history', async () => {
    const [one, two] = [await open('one'), await open('two')];
    expect(inForce(one)).toBe('all');
    expect(await one.store.set(ALLOW_A, 0, 'ann')).toMatchObject({ version: 1, by: 'ann' });
    expect(inForce(one)).toBe('A');
    await until('the other process to follow', () => inForce(two) === 'A');
    await expect(two.store.set(ALLOW_B, 0, 'bob')).rejects.toThrow(
      /is at version 1, and this change was made from version 0/,
    );
    await two.store.set(ALLOW_B, 1, 'bob');
    await until('the first process to follow', () => inForce(one) === 'B');
    const results = await Promise.allSettled([one.store.set(ALLOW_A, 2, 'ann'), two.store.set(ALLOW_B, 2, 'bob')]);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    const history = await one.store.history();
    expect(history.map(({ version }) => version)).toEqual([3, 2, 1]);
    expect(history.at(-1)).toMatchObject({ text: ALLOW_A, by: 'ann' });
    await until('both to have the third', () => two.store.record?.version === 3 && one.store.record?.version === 3);
    await one.store.set('', 3, 'ann');
    expect(inForce(one)).toBe('all');
    await until('the other process to follow', () => inForce(two) === 'all');
  });

  test('keeps the last twenty versions', async () => {
    const { store } = await open();
    for (let version = 0; version < 25; version++)
      await store.set(version % 2 === 0 ? ALLOW_A : ALLOW_B, version, 'ann');
    const history = await store.history();
    expect(history[0]?.version).toBe(25);
    expect(history).toHaveLength(21);
    expect(history.at(-1)?.version).toBe(5);
  });

  test('that is not valid is refused, and stays without effect when it is written into Consul', async () => {
    const one = await open();
    await expect(one.store.set('rules: 1', 0, 'ann')).rejects.toThrow(/not valid:\nline 1: rules: expected a list/);
    await one.store.set(ALLOW_A, 0, 'ann');
    const key = keysOf(mesh).policy;
    const forger = consulClient({ address: consul.address });
    const wrong: readonly [string, ConsulClient, RegExp][] = [
      [JSON.stringify({ version: 9, text: ALLOW_B, by: 'eve', atMs: 1 }), forger, /not signed/],
      [JSON.stringify({ version: 9, text: 'rules: 1', by: 'eve', atMs: 1 }), client, /line 1: rules: expected a list/],
      ['{}', client, /version 1 stays in force/],
      ['[null]', client, /version 1 stays in force/],
      [JSON.stringify({ version: 1, text: ALLOW_B, by: 'eve', atMs: 1 }), client, /is not newer/],
    ];
    for (const [value, by, expected] of wrong) {
      const before = told(one).length;
      await by.put(key, value);
      await until('the event', () => expected.test(told(one).slice(before)));
      expect(inForce(one)).toBe('A');
    }
    await client.delete(key);
    await until('the event', () => told(one).includes('is missing in Consul; version 1 stays in force'));
    expect(inForce(one)).toBe('A');
    await one.store.set(ALLOW_B, 1, 'ann');
    expect(inForce(one)).toBe('B');
    forger.close();
  });

  test('holds at a start without Consul, and a file that is broken denies everything until Consul has one', async () => {
    const first = await open();
    await first.store.set(ALLOW_A, 0, 'ann');
    const file = path.join(folder, 'one', 'policy.json');
    await until('the file', () => existsSync(file));
    await first.store.close();
    const away = consulClient({ address: '127.0.0.1:9' });
    const again = await open('one', away);
    expect(inForce(again)).toBe('A');
    await again.store.close();
    for (const broken of ['', '{"version":1', '{"version":1,"text":"rules: 1","by":"x","atMs":1}', 'null']) {
      writeFileSync(file, broken);
      const denied = await open('one', away);
      expect(inForce(denied)).toBe('nothing');
      expect(denied.store.isBroken).toBe(true);
      expect(told(denied)).toContain('cannot be used, so every call is denied');
      await denied.store.close();
    }
    const healed = await open('one');
    expect(inForce(healed)).toBe('A');
    expect(healed.store.isBroken).toBe(false);
    await until('the file to be whole', () => readFileSync(file, 'utf8').includes('"version":1'));
    away.close();
  });

  test('of more bytes than Consul takes is refused', async () => {
    const { store } = await open();
    const error = await store.set(`rules: []\n#${'x'.repeat(400_000)}`, 0, 'ann').catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(KatamariError);
    expect((error as Error).message).toContain('limit is 393216');
  });
});
