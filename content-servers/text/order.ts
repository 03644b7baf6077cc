// The order of hits, the same in one shard, over shards and over pages: score descending or the sort keys, then the
// name of the shard, then the id of the document. Values of a field are in the order of SQLite: numbers, text by its
// UTF-8 bytes, bytes. Documents without the field come last, whichever the direction.

import { compareUtf8 } from '../../core/thrift/mod.ts';
import { badQuery } from './query.ts';
import { TEXT_LIMITS } from './limits.ts';
import type { SqlValue } from './sqlite.ts';

/** `SortKey` of idl/search.thrift. */
export interface TextSortKey {
  readonly field: string;
  readonly descending: boolean;
}

export const SCORE_KEY = '_score';
export const DOCUMENT_KEY = '_document';

/** A hit in the order of all. */
export interface RankedHit {
  readonly shard: string;
  readonly document: number;
  /** NaN when no sort key needs it. */
  readonly score: number;
  /** One for each sort key; null for a document without the field. */
  readonly values: readonly SqlValue[];
}

export type HitOrder = (a: RankedHit, b: RankedHit) => number;

/** @throws ThriftException BadQuery for more sort keys than the limit */
export function checkSort(sort: readonly TextSortKey[]): void {
  if (sort.length > TEXT_LIMITS.sortKeysMax)
    throw badQuery(`found ${sort.length} sort keys, the limit is ${TEXT_LIMITS.sortKeysMax}`);
}

/** Whether the order depends on scores. */
export function needsScores(sort: readonly TextSortKey[]): boolean {
  return sort.length === 0 || sort.some(({ field }) => field === SCORE_KEY);
}

/** @param sort empty for the order by score */
export function orderOf(sort: readonly TextSortKey[]): HitOrder {
  if (sort.length === 0) return (a, b) => b.score - a.score || compareUtf8(a.shard, b.shard) || a.document - b.document;
  return (a, b) => {
    for (let i = 0; i < sort.length; i++) {
      const [one, other] = [a.values[i] ?? null, b.values[i] ?? null];
      if (one === null || other === null) {
        if (one !== other) return one === null ? 1 : -1;
        continue;
      }
      const order = compareValues(one, other);
      if (order !== 0) return (sort[i] as TextSortKey).descending ? -order : order;
    }
    return compareUtf8(a.shard, b.shard) || a.document - b.document;
  };
}

type PresentValue = NonNullable<SqlValue>;

function compareValues(a: PresentValue, b: PresentValue): number {
  const [rankA, rankB] = [rankOf(a), rankOf(b)];
  if (rankA !== rankB) return rankA - rankB;
  if (typeof a === 'string') return compareUtf8(a, b as string);
  if (typeof a === 'object') return Buffer.compare(a, b as Uint8Array);
  // A number and a bigint are compared exactly.
  return a < (b as number | bigint) ? -1 : a > (b as number | bigint) ? 1 : 0;
}

function rankOf(value: PresentValue): number {
  return typeof value === 'string' ? 1 : typeof value === 'object' ? 2 : 0;
}
