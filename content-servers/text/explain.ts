// Explains a score for people: what each term adds, and the numbers behind it.

import { planQuery } from './plan.ts';
import type { QueryTree } from './query.ts';
import { Scorer } from './score.ts';
import { matchesOf } from './search.ts';
import type { TextShard } from './shard.ts';
import type { SoftEnd } from './soft-end.ts';
import { DOCUMENTS, type TextStatistics, TOKENS } from './statistics.ts';

/** @returns '' when the time is up */
export function explainScore(
  shard: TextShard,
  query: QueryTree,
  document: number,
  statistics: TextStatistics,
  end: SoftEnd,
): string {
  const place = shard.placeOf(document);
  if (place < 0) return `The shard has no document ${document}.`;
  const plan = planQuery({ query }, shard.analyzer, shard.schema.indexed);
  const { places, looked } = matchesOf(shard, plan, end);
  const scorer = Scorer.of(shard, plan, statistics, end);
  if (looked < shard.documents || scorer === undefined) return '';
  if (!places.includes(place)) return `Document ${document} does not match. FTS5 was asked for ${plan.expression}`;
  let score = 0;
  const lines: string[] = [];
  for (const term of scorer.terms) {
    const part = scorer.partOf(term, place);
    if (part.count === 0) continue;
    score += part.score;
    const name = term.field === undefined ? term.term : `${term.field}:${term.term}`;
    const inAll = `${term.documentFrequency} of ${statistics.get(DOCUMENTS)} documents have it, idf ${term.idf}`;
    lines.push(`  ${part.score} for ${name}: ${part.count} times in this document; ${inAll}`);
  }
  const length = `${shard.lengths[place]} words long, on average ${scorer.averageLength}`;
  const all = `${statistics.get(TOKENS)} words in all`;
  return [`${score}, BM25 with k1 = 1.2 and b = 0.75, of document ${document}: ${length}, ${all}`, ...lines].join('\n');
}
