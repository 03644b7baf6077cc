// Rollouts of good and bad versions under load, on two faceplates and two managers. A good one loses no call, also when
// leaders are killed in each step, all masters are gone for a while, and Consul is away. Bad ones are reverted.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ClientCallers } from '../../kit/cluster/client-callers.ts';
import { startCluster, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { leadOf, poolsOf, seconds } from '../../kit/cluster/view.ts';
import { sleep } from '../../../core/mod.ts';
import { fixture, jsonRpc, type DeploymentText } from '../../kit/mesh/mesh.ts';
import { runKatamari, type RunResult } from '../../kit/tools/run.ts';
import { until } from '../../kit/tools/wait.ts';

const BUSY_MS = 240_000;
const OUTAGE_MS = Number(process.env['KATAMARI_OUTAGE_S'] ?? 8) * 1_000;
const SERVICE = 'Mirrored';

let cluster: Cluster;
reportFailures(() => cluster);
let callers: ClientCallers;

function version(of: string, count: number, env: Readonly<Record<string, string>> = {}): DeploymentText {
  return {
    service: SERVICE,
    version: of,
    command: fixture(of === '2.3.0' ? 'dies-at-start.ts' : 'mirrored.ts'),
    count,
    env: { WORK_VERSION: of, MIRRORED_MS: '10', ...env },
  };
}

beforeAll(async () => {
  cluster = await startCluster({
    consuls: 1,
    masters: 2,
    managers: 2,
    faceplates: 2,
    settings: { routes: { [SERVICE]: { weights: { '1.0.0': 100 }, callersChoose: false } } },
    wanted: [
      version('1.0.0', 4),
      version('2.0.0', 1),
      version('2.1.0', 2, { MIRRORED_ERRORS: '0.03' }),
      version('2.2.0', 4, { MIRRORED_SLOW: '0.05' }),
      version('2.3.0', 0),
      version('2.4.0', 2, { MIRRORED_SCORE: '0.25' }),
    ],
  });
  await until(
    'all copies',
    async () => {
      const pools = await poolsOf(cluster);
      return pools.reduce((sum, { alive }) => sum + alive, 0) === 13;
    },
    60_000,
  );
  callers = new ClientCallers({
    addresses: cluster.faceplates.map(({ addresses }) => addresses.thrift),
    callers: 8,
    pauseMs: 10,
    service: SERVICE,
    call: async (service) => {
      const answer = (await service['search']?.({ words: 'a b', password: 'x' })) as { hits: unknown[] };
      return answer.hits.length === 2 ? '' : JSON.stringify(answer);
    },
  });
}, BUSY_MS);
afterAll(async () => {
  await callers?.stop();
  await cluster?.end();
}, BUSY_MS);

function katamari(...args: string[]): Promise<RunResult> {
  const faceplate = cluster.faceplates.find(({ isRunning }) => isRunning);
  return runKatamari(args, {
    env: { KATAMARI_URL: faceplate?.addresses.jsonRpc ?? '', KATAMARI_TOKEN: cluster.adminToken },
  });
}

interface Seen {
  readonly state: string;
  readonly step: number;
  readonly isHolding: boolean;
  readonly share: number;
  readonly reason: string;
  readonly calls: number;
  readonly badCalls: number;
  readonly waitsFor: string;
}

async function rolloutNow(): Promise<Seen> {
  const { stdout, stderr } = await katamari('rollout', SERVICE, '--json');
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout) as Seen;
}

/** Weights of the route, as a faceplate has them. */
async function weightsNow(): Promise<unknown> {
  const { addresses } = cluster.faceplates[0] as (typeof cluster.faceplates)[number];
  const { result } = await jsonRpc(`${addresses.jsonRpc}/rpc`, 'Katamari.getRoutes', { token: cluster.adminToken });
  return (result as { serviceName: string; weights: unknown }[]).find(({ serviceName }) => serviceName === SERVICE)
    ?.weights;
}

describe('A rollout under load is reverted', () => {
  /** Watches the rollout of a bad version to its end, and returns what was seen then. */
  async function revertOf(of: string, ...options: string[]): Promise<Seen> {
    const [sent, failed] = [callers.sent, callers.failed.length];
    const since = performance.now();
    const run = await katamari('rollout', SERVICE, of, '--steps', '20,50,100', '--hold', '40s', '--watch', ...options);
    expect([run.code, run.stderr], run.stdout).toEqual([1, '']);
    expect(run.stdout).toContain('reverted');
    const seen = await rolloutNow();
    expect(await weightsNow()).toMatchObject({ '1.0.0': 100 });
    const stats = cluster.masters[0]?.addresses.stats ?? '';
    const metrics = await (await fetch(`${stats}/metrics`)).text();
    expect(metrics).toContain(
      `katamari_rollout_state{service="${SERVICE}",from="1.0.0",to="${of}",state="reverted"} 1`,
    );
    const rest = callers.sent;
    await until('calls after it', () => callers.sent > rest + 200);
    console.log(
      `${of} after ${seconds(performance.now() - since)}: ${seen.reason}; ${seen.badCalls} of ${seen.calls} calls went wrong, ` +
        `${callers.failed.length - failed} of ${callers.sent - sent} calls of all failed`,
    );
    return seen;
  }

  test(
    'when the version fails in 3 % of its calls',
    async () => {
      const seen = await revertOf('2.1.0', '--guard', 'errors +0.5pt', '--guard', 'p99 x3');
      expect(seen).toMatchObject({ state: 'REVERTED', share: 0 });
      expect(seen.reason).toMatch(/^errors \+0\.5pt: 2\.1\.0 fails more often/);
      expect(seen.badCalls).toBeGreaterThan(0);
      // Callers saw what it counted, and nothing else failed.
      expect(callers.failed.every((error) => error.includes('this search fails'))).toBe(true);
      expect(callers.failed.length).toBeGreaterThanOrEqual(seen.badCalls);
      callers.failed.length = 0;
    },
    BUSY_MS,
  );

  test(
    'when its p99 is more than twice that of the old one',
    async () => {
      const seen = await revertOf('2.2.0', '--guard', 'errors +0.5pt', '--guard', 'p99 x1.3');
      expect(seen.reason).toMatch(/^p99 x1\.3: p99: 2\.2\.0 is slower/);
      expect(callers.failed).toEqual([]);
    },
    BUSY_MS,
  );

  test(
    'when it crashes at its start, before it gets a call',
    async () => {
      const seen = await revertOf('2.3.0', '--guard', 'errors +0.5pt', '--copies', 'follow', '--start-within', '4s');
      expect(seen).toMatchObject({ state: 'REVERTED', calls: 0 });
      expect(seen.reason).toMatch(/2\.3\.0/);
      expect(callers.failed).toEqual([]);
    },
    BUSY_MS,
  );

  test(
    'when it answers differently',
    async () => {
      expect(await katamari('route', SERVICE, '--mirror', '2.4.0')).toMatchObject({ code: 0, stderr: '' });
      const seen = await revertOf('2.4.0', '--guard', 'diff < 1%');
      expect(seen.reason).toMatch(/^diff < 1%: 2\.4\.0 answers differently/);
      expect(callers.failed).toEqual([]);
      expect(await katamari('route', SERVICE, '--mirror', 'off')).toMatchObject({ code: 0, stderr: '' });
    },
    BUSY_MS,
  );
});

test(
  'A rollout is refused beforehand for a version that does not exist, and for a guard that can see nothing',
  async () => {
    const unknown = await katamari('rollout', SERVICE, '3.0.0');
    expect(unknown).toMatchObject({ code: 1, stdout: '' });
    expect(unknown.stderr).toContain('3.0.0 is no version of Mirrored, which has 1.0.0, 2.0.0');
    const blind = await katamari('rollout', SERVICE, '2.0.0', '--guard', 'diff < 1%');
    expect(blind.stderr).toContain('has no mirror to 2.0.0; add one first: katamari route Mirrored --mirror 2.0.0=10');
  },
  BUSY_MS,
);

test(
  'A good version gets all calls and none fails, while leaders are killed in each step and Consul is away',
  async () => {
    const sent = callers.sent;
    const options = [
      '--steps',
      '20,50,100',
      '--hold',
      '3s',
      '--copies',
      'follow',
      '--keep',
      '1s',
      '--start-within',
      '60s',
    ];
    const run = await katamari(
      'rollout',
      SERVICE,
      '2.0.0',
      ...options,
      '--guard',
      'errors +0.5pt',
      '--guard',
      'p99 x10',
    );
    expect(run).toMatchObject({ code: 0, stderr: '' });
    expect((await katamari('rollout', SERVICE, '2.0.0')).stderr).toContain(
      'The rollout of Mirrored@1.0.0 -> 2.0.0 is running',
    );
    for (const step of [0, 1]) {
      await until(
        `step ${step}`,
        async () => {
          const seen = await rolloutNow();
          return seen.step > step || (seen.step === step && seen.isHolding);
        },
        60_000,
      );
      const lead = await leadOf(cluster);
      const killed = cluster.process(lead?.name ?? '');
      await killed.kill();
      console.log(`leader ${lead?.name} killed in step ${step}`);
      await until('another leader', async () => ((await leadOf(cluster))?.term ?? 0) > (lead?.term ?? 0), 60_000);
      killed.start();
      await killed.untilReady();
    }
    // All masters are gone: it stands still, and says so.
    await katamari('rollout', SERVICE, '--pause');
    await katamari('rollout', SERVICE, '--resume');
    for (const master of cluster.masters) await master.kill();
    const before = await rolloutNow();
    await sleep(OUTAGE_MS);
    const after = await rolloutNow();
    expect([after.state, after.step, after.share]).toEqual([before.state, before.step, before.share]);
    if (before.state === 'RUNNING') expect(after.waitsFor).toBe('no master leads, so it stands still where it is');
    // Consul goes as well, and both come back.
    await cluster.consul.kill(0);
    for (const master of cluster.masters) master.start();
    await sleep(OUTAGE_MS / 2);
    const away = await katamari('rollout', SERVICE);
    expect(away.stderr).toContain('Rollouts stand still where they are');
    cluster.consul.start(0);
    await cluster.consul.waitForLeader();
    await until('the end', async () => (await rolloutNow().catch(() => undefined))?.state === 'DONE', 90_000);
    const seen = await rolloutNow();
    expect(seen).toMatchObject({ share: 100, badCalls: 0 });
    expect(await weightsNow()).toEqual({ '1.0.0': 0, '2.0.0': 100 });
    await until(
      'the copies',
      async () => {
        const pools = await poolsOf(cluster);
        const alive = (of: string): number =>
          pools.reduce((sum, pool) => sum + (pool.version === of ? pool.alive : 0), 0);
        return alive('1.0.0') === 0 && alive('2.0.0') === 4;
      },
      60_000,
    );
    console.log(`2.0.0 has all calls: ${callers.sent - sent} calls, ${callers.failed.length} failed`);
    expect([callers.failed, callers.wrong]).toEqual([[], []]);
  },
  BUSY_MS,
);
