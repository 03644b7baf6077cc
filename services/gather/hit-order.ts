// The order of hits of a search over shards, as idl/search.thrift defines it: score descending or the sort keys, then
// the name of the shard, then the document. Documents without a value come last, whichever the direction.

import { compareUtf8 } from '../../core/thrift/mod.ts';

/** Struct SortKey. */
export interface SortKey {
  readonly field: string;
  readonly descending: boolean;
}

/** Union Value, as decoded. */
export type SortValue = Readonly<Record<string, unknown>>;

/** Struct Hit, as decoded. */
export interface Hit {
  readonly shard: string;
  readonly document: bigint;
  readonly score: number;
  readonly sortValues?: readonly SortValue[] | undefined;
  readonly fields?: ReadonlyMap<string, unknown>;
}

/** @param sort empty for the order by score */
export function compareHits(a: Hit, b: Hit, sort: readonly SortKey[]): number {
  if (sort.length === 0 && a.score !== b.score) {
    // A content server may say that a score is no number.
    const [isNone, isOtherNone] = [Number.isNaN(a.score), Number.isNaN(b.score)];
    if (isNone !== isOtherNone) return isNone ? 1 : -1;
    if (!isNone) return b.score - a.score;
  }
  for (const [at, { descending }] of sort.entries()) {
    const [one, other] = [plainOf(a.sortValues?.[at]), plainOf(b.sortValues?.[at])];
    if (one === undefined || other === undefined) {
      if (one === other) continue;
      return one === undefined ? 1 : -1;
    }
    const order = compareValues(one, other);
    if (order !== 0) return descending ? -order : order;
  }
  const byShard = compareUtf8(a.shard, b.shard);
  return byShard !== 0 ? byShard : Number(a.document - b.document);
}

type PlainValue = string | number | bigint | Uint8Array;

/** Undefined for a document without the field. */
function plainOf(value: SortValue | undefined): PlainValue | undefined {
  return (value?.['text'] ?? value?.['whole'] ?? value?.['real'] ?? value?.['bytes']) as PlainValue | undefined;
}

/** Numbers before texts before bytes. */
function compareValues(a: PlainValue, b: PlainValue): number {
  const kinds = kindOf(a) - kindOf(b);
  if (kinds !== 0) return kinds;
  if (typeof a === 'string') return compareUtf8(a, b as string);
  if (typeof a === 'object') return Buffer.compare(a, b as Uint8Array);
  return a < (b as number | bigint) ? -1 : a > (b as number | bigint) ? 1 : 0;
}

function kindOf(value: PlainValue): number {
  return typeof value === 'string' ? 1 : typeof value === 'object' ? 2 : 0;
}
