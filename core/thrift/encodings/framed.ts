// Any protocol in frames (a 4-byte length before each message). A frame is read when it is complete, and must contain
// exactly one message. That can also be a THeader frame: clients send one if they put a framed transport below
// THeader, which has a length of its own.

import { KatamariError } from '../../mod.ts';
import { type HeadersIn, type StructType, NOTHING, type MessageType } from '../mod.ts';
import type { Encoding, MessageFacts } from './encoding.ts';

export class FramedEncoding implements Encoding {
  /** The length of a frame below 16 MiB begins with it. */
  readonly replyStart: number = 0;
  readonly #inner: Encoding;
  readonly #frameBytesMax: number;
  #isHeadless = false;
  declaredBytes = 0;

  constructor(inner: Encoding, frameBytesMax: number) {
    this.#inner = inner;
    this.#frameBytesMax = frameBytesMax;
  }

  get head(): MessageFacts | undefined {
    return this.#isHeadless ? undefined : this.#inner.head;
  }

  get body(): Uint8Array {
    return this.#inner.body;
  }

  get headers(): HeadersIn | undefined {
    return this.#inner.headers;
  }

  get carriesHeaders(): boolean {
    return this.#inner.carriesHeaders === true;
  }

  get keepsNoOrder(): boolean {
    return this.#inner.keepsNoOrder === true;
  }

  next(bytes: Buffer, at: number, end: number): number {
    this.#isHeadless = true;
    this.declaredBytes = declaredBytes(bytes, at, end);
    const frameEnd = endOfFrame(bytes, at, end, this.#frameBytesMax);
    if (frameEnd === -1) return -1;
    this.#isHeadless = false;
    readWhole(this.#inner, bytes, at + 4, frameEnd);
    return frameEnd;
  }

  write(
    type: MessageType,
    name: string,
    seqId: number,
    body: Uint8Array,
    out: Uint8Array[],
    schema?: StructType,
    headers?: Readonly<Record<string, string>>,
  ): void {
    const length = Buffer.allocUnsafe(4);
    const first = out.push(length);
    this.#inner.write(type, name, seqId, body, out, schema, headers);
    length.writeInt32BE(bytesFrom(out, first), 0);
  }
}

/** Reads bytes that must be exactly one message. @throws KatamariError bad_request or too_large */
export function readWhole(inner: Encoding, bytes: Buffer, start: number, end: number): void {
  const messageEnd = start === end ? -1 : inner.next(bytes, start, end);
  if (messageEnd === end) return;
  throw new KatamariError(
    'bad_request',
    messageEnd === -1
      ? `A frame of ${end - start} bytes ends before its message does`
      : `The frame has ${end - messageEnd} bytes after its message, expected none`,
  );
}

/** Returns the declared bytes of the frame that begins at `at`; 0 if its length has not arrived. */
export function declaredBytes(bytes: Buffer, at: number, end: number): number {
  return end - at < 4 ? 0 : 4 + bytes.readInt32BE(at);
}

/**
 * Returns the offset after the frame that begins at `at`, or -1 if it is incomplete.
 * @throws KatamariError bad_request or too_large
 */
export function endOfFrame(bytes: Buffer, at: number, end: number, frameBytesMax: number): number {
  if (end - at < 4) return -1;
  const length = bytes.readInt32BE(at);
  checkFrameLength(length, frameBytesMax);
  const frameEnd = at + 4 + length;
  return frameEnd > end ? -1 : frameEnd;
}

/** Checks the declared length of a frame. @throws KatamariError bad_request or too_large */
export function checkFrameLength(length: number, frameBytesMax: number): void {
  if (length < 0) {
    throw new KatamariError('bad_request', `A frame of ${length} bytes is declared, expected 0 or more`);
  }
  if (length <= frameBytesMax) return;
  throw new KatamariError(
    'too_large',
    `A frame of ${length} bytes is declared, limit is ${frameBytesMax}; send it in smaller pieces`,
  );
}

/** Returns the total bytes of the buffers from index `first` on. */
export function bytesFrom(pieces: readonly Uint8Array[], first: number): number {
  let bytes = 0;
  for (let n = first; n < pieces.length; n++) bytes += (pieces[n] ?? NOTHING).length;
  return bytes;
}
