// Damaged and hostile MapFiles: refused when they are opened, or an error of the look-up that meets the damage. No
// length in a file makes the reader allocate what it says.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import * as fc from 'fast-check';
import { DamagedShard } from '../../../chassis-sdk/typescript/mod.ts';
import { MAP_FILE_LIMITS, MapFile, SegmentCache } from '../../../content-servers/map-file/mod.ts';
import { type MapFileStyle, mapFileBytes, type Pair, vint } from '../../kit/content/map-file-writer.ts';

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import zlib from 'node:zlib';

let folder: string;
beforeEach(() => (folder = mkdtempSync(path.join(tmpdir(), 'katamari-damage-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

interface Files {
  readonly data: Buffer;
  readonly index: Buffer;
}

function write({ data, index }: Files): void {
  writeFileSync(path.join(folder, 'data'), data);
  writeFileSync(path.join(folder, 'index'), index);
}

const openFolder = (): Promise<MapFile> => MapFile.open(folder, new SegmentCache(1_000_000));

/** The error of opening files, or of a look-up in them; undefined when both go well. */
async function errorOf(files: Files, key = 'k00'): Promise<Error | undefined> {
  write(files);
  let file: MapFile;
  try {
    file = await openFolder();
  } catch (error) {
    return error as Error;
  }
  try {
    await file.find(Buffer.from(key));
    return undefined;
  } catch (error) {
    return error as Error;
  } finally {
    await file.close();
  }
}

const small = Array.from({ length: 10 }, (_, at): Pair => {
  const number = String(at).padStart(2, '0');
  return [Buffer.from(`k${number}`), Buffer.from(`value ${number} ${'.'.repeat(at)}`)];
});
const style = (compression: MapFileStyle['compression']): Partial<MapFileStyle> => ({
  compression,
  indexInterval: 4,
  blockBytes: 60,
  syncEveryBytes: 70,
  metadata: { by: 'test' },
});

/** What a file with a changed byte answers for a key: its value, 'none', or 'error'. */
type Outcome = string;

async function outcomes(files: Files): Promise<Outcome[] | 'refused'> {
  write(files);
  let file: MapFile;
  try {
    file = await openFolder();
  } catch (error) {
    expect((error as Error).message).not.toBe('');
    return 'refused';
  }
  try {
    const found: Outcome[] = [];
    for (const [key] of small) {
      try {
        found.push(String((await file.find(key)) ?? 'none'));
      } catch (error) {
        expect([error instanceof DamagedShard, (error as Error).message]).toEqual([
          true,
          expect.stringMatching(/^data is damaged/),
        ]);
        found.push('error');
      }
    }
    return found;
  } finally {
    await file.close();
  }
}

describe('A MapFile with one wrong byte', () => {
  const right = small.map(([, value]) => String(value));

  /** Whether a byte is part of the name of the values' class, of a key or of a value that no checksum covers. */
  const isUnchecked = (data: Buffer, at: number, compression: string): boolean => {
    const valueClass = data.indexOf('org', 28);
    if (at >= valueClass && at < valueClass + 'org.apache.hadoop.io.Text'.length) return true;
    if (compression === 'BLOCK') return false;
    return small.some(([key, value]) => {
      const keyStart = data.indexOf(key);
      const end = keyStart + key.length + (compression === 'NONE' ? 1 + value.length : 0);
      return at >= keyStart && at < end;
    });
  };

  test.each(['NONE', 'RECORD', 'BLOCK'] as const)(
    'and compression %s gives right answers or an error, wherever the byte is',
    async (compression) => {
      const { data, index } = mapFileBytes(small, style(compression));
      const wrong: string[] = [];
      let [refused, failed] = [0, 0];
      for (const name of ['data', 'index'] as const) {
        const original = name === 'data' ? data : index;
        for (let at = 0; at < original.length; at++) {
          for (const flip of [0x01, 0x80]) {
            const changed = Buffer.from(original);
            changed[at] = (changed[at] as number) ^ flip;
            const found = await outcomes({ data, index, [name]: changed });
            if (found === 'refused') {
              refused++;
              continue;
            }
            if (found.includes('error')) failed++;
            if (name === 'data' && isUnchecked(data, at, compression)) continue;
            found.forEach((one, place) => {
              if (one !== 'error' && one !== right[place])
                wrong.push(`${name} ${at} ^ ${flip}: ${one} for ${right[place]}`);
            });
          }
        }
      }
      expect(wrong).toEqual([]);
      expect(refused).toBeGreaterThan(data.length / 2);
      expect(failed).toBeGreaterThan(10);
    },
    120_000,
  );

  test.each(['NONE', 'RECORD', 'BLOCK'] as const)(
    'and compression %s is refused when it is cut off anywhere',
    async (compression) => {
      const { data, index } = mapFileBytes(small, style(compression));
      const accepted: string[] = [];
      for (let length = 0; length < data.length; length++) {
        const found = await outcomes({ data: data.subarray(0, length), index });
        if (found === 'refused') continue;
        // The format has no number of records. Those wholly cut off behind the last index entry are not missed.
        const whole = found.indexOf('none');
        expect(whole).toBeGreaterThan(8);
        expect(found).toEqual([...right.slice(0, whole), ...right.slice(whole).map(() => 'none')]);
      }
      for (let length = 0; length < index.length; length++) {
        const found = await outcomes({ data, index: index.subarray(0, length) });
        // An index that ends behind its header has fewer entries, and is still right.
        if (found !== 'refused' && JSON.stringify(found) !== JSON.stringify(right)) accepted.push(`index ${length}`);
      }
      expect(accepted).toEqual([]);
    },
    120_000,
  );
});

describe('A damaged MapFile', () => {
  const none = mapFileBytes(small, { ...style('NONE'), syncEveryBytes: 10_000 });
  const block = mapFileBytes(small, style('BLOCK'));
  const record = mapFileBytes(small, style('RECORD'));
  /** Replaces bytes behind the first occurrence of others. */
  const patched = (bytes: Buffer, after: Buffer, by: Buffer, skip = 0): Buffer => {
    const at = bytes.indexOf(after) + after.length + skip;
    return Buffer.concat([bytes.subarray(0, at), by, bytes.subarray(at + by.length)]);
  };
  const int = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32BE(value);
    return bytes;
  };
  const headerEnd = (bytes: Buffer): number => {
    const other = mapFileBytes(
      [],
      style(bytes === block.data ? 'BLOCK' : bytes === record.data ? 'RECORD' : 'NONE'),
    ).data;
    return other.length;
  };
  const withStart = (bytes: Buffer, by: Buffer, offset = 0): Buffer => {
    const at = headerEnd(bytes) + offset;
    return Buffer.concat([bytes.subarray(0, at), by, bytes.subarray(at + by.length)]);
  };

  test.each([
    ['another magic', { ...none, data: Buffer.from('PAR1 and more') }, /no SequenceFile: it starts with "PAR1"/],
    ['an empty file', { ...none, data: Buffer.alloc(0) }, /no SequenceFile/],
    [
      'a class name that is too long',
      { ...none, data: patched(none.data, Buffer.from('SEQ\u0006'), vint(70_000)) },
      /70000 bytes of key class/,
    ],
    [
      'a negative length',
      { ...none, data: patched(none.data, Buffer.from('SEQ\u0006'), vint(-3)) },
      /a length is negative/,
    ],
    [
      'a length of 8 bytes',
      { ...none, data: patched(none.data, Buffer.from('SEQ\u0006'), vint(2 ** 50)) },
      /a length has 7 bytes/,
    ],
    [
      'a length above 2^31',
      { ...none, data: patched(none.data, Buffer.from('SEQ\u0006'), vint(2 ** 31)) },
      /a length is 2147483648/,
    ],
    [
      'endless metadata',
      { ...none, data: patched(none.data, Buffer.from('io.Text\u0000\u0000'), int(0x7fffffff)) },
      /a length is negative/,
    ],
    [
      'a record of 2 GB',
      { ...none, data: withStart(none.data, int(0x7fffffff)) },
      /a record of 2147483647 bytes reaches beyond/,
    ],
    ['a record of negative length', { ...none, data: withStart(none.data, int(-2)) }, /a record has length -2/],
    ['a key longer than its record', { ...none, data: withStart(none.data, int(900), 4) }, /has a key of 900 bytes/],
    [
      'a key of another length than it says',
      { ...none, data: withStart(none.data, Buffer.of(9), 8) },
      /a Text has length 9/,
    ],
    [
      'keys that are not in order',
      { ...none, data: Buffer.from(none.data.toString('latin1').replace('k02', 'k00'), 'latin1') },
      /keys are not in order/,
    ],
    ['another sync mark', { ...block, data: withStart(block.data, Buffer.alloc(16), 4) }, /no block starts here/],
    [
      'a block of 2^31 - 1 records',
      { ...block, data: withStart(block.data, vint(0x7fffffff), 20) },
      /a block has 2147483647 records/,
    ],
    [
      'a block of more records than it has',
      { ...block, data: withStart(block.data, vint(99), 20) },
      /a block has 99 records, and fewer/,
    ],
    ['a part of 1 GB', { ...block, data: withStart(block.data, vint(2 ** 30), 21) }, /1073741824 packed bytes/],
    [
      'an index of other data',
      {
        ...none,
        index: mapFileBytes(
          small.map(([key, value]): Pair => [Buffer.from(`j${String(key).slice(1)}`), value]),
          { ...style('NONE'), syncEveryBytes: 10_000 },
        ).index,
      },
      /the key of the last index entry is not here/,
    ],
    [
      'an index with positions behind the data',
      {
        ...none,
        index: mapFileBytes(
          [...small, ...small.map(([key, value]): Pair => [Buffer.from(`z${String(key)}`), value])],
          style('NONE'),
        ).index,
      },
      /has position \d+, but data/,
    ],
    [
      'an index of other keys',
      { ...none, index: mapFileBytes([], { ...style('NONE'), keyClass: 'BytesWritable' }).index },
      /its keys have class ".*BytesWritable", those of data ".*Text"/,
    ],
    [
      'an index that is data',
      { ...none, index: none.data },
      /its values have class ".*Text", expected ".*LongWritable"/,
    ],
    ['bytes behind its end', { ...none, data: Buffer.concat([none.data, Buffer.of(0)]) }, /cut off/],
  ])('with %s is refused', async (_, files: Files, why) => {
    const error = await errorOf(files);
    expect([error instanceof DamagedShard, error?.message]).toEqual([true, expect.stringMatching(why)]);
  });

  test('whose keys are out of order between two pages is damaged where a look-up or the opening meets them', async () => {
    const cache = new SegmentCache(1_000_000);
    const limits = { ...MAP_FILE_LIMITS, pageBytes: 28 };
    const pairs = (keys: string): Pair[] => keys.split('').map((key): Pair => [Buffer.from(key), Buffer.from(key)]);
    write(mapFileBytes(pairs('acbde'), { indexInterval: 3 }));
    const file = await MapFile.open(folder, cache, limits);
    expect(await file.find(Buffer.from('c'))).toEqual(Buffer.from('c'));
    await expect(file.find(Buffer.from('d'))).rejects.toThrow(
      /data is damaged at byte \d+: its keys are below those before/,
    );
    expect(await file.find(Buffer.from('e'))).toEqual(Buffer.from('e'));
    await file.close();
    write(mapFileBytes(pairs('abcdfe'), { indexInterval: 3 }));
    await expect(MapFile.open(folder, cache, limits)).rejects.toThrow(/its keys are below those before/);
  });

  test('is refused or answers with an error that says what is wrong, whatever the damage is', async () => {
    const original = { NONE: none, RECORD: record, BLOCK: block };
    const change = fc.record({ at: fc.nat(2_000), remove: fc.nat(12), insert: fc.uint8Array({ maxLength: 12 }) });
    const damage = fc.record({
      compression: fc.constantFrom('NONE', 'RECORD', 'BLOCK' as const),
      data: fc.array(change, { maxLength: 3 }),
      index: fc.array(change, { maxLength: 3 }),
    });
    const damaged = (bytes: Buffer, changes: readonly { at: number; remove: number; insert: Uint8Array }[]): Buffer => {
      let changed = bytes;
      for (const { at, remove, insert } of changes) {
        const place = at % bytes.length;
        changed = Buffer.concat([changed.subarray(0, place), insert, changed.subarray(place + remove)]);
      }
      return changed;
    };
    await fc.assert(
      fc.asyncProperty(damage, async ({ compression, data, index }) => {
        const files = original[compression];
        const error = await errorOf({ data: damaged(files.data, data), index: damaged(files.index, index) }, 'k05');
        if (error !== undefined)
          expect([error.name, error.message]).toEqual([
            expect.stringMatching(/^(DamagedShard|Error)$/),
            expect.stringMatching(/damaged at byte|cannot be|version|no file/),
          ]);
      }),
      { numRuns: 400 },
    );
  }, 60_000);

  test('whose packed value unpacks to too much is an error of the look-up', async () => {
    const bomb = zlib.deflateSync(Buffer.alloc(40_000_000));
    const entries = small.map(([key]): Pair => [key, bomb]);
    const files = mapFileBytes(entries, { ...style('NONE'), valueClass: 'Raw' });
    // What was written as plain values is read as packed ones.
    const asRecord = (bytes: Buffer): Buffer => {
      const [before, after] = [
        mapFileBytes([], { ...style('NONE'), valueClass: 'Raw' }).data,
        mapFileBytes([], { ...style('RECORD'), valueClass: 'Raw' }).data,
      ];
      return Buffer.concat([after, bytes.subarray(before.length)]);
    };
    const shift = asRecord(files.data).length - files.data.length;
    const index = mapFileBytes(entries, { ...style('NONE'), valueClass: 'Raw', codec: 'DefaultCodec' }, shift).index;
    const error = await errorOf({ data: asRecord(files.data), index });
    expect([error instanceof DamagedShard, error?.message]).toEqual([
      true,
      expect.stringMatching(`unpacks to more than ${MAP_FILE_LIMITS.valueBytesMax} bytes`),
    ]);
  });
});

describe('A folder', () => {
  const files = mapFileBytes(small, style('NONE'));

  test('without data or index is refused, though nothing is damaged', async () => {
    await expect(openFolder()).rejects.toThrow('expected a folder with the files "data" and "index"');
    writeFileSync(path.join(folder, 'data'), files.data);
    const error = (await openFolder().catch((thrown: unknown) => thrown)) as Error;
    expect(error).not.toBeInstanceOf(DamagedShard);
    expect(error.message).toContain('The MapFile has no file "index"; make one with the method MapFile.fix of Hadoop');
  });

  test.each([
    ['keys of an unknown class', { keyClass: 'com.example.Name' }, /"com.example.Name" cannot be looked up.*use Text/],
    ['keys of class DoubleWritable', { keyClass: 'DoubleWritable' }, /DoubleWritable" cannot be looked up/],
    ...['BZip2Codec', 'SnappyCodec', 'Lz4Codec', 'com.hadoop.compression.lzo.LzoCodec'].map(
      (codec) =>
        [`codec ${codec}`, { codec, compression: 'BLOCK' as const }, new RegExp(`${codec}" cannot be read`)] as const,
    ),
  ] as const)('with %s is refused with that name', async (_, change, why) => {
    const error = await errorOf(mapFileBytes([], { ...style('NONE'), ...change }));
    expect([error instanceof DamagedShard, error?.message]).toEqual([false, expect.stringMatching(why)]);
  });

  test('with another version of the format is refused', async () => {
    const data = Buffer.from(files.data);
    data[3] = 5;
    const error = await errorOf({ ...files, data });
    expect([error instanceof DamagedShard, error?.message]).toEqual([
      false,
      'This SequenceFile has version 5, expected 6; write it again with Hadoop 0.18 or later',
    ]);
  });

  test('whose index stops long before the data is refused with what to do', async () => {
    write(mapFileBytes(small, { ...style('NONE'), indexInterval: 1_000 }));
    const limits = { ...MAP_FILE_LIMITS, tailBytesMax: 1_000 };
    await expect(MapFile.open(folder, new SegmentCache(1_000_000), limits)).rejects.toThrow(
      /too little index.*make the index again with the method MapFile.fix/,
    );
  });

  test('whose index file is too large is refused with what to do', async () => {
    write(files);
    const limits = { ...MAP_FILE_LIMITS, indexFileBytesMax: 100 };
    await expect(MapFile.open(folder, new SegmentCache(1_000_000), limits)).rejects.toThrow(
      'The file index has more than 100 bytes when it is unpacked, which is the limit; write the MapFile with a larger',
    );
  });
});
