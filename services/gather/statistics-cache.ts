// Keeps the sums of statistics of index versions, which never change: a search that was made before takes one round
// trip. Limited by the memory of its entries.

import { LRUCache } from 'lru-cache';

export type Statistics = ReadonlyMap<string, bigint>;

export class StatisticsCache {
  readonly #sums = new LRUCache<string, Statistics>({
    maxSize: BYTES_MAX,
    sizeCalculation: (sums, key) =>
      key.length * 2 + [...sums.keys()].reduce((sum, { length }) => sum + length * 2 + 64, 64),
  });

  /** @param server `Service@version` of the content server; another version may count differently */
  get(manifest: string, server: string, query: string): Statistics | undefined {
    return this.#sums.get(keyOf(manifest, server, query));
  }

  set(manifest: string, server: string, query: string, sums: Statistics): void {
    this.#sums.set(keyOf(manifest, server, query), sums);
  }
}

function keyOf(manifest: string, server: string, query: string): string {
  return `${manifest} ${server} ${query}`;
}

const BYTES_MAX = 8 * 1024 * 1024;
