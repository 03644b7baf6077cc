// Shards from an HTTP server: lists, ranges, broken connections, redirects, and answers that are wrong.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { request } from '../../../services/content/fetch/sources/http-request.ts';
import { FileServer } from '../../kit/content/file-server.ts';
import { Fetching } from '../../kit/content/fetching.ts';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

let folder: string;
let server: FileServer;
let fetching: Fetching;
let source: string;
beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-http-source-'));
  server = await FileServer.start();
  source = `${server.url}/wiki`;
  fetching = new Fetching(path.join(folder, 'store'), [source], { isHere: true });
});
afterEach(async () => {
  await server.end();
  rmSync(folder, { recursive: true, force: true });
});

describe('An HTTP source', () => {
  test('is listed by its shards.json and fetched', async () => {
    server.add('a', { 'words.txt': 'hello', 'deep/er/ü +&.txt': 'there', empty: '' });
    server.add('c.db', { '': 'one file' });
    expect([...(await fetching.inspect(source)).keys()]).toEqual(['a', 'c.db']);
    expect((await fetching.fetch(source, 'a')).files).toEqual({
      'words.txt': 'hello',
      'deep/er/ü +&.txt': 'there',
      empty: '',
    });
    const lists = (): number => server.requests.filter((one) => one.path === '/wiki/shards.json').length;
    const digest = (await fetching.inspect(source)).get('c.db') as string;
    const before = lists();
    expect((await fetching.fetch(`${source}/`, 'c.db', { digest })).files).toEqual({ '': 'one file' });
    // Files are held to their SHA-256, so one look at the list is enough.
    expect(lists() - before).toBe(1);
  });

  test('of which a connection breaks at every tenth of a file goes on where it broke', async () => {
    const content = randomBytes(1_000_000);
    server.add('a', { 'large.bin': content });
    server.breaks.set(
      '/wiki/a/large.bin',
      [1, 2, 3, 4, 5, 6, 7, 8, 9].map((tenth) => tenth * 100_000),
    );
    const { files } = await fetching.fetch(source, 'a');
    expect(files['large.bin'] === content.toString('latin1')).toBe(true);
    const starts = server.requests
      .filter((one) => one.path === '/wiki/a/large.bin')
      .map(({ range }) => Number(/\d+/.exec(range ?? '0')?.[0]));
    expect(starts.length).toBe(10);
    // A reset may lose bytes that were on their way, but never goes back before the break before.
    starts.forEach((start, at) => {
      expect(start).toBeLessThanOrEqual(at * 100_000);
      if (at > 0) expect(start).toBeGreaterThan((starts[at - 1] as number) - 1);
    });
    expect(starts.at(-1)).toBeGreaterThan(0);
  }, 60_000);

  test('without ranges is read again from the start', async () => {
    server.add('a', { 'large.bin': 'abcdefghij'.repeat(1_000) });
    server.breaks.set('/wiki/a/large.bin', [5_000]);
    const content = server.files.get('/wiki/a/large.bin') as Buffer;
    let count = 0;
    server.answer = ({ url }, response) => {
      if (url !== '/wiki/a/large.bin' || ++count === 1) return false;
      response.writeHead(200, { 'content-length': content.length }).end(content);
      return true;
    };
    const { files } = await fetching.fetch(source, 'a');
    expect(files['large.bin']).toBe('abcdefghij'.repeat(1_000));
  });

  test('whose file is replaced between two requests is refused', async () => {
    server.add('a', { 'large.bin': 'a'.repeat(10_000) });
    server.breaks.set('/wiki/a/large.bin', [5_000]);
    let count = 0;
    server.answer = ({ url }) => {
      if (url === '/wiki/a/large.bin' && ++count === 2) server.files.set(url, Buffer.alloc(10_000, 'b'));
      return false;
    };
    expect(await fetching.refusal(source, 'a')).toContain('has changed while it was fetched: its ETag is another one');
  });

  test('that has changed since it was added is refused', async () => {
    server.add('a', { 'words.txt': 'hello' });
    const digest = (await fetching.inspect(source)).get('a') as string;
    server.files.delete('/wiki/shards.json');
    server.add('a', { 'words.txt': 'Hello' });
    expect(await fetching.refusal(source, 'a', { digest })).toContain(
      'the source of wiki@1.0.0 has changed since it was added: make it a new version',
    );
  });

  test('with a damaged file is refused by its SHA-256, and fetched anew when it is whole', async () => {
    server.add('a', { 'words.txt': 'hello' });
    server.files.set('/wiki/a/words.txt', Buffer.from('hallo'));
    expect(await fetching.refusal(source, 'a')).toContain('see whether the file is damaged');
    server.files.set('/wiki/a/words.txt', Buffer.from('hello'));
    expect((await fetching.fetch(source, 'a')).files).toEqual({ 'words.txt': 'hello' });
  });

  test.each<[string, (path: string) => [number, Record<string, string | number>, string] | undefined, string]>([
    ['too long', () => [200, { 'content-length': 6 }, 'hello!'], 'sends 6 bytes, and 5 were listed'],
    ['too long and of unknown length', () => [200, {}, 'hello!'], 'has more than the 5 bytes that were listed'],
    ['too short', () => [200, { 'content-length': 4 }, 'hell'], 'sends 4 bytes, and 5 were listed'],
    ['too short and of unknown length', () => [200, {}, 'hell'], 'ended after 4 of the 5 bytes that were listed'],
    ['compressed', () => [200, { 'content-encoding': 'br' }, 'hello'], 'is sent compressed (br)'],
    ['an error', () => [404, {}, 'no'], 'does not exist (status 404'],
    ['forbidden', () => [403, {}, 'no'], 'refuses access (status 403'],
    ['for others', () => [401, {}, 'no'], 'asks for credentials'],
    ['a range', () => [206, { 'content-range': 'bytes 0-4/5' }, 'hello'], '(status 206, expected 200)'],
    ['overloaded', () => [503, {}, 'no'], 'answered with an error (status 503'],
  ])(
    'whose answer is %s is refused with the URL',
    async (_, answer, why) => {
      server.add('a', { 'words.txt': 'hello' });
      server.answer = ({ url }, response) => {
        if (url !== '/wiki/a/words.txt') return false;
        const [status, headers, body] = answer(url) ?? [500, {}, ''];
        response.writeHead(status, headers).end(body);
        return true;
      };
      const found = await fetching.refusal(source, 'a');
      expect(found).toContain(why);
      expect(found).toContain(`${source}/a/words.txt`);
    },
    30_000,
  );

  test.each<[string, string, string]>([
    ['no list', '', 'is no list of shards (no JSON)'],
    ['HTML', '<html>', 'is no list of shards (no JSON)'],
    ['other JSON', '{"shards":[{"name":"a"}]}', 'is no list of shards (shards.0.files'],
    [
      'a bad hash',
      '{"shards":[{"name":"a","files":[{"path":"x","bytes":1,"sha256":"x"}]}]}',
      'shards.0.files.0.sha256',
    ],
    ['a path upwards', listOf('a', '../x'), 'is not a plain path below the shard'],
    ['an absolute path', listOf('a', '/etc/passwd'), 'is not a plain path below the shard'],
    ['a backslash', listOf('a', 'x\\\\y'), 'has a backslash or a control character'],
    ['a file twice', listOf('a', 'x', 'x'), 'is there twice'],
    ['a file that is a folder', listOf('a', 'x', 'x/y'), 'both as a file and as a folder'],
    ['a bad name', listOf('../a', 'x'), 'cannot be a shard'],
    ['no shards', '{"shards":[]}', 'is empty'],
    ['no files', '{"shards":[{"name":"a","files":[]}]}', 'has no files'],
  ])('with %s in shards.json is refused', async (_, list, why) => {
    server.files.set('/wiki/shards.json', Buffer.from(list));
    await expect(fetching.inspect(source)).rejects.toThrow(why);
  });

  test('may redirect on the server and below its prefix, and nowhere else', async () => {
    server.add('a', { 'words.txt': 'hello' });
    server.files.set('/wiki/elsewhere', Buffer.from('hello'));
    server.files.set('/other', Buffer.from('hello'));
    const to = (location: string): void => {
      server.answer = ({ url }, response) => {
        if (url !== '/wiki/a/words.txt') return false;
        response.writeHead(302, { location }).end();
        return true;
      };
    };
    to('/wiki/elsewhere');
    expect((await fetching.fetch(source, 'a')).files).toEqual({ 'words.txt': 'hello' });
    for (const [location, why] of [
      ['/other', 'is not allowed on this manager: content.sources has'],
      ['/wiki/../other', 'is not allowed on this manager'],
      ['/wiki/%2e%2e/other', 'is not allowed on this manager'],
      ['/wiki/elsewhere?token=secret', 'has a query'],
      [server.url.replace('127.0.0.1', 'localhost'), 'redirects to another server'],
      ['http://user:secret@127.0.0.1/', 'redirects to another server'],
      ['file:///etc/passwd', 'redirects to another server'],
      ['/wiki/a/words.txt', 'redirects more than 5 times'],
    ] as const) {
      to(location);
      const found = await fetching.refusal(source, 'a');
      expect(found).toContain(why);
      expect(found).not.toContain('secret');
    }
  }, 60_000);

  test('that lists more bytes than can be counted, or a name that is not UTF-8, is refused', async () => {
    const sha256 = 'a'.repeat(64);
    const list = (...files: readonly (readonly [name: string, bytes: number])[]): void => {
      const listed = files.map(([name, bytes]) => ({ path: name, bytes, sha256 }));
      server.files.set('/wiki/shards.json', Buffer.from(JSON.stringify({ shards: [{ name: 'a', files: listed }] })));
    };
    list(['x', Number.MAX_SAFE_INTEGER], ['y', Number.MAX_SAFE_INTEGER]);
    await expect(fetching.inspect(source)).rejects.toThrow(
      `${source}/a has files of 18014398509481982 bytes, the limit is 1125899906842624; see whether its list is right`,
    );
    list(['\ud800', 1]);
    await expect(fetching.inspect(source)).rejects.toThrow(
      'has the file "\\ud800", which has a name that is not UTF-8',
    );
  });

  test('that is too slow is given up, but not one whose reader is slow', async () => {
    server.answer = (asked, response) => {
      if (asked.url !== '/slow') return false;
      response.writeHead(200);
      const timer = setInterval(() => response.write('.'), 20);
      response.on('close', () => clearInterval(timer));
      return true;
    };
    const read = async (url: string, pauseMs: number): Promise<void> => {
      const { chunks } = await request(url, { slowMs: 200 });
      for await (const _ of chunks()) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    };
    await expect(read(`${server.url}/slow`, 0)).rejects.toThrow(
      /\/slow has sent \d+ bytes in \d s, expected 1024 bytes a second at least; see what makes its server/,
    );
    server.files.set('/large', randomBytes(500_000));
    await read(`${server.url}/large`, 50);
  });

  test('that cannot be reached, or does not exist, says so', async () => {
    await expect(fetching.inspect(source)).rejects.toThrow(
      `${source}/shards.json does not exist (status 404, expected 200 with the list of the shards)`,
    );
    await server.end();
    await expect(fetching.inspect(source)).rejects.toThrow(`${source}/shards.json cannot be reached: `);
    server = await FileServer.start();
  });
});

/** A shards.json with one shard of these paths. */
function listOf(name: string, ...paths: string[]): string {
  const sha256 = '0'.repeat(64);
  const files = paths.map((one) => `{"path":"${one}","bytes":1,"sha256":"${sha256}"}`);
  return `{"shards":[{"name":"${name}","files":[${files.join()}]}]}`;
}
