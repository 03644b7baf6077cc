// Splits a byte stream into frames (a 4-byte length, then that many bytes). A frame that arrives in one chunk is
// passed on without a copy. Memory for an incomplete frame grows with the bytes that have arrived: a declared length
// is trusted only up to a multiple of them. Limit: bytes of one frame.

import { KatamariError } from '../mod.ts';
import { roomFor } from './receive-buffer.ts';

export class FrameReader {
  readonly #frameBytesMax: number;
  readonly #onFrame: (frame: Buffer) => void;
  /** Start of an incomplete frame; `#held` bytes of it are in use. */
  #pending: Buffer | undefined;
  #held = 0;
  #frames = 0;

  constructor(frameBytesMax: number, onFrame: (frame: Buffer) => void) {
    this.#frameBytesMax = frameBytesMax;
    this.#onFrame = onFrame;
  }

  /** Whether a frame is incomplete; the time limit for slow senders uses it. */
  get isMidFrame(): boolean {
    return this.#held > 0;
  }

  /** Number of complete frames so far. */
  get frames(): number {
    return this.#frames;
  }

  /** @throws KatamariError bad_request or too_large; the rest of the stream cannot be read. */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#held === 0) {
        at = this.#handWhole(chunk, at);
        if (at < chunk.length) this.#hold(chunk, at, chunk.length);
        return;
      }
      at = this.#complete(chunk, at);
    }
  }

  /** Passes on every frame that is complete in the chunk; returns the offset of the first incomplete one. */
  #handWhole(chunk: Buffer, from: number): number {
    let at = from;
    while (chunk.length - at >= 4) {
      const end = at + 4 + this.#lengthAt(chunk, at);
      if (end > chunk.length) break;
      this.#frames++;
      this.#onFrame(chunk.subarray(at + 4, end));
      at = end;
    }
    return at;
  }

  /** Moves bytes to the pending frame until it is complete; returns the offset after them. */
  #complete(chunk: Buffer, from: number): number {
    let at = from;
    if (this.#held < 4) {
      const end = Math.min(chunk.length, at + 4 - this.#held);
      this.#hold(chunk, at, end);
      at = end;
      if (this.#held < 4) return at;
    }
    const total = 4 + this.#lengthAt(this.#pending as Buffer, 0);
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
    if (length > this.#frameBytesMax) {
      throw new KatamariError(
        'too_large',
        `A frame of ${length} bytes is declared, limit is ${this.#frameBytesMax}; send it in smaller pieces`,
      );
    }
    return length;
  }
}
