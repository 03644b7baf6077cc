// The reader of MapFiles: every key that a writer has written is found, and no other.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import * as fc from 'fast-check';
import { MAP_FILE_LIMITS, MapFile, type MapFileLimits, SegmentCache } from '../../../content-servers/map-file/mod.ts';
import {
  type MapFileStyle,
  mapFileBytes,
  type Pair,
  SequenceWriter,
  writeMapFile,
} from '../../kit/content/map-file-writer.ts';
import { Random } from '../../kit/tools/random.ts';
import { REPOSITORY } from '../../kit/tools/repository.ts';

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import zlib from 'node:zlib';

let folder: string;
let open: MapFile[];
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-map-file-'));
  open = [];
});
afterEach(async () => {
  for (const file of open) await file.close();
  rmSync(folder, { recursive: true, force: true });
});

interface OpenOptions {
  readonly cache?: SegmentCache;
  readonly limits?: Partial<MapFileLimits>;
}

async function reader({ cache = new SegmentCache(64 * 1024 * 1024), limits = {} }: OpenOptions = {}): Promise<MapFile> {
  const file = await MapFile.open(folder, cache, { ...MAP_FILE_LIMITS, ...limits });
  open.push(file);
  return file;
}

async function written(
  entries: Iterable<Pair>,
  style: Partial<MapFileStyle> = {},
  options: OpenOptions = {},
): Promise<MapFile> {
  writeMapFile(folder, entries, style);
  return await reader(options);
}

const find = async (file: MapFile, key: Buffer): Promise<Buffer | undefined> => await file.find(key);
const long = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(value);
  return bytes;
};
const hasZstd = 'zstdCompressSync' in zlib;

/** The values of the first entry with each key, by the key in hexadecimal. */
function firsts(entries: readonly Pair[]): Map<string, Buffer> {
  const found = new Map<string, Buffer>();
  for (const [key, value] of entries) if (!found.has(key.toString('hex'))) found.set(key.toString('hex'), value);
  return found;
}

const COMPRESSIONS = ['NONE', 'RECORD', 'BLOCK'] as const;
const codecs = ['DefaultCodec', 'GzipCodec', ...(hasZstd ? ['ZStandardCodec'] : [])];
const bytes = (maxLength: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const keysOf = {
  Text: fc.string({ unit: 'grapheme', maxLength: 12 }).map((text) => Buffer.from(text)),
  BytesWritable: bytes(6),
  LongWritable: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(long),
} as const;
const inBytes = (a: Buffer, b: Buffer): number => a.compare(b);
const byClass = {
  Text: inBytes,
  BytesWritable: inBytes,
  LongWritable: (a: Buffer, b: Buffer) => (a.readBigInt64BE() < b.readBigInt64BE() ? -1 : 1),
} as const;

describe('Any MapFile', () => {
  const anyFile = fc
    .record({
      keyClass: fc.constantFrom('Text', 'BytesWritable', 'LongWritable' as const),
      valueClass: fc.constantFrom('Text', 'BytesWritable', 'LongWritable'),
      compression: fc.constantFrom(...COMPRESSIONS),
      codec: fc.constantFrom(...codecs),
      indexInterval: fc.constantFrom(1, 2, 5, 128),
      blockBytes: fc.constantFrom(1, 40, 300, 1_000_000),
      syncEveryBytes: fc.constantFrom(1, 60, 2_000),
      pageBytes: fc.constantFrom(28, 64, 200, 128 * 1024),
      indexBytesMax: fc.constantFrom(10, 60, 1_000_000),
      metadata: fc.constantFrom({}, { author: 'me', '': '' }),
    })
    .chain((style) =>
      fc.record({
        style: fc.constant(style),
        keys: fc.array<Buffer>(keysOf[style.keyClass], { maxLength: 60 }),
        others: fc.array<Buffer>(keysOf[style.keyClass], { maxLength: 10 }),
        values: fc.infiniteStream(style.valueClass === 'LongWritable' ? keysOf.LongWritable : bytes(90)),
      }),
    );

  test('has every key with the first of its values, and no other key', async () => {
    await fc.assert(
      fc.asyncProperty(anyFile, async ({ style, keys, others, values }) => {
        const { pageBytes, indexBytesMax, ...written } = style;
        const entries = keys.sort(byClass[style.keyClass]).map((key): Pair => [key, values.next().value as Buffer]);
        writeMapFile(folder, entries, written);
        const file = await MapFile.open(folder, new SegmentCache(3_000), {
          ...MAP_FILE_LIMITS,
          pageBytes,
          indexBytesMax,
        });
        try {
          expect(file.entries).toBe(entries.length);
          const known = firsts(entries);
          for (const key of [...keys, ...others]) expect(await file.find(key)).toEqual(known.get(key.toString('hex')));
        } finally {
          await file.close();
        }
      }),
      { numRuns: 300 },
    );
  }, 120_000);
});

describe('50,000 entries', () => {
  const random = new Random(Number(process.env['SEED'] ?? 50_000));
  const entries = Array.from({ length: 50_000 }, (_, at): Pair => {
    const value = `value of ${at}: ${'x'.repeat(random.below(80))}`;
    return [Buffer.from(`key-${String(at * 3).padStart(8, '0')}`), Buffer.from(value)];
  });

  test.each(COMPRESSIONS)(
    'with compression %s are all found, and the keys between them are not',
    async (compression) => {
      const file = await written(entries, { compression });
      expect(file.entries).toBe(entries.length);
      expect(file.facts).toEqual({
        format: 'Hadoop MapFile',
        keys: 'Text',
        values: 'Text',
        compression: compression === 'NONE' ? 'NONE' : `${compression} zlib`,
        index: `${compression === 'BLOCK' ? 4 : 391} entries`,
      });
      const wrong: string[] = [];
      for (const at of Array.from({ length: entries.length }, () => random.below(entries.length))) {
        const [key, value] = entries[at] as Pair;
        if ((await file.find(key))?.equals(value) !== true) wrong.push(`${String(key)}: not found`);
        if ((await file.find(Buffer.from(`${String(key)}-`))) !== undefined) wrong.push(`${String(key)}-: found`);
      }
      expect([random.seed, wrong.slice(0, 5)]).toEqual([random.seed, []]);
      for (const [key, value] of entries) if ((await file.find(key))?.equals(value) !== true) wrong.push(String(key));
      expect(wrong.slice(0, 5)).toEqual([]);
    },
    60_000,
  );
});

describe('A MapFile', () => {
  test('with keys that are numbers finds them by value, below zero too, and refuses keys of another size', async () => {
    const numbers = [-(2n ** 63n), -7n, -1n, 0n, 1n, 255n, 2n ** 40n, 2n ** 63n - 1n];
    const entries = numbers.map((number): Pair => [long(number), Buffer.from(String(number))]);
    const file = await written(entries, { keyClass: 'LongWritable', indexInterval: 2 });
    for (const number of numbers) expect(await find(file, long(number))).toEqual(Buffer.from(String(number)));
    expect(await find(file, long(2n))).toBeUndefined();
    expect(() => file.find(Buffer.from('five'))).toThrow(
      'The key has 4 bytes; keys of this index are numbers or hashes of 8 bytes, big endian',
    );
  });

  test.each([
    ['IntWritable', 4],
    ['ShortWritable', 2],
    ['ByteWritable', 1],
  ])('with keys of class %s orders them by value', async (keyClass, width) => {
    const key = (number: number): Buffer => {
      const found = Buffer.alloc(width);
      found.writeIntBE(number, 0, width);
      return found;
    };
    const entries = [-128, -2, 0, 5, 127].map((number): Pair => [key(number), Buffer.from(`${number}`)]);
    const file = await written(entries, { keyClass, indexInterval: 1 });
    for (const [one, value] of entries) expect(await find(file, one)).toEqual(value);
    expect(await find(file, key(1))).toBeUndefined();
  });

  test('without values has empty ones, and values of an unknown class are served as they are', async () => {
    const keys = ['a', 'b'].map((key) => Buffer.from(key));
    for (const compression of COMPRESSIONS) {
      const empty = keys.map((key): Pair => [key, Buffer.alloc(0)]);
      const nothing = await written(empty, { compression, valueClass: 'NullWritable' });
      expect([nothing.entries, await find(nothing, keys[1] as Buffer)]).toEqual([2, Buffer.alloc(0)]);
      const raw = keys.map((key): Pair => [key, Buffer.from([1, 2, 3])]);
      const file = await written(raw, { compression, valueClass: 'com.example.Thing' });
      expect([file.facts['values'], await find(file, keys[0] as Buffer)]).toEqual(['Thing', Buffer.from([1, 2, 3])]);
    }
  });

  test('without entries has none', async () => {
    for (const compression of COMPRESSIONS) {
      const file = await written([], { compression });
      expect([file.entries, await find(file, Buffer.from('a'))]).toEqual([0, undefined]);
    }
  });

  test('may end with a sync mark', async () => {
    const entries = [
      ['a', '1'],
      ['b', '2'],
    ].map(([key = '', value = '']): Pair => [Buffer.from(key), Buffer.from(value)]);
    const { data, index } = mapFileBytes(entries);
    writeMapFile(folder, entries);
    // The sync bytes of the header are its end.
    const sync = new SequenceWriter({ ...STYLE }, 1).finish().subarray(-16);
    writeFileSync(path.join(folder, 'data'), Buffer.concat([data, Buffer.of(255, 255, 255, 255), sync]));
    writeFileSync(path.join(folder, 'index'), index);
    const file = await reader();
    expect([file.entries, await find(file, Buffer.from('b')), await find(file, Buffer.from('c'))]).toEqual([
      2,
      Buffer.from('2'),
      undefined,
    ]);
  });

  test('reads values that are longer than a page, and refuses those that no answer can hold', async () => {
    const values = [10, 300_000, 5, 2_000_000, 700_000, 1].map((length) => Buffer.alloc(length, 'v'));
    const entries = values.map((value, at): Pair => [Buffer.from(`k${at}`), value]);
    for (const compression of COMPRESSIONS) {
      const file = await written(entries, { compression, indexInterval: 3, codec: 'GzipCodec' });
      for (const [key, value] of entries) expect((await find(file, key))?.equals(value)).toBe(true);
      expect(await find(file, Buffer.from('k33'))).toBeUndefined();
    }
    const strict = await written(entries, {}, { limits: { valueBytesMax: 1_000_000 } });
    await expect(find(strict, Buffer.from('k3'))).rejects.toMatchObject({ code: 'bad_request' });
    expect((await find(strict, Buffer.from('k4')))?.length).toBe(700_000);
  });

  test('with keys that are longer than a page is read', async () => {
    const entries = ['a', 'b', 'c'].map((letter): Pair => [Buffer.alloc(200_000, letter), Buffer.from(letter)]);
    const file = await written(entries);
    for (const [key, value] of entries) expect(await find(file, key)).toEqual(value);
    expect(await find(file, Buffer.from('b'))).toBeUndefined();
  });

  test('whose index is too large for the memory keeps every so-many-th entry', async () => {
    const entries = Array.from({ length: 4_000 }, (_, at): Pair => {
      const key = String(at).padStart(6, '0');
      return [Buffer.from(key), Buffer.from(`v${key}`)];
    });
    for (const compression of COMPRESSIONS) {
      const style = { compression, indexInterval: 4, blockBytes: 200 };
      const file = await written(entries, style, { limits: { indexBytesMax: 600 } });
      expect(file.facts['index']).toMatch(/^\d+ entries, each (4|16)th in memory$/);
      expect(file.entries).toBe(4_000);
      for (const [key, value] of entries) expect(await find(file, key)).toEqual(value);
    }
  });

  test('of many blocks tells an estimate of its entries', async () => {
    const entries = Array.from({ length: 1_000 }, (_, at): Pair => [Buffer.from(String(at + 1_000)), Buffer.from('v')]);
    const file = await written(entries, { compression: 'BLOCK', blockBytes: 70 }, { limits: { countedBlocksMax: 20 } });
    expect(file.facts['entries']).toBe('estimated');
    expect(Math.abs(file.entries - 1_000)).toBeLessThan(50);
  });

  test('keeps no more than the limit of its cache in memory, and reads what several calls need once', async () => {
    const entries = Array.from({ length: 2_000 }, (_, at): Pair => {
      return [Buffer.from(String(at + 10_000)), Buffer.alloc(100, at)];
    });
    const cache = new SegmentCache(40_000);
    const file = await written(entries, { compression: 'BLOCK', blockBytes: 5_000 }, { cache });
    const all = await Promise.all(entries.map(async ([key]) => await file.find(key)));
    expect(all).toEqual(entries.map(([, value]) => value));
    const [first] = entries[0] as Pair;
    let reads = 0;
    const shard = cache.newShard();
    const load = (): Promise<unknown> =>
      cache.load(shard, 0, async () => {
        reads++;
        await Promise.resolve();
        return await new Promise<never>((_, reject) => setImmediate(reject, new Error('unreadable')));
      });
    const tries = await Promise.allSettled([load(), load(), load()]);
    expect([reads, tries.map(({ status }) => status)]).toEqual([1, ['rejected', 'rejected', 'rejected']]);
    expect(await find(file, first)).toEqual(Buffer.alloc(100, 0));
  });
});

const STYLE: MapFileStyle = {
  keyClass: 'Text',
  valueClass: 'Text',
  compression: 'NONE',
  codec: 'DefaultCodec',
  indexInterval: 128,
  blockBytes: 1_000_000,
  syncEveryBytes: 100,
  metadata: {},
};

/** Data that is not in the repository. */
const KATTA = process.env['KATTA_DATA'] ?? path.join(REPOSITORY, '../shared/katta-data');

describe.skipIf(!existsSync(path.join(KATTA, 'testMapFileA')))(`A MapFile of Katta, from ${KATTA}`, () => {
  test.each([
    ['a1', { 'a.txt': 'This is a test', 'b.xml': '<name>test</name>', 'c.log': '1/1/2009: test' }],
    ['a2', { 'd.html': '<b>test</b>', 'e.txt': 'An e test', 'f.log': '1/2/2009: test2' }],
    ['a3', { 'g.log': '1/3/2009: more test', 'h.txt': 'Test in part 3' }],
    ['a4', { 'i.xml': '<i>test</i>', 'j.log': '1/4/2009: 4 test', 'k.out': 'test data', 'l.txt': 'line 4' }],
  ])('%s has its entries', async (shard, entries: Readonly<Record<string, string>>) => {
    const file = await MapFile.open(path.join(KATTA, 'testMapFileA', shard), new SegmentCache(1_000_000));
    open.push(file);
    expect(file.entries).toBe(Object.keys(entries).length);
    for (const [key, value] of Object.entries(entries))
      expect(await find(file, Buffer.from(key))).toEqual(Buffer.from(value));
    for (const other of ['', 'a.xml', 'zzz']) expect(await find(file, Buffer.from(other))).toBeUndefined();
  });
});
