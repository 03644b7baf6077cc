// Segments in memory, of all shards of the process together. The least recently used ones leave when there are too
// many bytes. A segment that several calls need at once is read once, and few are read at a time.

import { LRUCache } from 'lru-cache';
import type { Segment } from './segment.ts';

export class SegmentCache {
  readonly #segments: LRUCache<string, Segment>;
  readonly #loading = new Map<string, Promise<Segment>>();
  readonly #waiting: (() => void)[] = [];
  #loads = 0;
  #shards = 0;

  /** @param bytesMax bytes of all segments */
  constructor(bytesMax: number) {
    this.#segments = new LRUCache({ maxSize: bytesMax, sizeCalculation: ({ bytes }) => bytes });
  }

  /** A number for a shard, that no other shard of this cache has. */
  newShard(): number {
    return this.#shards++;
  }

  get(shard: number, position: number): Segment | undefined {
    return this.#segments.get(`${shard}/${position}`);
  }

  /** Returns a segment from memory, or reads it. Waits while LOADS_MAX others are being read. */
  load(shard: number, position: number, read: () => Promise<Segment>): Promise<Segment> {
    const key = `${shard}/${position}`;
    const known = this.#segments.get(key);
    if (known !== undefined) return Promise.resolve(known);
    const started = this.#loading.get(key) ?? this.#load(key, read).finally(() => this.#loading.delete(key));
    this.#loading.set(key, started);
    return started;
  }

  /** Forgets the segments of a shard that is closed. */
  forget(shard: number): void {
    const keys = [...this.#segments.keys()].filter((key) => key.startsWith(`${shard}/`));
    for (const key of keys) this.#segments.delete(key);
  }

  async #load(key: string, read: () => Promise<Segment>): Promise<Segment> {
    if (this.#loads === LOADS_MAX) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#loads++;
    try {
      const segment = await read();
      this.#segments.set(key, segment);
      return segment;
    } finally {
      // The next one takes over the place.
      const next = this.#waiting.shift();
      if (next === undefined) this.#loads--;
      else next();
    }
  }
}

/** Segments that are read at a time: more threads than this do not unpack, and each may need the memory of a block. */
const LOADS_MAX = 8;
