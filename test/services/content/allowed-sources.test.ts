// Which sources a manager may read.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { buildShards } from '../../../content-servers/text/mod.ts';
import { whyNotAllowed, whySourceRefused } from '../../../services/content/allowed-sources.ts';
import { inspectSource } from '../../../services/content/fetch/fetcher.ts';

import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import * as fc from 'fast-check';

const ALLOWED = [
  'file:/srv/indices/',
  's3://bucket/wiki/',
  'https://host.example/indices/',
  'http://127.0.0.1:8080/',
  'hdfs://name-node/indices',
];

/** Where a URL leads: the path of a file, or the server and the path with nothing left to resolve. */
function placeOf(url: string): string {
  if (url.startsWith('file:')) return `${path.resolve(fileURLToPath(url))}/`;
  const { href, origin, pathname } = new URL(url);
  // A user, a query or a fragment would be in the rest.
  const isPlain = href === `${origin}${pathname}`;
  return isPlain ? `${origin}${path.posix.resolve(decodeURIComponent(pathname))}/` : href;
}

describe('A source', () => {
  test.each([
    'file:/srv/indices/wiki',
    'file:///srv/indices/wiki/part-0',
    'file:///srv/indices',
    'FILE:///srv/indices/',
    'file:///srv/indices/wiki%20%C3%BC',
    's3://bucket/wiki/3.0.0',
    'https://host.example/indices/wiki',
    'https://HOST.example:443/indices/wiki',
    'https://host.example/%69ndices/wiki',
    'http://127.0.0.1:8080/any/where',
    'hdfs://name-node:9870/indices/wiki',
  ])('%s below a prefix is allowed', (source) => {
    expect(whyNotAllowed(source, ALLOWED)).toBe(undefined);
  });

  test.each([
    'file:///srv',
    'file:///srv/indices-old/wiki',
    'file:///SRV/indices/wiki',
    'file:///etc/passwd',
    's3://bucket/wiki2',
    's3://Bucket/wiki/1',
    's3://bucket2/wiki/1',
    's3://bucket',
    'https://host.example/',
    'https://host.example/Indices/wiki',
    'https://host.example.evil/indices/wiki',
    'https://host.example:8443/indices/wiki',
    'http://host.example/indices/wiki',
    'http://127.0.0.1/wiki',
    'http://localhost:8080/wiki',
    'hdfs://name-node:9871/indices/wiki',
    'swebhdfs://name-node:9870/indices/wiki',
  ])('%s outside of the prefixes is refused with the key to change', (source) => {
    const why = whyNotAllowed(source, ALLOWED);
    expect(why).toContain('content.sources has file:///srv/indices/');
    expect(why).toContain('add a prefix of the source there');
  });

  test.each([
    ['file:///srv/indices/../../etc', 'the steps'],
    ['file:///srv/indices/./wiki', 'the steps'],
    ['file:///srv/indices/..', 'the steps'],
    ['file:///srv/indices/%2e%2e/etc', 'escaped dot'],
    ['file:///srv/indices/%2E./etc', 'escaped dot'],
    ['file:///srv/indices/..%2f..%2fetc', 'escaped dot'],
    ['file:///srv/indices/a%00', 'escaped dot'],
    ['file:///srv/indices/a%5c..', 'escaped dot'],
    ['file:///srv/indices\\..\\etc', 'backslash'],
    ['https://host.example\\@evil/indices/', 'backslash'],
    ['https://user@host.example/indices/wiki', 'a user or a password'],
    ['https://host.example@evil/indices/wiki', 'a user or a password'],
    ['https://user:secret@host.example/indices/wiki', 'a user or a password'],
    ['s3://user:secret@bucket/wiki/1', 'a user or a password'],
    ['https://host.example/indices/wiki?X-Amz-Signature=secret', 'a query'],
    ['https://host.example/indices/wiki#secret', 'a query'],
    ['https://host.example/indices//wiki', 'an empty step'],
    ['https://host.example/indices/wi ki', 'a space'],
    ['https://host.example/indices/\nwiki', 'a space'],
    ['https://host.example/indices/100%', 'a "%" that escapes nothing'],
    ['https://host.example/indices/%ff', 'not UTF-8'],
    ['ftp://host.example/indices/wiki', 'its scheme is "ftp:", expected "file:", "http:"'],
    ['file://host/srv/indices/wiki', 'names a host'],
    ['file:srv/indices/wiki', 'is no URL'],
    ['/srv/indices/wiki', 'is no URL'],
    ['', 'is no URL'],
    ['https:host.example/indices/wiki', 'is no URL'],
    [`file:///srv/indices/${'x'.repeat(3_000)}`, 'longer than 2048'],
  ])('%j is refused, and no secret is shown', (source, why) => {
    const found = whyNotAllowed(source, ALLOWED) ?? '';
    expect(found).toContain(why);
    expect(found).not.toContain('secret');
  });

  test('that is allowed leads below the prefix, for whoever reads it', () => {
    const plain = ['/', 'a', 'wiki', 'srv', 'indices', 'evil', 'host.example', '%c3%bc', 'ü', '~', ';', '&'];
    const tricks = ['//', '.', '..', '%2e', '%2E%2e', '%2f', '%5c', '\\', '@', ':', '?', '#', '%', '%00', '%25', ' '];
    const piece = fc.constantFrom(...plain, ...tricks, '\t', '\u2024', '\uff0e', '[', '|');
    const prefix = fc.constantFrom('file:///srv/indices/', 'file:/srv/indices', 'https://host.example/indices/');
    const source = fc.tuple(prefix, fc.array(piece, { maxLength: 8 })).map(([start, more]) => start + more.join(''));
    let allowed = 0;
    const isSafe = (url: string): boolean => {
      if (whyNotAllowed(url, ALLOWED) !== undefined) return true;
      allowed++;
      return placeOf(url).startsWith(url.startsWith('file:') ? '/srv/indices/' : 'https://host.example/indices/');
    };
    fc.assert(fc.property(source, isSafe), { numRuns: 5_000 });
    expect(allowed).toBeGreaterThan(100);
  });

  test('is refused by an empty list, which is named', () => {
    expect(whyNotAllowed('file:///srv/wiki', [])).toContain('content.sources is empty');
  });
});

describe('A source of files', () => {
  let folder: string;
  beforeEach(() => (folder = realpathSync(mkdtempSync(path.join(tmpdir(), 'katamari-allowed-')))));
  afterEach(() => rmSync(folder, { recursive: true, force: true }));
  const url = (...parts: string[]): string => pathToFileURL(path.join(folder, ...parts)).href;
  const make = (...parts: string[]): void => {
    mkdirSync(path.join(folder, ...parts, 'wiki/a'), { recursive: true });
    writeFileSync(path.join(folder, ...parts, 'wiki/a/x'), 'hello');
  };

  test('that a link leads out of the prefix is refused', async () => {
    make('inside');
    make('outside');
    symlinkSync(path.join(folder, 'outside'), path.join(folder, 'inside/link'));
    expect(await whySourceRefused(url('inside/wiki'), [url('inside')])).toBe(undefined);
    const why = `${url('inside/link/wiki')}, which is a link to ${url('outside/wiki')}`;
    expect(await whySourceRefused(url('inside/link/wiki'), [url('inside')])).toContain(why);
    await expect(inspectSource(url('inside/link/wiki'), [url('inside')], new AbortController().signal)).rejects.toThrow(
      why,
    );
    expect(await whySourceRefused(url('inside/link/wiki'), [url('inside'), url('outside')])).toBe(undefined);
  });

  test('below a prefix that is a link itself is allowed', async () => {
    make('real');
    symlinkSync(path.join(folder, 'real'), path.join(folder, 'indices'));
    expect(await whySourceRefused(url('indices/wiki'), [url('indices')])).toBe(undefined);
    expect(await whySourceRefused(url('real/wiki'), [url('indices')])).toContain('is not allowed on this manager');
  });

  test('is inspected: names, bytes, digests and warnings', async () => {
    make('inside');
    writeFileSync(path.join(folder, 'inside/wiki/b.db'), '');
    const listing = await inspectSource(url('inside/wiki'), [url('inside')], new AbortController().signal);
    expect(listing.shards).toEqual([
      { name: 'a', bytes: 5, digest: expect.stringMatching(/^[0-9a-f]{24}$/) as string },
      { name: 'b.db', bytes: 0, digest: expect.stringMatching(/^[0-9a-f]{24}$/) as string },
    ]);
    expect(listing.warnings).toContain('b.db: without a byte; a content server may refuse an empty shard');
  });

  test('that may still be written has a warning, unless its writer has marked it as finished', async () => {
    const warnings = async (): Promise<readonly string[]> =>
      (await inspectSource(url('wiki'), [url()], new AbortController().signal)).warnings;
    const young = ['files have changed in the last seconds; a shard that is still written cannot be fetched'];
    const documents = path.join(folder, 'documents.ndjson');
    writeFileSync(documents, '{"text":"the cat"}');
    await buildShards({ inputs: [documents], output: path.join(folder, 'wiki'), shards: 2 });
    expect(await warnings()).toEqual([]);
    // So far in the future that it is young however long the test takes.
    const later = Date.now() / 1_000 + 600;
    utimesSync(path.join(folder, 'wiki/part-00001'), later, later);
    expect(await warnings()).toEqual(young);
    rmSync(path.join(folder, 'wiki/_SUCCESS'));
    expect(await warnings()).toEqual(young);
  });

  test('with the largest list is inspected, and one that does not exist says so', async () => {
    mkdirSync(path.join(folder, 'wiki'));
    for (let n = 0; n < 4_000; n++) writeFileSync(path.join(folder, 'wiki', `${'s'.repeat(120)}${n}`), '');
    const { shards } = await inspectSource(url('wiki'), [url()], new AbortController().signal);
    expect(shards.length).toBe(4_000);
    await expect(inspectSource(url('none'), [url()], new AbortController().signal)).rejects.toThrow('does not exist');
  });
});
