// Coverage: which shards are in an answer, as idl/content.thrift defines it.

import { clipText } from '../../core/mod.ts';
import type { Method } from '../../core/thrift/mod.ts';
import { MISSING_MAX, SHARDS_NAMED_MAX, WHY_CHARS_MAX } from './limits.ts';

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

/** Shards that are not wholly in an answer. */
export interface MissingShards {
  /** The missing shards that are known by name. */
  readonly named: readonly MissingShard[];
  readonly count: number;
}

/** Returns the coverage of an answer. @param missing empty when every shard is in it */
export function coverageOf(
  shards: number,
  missing: readonly MissingShards[],
  { retried, hedged }: Pick<Coverage, 'retried' | 'hedged'>,
): Coverage {
  if (missing.length === 0) return { shards, complete: shards, missing: [], retried, hedged };
  const named = missing
    .flatMap((one) => one.named)
    .sort(byReason)
    .slice(0, MISSING_MAX)
    .sort((a, b) => (a.shard < b.shard ? -1 : 1));
  const count = missing.reduce((sum, one) => sum + one.count, 0);
  return { shards, complete: Math.max(0, shards - count), missing: named, retried, hedged };
}

/**
 * The shards that a content server says are not wholly in its answer. It may say wrong things: only shards that it was
 * asked for count, each once.
 * @param coverage what it says; undefined when no shard is missing
 * @param places the shards that it was asked for
 * @param names names of the shards by place
 */
export function missingIn(
  coverage: Partial<Coverage> | undefined,
  places: readonly number[],
  names: readonly string[],
): MissingShards | undefined {
  if (coverage === undefined) return undefined;
  const { shards = 0, complete = 0, missing = [] } = coverage;
  if (missing.length === 0 && complete >= shards) return undefined;
  const asked = new Set(places.map((place) => names[place]));
  const named = missing
    .slice(0, MISSING_MAX)
    .filter(({ shard }) => asked.delete(shard))
    .map((one) => ({ ...one, why: clipText((one as Partial<MissingShard>).why ?? '', WHY_CHARS_MAX) }));
  // A server names some of the shards, and counts all.
  const count = Math.min(places.length, Math.max(named.length, shards - complete));
  return count === 0 ? undefined : { named, count };
}

/** Names a missing shard for a reply context: `index@1.0.0/part-1 TIMED_OUT`. */
export function missingName({ shard, lack }: MissingShard): string {
  // Content servers may send other numbers.
  return `${shard} ${LACK_NAMES.get(lack) ?? 'FAILED'}`;
}

/**
 * Says which shards are missing and why, the most telling reasons first:
 * `part-7 FAILED (the file is damaged), part-1 TIMED_OUT (m2 did not answer in time), and 3 more`.
 */
export function missingText({ shards, complete, missing }: Coverage): string {
  const named = missing
    .toSorted(byReason)
    .slice(0, SHARDS_NAMED_MAX)
    .map((one) => `${missingName(one)}${one.why === '' ? '' : ` (${one.why})`}`);
  const more = shards - complete - named.length;
  if (more <= 0) return named.join(', ');
  return named.length === 0 ? `${more} that the content servers do not name` : `${named.join(', ')}, and ${more} more`;
}

/** Orders missing shards by how much their reason tells an operator. */
function byReason(a: MissingShard, b: MissingShard): number {
  return TELLING.indexOf(a.lack) - TELLING.indexOf(b.lack) || Number(a.why === '') - Number(b.why === '');
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

/** The most telling reasons first. */
const LACK_NAMES: ReadonlyMap<number, string> = new Map([
  [LACK.failed, 'FAILED'],
  [LACK.overloaded, 'OVERLOADED'],
  [LACK.timedOut, 'TIMED_OUT'],
  [LACK.cutShort, 'CUT_SHORT'],
  [LACK.noReplica, 'NO_REPLICA'],
]);
const TELLING: readonly number[] = [...LACK_NAMES.keys()];
