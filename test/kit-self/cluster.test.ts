// The kit's cluster: every process is separate, reports its own state, can be killed and restarted, and nothing is
// left at the end.

import { existsSync, readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkLedger, ClusterCallers } from '../kit/cluster/callers.ts';
import { startCluster, tally, type Cluster } from '../kit/cluster/cluster.ts';
import { isAlive } from '../kit/mesh/mesh.ts';
import { sumOf } from '../kit/mesh/metrics.ts';
import { namespaceLeftovers } from '../kit/cluster/namespaces.ts';
import { DEPLOYMENT, keysOf, readRecord } from '../../services/mesh/mod.ts';
import { until } from '../kit/tools/wait.ts';

const UP_MS = 120_000;

describe('A cluster on loopback', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await startCluster({
      masters: 1,
      managers: 2,
      faceplates: 1,
      settings: { timeout: '5s' },
      deployments: [tally({ count: 2 })],
    });
  }, UP_MS);
  afterAll(() => cluster.end(), 60_000);

  test('has a process of each role with an address, a directory and a Consul server of its own', () => {
    expect(cluster.processes.map(({ name }) => name)).toEqual(['master-1', 'manager-1', 'manager-2', 'faceplate-1']);
    const hosts = [...cluster.processes, ...cluster.consul.servers].map(({ host }) => host.address);
    expect(new Set(hosts).size).toBe(7);
    expect(cluster.processes.every(({ pid, isRunning }) => isRunning && isAlive(pid))).toBe(true);
    expect(readdirSync(cluster.directory)).toEqual(
      expect.arrayContaining(['master-1', 'manager-2', 'faceplate-1', 'consul-1']),
    );
  });

  test('returns status, metrics and log of each process', async () => {
    for (const process of cluster.processes) {
      const { name, roles, pid } = await process.status();
      expect([name, [...roles], pid]).toEqual([process.name, [process.role], process.pid]);
      expect((await process.metrics()).size).toBeGreaterThan(5);
      expect(process.log()).not.toBe('');
    }
  });

  test("runs clients' calls in all its chassis, and the ledger matches", async () => {
    await untilWhole(cluster, 4);
    const callers = new ClusterCallers({ doors: cluster.doors, clients: 8, timeoutMs: 5_000, seed: 1 });
    await until('answers', () => (callers.ends['ok'] ?? 0) >= 300);
    await callers.stop();
    expect(callers.remarkable).toEqual([]);
    const { executions, ...wrong } = checkLedger(cluster.ledger(), callers);
    expect(executions).toBe(callers.sent);
    expect(wrong).toEqual({ ranTwice: [], ranAgain: 0, answeredUnrun: [], refusedRan: [], ranUnanswered: [] });
    const [faceplate] = cluster.faceplates;
    const metrics = await faceplate?.metrics();
    expect(metrics === undefined ? 0 : sumOf(metrics, 'katamari_calls_total', { service: 'Tally' })).toBe(callers.sent);
  });

  test('kills a process, whose chassis end, and starts it again', async () => {
    const manager = cluster.process('manager-2');
    const before = cluster.descendants().length;
    expect(cluster.strays()).toEqual([]);
    await manager.kill();
    expect([manager.isRunning, manager.pid]).toEqual([false, 0]);
    expect(await manager.ended).toEqual({ code: null, signal: 'SIGKILL' });
    await until('its chassis to go', () => cluster.strays().length === 0);
    await manager.restart();
    await untilWhole(cluster, 4);
    expect(cluster.descendants().length).toBe(before);
  });

  test("writes deployments to Consul in the leader's format, and removes them", async () => {
    const { deployments } = keysOf('test');
    const find = async (): Promise<string | undefined> => {
      const response = await cluster.consul.ask(`/v1/kv/${deployments}Tally/2.0.0?raw&consistent`);
      return response.ok ? await response.text() : undefined;
    };
    await cluster.deploy(tally({ version: '2.0.0', count: 0 }));
    // The last line is the signature.
    const text = (await find())?.split('\n').slice(0, -1).join('\n') ?? '';
    expect(readRecord(DEPLOYMENT, text)).toMatchObject({ service: 'Tally', version: '2.0.0', count: 0 });
    await cluster.undeploy('Tally', '2.0.0');
    expect(await find()).toBeUndefined();
  });

  test('freezes and thaws a process', async () => {
    const [faceplate] = cluster.faceplates;
    faceplate?.signal('SIGSTOP');
    await expect(faceplate?.status()).rejects.toThrow();
    faceplate?.signal('SIGCONT');
    expect((await faceplate?.status())?.name).toBe('faceplate-1');
  });

  test('stops gracefully: every process exits with status 0 and no stray is left', async () => {
    await cluster.stop();
    const ends = await Promise.all(cluster.processes.map(({ ended }) => ended));
    expect(ends).toEqual(cluster.processes.map(() => ({ code: 0, signal: null })));
    await until('all descendants to end', () => cluster.descendants().length === 0);
  });
});

describe('A cluster in namespaces', () => {
  test('cuts and heals the path between two processes, and leaves nothing at its end', async () => {
    const cluster = await startCluster({
      network: 'namespaces',
      consuls: 1,
      masters: 1,
      managers: 1,
      faceplates: 1,
      deployments: [tally({ count: 1 })],
    });
    const pids = [...cluster.processes, ...cluster.consul.servers].map(({ pid }) => pid);
    try {
      await untilWhole(cluster, 1);
      await cluster.cut('faceplate-1', 'manager-1');
      await until(
        'the faceplate to have no resource that it reaches',
        async () => (await alive(cluster)) === 0,
        30_000,
      );
      await cluster.heal('faceplate-1', 'manager-1');
      await until('the link to heal', async () => (await alive(cluster)) === 1, 60_000);
      await expect(cluster.cut('faceplate-1', 'manager-9')).rejects.toThrow(
        'No process "manager-9": there are master-1,',
      );
    } finally {
      await cluster.end();
    }
    expect(pids.filter(isAlive)).toEqual([]);
    expect(cluster.descendants()).toEqual([]);
    expect(existsSync(cluster.directory)).toBe(false);
    expect((await namespaceLeftovers()).filter((name) => name.startsWith(`ktm-${process.pid.toString(36)}-`))).toEqual(
      [],
    );
  }, 240_000);
});

describe('startCluster()', () => {
  test(
    'says what a process had to say that did not come up, and leaves nothing',
    async () => {
      const settings = { mesh: 'no good name' };
      const wrong = startCluster({ consuls: 1, masters: 1, managers: 0, faceplates: 0, settings });
      await expect(wrong).rejects.toThrow(/master-1 ended with 78 before it was ready[^]*no good name/);
    },
    UP_MS,
  );
});

/** Living chassis as the faceplate sees them. */
async function alive(cluster: Cluster): Promise<number> {
  const [faceplate] = cluster.faceplates;
  return ((await faceplate?.status())?.pools ?? []).reduce((sum, pool) => sum + pool.alive, 0);
}

async function untilWhole(cluster: Cluster, copies: number): Promise<void> {
  await until(`${copies} copies`, async () => (await alive(cluster)) === copies, 60_000);
}
