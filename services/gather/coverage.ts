// Coverage: which shards are in an answer, as idl/content.thrift defines it.

import type { Method } from '../../core/thrift/mod.ts';
import { MISSING_MAX, SHARDS_NAMED_MAX } from './limits.ts';

/** Why a shard is not in an answer; see enum Lack. */
export const LACK = { noReplica: 1, timedOut: 2, failed: 3, overloaded: 4, cutShort: 5 } as const;
export type Lack = (typeof LACK)[keyof typeof LACK];

/** Struct Missing. */
export interface MissingShard {
  readonly shard: string;
  readonly lack: Lack;
  readonly why: string;
}

/** Struct Coverage. */
export interface Coverage {
  readonly shards: number;
  readonly complete: number;
  readonly missing: readonly MissingShard[];
  readonly retried: number;
  readonly hedged: number;
}

/** Returns the coverage of an answer. @param missing all shards that are not wholly in it */
export function coverageOf(
  shards: number,
  missing: readonly MissingShard[],
  { retried, hedged }: Pick<Coverage, 'retried' | 'hedged'>,
): Coverage {
  const named = [...missing].sort((a, b) => (a.shard < b.shard ? -1 : 1)).slice(0, MISSING_MAX);
  return { shards, complete: shards - missing.length, missing: named, retried, hedged };
}

/** Says which shards are missing and why: `part-1 TIMED_OUT (m2 did not answer), and 3 more`. */
export function missingText(missing: readonly MissingShard[]): string {
  const named = missing
    .slice(0, SHARDS_NAMED_MAX)
    .map(({ shard, lack, why }) => `${shard} ${LACK_NAMES[lack]}${why === '' ? '' : ` (${why})`}`);
  const more = missing.length - named.length;
  return `${named.join(', ')}${more > 0 ? `, and ${more} more` : ''}`;
}

/** Name of the field with the coverage in the result struct of a method; undefined when it has none. */
export function coverageFieldOf({ returns }: Method): string | undefined {
  if (returns.kind !== 'struct') return undefined;
  return returns.struct.fields.find(
    ({ type }) =>
      type.kind === 'struct' &&
      /(^|\.)Coverage$/.test(type.struct.name) &&
      type.struct.fields.some(({ id, name }) => id === 3 && name === 'missing'),
  )?.name;
}

const LACK_NAMES: Readonly<Record<Lack, string>> = {
  1: 'NO_REPLICA',
  2: 'TIMED_OUT',
  3: 'FAILED',
  4: 'OVERLOADED',
  5: 'CUT_SHORT',
};
