// Integers of variable length, and the codecs by themselves: what is written is read, and what is cut off is damage.
import { describe, expect, test } from 'vitest';
import * as fc from 'fast-check';
import { DamagedShard } from '../../../chassis-sdk/typescript/mod.ts';
import { codecOf } from '../../../content-servers/map-file/codecs.ts';
import { lengthAt, vintSize } from '../../../content-servers/map-file/vint.ts';
import { isWholeZstd } from '../../../content-servers/map-file/zstd-frame.ts';
import { pack, vint } from '../../kit/content/map-file-writer.ts';

import { randomBytes } from 'node:crypto';
import zlib from 'node:zlib';

describe('A length', () => {
  test('is read as it was written, and is damage when it is cut off', () => {
    fc.assert(
      fc.property(fc.oneof(fc.nat(300), fc.nat(0x7fffffff)), (length) => {
        const bytes = Buffer.concat([vint(length), Buffer.of(7)]);
        expect([lengthAt(bytes, 0, bytes.length), vintSize(bytes[0] as number)]).toEqual([length, bytes.length - 1]);
        for (let end = 0; end < bytes.length - 1; end++) expect(() => lengthAt(bytes, 0, end)).toThrow(DamagedShard);
      }),
    );
  });

  test('that no length can be is damage, for every first byte', () => {
    const bytes = Buffer.alloc(12, 0xff);
    for (let first = 0x80; first < 0x100; first++) {
      bytes[0] = first;
      // Three numbers of 1 to 3 bytes are lengths. Four bytes of 0xff are more than 2^31 - 1.
      if (first >= 0x8d && first <= 0x8f) expect(lengthAt(bytes, 0, 12)).toBe(2 ** (8 * (0x90 - first)) - 1);
      else expect(() => lengthAt(bytes, 0, bytes.length)).toThrow(DamagedShard);
    }
    expect(Array.from({ length: 9 }, (_, at) => vintSize(0x87 + at))).toEqual([2, 9, 8, 7, 6, 5, 4, 3, 2]);
  });
});

const hasZstd = 'zstdCompressSync' in zlib;
const CODECS = ['DefaultCodec', 'GzipCodec', ...(hasZstd ? ['ZStandardCodec'] : [])];

describe.each(CODECS)('%s', (name) => {
  const { unpack } = codecOf(`org.apache.hadoop.io.compress.${name}`);
  // The second one is unpacked on another thread.
  const contents = [Buffer.from('some text, some text'), randomBytes(40_000)];

  test('unpacks what fits in the limit, and refuses one byte more', async () => {
    for (const content of [Buffer.alloc(0), ...contents])
      expect((await unpack(pack(name, content), content.length + 1)).equals(content)).toBe(true);
    for (const content of contents) {
      const wrong = (async () => await unpack(pack(name, content), content.length - 1))();
      await expect(wrong).rejects.toThrow(`it unpacks to more than ${content.length - 1} bytes, the limit`);
      await expect(wrong).rejects.toBeInstanceOf(DamagedShard);
    }
  });

  test('refuses what is cut off', async () => {
    for (const content of contents) {
      const packed = pack(name, content);
      for (let length = 0; length < packed.length; length += Math.ceil(packed.length / 60)) {
        const cut = packed.subarray(0, length);
        await expect((async () => await unpack(cut, 1_000_000))()).rejects.toBeInstanceOf(DamagedShard);
      }
    }
  });
});

test.skipIf(hasZstd)('ZStandardCodec is refused where the runtime cannot read it', () => {
  expect(() => codecOf('org.apache.hadoop.io.compress.ZStandardCodec')).toThrow(
    /ZStandardCodec" cannot be read with this version.*needs Node 22.15 or later; write the MapFile with DefaultCodec/,
  );
});

test('Zstandard frames are whole only up to their last byte', () => {
  // A single segment with a content size of one byte; a raw block and a last block of one repeated byte; a checksum.
  const frame = Buffer.from([
    0x28,
    0xb5,
    0x2f,
    0xfd,
    0x24,
    8,
    3 << 3,
    0,
    0,
    1,
    2,
    3,
    1 | (1 << 1) | (5 << 3),
    0,
    0,
    9,
    1,
    2,
    3,
    4,
  ]);
  for (const frames of [frame, Buffer.concat([frame, frame])]) {
    expect(isWholeZstd(frames)).toBe(true);
    for (let length = 0; length < frames.length; length++)
      expect([length, isWholeZstd(frames.subarray(0, length))]).toEqual([length, length === frame.length]);
    expect(isWholeZstd(Buffer.concat([frames, Buffer.of(0)]))).toBe(false);
  }
});
