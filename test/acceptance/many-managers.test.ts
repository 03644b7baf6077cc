// A large mesh in one real Consul: 100 managers with 1,000 resources in 200 pools, each with its own session and
// record, and two faceplates that connect to all of them. Measures how fast a change reaches every faceplate, and
// what is written to Consul while nothing changes.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseIdl } from '../../core/idl/mod.ts';
import { startLinkServer, type LinkServer } from '../../core/link/mod.ts';
import { DEFAULT_LIMITS, systemClock } from '../../core/mod.ts';
import { EMPTY_STRUCT, NO_REPLY_CONTEXT } from '../../core/rpc/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import { consulClient } from '../../services/consul/mod.ts';
import { EventLog, Fleet, keysOf, Presence, type ManagerRecord, type PoolRecord } from '../../services/mesh/mod.ts';
import { startRealConsul, type TestConsul } from '../kit/consul/consul.ts';
import { until } from '../kit/tools/wait.ts';

const MANAGERS = 100;
const POOLS = 200;
const POOLS_A_MANAGER = 5;
const ALIVE_A_POOL = 2;
const QUIET_MS = 15_000;

const keys = keysOf('large');
const source = { main: 'work.thrift', files: { 'work.thrift': 'service Work { i32 plain() }' } };
const face = parseIdl(source).services.get('Work') as Interface;

/** Manager n has 5 of the 200 pools, 2 resources each. */
function poolsOf(n: number): PoolRecord[] {
  return Array.from({ length: POOLS_A_MANAGER }, (_, i) => {
    const version = `1.${(n * POOLS_A_MANAGER + i) % POOLS}.0`;
    return {
      id: `Work@${version}`,
      service: 'Work',
      version,
      roles: [],
      tags: [],
      more: {},
      interfaceId: face.id,
      alive: ALIVE_A_POOL,
    };
  });
}

interface Simulated {
  record: ManagerRecord;
  readonly presence: Presence;
}

let consul: TestConsul;
let link: LinkServer;
const managers: Simulated[] = [];
const fleets: Fleet[] = [];

beforeAll(async () => {
  // In reality each manager is a machine of its own; Consul allows 200 connections per machine.
  consul = await startRealConsul({ config: { limits: { http_max_conns_per_client: 2_000 } } });
  // All share one address: the test simulates membership, not work.
  link = await startLinkServer('tcp:127.0.0.1:0', {
    send: (_call, sink) => sink.reply({ isException: false, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT }),
    limits: DEFAULT_LIMITS,
    timeoutMs: () => 10_000,
    caller: 'test',
  });
  const client = consulClient({ address: consul.address });
  await client.put(keys.idl + face.id, JSON.stringify(source));
});

afterAll(async () => {
  for (const fleet of fleets) fleet.close();
  await Promise.all(managers.map(({ presence }) => presence.close()));
  await link?.close();
  await consul?.close();
});

function simulate(n: number): Simulated {
  const port = Number(link.address.split(':').at(-1));
  const name = `manager-${String(n).padStart(3, '0')}`;
  const presence = new Presence({
    client: consulClient({ address: consul.address }),
    mesh: 'large',
    name,
    roles: ['manager'],
    listeners: [{ service: 'katamari-manager', host: '127.0.0.1', port }],
    events: new EventLog(name),
    onError: () => undefined,
  });
  const simulated: Simulated = {
    presence,
    record: {
      address: `127.0.0.1:${port}`,
      machine: `machine-${n % 20}`,
      capacity: 10,
      isDraining: false,
      stats: '',
      pools: poolsOf(n),
      starting: [],
    },
  };
  presence.keep(keys.managers + name, () => simulated.record);
  return simulated;
}

function follow(name: string): Fleet {
  const fleet = new Fleet({
    client: consulClient({ address: consul.address }),
    mesh: 'large',
    self: '',
    events: new EventLog(name),
    clock: systemClock,
    security: undefined,
    limits: DEFAULT_LIMITS,
    connects: 'at once',
    onChange: () => undefined,
    onAnswer: () => undefined,
    onError: () => undefined,
  });
  void fleet.start();
  return fleet;
}

const living = (fleet: Fleet): number => fleet.offers().reduce((sum, { alive }) => sum + alive, 0);
const isEverywhere = (alive: number): boolean => fleets.every((fleet) => living(fleet) === alive);

/** Number of entries in Consul's raft log so far. */
async function writes(): Promise<number> {
  const answer = await fetch(`http://${consul.address}/v1/agent/self`);
  const { Stats } = (await answer.json()) as { Stats: { raft: { last_log_index: string } } };
  return Number(Stats.raft.last_log_index);
}

describe('100 managers with 1,000 resources in 200 pools', () => {
  test('are known and connected to every faceplate that starts', async () => {
    const beganMs = performance.now();
    for (let n = 0; n < MANAGERS; n++) managers.push(simulate(n));
    fleets.push(follow('one'), follow('two'));
    await until('all resources to be known', () => isEverywhere(1_000), 50_000);
    process.stdout.write(`many managers: all entered and linked after ${Math.round(performance.now() - beganMs)} ms\n`);
    expect(fleets.map((fleet) => fleet.records.size)).toEqual([MANAGERS, MANAGERS]);
    const versions = new Set(fleets.flatMap((fleet) => fleet.offers().map(({ id }) => id)));
    expect(versions.size).toBe(POOLS);
  });

  test('propagate a change of one manager to every faceplate', async () => {
    const tookMs: number[] = [];
    for (let round = 0; round < 10; round++) {
      const one = managers[round * 7] as Simulated;
      const beganMs = performance.now();
      one.record = { ...one.record, pools: one.record.pools.map((pool) => ({ ...pool, alive: 1 })) };
      one.presence.changed();
      await until('the change', () => isEverywhere(1_000 - POOLS_A_MANAGER));
      tookMs.push(performance.now() - beganMs);
      one.record = { ...one.record, pools: one.record.pools.map((pool) => ({ ...pool, alive: ALIVE_A_POOL })) };
      one.presence.changed();
      await until('the change back', () => isEverywhere(1_000));
    }
    const sorted = tookMs.map(Math.round).sort((a, b) => a - b);
    process.stdout.write(`many managers: a change reaches both faceplates after ${sorted.join(', ')} ms\n`);
    expect(sorted).toHaveLength(10);
  });

  test('write almost nothing while nothing changes', async () => {
    const before = await writes();
    await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
    const perMinute = ((await writes()) - before) * (60_000 / QUIET_MS);
    process.stdout.write(`many managers: ${perMinute} writes a minute in Consul while nothing changes\n`);
    // An agent refreshes its entries now and then: fewer writes than managers, far fewer than pairs of managers.
    expect(perMinute).toBeLessThan(MANAGERS * 2);
  });

  test('coalesce a thousand simultaneous changes into one write per changed manager', async () => {
    const before = await writes();
    for (let times = 0; times < 10; times++) {
      for (const one of managers) {
        one.record = { ...one.record, pools: one.record.pools.map((pool) => ({ ...pool, alive: 2 - (times % 2) })) };
        one.presence.changed();
      }
    }
    await until('the last of them everywhere', () => isEverywhere(500));
    const written = (await writes()) - before;
    process.stdout.write(`many managers: 1,000 changes at once took ${written} writes\n`);
    expect(written).toBeLessThan(MANAGERS * 3);
  });
});
