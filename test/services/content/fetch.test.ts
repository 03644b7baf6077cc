// Listing a source, and fetching a shard from it in the real fetch process.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Fetcher } from '../../../services/content/fetch/fetcher.ts';
import type { FetchJob } from '../../../services/content/fetch/job.ts';
import { listSource, type ListedShard } from '../../../services/content/fetch/source-listing.ts';
import { sourceFor } from '../../../services/content/fetch/sources/choose.ts';
import { FileSource } from '../../../services/content/fetch/sources/file-source.ts';
import { ShardStore } from '../../../services/content/shard-store.ts';
import { until } from '../../kit/tools/wait.ts';

import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

let folder: string;
beforeEach(() => (folder = mkdtempSync(path.join(tmpdir(), 'katamari-fetch-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function fetchInProcess(
  { bytesPerS, ...job }: FetchJob,
  onBytes: (bytesDone: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const fetcher = new Fetcher([url()], bytesPerS);
  try {
    await fetcher.fetch(job, onBytes, signal);
  } finally {
    fetcher.close();
  }
}

const at = (...parts: string[]): string => path.join(folder, ...parts);
const url = (...parts: string[]): string => pathToFileURL(at(...parts)).href;

function write(file: string, text: string | Buffer): void {
  mkdirSync(path.dirname(at(file)), { recursive: true });
  writeFileSync(at(file), text);
}

const refusal = async (source: string): Promise<string> => {
  const found = await sourceFor(source)
    .then((reader) => listSource(source, reader))
    .then(
      () => undefined,
      (error: Error) => error,
    );
  expect(found?.name).toBe('SourceError');
  return found?.message ?? '';
};

describe('A source', () => {
  test('is listed with the sizes of its shards, in order of their names', async () => {
    write('wiki/b/words.txt', 'hello');
    write('wiki/a/words.txt', 'hi');
    write('wiki/a/deep/er/more.txt', 'four');
    write('wiki/c.db', 'one file');
    write('wiki/.hidden', 'ignored');
    const shards = await listSource(url('wiki'), new FileSource());
    expect(shards.map(({ name, bytes }) => [name, bytes])).toEqual([
      ['a', 6],
      ['b', 5],
      ['c.db', 8],
    ]);
    expect(shards[0]?.files.map((file) => file.path)).toEqual(['deep/er/more.txt', 'words.txt']);
    expect(shards[2]?.files.map((file) => file.path)).toEqual(['']);
    expect(await listSource(url('wiki'), new FileSource())).toEqual(shards);
  });

  test.each<[string, () => void, string]>([
    ['that does not exist', () => undefined, 'does not exist'],
    [
      'that is empty',
      () => mkdirSync(at('wiki')),
      'is empty, expected a folder in which each folder or file is a shard',
    ],
    ['that is a file', () => write('wiki', 'x'), 'is a file, expected a folder of shards'],
    ['with an empty shard', () => mkdirSync(at('wiki/a'), { recursive: true }), 'has no files'],
    ['with a space in a name', () => write('wiki/a b/x', 'x'), '"a b" in'],
    [
      'with a link to a shard',
      () => {
        write('wiki/a/x', 'x');
        symlinkSync('/etc', at('wiki/b'));
      },
      'is neither a file nor a folder; replace links by what they name',
    ],
    [
      'with a link in a shard',
      () => {
        write('wiki/a/x', 'x');
        symlinkSync('/etc/passwd', at('wiki/a/y'));
      },
      'is neither a file nor a folder',
    ],
    [
      'with a name that is not UTF-8 in a shard',
      () => {
        write('wiki/a/x', 'x');
        // Deno cannot write such a name.
        execFileSync('sh', ['-c', `printf x > "$(printf '\\377a')"`], { cwd: at('wiki/a') });
      },
      'has a name that is not UTF-8; rename it',
    ],
    [
      'with a pipe in a shard',
      () => {
        write('wiki/a/x', 'x');
        execFileSync('mkfifo', [at('wiki/a/pipe')]);
      },
      'is neither a file nor a folder',
    ],
    ['with folders too deep', () => write(`wiki/a/${'d/'.repeat(17)}x`, 'x'), 'is more than 16 folders deep'],
  ])('%s is refused', async (_, make, why) => {
    make();
    expect(await refusal(url('wiki'))).toContain(why);
  });

  test('with more than 4,000 shards is refused', async () => {
    mkdirSync(at('wiki'));
    for (let n = 0; n <= 4_000; n++) writeFileSync(at('wiki', `s${n}`), '');
    expect(await refusal(url('wiki'))).toContain('has 4001 shards, the limit is 4000');
  });

  test.each(['/srv/wiki', 'wiki', 'ftp://host/wiki', ''])('named "%s" is refused', async (source) => {
    expect(await refusal(source)).toContain('expected a URL such as file:///srv/indices/wiki');
  });
});

describe('A fetch', () => {
  const bytes = Buffer.alloc(3_000_000, 'shard ');
  let store: ShardStore;
  let shard: ListedShard;
  const id = { indexVersion: 'wiki@1.0.0', name: 'a' };
  beforeEach(async () => {
    write('wiki/a/words.txt', 'hello');
    write('wiki/a/deep/large.bin', bytes);
    store = new ShardStore(at('store'));
    [shard] = (await listSource(url('wiki'), new FileSource())) as [ListedShard];
  });

  const hasUnfinished = (): boolean =>
    existsSync(store.partPath(id)) && readdirSync(store.partPath(id)).some((name) => name.startsWith('unfinished'));

  const fetchShard = (
    change: { digest?: string; bytesPerS?: number; signal?: AbortSignal } = {},
  ): Promise<number[]> => {
    const { digest = shard.digest, bytesPerS = 0, signal = new AbortController().signal } = change;
    const progress: number[] = [];
    const job = { shard: 'wiki@1.0.0/a', source: shard.source, digest, into: store.partPath(id), bytesPerS };
    return fetchInProcess(job, (done) => progress.push(done), signal).then(() => progress);
  };

  test('copies every file, and the shard appears whole', async () => {
    const progress = await fetchShard();
    expect(await store.has({ ...id, digest: shard.digest })).toBe(false);
    await store.commit(id);
    expect(await store.has({ ...id, digest: shard.digest })).toBe(true);
    expect(readFileSync(path.join(store.contentPath(id), 'deep/large.bin')).equals(bytes)).toBe(true);
    expect(store.recordOf(id)?.files).toEqual([
      { path: 'deep/large.bin', bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') },
      { path: 'words.txt', bytes: 5, sha256: createHash('sha256').update('hello').digest('hex') },
    ]);
    expect(progress.every((done) => done <= bytes.length + 5)).toBe(true);
  });

  test('of a shard that is one file gives one file', async () => {
    write('files/one.db', 'the file');
    const [one] = (await listSource(url('files'), new FileSource())) as [ListedShard];
    const into = store.partPath({ ...id, name: 'one.db' });
    const { source, digest } = one;
    await fetchInProcess(
      { shard: 'wiki@1.0.0/one.db', source, digest, into, bytesPerS: 0 },
      () => undefined,
      new AbortController().signal,
    );
    await store.commit({ ...id, name: 'one.db' });
    expect(readFileSync(store.contentPath({ ...id, name: 'one.db' }), 'utf8')).toBe('the file');
  });

  test.each<[string, () => void]>([
    ['another file', () => write('wiki/a/more.txt', 'x')],
    ['a file less', () => rmSync(at('wiki/a/words.txt'))],
    ['another size', () => write('wiki/a/words.txt', 'hello!')],
    ['another time', () => utimesSync(at('wiki/a/words.txt'), 1, 1)],
  ])('of a source that has %s is refused, and nothing appears', async (_, change) => {
    change();
    await expect(fetchShard()).rejects.toThrow(
      /the source of wiki@1\.0\.0 has changed since it was added: make it a new version/,
    );
    expect(existsSync(path.join(store.partPath(id), 'shard.json'))).toBe(false);
  });

  test('that was killed goes on after the files that are whole', async () => {
    const killed = new AbortController();
    const first = fetchShard({ bytesPerS: 2_000_000, signal: killed.signal });
    first.catch(() => undefined);
    await until('the first file to begin', () => hasUnfinished());
    killed.abort(new Error('killed by the test'));
    await expect(first).rejects.toThrow('killed by the test');
    expect(existsSync(path.join(store.partPath(id), 'shard.json'))).toBe(false);
    await fetchShard();
    // Both files are whole now. They are not read from the source again.
    rmSync(path.join(store.partPath(id), 'shard.json'));
    const [large] = [path.join(store.partPath(id), 'content/deep/large.bin')];
    utimesSync(large, 7, 7);
    await fetchShard();
    await store.commit(id);
    expect(readFileSync(path.join(store.contentPath(id), 'deep/large.bin')).equals(bytes)).toBe(true);
    expect(
      execFileSync('stat', ['-c', '%Y', path.join(store.contentPath(id), 'deep/large.bin')], { encoding: 'utf8' }),
    ).toBe('7\n');
  });

  test('keeps files apart whose names look like unfinished ones', async () => {
    write('odd/a/x', 'one');
    write('odd/a/x.part', 'two');
    write('odd/a/unfinished', 'six');
    const [odd] = (await listSource(url('odd'), new FileSource())) as [ListedShard];
    const killed = new AbortController();
    const job = {
      shard: 'wiki@1.0.0/a',
      source: odd.source,
      digest: odd.digest,
      into: store.partPath(id),
      bytesPerS: 2,
    };
    const first = fetchInProcess(job, () => undefined, killed.signal);
    first.catch(() => undefined);
    await until('it to begin', () => hasUnfinished());
    killed.abort(new Error('killed by the test'));
    await expect(first).rejects.toThrow('killed by the test');
    await fetchInProcess({ ...job, bytesPerS: 0 }, () => undefined, new AbortController().signal);
    await store.commit(id);
    const text = (name: string): string => readFileSync(path.join(store.contentPath(id), name), 'utf8');
    expect([text('x'), text('x.part'), text('unfinished')]).toEqual(['one', 'two', 'six']);
  });

  test('keeps nothing of an earlier version of the source', async () => {
    mkdirSync(path.join(store.partPath(id), 'content'), { recursive: true });
    writeFileSync(path.join(store.partPath(id), 'digest'), 'another');
    writeFileSync(path.join(store.partPath(id), 'content/words.txt'), 'stale');
    await fetchShard();
    await store.commit(id);
    expect(readFileSync(path.join(store.contentPath(id), 'words.txt'), 'utf8')).toBe('hello');
  });

  test('without space, folder or right fails with the reason of the system', async () => {
    writeFileSync(at('store'), 'a file where the folder should be');
    await expect(fetchShard()).rejects.toThrow('ENOTDIR');
  });
});
