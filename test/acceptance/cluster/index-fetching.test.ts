// Managers fetch shards beside their calls: at the rate that they are told, without a call that fails, and a shard that
// can never be opened is tried a few times only.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sleep } from '../../../core/mod.ts';
import { ClientCallers } from '../../kit/cluster/client-callers.ts';
import { startCluster, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { IndexOperator, type AddedVersion } from '../../kit/cluster/index-operator.ts';
import { holdingsOf } from '../../kit/cluster/index-view.ts';
import type { ClusterProcess } from '../../kit/cluster/process.ts';
import { untilSpread } from '../../kit/cluster/view.ts';
import { sized } from '../../kit/cluster/whole-tests.ts';
import { writeWords } from '../../kit/mesh/index-source.ts';
import { sumOf } from '../../kit/mesh/metrics.ts';
import { fixture } from '../../kit/mesh/mesh.ts';
import { until } from '../../kit/tools/wait.ts';

const BUSY_MS = 600_000;
const RATE = 10_000_000;
/** Two shards are fetched at a time, which share the rate. */
const SHARD_BYTES = sized(60_000_000, 20_000_000);
const TURNS = sized(4, 2);
const POLL_MS = 250;
const POLLS_MAX = 400;
const BROKEN_MS = sized(300_000, 12_000);

let folder: string;
let cluster: Cluster;
reportFailures(() => cluster);

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-fetching-'));
  writeWords(path.join(folder, 'wiki'), { a: 'the cat', b: 'the dog and the end' });
  writeWords(path.join(folder, 'big'), { a: 'the', b: 'end' });
  for (const shard of ['a', 'b']) {
    const ballast = path.join(folder, 'big', shard, 'ballast');
    writeFileSync(ballast, '');
    truncateSync(ballast, SHARD_BYTES);
  }
  writeWords(path.join(folder, 'broken'), { a: 'the cat', b: 'the dog' });
  mkdirSync(path.join(folder, 'broken/b'), { recursive: true });
  writeFileSync(path.join(folder, 'broken/b/refused'), '');
  writeFileSync(path.join(folder, 'ledger'), '');
  cluster = await startCluster({
    consuls: 1,
    masters: 1,
    managers: 2,
    faceplates: 1,
    settings: { timeout: '4s', content: { sources: [pathToFileURL(folder).href], fetchRate: '10MB' } },
    deployments: [
      {
        service: 'Words',
        version: '1.0.0',
        command: fixture('words.ts'),
        count: 1,
        env: { WORDS_LEDGER: path.join(folder, 'ledger') },
      },
    ],
  });
  await untilSpread(cluster, { 'manager-1': 1, 'manager-2': 1 });
}, BUSY_MS);
afterAll(async () => {
  await cluster?.end();
  rmSync(folder, { recursive: true, force: true });
}, BUSY_MS);

function added(source: string): AddedVersion {
  const url = pathToFileURL(path.join(folder, source)).href;
  return { source: url, contentService: 'Words', replicas: 2, promoteAtReplicas: 1 };
}

const fetchedBytes = async (one: ClusterProcess): Promise<number> =>
  sumOf(await one.metrics(), 'katamari_fetch_bytes_total');

/** Bytes that a manager has fetched, and when. */
type Sample = readonly [bytes: number, ms: number];

/** Waits until a manager has fetched so many bytes. */
async function sample(one: ClusterProcess, bytes: number): Promise<Sample> {
  for (let polls = 0; polls < POLLS_MAX; polls++) {
    const seen = await fetchedBytes(one);
    if (seen >= bytes) return [seen, performance.now()];
    await sleep(POLL_MS);
  }
  throw new Error(`${bytes} bytes were not fetched in ${POLLS_MAX * POLL_MS} ms`);
}

describe('A fetch', () => {
  test(
    'keeps to the rate of its manager, and fails no call',
    async () => {
      const [wiki, big] = [new IndexOperator(cluster, 'wiki'), new IndexOperator(cluster, 'big')];
      await wiki.untilAddable('1.0.0', added('wiki'));
      await wiki.add('1.0.0', added('wiki'));
      await wiki.untilReplicas('1.0.0', 2, 2);
      await until('an answer', async () => (await wiki.ask('wiki.total', { word: 'the' })).result === 3);
      const callers = new ClientCallers({
        addresses: cluster.faceplates.map(({ addresses }) => addresses.thrift),
        callers: 4,
        // Callers that take all of a processor would measure themselves.
        pauseMs: 5,
        service: 'wiki',
        call: async (service) => {
          const total = await service['total']?.({ word: 'the' });
          return total === 3 ? '' : `${String(total)}, expected 3`;
        },
      });
      const { managers } = cluster;
      const p99s: number[][] = [];
      const rates: number[] = [];
      try {
        for (let turn = 0; turn < TURNS; turn++) {
          callers.p99Ms();
          await sleep((2 * SHARD_BYTES * 1_000) / RATE);
          const withoutMs = callers.p99Ms();
          const before = await Promise.all(managers.map(fetchedBytes));
          const samples = (bytes: number): Promise<Sample[]> =>
            Promise.all(managers.map((one, at) => sample(one, (before[at] ?? 0) + bytes)));
          await big.add(`1.0.${turn}`, added('big'));
          // From the first bytes of the fetch, without what the bucket holds, to the last that are sure to be of it.
          const first = await samples(RATE);
          const startMs = callers.p99Ms();
          const lastBytes = 2 * SHARD_BYTES - RATE / 2;
          // Asks for no metrics meanwhile: to collect them takes some 10 ms of a manager, for which its calls wait.
          await sleep(((lastBytes - RATE) * 1_000) / RATE);
          const last = await samples(lastBytes);
          p99s.push([startMs, callers.p99Ms(), withoutMs]);
          for (const [at, [bytes, atMs]] of last.entries()) {
            const [firstBytes, firstMs] = first[at] ?? [0, 0];
            rates.push((bytes - firstBytes) / ((atMs - firstMs) / 1_000));
          }
          await big.untilReplicas(`1.0.${turn}`, 2, 2);
          await big.split({ [`1.0.${turn}`]: 100 });
          if (turn > 0) await big.remove(`1.0.${turn - 1}`);
        }
      } finally {
        await callers.stop();
      }
      console.log(
        `fetch rate by turn and manager, of ${RATE / 1e6} MB/s: ${rates.map((rate) => (rate / 1e6).toFixed(2)).join(' ')}; ` +
          `p99 of calls while it starts, at full rate and without a fetch, in ms: ${p99s.map((turn) => turn.map((ms) => ms.toFixed(1)).join('/')).join(' ')} ` +
          `(promised at full rate: 1.2 times); ${callers.line}`,
      );
      expect(callers.failed).toEqual([]);
      expect(callers.wrong).toEqual([]);
      // A busy machine may be slower. Faster than the limit is never right.
      for (const rate of rates) expect(rate).toBeLessThan(RATE * 1.1);
    },
    BUSY_MS,
  );
});

describe('A shard that can never be opened', () => {
  test(
    'is tried a few times on each manager, and is one condition of each',
    async () => {
      const broken = new IndexOperator(cluster, 'broken');
      const addedAt = performance.now();
      await broken.add('1.0.0', added('broken'));
      const opens = (): Map<string, number> => {
        const counts = new Map<string, number>();
        for (const line of readFileSync(path.join(folder, 'ledger'), 'utf8').split('\n')) {
          const [what, shard, pid = ''] = line.split(' ');
          if (what === 'open' && shard === 'broken@1.0.0/b') counts.set(pid, (counts.get(pid) ?? 0) + 1);
        }
        return counts;
      };
      await until('every manager to try it', () => opens().size === cluster.managers.length);
      while (performance.now() - addedAt < BROKEN_MS) {
        const conditions = await broken.conditionsOf('1.0.0');
        const named = conditions.map((one) => / on (manager-\d)/.exec(one)?.[1]).filter((one) => one !== undefined);
        expect(new Set(named).size).toBe(named.length);
        expect(new Set(conditions).size).toBe(conditions.length);
        await sleep(1_000);
      }
      const conditions = await broken.conditionsOf('1.0.0');
      console.log(
        `never opened: ${[...opens().values()].join(' and ')} tries in ${BROKEN_MS / 1_000} s; ${conditions.join('; ')}`,
      );
      for (const tries of opens().values()) expect(tries).toBeLessThanOrEqual(10);
      expect(conditions.join('\n')).toContain('words.txt has version 9');
      const failed = [...(await holdingsOf(cluster)).values()].flatMap((held) => held.failed);
      expect(failed.every(({ indexVersion, place }) => indexVersion === 'broken@1.0.0' && place === 1)).toBe(true);
      await broken.remove('1.0.0');
    },
    BUSY_MS,
  );
});
