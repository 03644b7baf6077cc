// Cuts a byte stream into frames (4-byte length, then so many bytes). A frame that arrived in one piece is handed on without a copy.
// Memory grows with what was received; what is declared is believed for some times as much. Limit: bytes of one frame.

import { KatamariError } from '../mod.ts';
import { roomFor } from './receive-buffer.ts';

export class FrameReader {
  readonly #frameBytesMax: number;
  readonly #onFrame: (frame: Buffer) => void;
  /** The beginning of a frame whose end has not come; `#held` bytes of it are in use. */
  #pending: Buffer | undefined;
  #held = 0;
  #frames = 0;

  constructor(frameBytesMax: number, onFrame: (frame: Buffer) => void) {
    this.#frameBytesMax = frameBytesMax;
    this.#onFrame = onFrame;
  }

  /** True while a frame was begun and is not complete: what a slow sender is judged by. */
  get isMidFrame(): boolean {
    return this.#held > 0;
  }

  /** Frames handed on so far. */
  get frames(): number {
    return this.#frames;
  }

  /** @throws KatamariError bad_request or too_large; the stream cannot be read on then. */
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

  /** Hands on every frame that lies whole in the chunk; returns where the first incomplete one begins. */
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

  /** Moves bytes to the pending frame until it is complete; returns how far the chunk was used. */
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

  /** Bytes of the frame of which a part is held, or is about to be; four where not even its length has come. */
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
