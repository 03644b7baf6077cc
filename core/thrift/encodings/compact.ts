// The compact protocol without frames. FramedEncoding adds frames.

import { KatamariError } from '../../mod.ts';
import { BinaryWriter, checkNameBytes, checkType, NOTHING, type MessageType } from '../mod.ts';
import { CompactReader, Varint, VARINT_32_BYTES } from './compact-reader.ts';
import { writeCompactStruct, writeVarint } from './compact-writer.ts';
import type { Encoding, EncodingLimits, MessageFacts } from './encoding.ts';

/** First byte of every message of the compact protocol. */
export const COMPACT_ID = 0x82;

export class CompactEncoding implements Encoding {
  readonly replyStart: number = COMPACT_ID;
  head: MessageFacts | undefined;
  body: Uint8Array = NOTHING;
  readonly #reader: CompactReader;
  readonly #varint = new Varint();
  /** Bytes of the head of the current message; 0 if it was not read yet. */
  #headBytes = 0;

  constructor(limits: EncodingLimits) {
    this.#reader = new CompactReader(limits);
  }

  next(bytes: Buffer, at: number, end: number): number {
    if (this.#headBytes === 0) {
      this.head = undefined;
      const headEnd = this.#readHead(bytes, at, end);
      if (headEnd === -1) return -1;
      this.#headBytes = headEnd - at;
      this.#reader.reset();
    }
    const structEnd = this.#reader.read(bytes, at + this.#headBytes, end);
    if (structEnd === -1) return -1;
    this.#headBytes = 0;
    this.body = this.#reader.take();
    return structEnd;
  }

  write(type: MessageType, name: string, seqId: number, body: Uint8Array, out: Uint8Array[]): void {
    const written = new BinaryWriter(body.length + name.length * 3 + ROOM_BYTES);
    written.byte(COMPACT_ID);
    written.byte((type << 5) | VERSION);
    writeVarint(written, seqId);
    writeVarint(written, Buffer.byteLength(name));
    written.raw(Buffer.from(name));
    writeCompactStruct(body, written);
    out.push(written.buffer.subarray(0, written.position));
  }

  #readHead(bytes: Buffer, at: number, end: number): number {
    if (end - at < 2) return -1;
    const kind = bytes[at + 1] as number;
    if (bytes[at] !== COMPACT_ID || (kind & 0x1f) !== VERSION) {
      throw new KatamariError(
        'bad_request',
        `Not a message of the compact protocol: it begins with 0x${bytes.toString('hex', at, at + 2)}, expected 0x82 and version 1`,
      );
    }
    const type = checkType(kind >> 5);
    const varint = this.#varint;
    let next = varint.read(bytes, at + 2, end, VARINT_32_BYTES);
    if (next === -1) return -1;
    const seqId = varint.low;
    next = varint.read(bytes, next, end, VARINT_32_BYTES);
    if (next === -1) return -1;
    const nameEnd = next + checkNameBytes(varint.low);
    if (nameEnd > end) return -1;
    this.head = { type, name: bytes.toString('utf8', next, nameEnd), seqId };
    return nameEnd;
  }
}

const VERSION = 1;
/** Initial buffer size. Compact is rarely longer than strict binary; if it is, the writer grows. */
const ROOM_BYTES = 32;
