// A search in some shards: find the documents of each, score them or read what they are sorted by, keep the best, read
// their stored fields. When the time is up it answers with what it has: a document is in the answer with its whole
// score or not at all, and shards that were not searched to their end are named in the coverage.

import { compareUtf8 } from '../../core/thrift/mod.ts';
import { DOCUMENT_KEY, needsScores, orderOf, type RankedHit, SCORE_KEY, type TextSortKey } from './order.ts';
import { planQuery, type PlanRequest, type QueryPlan } from './plan.ts';
import { badQuery } from './query.ts';
import { Scorer } from './score.ts';
import type { Matches, SortColumn, TextShard } from './shard.ts';
import { TEXT_LIMITS } from './limits.ts';
import { setOfTree } from './set-tree.ts';
import type { SoftEnd } from './soft-end.ts';
import { statisticsOf, sumOfStatistics, type TextStatistics } from './statistics.ts';
import type { SqlValue } from './sqlite.ts';
import { TopHits } from './top-hits.ts';
import { cursorBehind, wireFields, wireValue, type WireHit, type WireValue } from './values.ts';

export type TextShards = ReadonlyMap<string, TextShard>;

export interface SearchRequest extends PlanRequest {
  readonly count: number;
  readonly sort: readonly TextSortKey[];
  readonly after: RankedHit | undefined;
  /** Stored fields to return; `*` for all. */
  readonly fields: readonly string[];
  /** Sums over all shards; undefined: those of the shards of this call. */
  readonly statistics: TextStatistics | undefined;
}

/** `Missing` of idl/content.thrift. */
export interface CutShard {
  readonly shard: string;
  readonly lack: typeof CUT_SHORT;
  readonly why: string;
}

/** `Found` of idl/search.thrift. */
export interface SearchAnswer {
  readonly total: number;
  readonly hits: readonly WireHit[];
  readonly coverage: {
    readonly shards: number;
    readonly complete: number;
    readonly missing: readonly CutShard[];
    readonly retried: number;
    readonly hedged: number;
  };
  readonly cursor: string;
}

/** @throws ThriftException BadQuery */
export function searchShards(shards: TextShards, request: SearchRequest, end: SoftEnd): SearchAnswer {
  const search = new ShardSearch(request, end);
  const names = [...shards.keys()].sort(compareUtf8);
  const plans = plansOf(shards, request);
  const hasStatistics = search.findStatistics(shards, plans);
  for (const name of names) {
    if (hasStatistics) search.run(name, shards.get(name) as TextShard, plans.get(name) as QueryPlan);
    else search.cut(name, 0, shards.get(name)?.documents ?? 0);
  }
  return search.answer(shards);
}

/** The plan of each shard. Shards with the same analyzer and fields, which is all of an index, share one. */
export function plansOf(shards: TextShards, request: PlanRequest): ReadonlyMap<string, QueryPlan> {
  const made = new Map<string, QueryPlan>();
  return new Map(
    [...shards].map(([name, shard]) => {
      let plan = made.get(shard.planKey);
      if (plan === undefined) {
        plan = planQuery(request, shard.analyzer, shard.schema.indexed);
        made.set(shard.planKey, plan);
      }
      return [name, plan];
    }),
  );
}

/** Matches of a plan, from the postings where they say it all. */
export function matchesOf(shard: TextShard, { expression, sets }: QueryPlan, end: SoftEnd): Matches {
  if (sets === undefined) return shard.matches(expression, end);
  const places = setOfTree(sets, ({ term, field }) =>
    end.isReached() ? undefined : shard.postings(term, field).places,
  );
  return places === undefined ? { places: new Uint32Array(0), looked: 0 } : { places, looked: shard.documents };
}

/** Adds the statistics of shards up. undefined when the time is up. */
export function sumStatistics(
  shards: TextShards,
  plans: ReadonlyMap<string, QueryPlan>,
  end: SoftEnd,
): TextStatistics | undefined {
  const all: TextStatistics[] = [];
  for (const [name, shard] of shards) {
    const one = statisticsOf(shard, plans.get(name) as QueryPlan, end);
    if (one === undefined) return undefined;
    all.push(one);
  }
  return sumOfStatistics(all);
}

class ShardSearch {
  readonly #request: SearchRequest;
  readonly #end: SoftEnd;
  readonly #top: TopHits;
  readonly #isScored: boolean;
  readonly #missing: CutShard[] = [];
  readonly #columns = new Map<string, ReadonlyMap<string, SortColumn>>();
  #statistics: TextStatistics = new Map();
  #total = 0;

  constructor(request: SearchRequest, end: SoftEnd) {
    this.#request = request;
    this.#end = end;
    this.#top = new TopHits(request.count, orderOf(request.sort), request.after);
    this.#isScored = needsScores(request.sort);
  }

  /** @returns false when the time was up before the statistics were known */
  findStatistics(shards: TextShards, plans: ReadonlyMap<string, QueryPlan>): boolean {
    if (!this.#isScored) return true;
    const found = this.#request.statistics ?? sumStatistics(shards, plans, this.#end);
    this.#statistics = found ?? this.#statistics;
    return found !== undefined;
  }

  run(name: string, shard: TextShard, plan: QueryPlan): void {
    const { sort } = this.#request;
    const scorer = this.#isScored ? Scorer.of(shard, plan, this.#statistics, this.#end) : undefined;
    const columns = this.#columnsOf(shard);
    if ((this.#isScored && scorer === undefined) || columns === undefined) {
      this.cut(name, 0, shard.documents);
      return;
    }
    this.#columns.set(name, columns);
    if (plan.isAnyTerm && sort.length === 0 && scorer?.scoresTellMatches === true) {
      this.#takeScored(name, shard, scorer);
      return;
    }
    const { places, looked } = matchesOf(shard, plan, this.#end);
    this.#total += places.length;
    const scores = scratch(shard.documents);
    scorer?.addTo(scores);
    if (sort.length === 0) this.#addScored(name, shard, places, scores);
    else {
      const keys = sort.map(({ field }) => keyReader(field, shard, scores, columns));
      for (const place of places)
        this.#top.add({
          shard: name,
          document: shard.ids[place] as number,
          score: this.#isScored ? (scores[place] as number) : Number.NaN,
          values: keys.map((key) => key(place)),
        });
    }
    scorer?.clear(scores);
    if (looked < shard.documents) this.cut(name, looked, shard.documents);
  }

  /** Says that a shard is not wholly in the answer. */
  cut(shard: string, looked: number, documents: number): void {
    const why = `${this.#end.describe()}; ${looked} of ${documents} documents were looked at`;
    this.#missing.push({ shard, lack: CUT_SHORT, why });
  }

  answer(shards: TextShards): SearchAnswer {
    const { count, fields } = this.#request;
    const best = this.#top.best();
    const hits = best.map((hit) => this.#wireHit(hit, shards.get(hit.shard) as TextShard, fields));
    const last = hits.at(-1);
    return {
      total: this.#total,
      hits,
      coverage: {
        shards: shards.size,
        complete: shards.size - this.#missing.length,
        missing: this.#missing.slice(0, TEXT_LIMITS.missingShownMax),
        retried: 0,
        hedged: 0,
      },
      cursor: count > 0 && last !== undefined && this.#top.hasMore() ? cursorBehind(last) : '',
    };
  }

  /** Takes all documents with a term, without a list of them. */
  #takeScored(name: string, shard: TextShard, scorer: Scorer): void {
    const scores = scratch(shard.documents);
    scorer.addTo(scores);
    for (const { postings } of scorer.terms) {
      const { places } = postings;
      for (let i = 0; i < places.length; i++) {
        const place = places[i] as number;
        const score = scores[place] as number;
        // It was taken with an earlier term.
        if (score === 0) continue;
        scores[place] = 0;
        this.#total++;
        if (!this.#top.isTooLow(score))
          this.#top.add({ shard: name, document: shard.ids[place] as number, score, values: NO_VALUES });
      }
    }
  }

  #addScored(shard: string, { ids }: TextShard, places: Uint32Array, scores: Float64Array): void {
    for (let i = 0; i < places.length; i++) {
      const place = places[i] as number;
      const score = scores[place] as number;
      if (this.#top.isTooLow(score)) continue;
      this.#top.add({ shard, document: ids[place] as number, score, values: NO_VALUES });
    }
  }

  /** The columns of the sort keys. undefined when the time is up. */
  #columnsOf(shard: TextShard): ReadonlyMap<string, SortColumn> | undefined {
    const columns = new Map<string, SortColumn>();
    for (const { field } of this.#request.sort) {
      if (field === SCORE_KEY || field === DOCUMENT_KEY) continue;
      if (!shard.schema.stored.includes(field))
        throw badQuery(
          `cannot sort by "${field}"; there are ${[...shard.schema.stored, SCORE_KEY, DOCUMENT_KEY].join(', ')}`,
        );
      const column = shard.column(field, this.#end);
      if (column === undefined) return undefined;
      columns.set(field, column);
    }
    return columns;
  }

  #wireHit({ shard: name, document, score, values }: RankedHit, shard: TextShard, fields: readonly string[]): WireHit {
    const place = shard.placeOf(document);
    const sortValues = values.map((value, i): WireValue => {
      const { field } = this.#request.sort[i] as TextSortKey;
      return wireValue(value, field === SCORE_KEY || this.#columns.get(name)?.get(field)?.isReal[place] === 1);
    });
    const hit = { shard: name, document, score, sortValues };
    if (fields.length === 0) return hit;
    const stored = shard.stored(document, shownFields(shard, fields));
    return { ...hit, fields: wireFields(stored ?? new Map()) };
  }
}

/** The stored fields of a shard that a call asks for. */
export function shownFields(shard: TextShard, fields: readonly string[]): readonly string[] {
  const { stored } = shard.schema;
  return fields.includes('*') ? stored : stored.filter((field) => fields.includes(field));
}

/** Reads what a document is sorted by. */
function keyReader(
  field: string,
  shard: TextShard,
  scores: Float64Array,
  columns: ReadonlyMap<string, SortColumn>,
): (place: number) => SqlValue {
  if (field === SCORE_KEY) return (place) => scores[place] as number;
  if (field === DOCUMENT_KEY) return (place) => shard.ids[place] as number;
  const { values } = columns.get(field) as SortColumn;
  return (place) => values[place] ?? null;
}

let scores = new Float64Array(0);

/** Memory for the scores of one shard, all 0. Its user clears it, and nothing else runs in between. */
function scratch(documents: number): Float64Array {
  if (scores.length < documents) scores = new Float64Array(documents);
  return scores;
}

const CUT_SHORT = 5;
const NO_VALUES: readonly SqlValue[] = [];
