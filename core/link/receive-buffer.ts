// Bytes that a connection has received and not used. A chunk of complete messages passes through without a copy; only
// the start of an incomplete message is kept. Memory grows with the bytes that have arrived: a declared length is
// trusted only up to a multiple of them.

export class ReceiveBuffer {
  #kept: Buffer | undefined;
  /** Bytes of `#kept` in use. */
  #length = 0;
  /** `#kept` was allocated here and no call holds a part of it, so bytes may be added after `#length`. */
  #isOwn = false;

  get isEmpty(): boolean {
    return this.#length === 0;
  }

  get bytes(): number {
    return this.#length;
  }

  /**
   * Returns all unused bytes, including the chunk. Pass them to `keep` afterwards, with the offset of the first byte
   * that was not used.
   * @param declaredBytes declared length of the incomplete message, 0 when unknown. When enough of the message has
   * arrived, room for all of it is made at once, because growing in steps copies it again and again.
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

  /** Returns the kept bytes. */
  peek(): Buffer {
    return this.#kept === undefined ? EMPTY : this.#kept.subarray(0, this.#length);
  }

  /** Keeps the bytes from `used` on; `bytes` is the result of `join` or `peek`. */
  keep(bytes: Buffer, used: number): void {
    if (used === bytes.length) {
      this.#kept = undefined;
      this.#length = 0;
      return;
    }
    // None of the joined bytes was used: they stay where they are, with the free room after them.
    if (used === 0 && this.#kept !== undefined) return;
    // Calls in flight hold parts of these bytes, so they must not be overwritten. A small rest is copied, because it
    // must not keep a large buffer alive.
    const rest = bytes.subarray(used);
    this.#kept = rest.length * 2 < bytes.length ? Buffer.from(rest) : rest;
    this.#length = rest.length;
    this.#isOwn = false;
  }
}

/** Returns the bytes to allocate for a message: its declared length, but at most a multiple of those that arrived. */
export function roomFor(arrivedBytes: number, declaredBytes: number): number {
  return Math.min(declaredBytes, Math.max(ROOM_BYTES_MIN, arrivedBytes * TRUSTED_FACTOR));
}

/**
 * A declared length is trusted up to this multiple of the bytes that have arrived. A sender cannot claim memory
 * cheaply.
 */
const TRUSTED_FACTOR = 32;
const EMPTY: Buffer = Buffer.alloc(0);
const ROOM_BYTES_MIN = 256;
/** Above this size memory grows in steps instead of doubling. */
const DOUBLE_BYTES_MAX = 4 * 1024 * 1024;
