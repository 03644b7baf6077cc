// The builder of shards: what it accepts, what it makes of it, and what it says about what it does not accept.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { LRUCache } from 'lru-cache';
import { afterAll, describe, expect, test } from 'vitest';
import { Analyzers } from '../../../content-servers/text/analyzer.ts';
import {
  BuildError,
  type BuildProgress,
  buildShards,
  type BuildShardsOptions,
} from '../../../content-servers/text/mod.ts';
import { openTextShard } from '../../../content-servers/text/open-shard.ts';

const folder = mkdtempSync(path.join(os.tmpdir(), 'katamari-builder-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let made = 0;

function input(name: string, content: string | Buffer): string {
  const at = path.join(folder, String(++made));
  mkdirSync(at);
  writeFileSync(path.join(at, name), content);
  return path.join(at, name);
}

function build(inputs: readonly string[], options: Partial<BuildShardsOptions> = {}) {
  const output = path.join(folder, `out-${++made}`);
  return { output, result: buildShards({ inputs, output, shards: 1, ...options }) };
}

/** Opens the shards that a build has made. */
async function opened({ output, result }: ReturnType<typeof build>) {
  const pool = { analyzers: new Analyzers(), cache: new LRUCache<string, object>({ maxSize: 1_000_000 }) };
  const { shards } = await result;
  return Promise.all(shards.map(({ name }) => openTextShard(path.join(output, name), pool)));
}

/** The stored fields of a document. */
function fieldsOf(shard: Awaited<ReturnType<typeof openTextShard>>, id: number): Record<string, unknown> {
  const stored = shard.stored(id, shard.schema.stored) ?? new Map();
  return Object.fromEntries([...stored].map(([field, { value }]) => [field, value]));
}

describe('buildShards()', () => {
  test('stores text, numbers, booleans and bytes of NDJSON, and indexes the text', async () => {
    const lines = [
      { title: 'Down the Hole', year: 1865, price: 2.5, isNew: true, thumb: { $binary: 'AP8=' }, none: null },
      { title: 'The Pool', other: 'tears' },
    ];
    const [shard] = await opened(
      build([input('a.ndjson', `\uFEFF${lines.map((line) => JSON.stringify(line)).join('\r\n')}`)]),
    );
    expect(shard?.schema).toMatchObject({
      indexed: ['title', 'other'],
      stored: ['title', 'year', 'price', 'isNew', 'thumb', 'other'],
      tokenizer: 'unicode61 remove_diacritics 2',
    });
    expect(fieldsOf(shard as never, 1)).toEqual({
      title: 'Down the Hole',
      year: 1865,
      price: 2.5,
      isNew: 1,
      thumb: Uint8Array.of(0, 255),
    });
    expect(fieldsOf(shard as never, 2)).toEqual({ title: 'The Pool', other: 'tears' });
    expect(shard?.stored(3, ['title'])).toBeUndefined();
    expect([...(shard?.lengths ?? [])]).toEqual([3, 3]);
    expect(shard?.postings('the', undefined)).toEqual({ places: Uint32Array.of(0, 1), counts: Uint32Array.of(1, 1) });
    expect(shard?.postings('tears', 'title').places.length).toBe(0);
    shard?.close();
  });

  test('makes a document of each paragraph of text, with its file and line', async () => {
    const file = input('a.txt', 'One\ntwo\n\n \nThree\n\n\n');
    const [shard] = await opened(build([file]));
    expect(shard?.documents).toBe(2);
    expect(fieldsOf(shard as never, 1)).toEqual({ path: file, line: 1, text: 'One\ntwo' });
    expect(fieldsOf(shard as never, 2)).toEqual({ path: file, line: 5, text: 'Three' });
    expect(shard?.schema.indexed).toEqual(['text']);
    shard?.close();
  });

  test('deals documents out in turn, gives all shards the same fields, and tells its progress', async () => {
    const file = input('a.jsonl', Array.from({ length: 2_500 }, (_, i) => `{"n":${i},"w${i % 3}":"x"}\n`).join(''));
    const told: BuildProgress[] = [];
    const started = build([file], { shards: 4, onProgress: (progress) => told.push(progress) });
    const shards = await opened(started);
    const result = await started.result;
    expect(result.shards.map(({ name, documents }) => [name, documents])).toEqual([
      ['part-00000', 625],
      ['part-00001', 625],
      ['part-00002', 625],
      ['part-00003', 625],
    ]);
    expect(result).toMatchObject({ documents: 2_500, bytes: result.shards.reduce((sum, { bytes }) => sum + bytes, 0) });
    for (const [i, shard] of shards.entries()) {
      expect(shard.schema.indexed).toEqual(['w0', 'w1', 'w2']);
      expect(fieldsOf(shard, 2)['n']).toBe(i + 4);
      shard.close();
    }
    expect(told.map(({ stage, documents, shards: done }) => `${stage} ${documents} ${done}`)).toEqual([
      'reading 1000 0',
      'reading 2000 0',
      'reading 2500 0',
      ...[1, 2, 3, 4].map((done) => `indexing 2500 ${done}`),
    ]);
    expect(told.at(-1)).toMatchObject({ bytesRead: told[0]?.bytesToRead });
  });

  test('has the fields that are asked for, also in a shard without a document', async () => {
    const fields = { title: 'text', path: 'text', note: 'stored' } as const;
    const shards = await opened(build([input('a.ndjson', '{"note":"n","title":"t"}')], { shards: 2, fields }));
    for (const shard of shards)
      expect(shard.schema).toMatchObject({ indexed: ['title', 'path'], stored: ['title', 'path', 'note'] });
    const [empty] = await opened(build([input('a.ndjson', '')]));
    expect([empty?.documents, empty?.schema.indexed]).toEqual([0, ['text']]);
    for (const shard of [...shards, empty]) shard?.close();
  });

  test.each([
    ['a.ndjson', '{"a":1}\n\n{"a":', /a\.ndjson:3: not a JSON object: /],
    ['a.ndjson', '{"a":1}\n[1]', /a\.ndjson:2: found \[1\], expected a JSON object/],
    ['a.ndjson', '{"a":["x"]}', /a\.ndjson:1: field "a" is \["x"\], expected text, a number/],
    ['a.ndjson', '{"a":{"$binary":"?"}}', /a\.ndjson:1: field "a" is \{"\$binary":"\?"\}/],
    ['a.ndjson', '{"a":12345678901234567890}', /a\.ndjson:1: field "a" is about .* write it as a string/],
    ['a.ndjson', '{"a b":1}', /a\.ndjson:1: field "a b" cannot be used in queries/],
    ['a.ndjson', '{"rank":1}', /a\.ndjson:1: field "rank" has a name that is taken/],
    ['a.ndjson', '{"a":1}\n{"A":1}', /a\.ndjson:2: field "A" differs from "a" only in case/],
    ['a.ndjson', Buffer.from([0x7b, 0x7d, 10, 0xff]), /a\.ndjson:2: the line is not UTF-8/],
    ['a.ndjson', `{"a":"${'x'.repeat(17_000_000)}"}`, /a\.ndjson:1: this line has more than 16777216 bytes/],
    ['a.txt', `a\n\n${`${'x'.repeat(1_000_000)}\n`.repeat(17)}`, /a\.txt:3: this paragraph has more than 16777216/],
    ['a.pdf', '', /a\.pdf: cannot read files that end in "\.pdf", expected \.ndjson/],
  ])('refuses %s with file and line, and leaves nothing behind', async (name, content, message) => {
    const { output, result } = build([input('good.ndjson', '{"a":"x"}'), input(name, content)]);
    await expect(result).rejects.toThrow(message);
    await expect(result).rejects.toBeInstanceOf(BuildError);
    expect(readdirSync(folder).filter((one) => one.startsWith(path.basename(output)))).toEqual([]);
  });

  test('refuses options that make no sense', async () => {
    const file = input('a.ndjson', '{"a":"x"}');
    await expect(build([file], { shards: 0 }).result).rejects.toThrow('shards is 0, expected 1 to 4000');
    await expect(build([]).result).rejects.toThrow('no file to index');
    await expect(build([file], { output: folder }).result).rejects.toThrow(`${folder} is not empty`);
    await expect(build([file], { output: file }).result).rejects.toThrow(`${file} is a file`);
    await expect(build([`${file}.txt`]).result).rejects.toThrow(`${file}.txt does not exist`);
    // Not that its ending cannot be read.
    await expect(build([path.join(folder, 'nowhere')]).result).rejects.toThrow('nowhere does not exist');
    await expect(build([input('NOTES', '')]).result).rejects.toThrow('cannot read files that have no ending');
    await expect(build([file], { output: '/proc/nowhere' }).result).rejects.toThrow(
      'Cannot make a folder in /proc (ENOENT); name another output',
    );
    await expect(build([file], { tokenizer: 'trigram' }).result).rejects.toThrow(
      'the tokenizer is "trigram", expected',
    );
  });

  test('lets other users read the shards as the umask says, since managers may run as another user', async () => {
    const { output, result } = build([input('a.ndjson', '{"a":"x"}')]);
    await result;
    const mask = 0o777 & ~process.umask();
    expect(statSync(output).mode & 0o777).toBe(mask);
    expect(statSync(path.join(output, 'part-00000')).mode & 0o777).toBe(mask & 0o666);
  });

  test('builds into an empty folder, and ends when it is told to', async () => {
    const file = input('a.ndjson', '{"a":"x"}\n'.repeat(3_000));
    const empty = path.join(folder, 'empty');
    mkdirSync(empty);
    await build([file], { output: empty }).result;
    expect(readdirSync(empty).sort()).toEqual(['_SUCCESS', 'part-00000']);
    const stop = new AbortController();
    const { output, result } = build([file], {
      signal: stop.signal,
      onProgress: () => stop.abort(new Error('enough')),
    });
    await expect(result).rejects.toThrow('enough');
    expect(existsSync(output)).toBe(false);
  });
});
