// THeader: frames that carry headers in addition to the message, and declare its protocol (binary or compact) and
// compression (zlib). Replies use the protocol and compression of the latest message. Source:
// doc/specs/HeaderFormat.md of Apache Thrift. Limits: frame size before and after decompression, number and size of
// headers. Most frames of a connection repeat the header of the previous one, so the last header read and the last
// one written are cached.

import { deflateSync, inflateSync } from 'node:zlib';
import { KatamariError } from '../../mod.ts';
import { bytesOfText, type StructType, BinaryWriter, isOwnHeader, type MessageType, type HeadersIn } from '../mod.ts';
import { BinaryEncoding } from './binary.ts';
import { Varint, VARINT_32_BYTES } from './compact-reader.ts';
import { writeVarint } from './compact-writer.ts';
import { CompactEncoding } from './compact.ts';
import type { Encoding, EncodingLimits, MessageFacts } from './encoding.ts';
import { bytesFrom, declaredBytes, endOfFrame, readWhole } from './framed.ts';

/** Magic number after the length of every frame. */
export const HEADER_MAGIC = 0x0fff;

/** Whether a THeader frame begins at `at`, of which ten bytes are enough. */
export function isHeaderFrame(bytes: Uint8Array, at: number): boolean {
  return (((bytes[at + 4] ?? 0) << 8) | (bytes[at + 5] ?? 0)) === HEADER_MAGIC;
}

const PROTOCOL = { binary: 0, compact: 2 } as const;
const ZLIB = 1;
const KEY_VALUES = 1;

export class HeaderEncoding implements Encoding {
  readonly carriesHeaders = true;
  readonly keepsNoOrder = true;
  /** The length of a frame below 16 MiB begins with it. */
  readonly replyStart: number = 0;
  headers: HeadersIn | undefined;
  readonly #limits: EncodingLimits;
  readonly #varint = new Varint();
  readonly #binary: BinaryEncoding;
  readonly #compact: CompactEncoding;
  #protocol: number;
  #isCompressed: boolean;
  #isHeadless = true;
  declaredBytes = 0;
  /** Bytes of the last header read. The fields above hold its content. */
  #lastRead: Buffer | undefined;
  /** The last headers written, and their bytes. */
  #lastHeaders: Readonly<Record<string, string>> | undefined;
  #lastBlock: Buffer | undefined;
  /** Flags of the last frame, repeated in its reply. */
  #flags = 0;

  /** @param first the protocol of messages written before one was read */
  constructor(
    limits: EncodingLimits,
    first: { readonly protocol?: 'binary' | 'compact'; readonly zlib?: boolean } = {},
  ) {
    this.#limits = limits;
    this.#binary = new BinaryEncoding(limits);
    this.#compact = new CompactEncoding(limits);
    this.#protocol = PROTOCOL[first.protocol ?? 'binary'];
    this.#isCompressed = first.zlib ?? false;
  }

  get head(): MessageFacts | undefined {
    return this.#isHeadless ? undefined : this.#inner.head;
  }

  get body(): Uint8Array {
    return this.#inner.body;
  }

  next(bytes: Buffer, at: number, end: number): number {
    this.#isHeadless = true;
    this.declaredBytes = declaredBytes(bytes, at, end);
    const frameEnd = endOfFrame(bytes, at, end, this.#limits.frameBytesMax);
    if (frameEnd === -1) return -1;
    const length = frameEnd - at - 4;
    if (length < FIXED_BYTES || bytes.readUInt16BE(at + 4) !== HEADER_MAGIC)
      throw new KatamariError('bad_request', `A frame of ${length} bytes has no header, but earlier frames had one`);
    const start = at + 4 + FIXED_BYTES;
    const payload = start + bytes.readUInt16BE(at + 12) * 4;
    if (payload > frameEnd)
      throw new KatamariError(
        'bad_request',
        `The header is declared ${payload - start} bytes long, longer than its frame`,
      );
    this.#flags = bytes.readUInt16BE(at + 6);
    if (!this.#isAsBefore(bytes, start, payload)) {
      this.#lastRead = undefined;
      this.#lastBlock = undefined;
      this.#readHeader(bytes, start, payload);
      if (payload - start <= REMEMBERED_BYTES_MAX) this.#lastRead = Buffer.from(bytes.subarray(start, payload));
    }
    const message = this.#isCompressed
      ? this.#inflate(bytes.subarray(payload, frameEnd))
      : bytes.subarray(payload, frameEnd);
    this.#isHeadless = false;
    readWhole(this.#inner, message, 0, message.length);
    return frameEnd;
  }

  write(
    type: MessageType,
    name: string,
    seqId: number,
    body: Uint8Array,
    out: Uint8Array[],
    _schema?: StructType,
    headers: Readonly<Record<string, string>> = NO_HEADERS,
  ): void {
    const pieces: Uint8Array[] = [];
    this.#inner.write(type, name, seqId, body, pieces);
    const payload = this.#isCompressed ? [deflateSync(Buffer.concat(pieces))] : pieces;
    const header = this.#blockOf(headers);
    const fixed = Buffer.allocUnsafe(4 + FIXED_BYTES);
    fixed.writeInt32BE(FIXED_BYTES + header.length + bytesFrom(payload, 0), 0);
    fixed.writeUInt16BE(HEADER_MAGIC, 4);
    fixed.writeUInt16BE(this.#flags, 6);
    fixed.writeInt32BE(seqId, 8);
    fixed.writeUInt16BE(header.length / 4, 12);
    // A short body is in one piece with its head (COPY_BYTES_MAX). Then one buffer costs less than three.
    if (payload.length === 1) out.push(Buffer.concat([fixed, header, ...payload]));
    else out.push(fixed, header, ...payload);
  }

  #isAsBefore(bytes: Buffer, start: number, end: number): boolean {
    const last = this.#lastRead;
    return last?.length === end - start && bytes.compare(last, 0, last.length, start, end) === 0;
  }

  #blockOf(headers: Readonly<Record<string, string>>): Buffer {
    if (this.#lastBlock === undefined || this.#lastHeaders !== headers) {
      this.#lastBlock = headerBlock(this.#protocol, this.#isCompressed, headers);
      this.#lastHeaders = headers;
    }
    return this.#lastBlock;
  }

  get #inner(): Encoding {
    return this.#protocol === PROTOCOL.compact ? this.#compact : this.#binary;
  }

  #readHeader(bytes: Buffer, start: number, end: number): void {
    let at = this.#number(bytes, start, end);
    const protocol = this.#varint.low;
    if (protocol !== PROTOCOL.binary && protocol !== PROTOCOL.compact)
      throw new KatamariError('bad_request', `Protocol ${protocol} in a header; expected 0 (binary) or 2 (compact)`);
    this.#protocol = protocol;
    at = this.#number(bytes, at, end);
    const transforms = this.#varint.low;
    this.#isCompressed = false;
    for (let n = 0; n < transforms; n++) {
      at = this.#number(bytes, at, end);
      if (this.#varint.low !== ZLIB || this.#isCompressed)
        throw new KatamariError(
          'bad_request',
          `Transform ${this.#varint.low} in a header; expected 1 (zlib), at most once`,
        );
      this.#isCompressed = true;
    }
    this.headers = this.#readKeyValues(bytes, at, end);
  }

  /** Reads the headers. Everything after an unknown section is ignored: it is padding, or from a newer version. */
  #readKeyValues(bytes: Buffer, start: number, end: number): HeadersIn | undefined {
    let headers: Record<string, string> | undefined;
    let found = 0;
    for (let at = start; at < end;) {
      at = this.#number(bytes, at, end);
      if (this.#varint.low !== KEY_VALUES) break;
      at = this.#number(bytes, at, end);
      const count = this.#varint.low;
      found += count;
      if (count < 0 || found > HEADERS_MAX)
        throw new KatamariError('bad_request', `More than ${HEADERS_MAX} headers, the limit`);
      headers ??= Object.create(null) as Record<string, string>;
      for (let n = 0; n < count; n++) {
        const key = this.#text(bytes, at, end);
        const value = this.#text(bytes, key.end, end);
        const lower = key.text.toLowerCase();
        headers[isOwnHeader(lower) ? lower : key.text] = value.text;
        at = value.end;
      }
    }
    return headers;
  }

  #text(bytes: Buffer, at: number, end: number): { text: string; end: number } {
    const start = this.#number(bytes, at, end);
    const textEnd = start + this.#varint.low;
    if (textEnd < start || textEnd > end) throw headerEnds();
    return { text: bytes.toString('latin1', start, textEnd), end: textEnd };
  }

  #number(bytes: Buffer, at: number, end: number): number {
    const next = this.#varint.read(bytes, at, end, VARINT_32_BYTES);
    if (next === -1) throw headerEnds();
    return next;
  }

  #inflate(packed: Buffer): Buffer {
    const { frameBytesMax } = this.#limits;
    try {
      return inflateSync(packed, { maxOutputLength: frameBytesMax });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
        throw new KatamariError(
          'too_large',
          `The message becomes more than ${frameBytesMax} bytes, the limit, when it is decompressed; send it in smaller pieces`,
        );
      }
      throw new KatamariError('bad_request', `The message cannot be decompressed: ${(error as Error).message}`);
    }
  }
}

/**
 * Encodes the part between the fixed header of a frame and its message: protocol, transforms, headers, padding to
 * whole words.
 */
export function headerBlock(
  protocol: number,
  isCompressed: boolean,
  headers: Readonly<Record<string, string>>,
): Buffer {
  const out = new BinaryWriter(64);
  writeVarint(out, protocol);
  writeVarint(out, isCompressed ? 1 : 0);
  if (isCompressed) writeVarint(out, ZLIB);
  const entries = Object.entries(headers);
  if (entries.length > 0) {
    writeVarint(out, KEY_VALUES);
    writeVarint(out, entries.length);
    for (const text of entries.flat()) {
      const bytes = bytesOfText(text);
      writeVarint(out, bytes.length);
      out.raw(bytes);
    }
  }
  while (out.position % 4 !== 0) out.byte(0);
  return out.buffer.subarray(0, out.position);
}

function headerEnds(): KatamariError {
  return new KatamariError('bad_request', 'The header of a frame ends in the middle of a value');
}

/** Magic, flags, sequence id and size of the header. */
const FIXED_BYTES = 10;
const HEADERS_MAX = 100;
const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});
/** Longer headers are not cached. */
const REMEMBERED_BYTES_MAX = 1_024;
