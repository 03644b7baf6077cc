// The fetch process by itself: it refuses sources that are not allowed, whoever starts it, and tells no secret.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { scriptCommand } from '../../../core/mod.ts';
import { inspectSource } from '../../../services/content/fetch/fetcher.ts';
import { FileServer } from '../../kit/content/file-server.ts';
import { Fetching } from '../../kit/content/fetching.ts';
import { REPOSITORY } from '../../kit/tools/repository.ts';
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { ZipFile } from 'yazl';

let folder: string;
let server: FileServer;
beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-fetch-process-'));
  server = await FileServer.start();
});
afterEach(async () => {
  await server.end();
  rmSync(folder, { recursive: true, force: true });
});

/** What the process writes about a job, without that it is ready. */
async function reportsFor(job: object): Promise<string> {
  const [program = '', ...args] = scriptCommand(MAIN);
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.write(`${JSON.stringify(job)}\n`);
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === '{"isReady":true}') continue;
    child.stdin.destroy();
    return line;
  }
  throw new Error('the process ended without a report');
}

const MAIN = path.join(REPOSITORY, 'services/content/fetch/main.ts');

describe('The fetch process', () => {
  test('checks by itself whether a source is allowed', async () => {
    const allowed = ['file:/srv/indices/'];
    const job = { shard: 'wiki@1.0.0/a', digest: 'd', into: path.join(folder, 'part'), bytesPerS: 0, allowed };
    const refused = '{"failed":"The source file:///etc/hosts is not allowed on this manager: content.sources has';
    expect(await reportsFor({ ...job, source: 'file:///etc/hosts' })).toContain(refused);
    expect(await reportsFor({ inspect: 'file:///etc/hosts', allowed })).toContain(refused);
    expect(await reportsFor({ inspect: 'gopher://host/x', allowed: ['gopher://host/'] })).toContain(
      String.raw`The source gopher://host/x is refused: its scheme is \"gopher:\", expected \"file:\"`,
    );
  });

  test('ends with its manager', async () => {
    server.answer = () => true;
    const [program = '', ...args] = scriptCommand(MAIN);
    const child = spawn(program, args, { stdio: ['pipe', 'ignore', 'inherit'] });
    const ended = new Promise((resolve) => child.on('exit', resolve));
    child.stdin.write(`${JSON.stringify({ inspect: `${server.url}/wiki`, allowed: [server.url] })}\n`);
    child.stdin.end();
    expect(await ended).toBe(0);
  });

  test('ends with its manager when it has no job', async () => {
    const [program = '', ...args] = scriptCommand(MAIN);
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = new Promise((resolve) => child.on('exit', resolve));
    for await (const line of createInterface({ input: child.stdout })) {
      expect(line).toBe('{"isReady":true}');
      child.stdin.end();
    }
    expect(await ended).toBe(0);
  });

  test('does not outlive an inspection that is given up', async () => {
    server.answer = () => true;
    const stop = new AbortController();
    const inspection = inspectSource(`${server.url}/wiki`, [server.url], stop.signal);
    stop.abort(new Error('given up by the test'));
    await expect(inspection).rejects.toThrow('given up by the test');
  });

  test('refuses a list that is too long', async () => {
    server.answer = (_request, response) => {
      const chunk = Buffer.alloc(1024 * 1024, ' ');
      const write = (): void => void (response.writable && response.write(chunk, write));
      response.writeHead(200);
      write();
      return true;
    };
    await expect(inspectSource(`${server.url}/wiki`, [server.url], new AbortController().signal)).rejects.toThrow(
      'is longer than 33554432 bytes',
    );
  });
});

describe('A shard on an HTTP server', () => {
  test('that is a zip archive is resumed and unpacked', async () => {
    const zip = new ZipFile();
    const content = 'hello '.repeat(50_000);
    zip.addBuffer(Buffer.from(content), 'words.txt', { compress: false });
    zip.end();
    const archive: Buffer[] = [];
    for await (const chunk of zip.outputStream as AsyncIterable<Buffer>) archive.push(chunk);
    server.add('part-0.zip', { '': Buffer.concat(archive) });
    server.breaks.set('/wiki/part-0.zip', [150_000]);
    const fetching = new Fetching(path.join(folder, 'store'), [server.url]);
    const source = `${server.url}/wiki`;
    expect((await fetching.fetch(source, 'part-0.zip')).files).toEqual({ 'words.txt': content });
    expect(server.requests.filter((one) => one.path === '/wiki/part-0.zip').length).toBe(2);
  });

  test('is listed by the command of docs/shard-sources.md', async () => {
    const page = readFileSync(path.join(REPOSITORY, 'docs/shard-sources.md'), 'utf8');
    const command = /```sh\n(.*?)```/s.exec(page)?.[1] as string;
    const files = { 'part-0/data/_0.cfs': 'hello', 'part-0/ü +.txt': 'there', 'one.db': 'one file', '.hidden': 'x' };
    for (const [file, content] of Object.entries(files)) {
      mkdirSync(path.dirname(path.join(folder, 'wiki', file)), { recursive: true });
      writeFileSync(path.join(folder, 'wiki', file), content);
      server.files.set(`/wiki/${file}`, Buffer.from(content));
    }
    // Twice: the first list is no shard.
    for (let n = 0; n < 2; n++) execFileSync('sh', ['-c', command], { cwd: path.join(folder, 'wiki') });
    server.files.set('/wiki/shards.json', readFileSync(path.join(folder, 'wiki/shards.json')));
    const fetching = new Fetching(path.join(folder, 'store'), [server.url, pathToFileURL(folder).href], {
      isHere: true,
    });
    const source = `${server.url}/wiki`;
    expect([...(await fetching.inspect(source)).keys()]).toEqual(['one.db', 'part-0']);
    expect((await fetching.fetch(source, 'part-0')).files).toEqual({ 'data/_0.cfs': 'hello', 'ü +.txt': 'there' });
    expect((await fetching.fetch(source, 'one.db')).files).toEqual({ '': 'one file' });
    // The example of the page has the format that the command writes.
    const example = /```json\n(.*?)```/s.exec(page)?.[1] as string;
    const [listed, shown] = [readFileSync(path.join(folder, 'wiki/shards.json'), 'utf8'), example].map(
      (list) => JSON.parse(list) as { shards: { name: string; files: object[] }[] },
    );
    expect(listed?.shards.find(({ name }) => name === 'part-0')?.files[0]).toEqual(shown?.shards[0]?.files[0]);
  });
});
