// Fetch processes are kept for the next job and replaced after an abort or a crash, and all fetches together keep to
// the rate.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Fetcher } from '../../../services/content/fetch/fetcher.ts';
import { listSource, type ListedShard } from '../../../services/content/fetch/source-listing.ts';
import { FileSource } from '../../../services/content/fetch/sources/file-source.ts';
import { childPids, procFile } from '../../kit/tools/processes.ts';
import { until } from '../../kit/tools/wait.ts';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { getPriority, tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

let folder: string;
let fetcher: Fetcher;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-fetcher-'));
  useRate(0);
});
afterEach(() => {
  fetcher.close();
  rmSync(folder, { recursive: true, force: true });
});

const source = (): string => pathToFileURL(path.join(folder, 'wiki')).href;
const into = (name: string): string => path.join(folder, 'store', name);
const pids = (): readonly number[] => childPids(/content\/fetch\/main\.[jt]s/);

function useRate(bytesPerS: number): void {
  fetcher = new Fetcher([pathToFileURL(folder).href], bytesPerS);
}

async function writeShards(shards: Readonly<Record<string, Buffer | string>>): Promise<readonly ListedShard[]> {
  mkdirSync(path.join(folder, 'wiki'), { recursive: true });
  for (const [name, content] of Object.entries(shards)) writeFileSync(path.join(folder, 'wiki', name), content);
  return await listSource(source(), new FileSource());
}

async function fetchShard(
  { name, source: from, digest }: ListedShard,
  signal: AbortSignal = new AbortController().signal,
): Promise<void> {
  const job = { shard: `wiki@1.0.0/${name}`, source: from, digest, into: into(name) };
  await fetcher.fetch(job, () => undefined, signal);
}

const damageOf = (name: string): Promise<string> =>
  fetcher.verify(into(name), 'at_once', () => undefined, new AbortController().signal);

/** Bytes of a shard that are here. */
function bytesHere(name: string): number {
  if (!existsSync(into(name))) return 0;
  const file = readdirSync(into(name)).find((one) => one.startsWith('unfinished-')) ?? 'content';
  return statSync(path.join(into(name), file), { throwIfNoEntry: false })?.size ?? 0;
}

describe('A fetch process', () => {
  test('does one job after the other, whether they succeed or fail, niced and without the secrets of the mesh', async () => {
    const [a, b, c] = (await writeShards({ a: 'one', b: 'two', c: 'three' })) as [
      ListedShard,
      ListedShard,
      ListedShard,
    ];
    process.env['KATAMARI_TOKEN'] = 'secret-of-the-mesh-0123456789';
    try {
      await fetchShard(a);
    } finally {
      delete process.env['KATAMARI_TOKEN'];
    }
    const [first, ...others] = pids() as [number, ...number[]];
    expect(others).toEqual([]);
    expect(getPriority(first)).toBe(10);
    expect(procFile(first, 'environ')).toContain('PATH=');
    expect(procFile(first, 'environ')).not.toContain('secret-of-the-mesh');
    await expect(fetchShard({ ...b, digest: 'another' })).rejects.toThrow('has changed since it was added');
    expect(await damageOf('a')).toBe('');
    writeFileSync(path.join(into('a'), 'content'), 'odd');
    expect(await damageOf('a')).toBe('its file has another SHA-256 than when it was fetched');
    await fetchShard(c);
    expect(readFileSync(path.join(into('c'), 'content'), 'utf8')).toBe('three');
    expect(pids()).toEqual([first]);
    fetcher.close();
    await until('its end', () => pids().length === 0);
    await expect(fetchShard(b)).rejects.toThrow('this manager is stopping');
  }, 60_000);

  test('without a job ends, and another one takes the next job', async () => {
    const [a, b] = (await writeShards({ a: 'one', b: 'two' })) as [ListedShard, ListedShard];
    fetcher = new Fetcher([pathToFileURL(folder).href], 0, 1);
    await fetchShard(a);
    await until('its end', () => pids().length === 0);
    await fetchShard(b);
    expect(readFileSync(path.join(into('b'), 'content'), 'utf8')).toBe('two');
  }, 60_000);

  test('that is killed while it is idle is replaced', async () => {
    const [a, b] = (await writeShards({ a: 'one', b: 'two' })) as [ListedShard, ListedShard];
    await fetchShard(a);
    const [first] = pids() as [number];
    process.kill(first, 'SIGKILL');
    await until('its end', () => pids().length === 0);
    await fetchShard(b);
    expect(readFileSync(path.join(into('b'), 'content'), 'utf8')).toBe('two');
    expect(pids()).not.toContain(first);
  }, 60_000);

  test('that is killed by the abort of its job does not end the other job', async () => {
    const content = Buffer.alloc(1_000_000, 'shard ');
    const [a, b] = (await writeShards({ a: content, b: content })) as [ListedShard, ListedShard];
    useRate(400_000);
    const stop = new AbortController();
    const aborted = fetchShard(a, stop.signal);
    aborted.catch(() => undefined);
    const other = fetchShard(b);
    await until('both to have some bytes', () => bytesHere('a') > 0 && bytesHere('b') > 0);
    expect(pids().length).toBe(2);
    stop.abort(new Error('stopped by the test'));
    await expect(aborted).rejects.toThrow('stopped by the test');
    await other;
    expect(readFileSync(path.join(into('b'), 'content')).equals(content)).toBe(true);
    expect(pids().length).toBe(1);
  }, 60_000);
});

describe('A check in the background', () => {
  const CHUNK_BYTES = 256 * 1024;
  /** Starts to check; `read` has the bytes that it has read so far. */
  function check(name: string): { readonly read: () => number; readonly done: Promise<string> } {
    let read = 0;
    const done = fetcher.verify(
      into(name),
      'in_background',
      (bytesDone) => (read = bytesDone),
      new AbortController().signal,
    );
    done.catch(() => undefined);
    return { read: () => read, done };
  }

  test('pauses while a shard is fetched, and goes on then', async () => {
    const [a, b] = (await writeShards({ a: Buffer.alloc(8_000_000), b: Buffer.alloc(3_000_000) })) as [
      ListedShard,
      ListedShard,
    ];
    await fetchShard(a);
    fetcher.close();
    useRate(1_000_000);
    const { read, done } = check('a');
    await until('some bytes', () => read() > 0);
    const fetching = fetchShard(b);
    await until('the fetch to begin', () => bytesHere('b') > 0);
    // What it has read before the order to pause has come.
    const before = read();
    await fetching;
    expect(read() - before).toBeLessThanOrEqual(4 * CHUNK_BYTES);
    expect(read()).toBeLessThan(8_000_000);
    expect(await done).toBe('');
    expect(read()).toBe(8_000_000);
  }, 60_000);

  test('whose process is killed says so, and calls no file damaged', async () => {
    const [a] = (await writeShards({ a: Buffer.alloc(8_000_000) })) as [ListedShard];
    await fetchShard(a);
    fetcher.close();
    await until('its end', () => pids().length === 0);
    useRate(100_000);
    const { read, done } = check('a');
    await until('some bytes', () => read() > 0);
    process.kill(pids()[0] as number, 'SIGKILL');
    await expect(done).rejects.toThrow('The fetch process ended with SIGKILL');
  }, 60_000);
});

describe('A rate of 2 MB per second', () => {
  const RATE = 2_000_000;
  /** A burst after a pause has half a second at most, so half of the rate stays below three quarters of it. */
  const WINDOW_MS = 2_000;

  /** Bytes per second of both shards together, until so many bytes of one of them are here. */
  async function rateUntil(name: string, bytes: number): Promise<{ readonly mean: number; readonly best: number }> {
    const samples: { readonly ms: number; readonly bytes: number }[] = [];
    const rateSince = (at: number): number => {
      const [from, to] = [samples[at], samples.at(-1)] as const;
      return ((to?.bytes ?? 0) - (from?.bytes ?? 0)) / (((to?.ms ?? 0) - (from?.ms ?? 0)) / 1_000);
    };
    let best = 0;
    await until(`${bytes} bytes of ${name}`, () => {
      samples.push({ bytes: bytesHere('a') + bytesHere('b'), ms: performance.now() });
      const start = samples.findLastIndex(({ ms }) => ms <= performance.now() - WINDOW_MS);
      if (start >= 0) best = Math.max(best, rateSince(start));
      return bytesHere(name) >= bytes;
    });
    return { mean: rateSince(0), best };
  }

  test('is that of one fetch alone, and of two together', async () => {
    const [a, b] = (await writeShards({ a: Buffer.alloc(40_000_000), b: Buffer.alloc(5_000_000) })) as [
      ListedShard,
      ListedShard,
    ];
    useRate(RATE);
    const stop = new AbortController();
    const long = fetchShard(a, stop.signal);
    long.catch(() => undefined);
    await until('the first bytes', () => bytesHere('a') > 0);
    const alone = await rateUntil('a', 8_000_000);
    const second = fetchShard(b);
    await until('the first bytes of the second', () => bytesHere('b') > 0);
    const together = await rateUntil('b', 4_000_000);
    await second;
    const afterwards = await rateUntil('a', bytesHere('a') + 8_000_000);
    stop.abort(new Error('enough'));
    const found = { alone, together, afterwards };
    console.log(JSON.stringify(found));
    for (const { mean, best } of Object.values(found)) {
      expect(mean / RATE).toBeLessThan(1.1);
      // A busy machine lets the process wait, which the whole time would show.
      expect(best / RATE).toBeGreaterThan(0.9);
    }
  }, 120_000);
});
