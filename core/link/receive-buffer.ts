// What a connection has received and not used yet. A chunk that holds whole messages passes through untouched; only the beginning of an
// incomplete one is kept, in memory that grows with what came: what is declared is believed for some times as much.

export class ReceiveBuffer {
  #kept: Buffer | undefined;
  /** Bytes of `#kept` in use. */
  #length = 0;
  /** `#kept` was made here and nobody else holds a part of it, so there may be room behind its `#length`. */
  #isOwn = false;

  get isEmpty(): boolean {
    return this.#length === 0;
  }

  get bytes(): number {
    return this.#length;
  }

  /**
   * Everything there is now, the chunk included. Give back what was not used with `keep`.
   * @param declaredBytes how long the message that is incomplete says it is; 0 when nobody knows. Room is made for all of it at once when a part
   * worth naming has come: growing step by step moves it again and again.
   */
  join(chunk: Buffer, declaredBytes = 0): Buffer {
    const kept = this.#kept;
    if (kept === undefined) return chunk;
    const total = this.#length + chunk.length;
    if (!this.#isOwn || kept.length < total) {
      const stepBytes = total < DOUBLE_BYTES_MAX ? total * 2 : total + DOUBLE_BYTES_MAX;
      const grown = Buffer.allocUnsafe(
        declaredBytes >= total ? roomFor(total, declaredBytes) : Math.max(ROOM_BYTES_MIN, stepBytes),
      );
      kept.copy(grown, 0, 0, this.#length);
      this.#kept = grown;
      this.#isOwn = true;
    }
    const joined = this.#kept as Buffer;
    chunk.copy(joined, this.#length);
    this.#length = total;
    return joined.subarray(0, total);
  }

  /** What is kept, as it is. */
  peek(): Buffer {
    return this.#kept === undefined ? EMPTY : this.#kept.subarray(0, this.#length);
  }

  /** Keeps what of `bytes` (as `join` or `peek` gave them) begins at `used`. */
  keep(bytes: Buffer, used: number): void {
    if (used === bytes.length) {
      this.#kept = undefined;
      this.#length = 0;
      return;
    }
    // Nothing used of what was joined before: it stays where it is, with the room behind it.
    if (used === 0 && this.#kept !== undefined) return;
    // Calls that are under way hold parts of these bytes, so nothing may be written into them any more; and a small rest must not
    // hold on to a large buffer.
    const rest = bytes.subarray(used);
    this.#kept = rest.length * 2 < bytes.length ? Buffer.from(rest) : rest;
    this.#length = rest.length;
    this.#isOwn = false;
  }
}

/** Room for a message of which `come` bytes are here: for all of it, but not for more than so many times what has come. */
export function roomFor(come: number, declaredBytes: number): number {
  return Math.min(declaredBytes, Math.max(ROOM_BYTES_MIN, come * BELIEVED_FACTOR));
}

/** What is declared and never sent costs its sender a part that is not too small. */
const BELIEVED_FACTOR = 32;
const EMPTY: Buffer = Buffer.alloc(0);
const ROOM_BYTES_MIN = 256;
/** Above this size memory grows by steps instead of doubling. */
const DOUBLE_BYTES_MAX = 4 * 1024 * 1024;
