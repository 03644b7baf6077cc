// Keeps the sums of statistics of index versions, which never change: a search that was made before takes one round
// trip. Limited by the memory of its entries.

import { LRUCache } from 'lru-cache';

export type Statistics = ReadonlyMap<string, bigint>;

export class StatisticsCache {
  /** Encoded in strict binary, as `encodeStatistics` does. */
  readonly #sums = new LRUCache<string, Uint8Array>({
    maxSize: BYTES_MAX,
    sizeCalculation: (sums, key) => key.length * 2 + sums.length + ENTRY_BYTES,
  });

  /** @param server `Service@version` of the content server; another version may count differently */
  get(manifest: string, server: string, query: string): Uint8Array | undefined {
    return this.#sums.get(keyOf(manifest, server, query));
  }

  set(manifest: string, server: string, query: string, sums: Uint8Array): void {
    // A slice of a shared buffer would keep all of it.
    this.#sums.set(keyOf(manifest, server, query), new Uint8Array(sums));
  }
}

function keyOf(manifest: string, server: string, query: string): string {
  return `${manifest} ${server} ${query}`;
}

const BYTES_MAX = 8 * 1024 * 1024;
/** About what an entry takes beside its key and its bytes. */
const ENTRY_BYTES = 256;
