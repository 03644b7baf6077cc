// The numbers that scores depend on. They add up over shards: `docs` is the number of documents, `tokens` the number of
// terms in all of them, `df:rabbit` the documents with a term, `df.title:rabbit` those with it in one field.

import { TEXT_LIMITS } from './limits.ts';
import type { QueryPlan, ScoringTerm } from './plan.ts';
import { badQuery } from './query.ts';
import type { TextShard } from './shard.ts';
import type { SoftEnd } from './soft-end.ts';

/** Sums by name. */
export type TextStatistics = ReadonlyMap<string, number>;

export const DOCUMENTS = 'docs';
export const TOKENS = 'tokens';

/** The name of a term's document frequency. */
export function frequencyOf({ field, term }: ScoringTerm): string {
  return field === undefined ? `df:${term}` : `df.${field}:${term}`;
}

/**
 * The terms of a plan in the order in which they score, prefixes replaced by the terms of the shard. The order is the
 * same in all shards, so sums of scores have the same bits: the order of the query, then that of the bytes.
 * @throws ThriftException BadQuery for too many terms
 */
export function scoringTermsOf(shard: TextShard, plan: QueryPlan): readonly ScoringTerm[] {
  const terms = new Map<string, ScoringTerm>();
  const { scoringTermsMax } = TEXT_LIMITS;
  for (const one of plan.terms) {
    const stands = one.isPrefix ? shard.expansions(one.term, one.field) : [one.term];
    for (const term of stands) {
      const found = { ...one, term, isPrefix: false };
      const name = frequencyOf(found);
      if (!terms.has(name)) terms.set(name, found);
    }
    if (terms.size > scoringTermsMax)
      throw badQuery(
        one.isPrefix
          ? `"${one.term}*" stands for too many words to score: the limit is ${scoringTermsMax}; write more letters, or sort by a field`
          : `the query has more than ${scoringTermsMax} different words`,
      );
  }
  return [...terms.values()];
}

/**
 * The statistics of one shard for a query.
 * @returns undefined when the time is up
 */
export function statisticsOf(shard: TextShard, plan: QueryPlan, end: SoftEnd): TextStatistics | undefined {
  const found = new Map([
    [DOCUMENTS, shard.documents],
    [TOKENS, shard.tokens],
  ]);
  for (const term of scoringTermsOf(shard, plan)) {
    if (end.isReached()) return undefined;
    found.set(frequencyOf(term), shard.postings(term.term, term.field).places.length);
  }
  return found;
}

/** Adds statistics of several shards up. */
export function sumOfStatistics(all: Iterable<TextStatistics>): TextStatistics {
  const sums = new Map<string, number>();
  for (const one of all) for (const [name, value] of one) sums.set(name, (sums.get(name) ?? 0) + value);
  if (sums.size > TEXT_LIMITS.scoringTermsMax + 2)
    throw badQuery(
      `the words that the query stands for are more than ${TEXT_LIMITS.scoringTermsMax}; write more letters before "*"`,
    );
  return sums;
}
