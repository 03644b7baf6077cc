// The leader is killed at each of its writes while an index is added, promoted and removed, before Consul has the write
// and after; and its session is destroyed while indices are added. Whoever leads next brings it to the same end.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startCluster, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { IndexOperator, isTimeout, whyOf } from '../../kit/cluster/index-operator.ts';
import { holdingsOf, indexKeys, liveFiles, servedOf } from '../../kit/cluster/index-view.ts';
import { leadOf, ordersOf, seconds, untilSpread, withoutSignature } from '../../kit/cluster/view.ts';
import { sized } from '../../kit/cluster/whole-tests.ts';
import { writeWords } from '../../kit/mesh/index-source.ts';
import { fixture, jsonRpc, type JsonRpcAnswer } from '../../kit/mesh/mesh.ts';
import { until } from '../../kit/tools/wait.ts';

const BUSY_MS = 240_000;
/** Every write in turn; in the quick run every second one. */
const STEP = sized(1, 2);
/** More writes than the leader makes for one change. */
const WRITES_MAX = 12;
let folder: string;
let cluster: Cluster;
reportFailures(() => cluster);
beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-indices-'));
  writeWords(folder, { a: 'the cat', b: 'the dog and the end' });
  cluster = await startCluster({
    consuls: 1,
    masters: 2,
    managers: 2,
    faceplates: 1,
    hasProxies: true,
    settings: { timeout: '4s', content: { sources: [pathToFileURL(folder).href] } },
    deployments: [{ service: 'Words', version: '1.0.0', command: fixture('words.ts'), count: 1 }],
  });
  await untilSpread(cluster, { 'manager-1': 1, 'manager-2': 1 });
}, BUSY_MS);
afterAll(async () => {
  await cluster?.end();
  rmSync(folder, { recursive: true, force: true });
}, BUSY_MS);

function ask(
  method: string,
  params: Readonly<Record<string, unknown>>,
  headers: Readonly<Record<string, string>> = {},
): Promise<JsonRpcAnswer> {
  return jsonRpc(`${cluster.faceplates[0]?.addresses.jsonRpc}/rpc`, method, params, headers);
}

/** On a busy machine the call may time out. The work continues then, and the test waits for its end anyway. */
const asAdmin = async (method: string, params: object): Promise<void> => {
  const { error } = await ask(`KatamariIndices.${method}`, { token: cluster.adminToken, ...params });
  if (!isTimeout(error)) expect(whyOf(error)).toBe('');
};

const add = (version: string): Promise<void> =>
  new IndexOperator(cluster, 'wiki').add(version, {
    source: pathToFileURL(folder).href,
    contentService: 'Words',
    replicas: 2,
    promoteAtReplicas: 2,
  });
const remove = (version: string): Promise<void> => asAdmin('removeIndex', { name: 'wiki', version });
const promote = (version: string): Promise<void> => asAdmin('promoteIndex', { name: 'wiki', version, force: false });

/** Waits until the version is served as it is to be, and gets the calls. */
async function untilAdded(version: string): Promise<void> {
  const id = `wiki@${version}`;
  await until(
    `${id} on both managers`,
    async () => {
      const served = await servedOf(cluster, id);
      return served['manager-1'] === '0-1' && served['manager-2'] === '0-1';
    },
    BUSY_MS,
  );
  await until('the right answer', async () => (await ask('wiki.total', { word: 'the' })).result === 3);
  await until('the route', async () => (await indexKeys(cluster)).some((key) => key.endsWith('routes/wiki')));
}

/** Waits until Consul has the route that gives all calls to the version. */
async function untilPromoted(version: string): Promise<void> {
  const route = async (): Promise<string> => {
    const [entry] = (await (
      await cluster.consul.ask('/v1/kv/katamari/test/routes/wiki?consistent')
    ).json()) as readonly {
      readonly Value: string;
    }[];
    const text = withoutSignature(Buffer.from(entry?.Value ?? '', 'base64').toString());
    return JSON.stringify((JSON.parse(text || '{}') as { weights?: unknown }).weights);
  };
  const wanted = JSON.stringify({ [version]: 100 });
  let seen = '';
  await until(
    () => `the route to ${version}, seen ${seen}`,
    async () => (seen = await route()) === wanted,
  );
}

/** Waits until nothing is left of one version, and the other is as it was. */
async function untilOneLeft(left: string, removed: string): Promise<void> {
  await until(`no key of ${removed}`, async () => (await indexKeys(cluster)).every((key) => !key.endsWith(removed)));
  await until(`no order of ${removed}`, async () =>
    [...(await ordersOf(cluster)).values()].every(({ shards = [] }) =>
      shards.every(({ indexVersion }) => indexVersion === `wiki@${left}`),
    ),
  );
  await until(`no manager to serve ${removed}`, async () =>
    [...(await holdingsOf(cluster)).values()].every(
      ({ serving }) => JSON.stringify(serving) === JSON.stringify({ [`wiki@${left}`]: '0-1' }),
    ),
  );
}

async function untilRemoved(): Promise<void> {
  await until('its keys to go', async () => (await indexKeys(cluster)).length === 0);
  await until('its orders to go', async () =>
    [...(await ordersOf(cluster)).values()].every(({ shards = [] }) => shards.length === 0),
  );
  await until('no manager to serve it', async () =>
    [...(await holdingsOf(cluster)).values()].every(({ serving }) => Object.keys(serving).length === 0),
  );
}

async function untilNoFiles(): Promise<void> {
  await until('all files to go', () =>
    cluster.managers.every(({ name }) => Object.keys(liveFiles(cluster, name)).length === 0),
  );
  await until('the managers to say so', async () =>
    [...(await holdingsOf(cluster)).values()].every(({ onDisk }) => Object.keys(onDisk).length === 0),
  );
}

/**
 * Kills the leader at its write number `number` from now on. The returned function ends that, waits until a kill that
 * has begun is over, and returns the name of the killed process, if any.
 */
function armKill(number: number, isApplied: boolean): () => Promise<string | undefined> {
  let writes = 0;
  let isOver = true;
  let killed: string | undefined;
  const act = async (): Promise<void> => {
    const lead = await leadOf(cluster);
    killed = lead?.name;
    if (lead !== undefined) await cluster.process(lead.name).kill();
    isOver = true;
  };
  for (const proxy of cluster.liars) {
    proxy.onTransaction = (body) => {
      // Those of a leader are fenced; an admin writes in transactions too.
      if (!body.includes('check-session')) return undefined;
      if (!['/assignments/', '/indices/', '/routes/'].some((folder) => body.includes(folder))) return undefined;
      if (++writes !== number) return undefined;
      isOver = false;
      return { isApplied, act };
    };
  }
  return async () => {
    for (const proxy of cluster.liars) proxy.onTransaction = undefined;
    await until('the kill to be over', () => isOver);
    return killed;
  };
}

/**
 * Makes a change with a leader that is killed at write number `number`, and waits for its end. Returns whether one was
 * killed.
 */
async function killedAt(
  number: number,
  isApplied: boolean,
  change: () => Promise<void>,
  end: () => Promise<void>,
): Promise<boolean> {
  const disarm = armKill(number, isApplied);
  let killed: string | undefined;
  try {
    await change();
    await end();
  } finally {
    // Also after a failure: with both masters killed, the next test would find no leader.
    killed = await disarm();
    if (killed !== undefined) await cluster.process(killed).restart();
  }
  return killed !== undefined;
}

describe('A leader that is killed', () => {
  for (const isApplied of [false, true]) {
    const when = isApplied ? 'after' : 'before';
    test(
      `at each of its writes, ${when} Consul has it, changes no end`,
      async () => {
        const kills: string[] = [];
        for (let number = 1, isLast = false; !isLast; number += STEP) {
          expect(number).toBeLessThan(WRITES_MAX);
          const version = `1.0.${number}`;
          isLast = true;
          for (const [what, change, end] of [
            ['add', () => add(version), () => untilAdded(version)],
            ['remove', () => remove(version), untilRemoved],
          ] as const) {
            const startedAt = performance.now();
            if (!(await killedAt(number, isApplied, change, end))) continue;
            isLast = false;
            kills.push(`${what} ${number}: ${seconds(performance.now() - startedAt)}`);
          }
        }
        console.log(`leader killed ${when} write ${kills.join(', ')}`);
        expect(kills.length).toBeGreaterThan(sized(2, 1));
        await untilNoFiles();
      },
      BUSY_MS,
    );

    test(
      `at each of its writes while a version gets the calls of another one, ${when} Consul has it, changes no end`,
      async () => {
        const first = '1.0.0';
        await add(first);
        await untilAdded(first);
        const kills: string[] = [];
        for (let number = 1, isLast = false; !isLast; number += STEP) {
          expect(number).toBeLessThan(WRITES_MAX);
          const second = `2.0.${number}`;
          isLast = true;
          for (const [what, change, end] of [
            // The leader promotes it when it has its replicas.
            ['add and promote', () => add(second), () => untilAdded(second).then(() => untilPromoted(second))],
            ['promote', () => promote(first), () => untilPromoted(first)],
            ['remove', () => remove(second), () => untilOneLeft(first, second)],
          ] as const) {
            const startedAt = performance.now();
            if (!(await killedAt(number, isApplied, change, end))) continue;
            isLast = false;
            kills.push(`${what} ${number}: ${seconds(performance.now() - startedAt)}`);
          }
          expect((await ask('wiki.total', { word: 'the' })).result).toBe(3);
        }
        console.log(`leader killed ${when} write ${kills.join(', ')}`);
        expect(kills.length).toBeGreaterThan(sized(2, 1));
        await remove(first);
        await untilRemoved();
        await untilNoFiles();
      },
      BUSY_MS,
    );
  }
});

describe('A leader whose session is destroyed', () => {
  test(
    'after each of many adds completes all of them',
    async () => {
      const versions = Array.from({ length: sized(25, 8) }, (_, at) => `3.0.${at}`);
      const startedAt = performance.now();
      for (const version of versions) {
        await add(version);
        const { session } = await until('a leader', () => leadOf(cluster));
        const { status } = await cluster.consul.ask(`/v1/session/destroy/${session}`, { method: 'PUT' });
        expect(status).toBe(200);
      }
      for (const version of versions) await untilAdded(version);
      console.log(
        `${versions.length} adds and destroyed sessions: all complete ${seconds(performance.now() - startedAt)} after the first`,
      );
      await until('every process to serve them', async () => {
        const answers = versions.map((version) =>
          ask('wiki.total', { word: 'the' }, { 'katamari-version': version }).then(({ result }) => result),
        );
        return (await Promise.all(answers)).every((total) => total === 3);
      });
    },
    BUSY_MS,
  );
});
