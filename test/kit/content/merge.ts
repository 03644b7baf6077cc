// What the mesh does with the answers of several content servers, in a few lines: the order of idl/search.thrift.

import {
  cursorBehindSeen,
  type SearchParams,
  type SeenAnswer,
  type SeenHit,
  type SeenValue,
} from './content-server.ts';

export function merge(answers: readonly SeenAnswer[], { count = 10, sort = [] }: SearchParams): SeenAnswer {
  const all = answers.flatMap(({ hits }) => hits).sort((a, b) => compareHits(a, b, sort));
  const hits = all.slice(0, count);
  const last = hits.at(-1);
  const hasMore = all.length > count || answers.some(({ cursor }) => cursor !== '');
  const sum = (of: (answer: SeenAnswer) => number): number => answers.reduce((total, one) => total + of(one), 0);
  return {
    total: sum(({ total }) => total),
    hits,
    coverage: {
      shards: sum(({ coverage }) => coverage.shards),
      complete: sum(({ coverage }) => coverage.complete),
      missing: answers.flatMap(({ coverage }) => coverage.missing),
    },
    cursor: hasMore && last !== undefined ? cursorBehindSeen(last) : '',
  };
}

export function compareHits(a: SeenHit, b: SeenHit, sort: NonNullable<SearchParams['sort']>): number {
  if (sort.length === 0 && a.score !== b.score) return b.score - a.score;
  for (const [i, { descending = false }] of sort.entries()) {
    const [one, other] = [a.sortValues[i] as SeenValue, b.sortValues[i] as SeenValue];
    if (one.missing || other.missing) {
      if (one.missing !== other.missing) return one.missing ? 1 : -1;
      continue;
    }
    const order = compareSeen(one, other);
    if (order !== 0) return descending ? -order : order;
  }
  return Buffer.compare(Buffer.from(a.shard), Buffer.from(b.shard)) || a.document - b.document;
}

/** The fields of the exam hold numbers or text. */
function compareSeen(a: SeenValue, b: SeenValue): number {
  if (a.text !== undefined) return Buffer.compare(Buffer.from(a.text), Buffer.from(b.text ?? ''));
  return (a.whole ?? a.real ?? 0) - (b.whole ?? b.real ?? 0);
}
