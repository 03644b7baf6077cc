// Indices come and go, and leave nothing: no watch, link or file in any process, no file on a disk but the removed
// shards that are kept for an hour, and no memory. A mesh at rest writes nothing to Consul.

import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startCluster, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { IndexOperator, type AddedVersion } from '../../kit/cluster/index-operator.ts';
import { holdingsOf } from '../../kit/cluster/index-view.ts';
import type { ClusterProcess } from '../../kit/cluster/process.ts';
import { untilSpread } from '../../kit/cluster/view.ts';
import { sized } from '../../kit/cluster/whole-tests.ts';
import { writeWords } from '../../kit/mesh/index-source.ts';
import { fixture } from '../../kit/mesh/mesh.ts';
import { until } from '../../kit/tools/wait.ts';

const BUSY_MS = 600_000;
const WINDOWS = sized(9, 3);
const IN_A_WINDOW = sized(12, 5);
const REST_MS = sized(10_000, 3_000);
/** Connections between calls come and go. */
const FILES_MORE_MAX = 6;
/** A document that is being replaced. */
const DISK_MORE_MAX = 1;
/** Compiled code and bounded caches; fewer windows have more of them. */
const HEAP_MORE_MAX = sized(2, 6) * 1024 * 1024;

let folder: string;
let cluster: Cluster;
reportFailures(() => cluster);

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-leaks-'));
  writeWords(path.join(folder, 'tiny'), { a: 'the end', b: 'an end' });
  const probe = fileURLToPath(new URL('../../fixtures/heap-probe.cjs', import.meta.url));
  cluster = await startCluster({
    consuls: 1,
    masters: 2,
    managers: 2,
    faceplates: 1,
    settings: { timeout: '2s', content: { sources: [pathToFileURL(folder).href] } },
    deployments: [{ service: 'Words', version: '1.0.0', command: fixture('words.ts'), count: 1 }],
    env: { NODE_OPTIONS: `--expose-gc --require ${probe}` },
  });
  await untilSpread(cluster, { 'manager-1': 1, 'manager-2': 1 });
  await new IndexOperator(cluster, 'x0').untilAddable('1.0.0', added());
}, BUSY_MS);
afterAll(async () => {
  await cluster?.end();
  rmSync(folder, { recursive: true, force: true });
}, BUSY_MS);

/** What one process has. */
interface Vitals {
  readonly heapBytes: number;
  /** Open files and sockets. */
  readonly open: number;
  readonly sockets: number;
  /** Files in its folder. */
  readonly onDisk: number;
}

describe('Indices that come and go', () => {
  test(
    'leave nothing in any process, and a mesh at rest writes nothing',
    async () => {
      for (let number = 0; number < 6; number++) await addAndRemove(number);
      const windows: Vitals[][] = [];
      for (let window = 0, number = 6; window < WINDOWS; window++) {
        for (let count = 0; count < IN_A_WINDOW; count++) await addAndRemove(number++);
        await atRest();
        windows.push(await Promise.all(cluster.processes.map(vitals)));
      }
      const third = Math.ceil(WINDOWS / 3);
      for (const [at, { name }] of cluster.processes.entries()) {
        const seen = windows.map((window) => window[at] as Vitals);
        const [before, after] = [medianOf(seen.slice(WINDOWS > 3 ? third : 0, -third)), medianOf(seen.slice(-third))];
        console.log(
          `${name}: heap ${mib(before.heapBytes)} -> ${mib(after.heapBytes)} MiB, open files ${before.open} -> ${after.open}, ` +
            `sockets ${before.sockets} -> ${after.sockets}, files on disk ${before.onDisk} -> ${after.onDisk}`,
        );
        const more = (what: keyof Vitals): readonly [string, string, number] => [
          name,
          what,
          after[what] - before[what],
        ];
        expect(more('open')[2], more('open').join(' ')).toBeLessThanOrEqual(FILES_MORE_MAX);
        expect(more('sockets')[2], more('sockets').join(' ')).toBeLessThanOrEqual(FILES_MORE_MAX);
        expect(more('onDisk')[2], more('onDisk').join(' ')).toBeLessThanOrEqual(DISK_MORE_MAX);
        expect(more('heapBytes')[2], more('heapBytes').join(' ')).toBeLessThanOrEqual(HEAP_MORE_MAX);
      }
    },
    BUSY_MS,
  );
});

function added(): AddedVersion {
  const source = pathToFileURL(path.join(folder, 'tiny')).href;
  return { source, contentService: 'Words', replicas: 2, promoteAtReplicas: 1 };
}

async function addAndRemove(number: number): Promise<void> {
  const index = new IndexOperator(cluster, `x${number % 3}`);
  const version = `1.0.${number}`;
  await index.add(version, added());
  await until('the index to answer', async () => {
    return (await index.ask(`x${number % 3}.total`, { word: 'end' })).result === 2;
  });
  await index.remove(version);
}

/** Waits until nothing of the indices is left, and Consul has not been written for a while. */
async function atRest(): Promise<void> {
  await until('the managers to be done', async () =>
    [...(await holdingsOf(cluster)).values()].every(
      ({ serving, onDisk }) => Object.keys(serving).length + Object.keys(onDisk).length === 0,
    ),
  );
  const index = async (): Promise<string> =>
    (await cluster.consul.ask('/v1/kv/katamari/test/?recurse&consistent')).headers.get('x-consul-index') ?? '';
  let [last, sinceMs] = [await index(), performance.now()];
  await until('Consul to be left alone', async () => {
    const now = await index();
    if (now !== last) [last, sinceMs] = [now, performance.now()];
    return performance.now() - sinceMs > REST_MS;
  });
}

async function vitals(one: ClusterProcess): Promise<Vitals> {
  const lines = (): string[] => {
    const file = path.join(one.directory, 'heap');
    return existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : [];
  };
  const before = lines().length;
  one.signal('SIGUSR2');
  await until(`the heap of ${one.name}`, () => lines().length > before);
  const links = readdirSync(`/proc/${one.pid}/fd`).map((fd) => linkOf(`/proc/${one.pid}/fd/${fd}`));
  return {
    heapBytes: Number(lines().at(-1)),
    open: links.length,
    sockets: links.filter((link) => link.startsWith('socket:')).length,
    // Removed shards are kept for an hour.
    onDisk: readdirSync(one.directory, { recursive: true, withFileTypes: true }).filter(
      (found) => found.isFile() && !found.parentPath.startsWith(path.join(one.directory, 'data/shards/old')),
    ).length,
  };
}

/** '' when the file is gone already. */
function linkOf(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return '';
  }
}

function medianOf(seen: readonly Vitals[]): Vitals {
  const median = (what: keyof Vitals): number => {
    const sorted = seen.map((one) => one[what]).sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] as number;
  };
  return { heapBytes: median('heapBytes'), open: median('open'), sockets: median('sockets'), onDisk: median('onDisk') };
}

const mib = (bytes: number): string => (bytes / 1024 / 1024).toFixed(1);
