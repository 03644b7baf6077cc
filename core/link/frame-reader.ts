// Splits a byte stream into frames (a 4-byte length, then that many bytes). A frame that arrives in one chunk is
// passed on without a copy. Memory for an incomplete frame grows with the bytes that have arrived: a declared length
// is trusted only up to a multiple of them. Limit: bytes of one frame.
//
// A frame above the limit does not end the connection, because the calls of others are on it: its head is read, its
// owner is told, and the rest is discarded as it arrives. A frame that declares more than SKIPPED_BYTES_MAX is no
// message of a peer that went too far but of one that speaks something else.

import { KatamariError } from '../mod.ts';
import { NAME_BYTES_MAX, readHead, type MessageHead } from '../thrift/mod.ts';
import { roomFor } from './receive-buffer.ts';

/** A frame above the limit, of which only the begin is kept. */
export interface OversizedFrame {
  readonly head: MessageHead;
  /** The first bytes of the frame: its head and a little more. */
  readonly start: Buffer;
  /** Declared bytes of the frame. */
  readonly bytes: number;
}

export class FrameReader {
  readonly #frameBytesMax: number;
  readonly #onFrame: (frame: Buffer) => void;
  readonly #onOversized: ((frame: OversizedFrame) => void) | undefined;
  /** Bytes of an oversized frame that are still to be discarded. */
  #skipBytes = 0;
  /** Start of an incomplete frame; `#held` bytes of it are in use. */
  #pending: Buffer | undefined;
  #held = 0;
  #frames = 0;

  /** @param onOversized called once for each frame above the limit; without it such a frame is an error */
  constructor(frameBytesMax: number, onFrame: (frame: Buffer) => void, onOversized?: (frame: OversizedFrame) => void) {
    this.#frameBytesMax = frameBytesMax;
    this.#onFrame = onFrame;
    this.#onOversized = onOversized;
  }

  /** Whether a frame is incomplete; the time limit for slow senders uses it. */
  get isMidFrame(): boolean {
    return this.#held > 0 || this.#skipBytes > 0;
  }

  /** Bytes of the incomplete frame. */
  get heldBytes(): number {
    return this.#held;
  }

  /** Number of complete frames so far. */
  get frames(): number {
    return this.#frames;
  }

  /** @throws KatamariError bad_request or too_large; the rest of the stream cannot be read. */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#skipBytes > 0) {
        const skipped = Math.min(this.#skipBytes, chunk.length - at);
        this.#skipBytes -= skipped;
        at += skipped;
      } else if (this.#held === 0) {
        at = this.#handWhole(chunk, at);
        if (chunk.length - at < 4 || this.#lengthAt(chunk, at) <= this.#frameBytesMax) {
          if (at < chunk.length) this.#hold(chunk, at, chunk.length);
          return;
        }
        at = this.#complete(chunk, at);
      } else {
        at = this.#complete(chunk, at);
      }
    }
  }

  /** Passes on every frame that is complete in the chunk; returns the offset of the first incomplete one. */
  #handWhole(chunk: Buffer, from: number): number {
    let at = from;
    while (chunk.length - at >= 4) {
      const length = this.#lengthAt(chunk, at);
      const end = at + 4 + length;
      if (end > chunk.length || length > this.#frameBytesMax) break;
      this.#frames++;
      this.#onFrame(chunk.subarray(at + 4, end));
      at = end;
    }
    return at;
  }

  /**
   * Moves bytes to the pending frame until it is complete, or until the head of one that is too large is; returns the
   * offset after them.
   */
  #complete(chunk: Buffer, from: number): number {
    let at = from;
    if (this.#held < 4) {
      const end = Math.min(chunk.length, at + 4 - this.#held);
      this.#hold(chunk, at, end);
      at = end;
      if (this.#held < 4) return at;
    }
    const length = this.#lengthAt(this.#pending as Buffer, 0);
    if (length > this.#frameBytesMax) return this.#readOversized(chunk, at, length);
    const total = 4 + length;
    const end = Math.min(chunk.length, at + total - this.#held);
    this.#hold(chunk, at, end);
    if (this.#held === total) {
      const frame = (this.#pending as Buffer).subarray(4, total);
      this.#pending = undefined;
      this.#held = 0;
      this.#frames++;
      this.#onFrame(frame);
    }
    return end;
  }

  /** Holds the begin of a frame above the limit until its head is complete, then discards the rest of it. */
  #readOversized(chunk: Buffer, at: number, length: number): number {
    const end = Math.min(chunk.length, at + OVERSIZED_START_BYTES - this.#held);
    this.#hold(chunk, at, end);
    const start = (this.#pending as Buffer).subarray(4, this.#held);
    // Throws as soon as the bytes are not those of a message.
    const head = readHead(start, 0, start.length);
    if (head === undefined || start.length < head.bodyStart + BEYOND_HEAD_BYTES) return end;
    this.#skipBytes = length - start.length;
    this.#pending = undefined;
    this.#held = 0;
    this.#frames++;
    this.#onOversized?.({ head, start, bytes: length });
    return end;
  }

  #hold(chunk: Buffer, from: number, to: number): void {
    const need = this.#held + to - from;
    if (this.#pending === undefined || this.#pending.length < need) {
      const grown = Buffer.allocUnsafe(Math.max(need, roomFor(need, this.#declared(chunk, from, to)), 64));
      this.#pending?.copy(grown, 0, 0, this.#held);
      this.#pending = grown;
    }
    chunk.copy(this.#pending, this.#held, from, to);
    this.#held = need;
  }

  /** Returns the length of the incomplete frame with its 4-byte header; 4 while the length is unknown. */
  #declared(chunk: Buffer, from: number, to: number): number {
    if (this.#held >= 4) return 4 + this.#lengthAt(this.#pending as Buffer, 0);
    return this.#held === 0 && to - from >= 4 ? 4 + this.#lengthAt(chunk, from) : 4;
  }

  #lengthAt(bytes: Buffer, at: number): number {
    const length = bytes.readInt32BE(at);
    if (length < 0)
      throw new KatamariError('bad_request', `A frame of ${length} bytes is declared, expected 0 or more`);
    if (length > (this.#onOversized === undefined ? this.#frameBytesMax : SKIPPED_BYTES_MAX)) {
      throw new KatamariError(
        'too_large',
        `A frame of ${length} bytes is declared, limit is ${this.#frameBytesMax}; send it in smaller pieces`,
      );
    }
    return length;
  }
}

/** Largest frame whose rest is discarded. More than a reply that went wrong has, less than any text declares. */
const SKIPPED_BYTES_MAX = 0x40000000;
/** Bytes after the head that an oversized frame hands on: they show whether a context follows. */
const BEYOND_HEAD_BYTES = 3;
/** Length, head with the longest name, and what follows it. */
const OVERSIZED_START_BYTES = 4 + 12 + NAME_BYTES_MAX + BEYOND_HEAD_BYTES;
