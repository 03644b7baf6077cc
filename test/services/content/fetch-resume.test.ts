// Fetches that are interrupted: by kill -9 of the fetch process, by a full disk, by a source that answers no more.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FileServer } from '../../kit/content/file-server.ts';
import { Fetching } from '../../kit/content/fetching.ts';
import { SmallDisk } from '../../kit/cluster/small-disk.ts';
import { childPids } from '../../kit/tools/processes.ts';
import { Random } from '../../kit/tools/random.ts';
import { until } from '../../kit/tools/wait.ts';
import { createHash, randomBytes } from 'node:crypto';
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
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';
import { ZipFile } from 'yazl';

let folder: string;
let server: FileServer;
let source: string;
beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-resume-'));
  server = await FileServer.start();
  source = `${server.url}/wiki`;
});
afterEach(async () => {
  await server.end();
  rmSync(folder, { recursive: true, force: true });
});

/** Bytes of the unfinished file in a folder. */
function unfinishedBytes(part: string): number {
  const name = existsSync(part) ? readdirSync(part).find((one) => one.startsWith('unfinished-')) : undefined;
  return name === undefined ? 0 : (statSync(path.join(part, name), { throwIfNoEntry: false })?.size ?? 0);
}

/** The fetch process of this one. */
const fetchProcess = (): number | undefined => childPids(FETCH)[0];
const FETCH = /content\/fetch\/main\.[jt]s/;

describe('A fetch', () => {
  test('whose process is killed at any point goes on where it was, and never leaves half a shard', async () => {
    const random = new Random(Date.now());
    console.log(`seed ${random.seed}`);
    const large = randomBytes(8_000_000);
    server.add('a', { 'a-small': 'hello', 'large.bin': large, 'z-small': 'there' });
    const fetching = new Fetching(path.join(folder, 'store'), [source]);
    const digest = (await fetching.inspect(source)).get('a') as string;
    const part = fetching.partPath('a');
    let before = 0;
    for (let kills = 0; kills < 5; kills++) {
      const goal = before + random.between(50_000, 150_000);
      const fetch = fetching.refusal(source, 'a', { digest, bytesPerS: 1_000_000 });
      await until('some bytes more', () => unfinishedBytes(part) >= goal);
      process.kill(fetchProcess() as number, 'SIGKILL');
      expect(await fetch).toContain('The fetch process ended with SIGKILL');
      expect(existsSync(path.join(part, 'shard.json'))).toBe(false);
      expect(existsSync(path.join(part, 'content/large.bin'))).toBe(false);
      // What was there has stayed: it grows with every try.
      expect(unfinishedBytes(part)).toBeGreaterThanOrEqual(goal);
      before = unfinishedBytes(part);
    }
    const { files } = await fetching.fetch(source, 'a', { digest });
    expect(Object.keys(files)).toEqual(['a-small', 'large.bin', 'z-small']);
    expect(files['large.bin'] === large.toString('latin1')).toBe(true);
    const record = fetching.store.recordOf({ indexVersion: 'wiki@1.0.0', name: 'a' });
    const sha256 = createHash('sha256').update(large).digest('hex');
    expect(record?.files.find((file) => file.path === 'large.bin')?.sha256).toBe(sha256);
    const asked = (file: string): readonly (string | undefined)[] =>
      server.requests.filter((one) => one.path === `/wiki/a/${file}`).map(({ range }) => range);
    expect(asked('a-small')).toEqual([undefined]);
    expect(asked('large.bin').length).toBe(6);
    // Every try began where the last one was killed.
    expect(asked('large.bin').at(-1)).toBe(`bytes=${before}-`);
  }, 120_000);

  test('begins a file anew whose part is not of the file that is listed now', async () => {
    server.add('a', { 'large.bin': 'a'.repeat(1_000_000) });
    const fetching = new Fetching(path.join(folder, 'store'), [source]);
    const stop = new AbortController();
    const first = fetching.refusal(source, 'a', { bytesPerS: 500_000, signal: stop.signal });
    await until('some bytes', () => unfinishedBytes(fetching.partPath('a')) > 100_000);
    stop.abort(new Error('stopped by the test'));
    expect(await first).toBe('stopped by the test');
    server.files.delete('/wiki/shards.json');
    server.add('a', { 'large.bin': 'b'.repeat(1_000_000) });
    expect((await fetching.fetch(source, 'a')).files).toEqual({ 'large.bin': 'b'.repeat(1_000_000) });
    const ofFile = server.requests.filter(({ path: asked }) => asked === '/wiki/a/large.bin');
    expect(ofFile.at(-1)?.range).toBeUndefined();
  }, 60_000);

  test('with a damaged part is refused by the SHA-256 of the source, and then begun anew', async () => {
    server.add('a', { 'large.bin': 'a'.repeat(1_000_000) });
    const fetching = new Fetching(path.join(folder, 'store'), [source]);
    const stop = new AbortController();
    const first = fetching.refusal(source, 'a', { bytesPerS: 500_000, signal: stop.signal });
    const part = fetching.partPath('a');
    await until('some bytes', () => unfinishedBytes(part) > 100_000);
    stop.abort(new Error('stopped by the test'));
    await first;
    await until('the process to end', () => fetchProcess() === undefined);
    const name = readdirSync(part).find((one) => one.startsWith('unfinished-')) as string;
    const bytes = readFileSync(path.join(part, name));
    bytes[1_000] = 0;
    writeFileSync(path.join(part, name), bytes);
    expect(await fetching.refusal(source, 'a')).toContain('see whether the file is damaged');
    expect((await fetching.fetch(source, 'a')).files).toEqual({ 'large.bin': 'a'.repeat(1_000_000) });
  }, 60_000);

  test('of a source that does not answer ends with its signal at once', async () => {
    server.add('a', { 'words.txt': 'hello' });
    const fetching = new Fetching(path.join(folder, 'store'), [source]);
    const digest = (await fetching.inspect(source)).get('a') as string;
    let isAsked = false;
    server.answer = ({ url }) => (isAsked = url === '/wiki/a/words.txt');
    const stop = new AbortController();
    const fetch = fetching.refusal(source, 'a', { digest, signal: stop.signal });
    await until('the request', () => isAsked);
    stop.abort(new Error('stopped by the test'));
    expect(await fetch).toBe('stopped by the test');
    await until('the process to end', () => fetchProcess() === undefined);
  }, 60_000);
});

describe.skipIf(process.getuid?.() !== 0)('A fetch onto a disk that becomes full', () => {
  let disk: SmallDisk;
  beforeEach(() => (disk = new SmallDisk(path.join(folder, 'disk'))));
  afterEach(() => disk.end());

  test('says so, gives back what it has taken, and succeeds when there is space', async () => {
    mkdirSync(path.join(folder, 'wiki/a'), { recursive: true });
    for (const name of ['x', 'y']) writeFileSync(path.join(folder, 'wiki/a', name), randomBytes(20_000_000));
    const files = pathToFileURL(path.join(folder, 'wiki')).href;
    const fetching = new Fetching(path.join(disk.directory, 'store'), [files]);
    const ballast = path.join(disk.directory, 'other');
    writeFileSync(ballast, Buffer.alloc(40_000_000));
    expect(await fetching.refusal(files, 'a')).toBe(
      'the disk of this manager is full; free space on it, or make the quota of its user larger',
    );
    expect(existsSync(fetching.partPath('a'))).toBe(false);
    rmSync(ballast);
    expect(Object.keys((await fetching.fetch(files, 'a')).files)).toEqual(['x', 'y']);
  }, 60_000);

  test('does not unpack an archive for which there is no room', async () => {
    const zip = new ZipFile();
    zip.addBuffer(Buffer.alloc(10_000_000), 'zeros');
    zip.end();
    server.add('part-0.zip', { '': await buffer(zip.outputStream) });
    const fetching = new Fetching(path.join(disk.directory, 'store'), [source]);
    const why = await fetching.refusal(source, 'part-0.zip');
    expect(why).toMatch(/^the disk has \d+ bytes free, and .*part-0\.zip needs \d+ to be unpacked; free space/);
    expect(existsSync(path.join(fetching.partPath('part-0.zip'), 'content'))).toBe(false);
  }, 60_000);
});
