import { describe, expect, test } from 'vitest';
import { Random } from '../../kit/tools/random.ts';
import { FrameReader } from '../../../core/link/mod.ts';
import { frameMessage, readHead } from '../../../core/thrift/mod.ts';

const FRAME_BYTES_MAX = 1_000;

describe('FrameReader.push()', () => {
  test('emits the same frames however the stream is cut', () => {
    const random = new Random(11);
    for (let round = 0; round < 300; round++) {
      const frames = Array.from({ length: random.between(1, 8) }, () =>
        random.bytes(random.below(random.chance(0.2) ? FRAME_BYTES_MAX : 30)),
      );
      const stream = Buffer.concat(frames.map(framed));
      const seen: Buffer[] = [];
      // Copies, so that a reader that overwrites memory it has handed out is caught.
      const kept: Buffer[] = [];
      const reader = new FrameReader(FRAME_BYTES_MAX, (frame) => {
        seen.push(frame);
        kept.push(Buffer.from(frame));
      });
      const longest = random.pick([1, 3, 20, 4_000]);
      for (let at = 0; at < stream.length;) {
        const end = Math.min(stream.length, at + random.between(1, longest));
        reader.push(Buffer.from(stream.subarray(at, end)));
        at = end;
      }
      expect(hex(kept), `seed 11, round ${round}`).toEqual(hex(frames));
      expect(hex(seen), `seed 11, round ${round}`).toEqual(hex(frames));
      expect(reader.isMidFrame).toBe(false);
    }
  });

  test('skips frames above the limit however the stream is cut, and tells their heads', () => {
    const random = new Random(12);
    for (let round = 0; round < 200; round++) {
      const sizes = Array.from({ length: 6 }, () =>
        random.chance(0.4) ? random.between(990, 9_000) : random.below(400),
      );
      const frames = sizes.map((size, n) =>
        frameMessage(2, `method${n}`, n + 1, Buffer.alloc(size, n), Buffer.alloc(0)),
      );
      const stream = Buffer.concat(frames);
      const seen: string[] = [];
      const reader = new FrameReader(
        FRAME_BYTES_MAX,
        (frame) => seen.push(`${readHead(frame, 0, frame.length)?.seqId} whole`),
        ({ head, bytes, start }) => seen.push(`${head.seqId} ${head.name} ${bytes} ${start.length > head.bodyStart}`),
      );
      for (let at = 0; at < stream.length;) {
        const end = Math.min(stream.length, at + random.between(1, random.pick([1, 30, 3_000])));
        reader.push(Buffer.from(stream.subarray(at, end)));
        at = end;
      }
      const expected = frames.map(({ length }, n) =>
        length - 4 > FRAME_BYTES_MAX ? `${n + 1} method${n} ${length - 4} true` : `${n + 1} whole`,
      );
      expect([seen, reader.isMidFrame, reader.frames], `seed 12, round ${round}`).toEqual([expected, false, 6]);
    }
  });

  test('does not skip what begins like no message, or declares more than any', () => {
    const reader = (): FrameReader =>
      new FrameReader(
        FRAME_BYTES_MAX,
        () => {},
        () => {},
      );
    expect(() => reader().push(Buffer.from('\0\0\x10\0no message of Thrift'))).toThrow(/Not a strict-binary/);
    expect(() => reader().push(Buffer.from('GET / HTTP/1.1'))).toThrow(/limit is 1000/);
  });

  test('knows whether a frame has begun', () => {
    const reader = new FrameReader(FRAME_BYTES_MAX, () => {});
    expect(reader.isMidFrame).toBe(false);
    reader.push(Buffer.of(0));
    expect(reader.isMidFrame).toBe(true);
    reader.push(Buffer.of(0, 0, 1));
    expect(reader.isMidFrame).toBe(true);
    reader.push(Buffer.of(9));
    expect(reader.isMidFrame).toBe(false);
  });

  test('refuses sizes below zero and above the limit, at once and in pieces', () => {
    for (const [hex, message] of [
      ['ffffffff', /-1 bytes is declared/],
      ['000003e9', /1001 bytes is declared, limit is 1000/],
    ] as const) {
      const bytes = Buffer.from(hex, 'hex');
      expect(() => new FrameReader(FRAME_BYTES_MAX, () => {}).push(bytes)).toThrow(message);
      const reader = new FrameReader(FRAME_BYTES_MAX, () => {});
      for (let i = 0; i < 3; i++) reader.push(bytes.subarray(i, i + 1));
      expect(() => reader.push(bytes.subarray(3))).toThrow(message);
    }
  });
});

function framed(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function hex(frames: readonly Buffer[]): string[] {
  return frames.map((frame) => frame.toString('hex'));
}
