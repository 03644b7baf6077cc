// BM25, with k1 = 1.2 and b = 0.75. A score is the sum over the terms of the query of
//
//   idf x count x (k1 + 1) / (count + k1 x (1 - b + b x length / average length))
//   idf = ln(1 + (docs - df + 0.5) / (df + 0.5))
//
// A score depends on the statistics and on the document, not on its shard. To have the same bits everywhere, each step
// is done in one order. The logarithm is rounded to 32 bits, since its last bits differ between JavaScript engines; the
// other operations are exact to the bit by IEEE 754.

import type { ScoringTerm } from './plan.ts';
import type { Postings, TextShard } from './shard.ts';
import type { SoftEnd } from './soft-end.ts';
import { DOCUMENTS, frequencyOf, scoringTermsOf, TOKENS, type TextStatistics } from './statistics.ts';
import type { QueryPlan } from './plan.ts';

const K1 = 1.2;
const B = 0.75;

/** A term that occurs in the shard, with what it adds. */
interface WeighedTerm extends ScoringTerm {
  readonly idf: number;
  readonly documentFrequency: number;
  readonly postings: Postings;
}

/** Scores documents of one shard, by place. */
export class Scorer {
  readonly #shard: TextShard;
  readonly #averageLength: number;
  readonly terms: readonly WeighedTerm[];

  private constructor(shard: TextShard, averageLength: number, terms: readonly WeighedTerm[]) {
    this.#shard = shard;
    this.#averageLength = averageLength;
    this.terms = terms;
  }

  /** @returns undefined when the time is up */
  static of(shard: TextShard, plan: QueryPlan, statistics: TextStatistics, end: SoftEnd): Scorer | undefined {
    const documents = statistics.get(DOCUMENTS) ?? shard.documents;
    const terms: WeighedTerm[] = [];
    for (const term of scoringTermsOf(shard, plan)) {
      if (end.isReached()) return undefined;
      const postings = shard.postings(term.term, term.field);
      if (postings.places.length === 0) continue;
      // Statistics that leave shards out, for a call that puts up with that, may lack terms.
      const documentFrequency = Math.max(statistics.get(frequencyOf(term)) ?? 0, postings.places.length);
      const idf = idfOf(documents, documentFrequency);
      // A spread would take longer than the rest of this function.
      const { field, term: text, isPrefix } = term;
      terms.push({ field, term: text, isPrefix, postings, documentFrequency, idf });
    }
    const averageLength = (statistics.get(TOKENS) ?? shard.tokens) / documents;
    return new Scorer(shard, averageLength > 0 ? averageLength : 1, terms);
  }

  /** Whether the documents with a score above 0 are those with a term. In billions of documents a weight may be 0. */
  get scoresTellMatches(): boolean {
    return this.terms.every(({ idf }) => idf > 0);
  }

  /** Adds the scores of all documents with a term to `scores`, which holds 0 for each place. */
  addTo(scores: Float64Array): void {
    const { lengths } = this.#shard;
    for (const { postings, idf } of this.terms) {
      const { places, counts } = postings;
      for (let i = 0; i < places.length; i++) {
        const place = places[i] as number;
        scores[place] =
          (scores[place] as number) +
          termScore(idf, counts[i] as number, lengths[place] as number, this.#averageLength);
      }
    }
  }

  /** Sets to 0 what `addTo` has changed. */
  clear(scores: Float64Array): void {
    for (const { postings } of this.terms) {
      const { places } = postings;
      for (let i = 0; i < places.length; i++) scores[places[i] as number] = 0;
    }
  }

  /** What a term adds to the score of a document. */
  partOf(term: WeighedTerm, place: number): { readonly count: number; readonly score: number } {
    const at = term.postings.places.indexOf(place);
    if (at < 0) return { count: 0, score: 0 };
    const count = term.postings.counts[at] as number;
    return { count, score: termScore(term.idf, count, this.#shard.lengths[place] as number, this.#averageLength) };
  }

  get averageLength(): number {
    return this.#averageLength;
  }
}

function idfOf(documents: number, documentFrequency: number): number {
  const without = Math.max(0, documents - documentFrequency);
  return Math.fround(Math.log(1 + (without + 0.5) / (documentFrequency + 0.5)));
}

function termScore(idf: number, count: number, length: number, averageLength: number): number {
  return (idf * (count * (K1 + 1))) / (count + K1 * (1 - B + (B * length) / averageLength));
}
