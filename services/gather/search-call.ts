// One search over the shards of an index version (idl/search.thrift). First the statistics of the query are added up
// over all shards, so that scores are those of one big index; then every shard is searched with the sums; then the hits
// are merged. The first trip is left out when the sums are kept from before, or the order does not depend on scores.
// Other methods with a parameter `statistics`, such as `explain`, get the sums in the same way.

import { decodeStruct, encodeStruct } from '../../core/idl/mod.ts';
import { asKatamariError, clipText, KatamariError } from '../../core/mod.ts';
import { withCall, type Call, type CallSink } from '../../core/rpc/mod.ts';
import type { Interface, Method, StructType } from '../../core/thrift/mod.ts';
import { checkCoverage, shardsOfDocuments, textArgument, withShards, withStatistics } from './arguments.ts';
import { coverageOf, type MissingShard, type MissingShards } from './coverage.ts';
import {
  allMissing,
  checkRequestBytes,
  exceptionOf,
  isEnough,
  placesOf,
  replyOf,
  requireCoverage,
  reserved,
  valueOf,
} from './gather-call.ts';
import type { GatherTools } from './gather-tools.ts';
import type { SortKey } from './hit-order.ts';
import { COUNT_MAX, HITS_MAX, NAME_CHARS_MAX, TERMS_MAX } from './limits.ts';
import { isEmptyResult, mergeResults } from './merge.ts';
import { bestHits, cursorOf, readFound, writeFound, type RawFound, type RawHit } from './raw-hits.ts';
import { type AnsweredScatter, Scatter } from './scatter.ts';
import type { ServedIndex } from './shard-map.ts';
import type { Statistics } from './statistics-cache.ts';

/** The arguments of `search`, as decoded. */
interface GatheredSearch {
  readonly shards?: readonly string[];
  readonly query: string;
  /** Absent in methods that return no hits. */
  readonly count?: number;
  readonly sort?: readonly SortKey[];
  readonly statistics?: Statistics;
  readonly minCoverage?: number;
}

/** Whether the mesh adds up the statistics of the query for a method. */
export function takesStatistics({ gather, args }: Method): boolean {
  return gather === 'search' || args.fields.some(({ name, type }) => name === 'statistics' && type.kind === 'map');
}

export function searchCall(tools: GatherTools, index: ServedIndex, iface: Interface, call: Call, sink: CallSink): void {
  try {
    new SearchCall(tools, index, iface, call, sink).start();
  } catch (error) {
    sink.fail(asKatamariError(error));
  }
}

class SearchCall {
  readonly #tools: GatherTools;
  readonly #index: ServedIndex;
  readonly #method: Method;
  readonly #statistics: Method | undefined;
  /** With a deadline that leaves time for merging. */
  readonly #call: Call;
  readonly #sink: CallSink;
  readonly #args: GatheredSearch;
  readonly #minCoverage: number;
  /** Shards whose statistics count, and those that are searched. */
  readonly #places: readonly number[];
  readonly #searched: readonly number[];
  /** Shards whose statistics are missing in the sums. */
  #uncounted: readonly MissingShard[] = [];
  /** What the first trip has cost. */
  #repeats = { retried: 0, hedged: 0 };

  constructor(tools: GatherTools, index: ServedIndex, iface: Interface, call: Call, sink: CallSink) {
    this.#tools = tools;
    this.#index = index;
    this.#method = iface.methods.get(call.method) as Method;
    this.#statistics = iface.methods.get('statistics');
    this.#call = withCall(call, { deadlineMs: reserved(call.deadlineMs, tools.clock.nowMs()) });
    this.#sink = sink;
    this.#args = decodeStruct(this.#method.args, call.args) as unknown as GatheredSearch;
    const { shards = [], minCoverage = 1 } = this.#args;
    this.#minCoverage = checkCoverage(call.minCoverage ?? minCoverage);
    this.#places = placesOf(index, shards);
    const named = shardsOfDocuments(this.#method, call.args);
    this.#searched = named.length > 0 ? placesOf(index, named) : this.#places;
    checkSearch(this.#args);
  }

  start(): void {
    const { statistics, query, sort = [], shards = [] } = this.#args;
    const needsSums = sort.length === 0 || sort.some(({ field }) => field === SCORE_FIELD);
    if (!needsSums || (statistics?.size ?? 0) > 0) return this.#search(undefined);
    const { manifest, server } = this.#index;
    const known = shards.length === 0 ? this.#tools.statistics.get(manifest, server, query) : undefined;
    if (known !== undefined) return this.#search(known);
    this.#count((sums) => {
      const isWhole = this.#uncounted.length === 0;
      if (isWhole && shards.length === 0) this.#tools.statistics.set(manifest, server, query, sums);
      this.#search(sums);
    });
  }

  /** Adds up the statistics of the query. @param onSums gets the encoded map */
  #count(onSums: (sums: Uint8Array) => void): void {
    const method = this.#statistics;
    if (method?.gather !== 'sum') {
      const why = `${this.#method.name} has katamari.gather "search", so its service needs a method statistics with "sum"`;
      throw new KatamariError('bad_request', why, { notRun: true });
    }
    const args = encodeStruct(method.args, { query: this.#args.query });
    this.#scatter(method, args, this.#places, (end) => {
      const { answers, missing } = end;
      const lost = allMissing(this.#index, end, undefined);
      const coverage = coverageOf(this.#places.length, lost, end);
      // The answer misses the same shards, and counts them.
      if (!isEnough(this.#minCoverage, coverage, answers.length > 0)) this.#tools.counts.missed(lost);
      requireCoverage({ index: this.#index, minCoverage: this.#minCoverage }, coverage, answers.length > 0);
      this.#repeats = { retried: end.retried, hedged: end.hedged };
      const sums = mergeResults(
        method,
        answers.map(({ value }) => value),
      ) as Statistics;
      checkStatistics(sums);
      this.#uncounted = missing;
      onSums(encodeStruct(method.result, { success: sums }).subarray(FIELD_HEAD_BYTES, -1));
    });
  }

  #search(sums: Uint8Array | undefined): void {
    const { args } = this.#call;
    const withSums = sums === undefined ? args : withStatistics(this.#method, args, sums);
    this.#scatter(this.#method, withSums, this.#counted(), (end) => this.#merge(end));
  }

  /** The shards to search: scores of one whose statistics are not in the sums would be wrong. */
  #counted(): readonly number[] {
    if (this.#uncounted.length === 0) return this.#searched;
    const uncounted = new Set(this.#uncounted.map(({ shard }) => this.#index.placeOf.get(shard)));
    return this.#searched.filter((place) => !uncounted.has(place));
  }

  /** With the shards that were not searched. */
  #missing(end: AnsweredScatter, coverageField: string | undefined): readonly MissingShards[] {
    const missing = allMissing(this.#index, end, coverageField);
    if (this.#uncounted.length === 0) return missing;
    const searched = new Set(this.#searched);
    const named = this.#uncounted.filter(({ shard }) => searched.has(this.#index.placeOf.get(shard) as number));
    return named.length === 0 ? missing : [...missing, { named, count: named.length }];
  }

  #scatter(
    method: Method,
    args: Uint8Array,
    places: readonly number[],
    onAnswers: (end: AnsweredScatter) => void,
  ): void {
    const call = withCall(this.#call, { method: method.name });
    // The share is that of all shards of the call, also when some of them are not asked.
    const asked = method === this.#statistics ? this.#places.length : this.#searched.length;
    new Scatter(this.#tools, {
      index: this.#index,
      method,
      places,
      call,
      argsFor: (names) => withShards(method, args, names),
      minCoverage: Math.min(1, (this.#minCoverage * asked) / Math.max(1, places.length)),
      decode: (body) =>
        method.gather === 'search' ? readFound(method, body, this.#args.sort ?? []) : valueOf(method, body),
      checkRequests: (count) => this.#checkRequests(method, args, count),
      onEnd: (end) => {
        try {
          if (end.kind === 'failed') this.#sink.fail(end.error);
          else if (end.kind === 'exception') this.#sink.reply(exceptionOf(this.#index, end.reply));
          else onAnswers(end);
        } catch (error) {
          this.#sink.fail(asKatamariError(error));
        }
      },
    }).start();
  }

  /** @throws KatamariError bad_request when the requests would carry too much together */
  #checkRequests(method: Method, args: Uint8Array, requests: number): void {
    const { count = 0 } = this.#args;
    if (method === this.#method && count * requests > HITS_MAX) {
      const why = `count is ${count}, and ${requests} requests are needed: more than ${HITS_MAX} hits together; page with the cursor`;
      throw new KatamariError('bad_request', why, { notRun: true });
    }
    checkRequestBytes(args.length, requests);
  }

  /** The reply of `explain`: that of the first shard that says something. */
  #replyFirst(end: AnsweredScatter): void {
    const { answers } = end;
    const said = answers.find(({ value }) => !isEmptyResult(value)) ?? answers[0];
    const missing = this.#missing(end, undefined);
    const coverage = coverageOf(this.#searched.length, missing, end);
    requireCoverage({ index: this.#index, minCoverage: this.#minCoverage }, coverage, said !== undefined);
    if (said !== undefined) this.#sink.reply(replyOf(this.#index, answers, said.body, coverage));
  }

  #merge(end: AnsweredScatter): void {
    const { sort = [], count = 0 } = this.#args;
    const { answers } = end;
    if (this.#method.gather !== 'search') return this.#replyFirst(end);
    const found = answers.map(({ value }) => value as RawFound);
    const missing = this.#missing(end, 'coverage');
    const coverage = coverageOf(this.#searched.length, missing, {
      retried: end.retried + this.#repeats.retried,
      hedged: end.hedged + this.#repeats.hedged,
    });
    this.#tools.counts.missed(missing);
    requireCoverage({ index: this.#index, minCoverage: this.#minCoverage }, coverage, answers.length > 0);
    const hits = bestHits(found, sort, count);
    checkShards(this.#index, hits);
    let [total, seen, hasMore] = [0n, 0, false];
    for (const one of found) {
      total += one.total;
      seen += one.hits.length;
      hasMore ||= one.hasCursor;
    }
    const last = hits.at(-1);
    const cursor = (hasMore || seen > count) && last !== undefined ? cursorOf(this.#method, last) : '';
    const body = writeFound(this.#method, { total, hits, coverage, cursor });
    this.#sink.reply(replyOf(this.#index, answers, body, coverage));
  }
}

/** @throws KatamariError internal for a hit of a shard that the index does not have */
function checkShards({ id, placeOf }: ServedIndex, hits: readonly RawHit[]): void {
  for (const { shard } of hits) {
    if (placeOf.has(shard)) continue;
    const name = clipText(shard, NAME_CHARS_MAX);
    const why = `A content server of ${id} has found a document in the shard "${name}", and ${id} has no such shard`;
    throw new KatamariError('internal', `${why}; mend the content server`);
  }
}

/** @throws KatamariError bad_request */
function checkSearch({ count = 0, statistics }: GatheredSearch): void {
  if (statistics !== undefined) checkStatistics(statistics);
  if (!(count >= 0 && count <= COUNT_MAX)) {
    const why = `count is ${count}, expected 0 to ${COUNT_MAX}; page with the cursor for more`;
    throw new KatamariError('bad_request', why, { notRun: true });
  }
}

/** @throws KatamariError bad_request */
function checkStatistics({ size }: Statistics): void {
  if (size <= TERMS_MAX * NUMBERS_PER_TERM) return;
  const why = `The query has statistics of ${size} numbers, limit is ${TERMS_MAX * NUMBERS_PER_TERM}; use fewer terms or prefixes`;
  throw new KatamariError('bad_request', why, { notRun: true });
}

/** The shard of the hit that a cursor is behind; undefined without a cursor, and for one that cannot be read. */
export function shardOfCursor(method: Method, args: Uint8Array): string | undefined {
  if (method.gather !== 'search') return undefined;
  const after = textArgument(method, args, 'after');
  const hit = after === '' ? undefined : hitStructOf(method);
  if (hit === undefined) return undefined;
  try {
    return decodeStruct(hit, Buffer.from(after, 'base64url'))['shard'] as string | undefined;
  } catch {
    // The content server says what is wrong with it.
    return undefined;
  }
}

function hitStructOf({ returns }: Method): StructType | undefined {
  const hits = returns.kind === 'struct' ? returns.struct.fields.find(({ name }) => name === 'hits')?.type : undefined;
  return hits?.kind === 'list' && hits.element.kind === 'struct' ? hits.element.struct : undefined;
}

const FIELD_HEAD_BYTES = 3;
const SCORE_FIELD = '_score';
/** An engine may count some numbers for each term, and some for each field. */
const NUMBERS_PER_TERM = 8;
