// One gathered call: reads which shards it is about, asks them, and replies with one result and its coverage.

import { decodeStruct, encodeStruct } from '../../core/idl/mod.ts';
import { asKatamariError, clipText, KatamariError } from '../../core/mod.ts';
import {
  NAMED_MISSING_MAX,
  NO_REPLY_CONTEXT,
  withCall,
  type Call,
  type CallSink,
  type Reply,
} from '../../core/rpc/mod.ts';
import type { Method } from '../../core/thrift/mod.ts';
import { readArguments, shardsOfDocuments, withShards } from './arguments.ts';
import {
  type Coverage,
  coverageFieldOf,
  coverageOf,
  missingIn,
  missingName,
  missingText,
  type MissingShards,
} from './coverage.ts';
import type { GatherCounts } from './gather-counts.ts';
import type { GatherTools } from './gather-tools.ts';
import { NAME_CHARS_MAX, REQUEST_BYTES_MAX, RESERVE_MS, RESERVE_SHARE } from './limits.ts';
import { isEmptyResult, mergeResults } from './merge.ts';
import { type AnsweredScatter, Scatter, type ScatterEnd } from './scatter.ts';
import type { ShardAnswer } from './shard-group.ts';
import type { ServedIndex } from './shard-map.ts';

/** Sends a call of a method with `katamari.gather` to the shards of an index version, and replies once. */
export function gatherCall(tools: GatherTools, index: ServedIndex, method: Method, call: Call, sink: CallSink): void {
  try {
    const { shards, minCoverage } = readArguments(method, call);
    const named = shards.length > 0 ? shards : shardsOfDocuments(method, call.args);
    const places = placesOf(index, named);
    const deadlineMs = reserved(call.deadlineMs, tools.clock.nowMs());
    const isPassedOn = method.gather !== 'first' && coverageFieldOf(method) === undefined;
    const scatter = new Scatter(tools, {
      index,
      method,
      places,
      call: withCall(call, { deadlineMs }),
      argsFor: (names) => withShards(method, call.args, names),
      minCoverage,
      checkRequests: (count) => checkRequestBytes(call.args.length, count),
      // The reply of one manager for all shards is passed on as it is.
      decode: (body, isWhole) => (isWhole && isPassedOn ? undefined : valueOf(method, body)),
      ...(method.gather === 'first' ? { isEnough: (value) => !isEmptyResult(value) } : {}),
      onEnd: (end) => {
        try {
          finish({ counts: tools.counts, index, method, places, minCoverage }, end, sink);
        } catch (error) {
          sink.fail(asKatamariError(error));
        }
      },
    });
    scatter.start();
  } catch (error) {
    sink.fail(asKatamariError(error));
  }
}

/** @throws KatamariError too_large when the arguments of all requests are too many bytes together */
export function checkRequestBytes(bytes: number, requests: number): void {
  if (bytes * requests <= REQUEST_BYTES_MAX) return;
  const why = `The arguments have ${bytes} bytes and go to ${requests} managers or copies: limit is ${REQUEST_BYTES_MAX} bytes together`;
  throw new KatamariError('too_large', why, { notRun: true });
}

/** The deadline of the requests: it leaves time for merging. */
export function reserved(deadlineMs: number, nowMs: number): number {
  return deadlineMs - Math.max(RESERVE_MS, (deadlineMs - nowMs) * RESERVE_SHARE);
}

interface GatherFacts {
  readonly counts: GatherCounts;
  readonly index: ServedIndex;
  readonly method: Method;
  readonly places: readonly number[];
  readonly minCoverage: number;
}

/** The shards that a call names, or all. @throws KatamariError bad_request for an unknown shard */
export function placesOf(
  { id, names, places: all, placeOf }: ServedIndex,
  shards: readonly string[],
): readonly number[] {
  if (shards.length === 0) return all;
  const places = new Set<number>();
  for (const shard of shards) {
    const place = placeOf.get(shard);
    if (place === undefined) {
      const some = names.slice(0, NAMES_SHOWN_MAX).join(', ');
      const more = names.length > NAMES_SHOWN_MAX ? `, and ${names.length - NAMES_SHOWN_MAX} more` : '';
      throw new KatamariError(
        'bad_request',
        `${id} has no shard "${clipText(shard, NAME_CHARS_MAX)}"; its shards are ${some}${more}`,
      );
    }
    places.add(place);
  }
  return [...places].sort((a, b) => a - b);
}

function finish(facts: GatherFacts, end: ScatterEnd, sink: CallSink): void {
  if (end.kind === 'failed') return sink.fail(end.error);
  if (end.kind === 'exception') return sink.reply(exceptionOf(facts.index, end.reply));
  const { index, method, places } = facts;
  const { answers } = end;
  const coverageField = coverageFieldOf(method);
  const values = answers.map(({ value }) => value);
  const isAsItIs = answers.length === 1 && values[0] === undefined;
  // A result of `first` that is not empty is the whole answer, so no shard is missing in it.
  const isFound = method.gather === 'first' && values.some((value) => !isEmptyResult(value));
  const missing = isFound ? [] : allMissing(index, end, coverageField);
  facts.counts.missed(missing);
  const coverage = coverageOf(places.length, missing, end);
  requireCoverage(facts, coverage, answers.length > 0);
  const body = isAsItIs
    ? (answers[0] as ShardAnswer).body
    : encodeStruct(method.result, { success: withCoverage(mergedOf(method, values), coverageField, coverage) });
  sink.reply(replyOf(index, answers, body, coverage));
}

/** Replies with the coverage beside the result. */
export function replyOf(
  index: ServedIndex,
  answers: readonly ShardAnswer[],
  body: Uint8Array,
  { shards, complete, missing }: Coverage,
): Reply {
  let [queueUs, serviceUs] = [0, 0];
  for (const answer of answers) {
    queueUs = Math.max(queueUs, answer.queueUs);
    serviceUs = Math.max(serviceUs, answer.serviceUs);
  }
  const { freeNow, queuedNow, resource } = NO_REPLY_CONTEXT;
  const version = versionOf(index);
  const named = missing.length === 0 ? NO_NAMES : missing.slice(0, NAMED_MISSING_MAX).map(missingName);
  const coverage = { shards, complete, missing: named };
  const context = { version, queueUs, serviceUs, freeNow, queuedNow, resource, coverage };
  return { isException: false, body, context };
}

const NO_NAMES: readonly string[] = [];

/** The declared exception of a content server, as a reply of the index. */
export function exceptionOf(index: ServedIndex, { isException, body, context }: Reply): Reply {
  return { isException, body, context: { ...context, version: versionOf(index) } };
}

function versionOf({ id }: ServedIndex): string {
  return id.slice(id.indexOf('@') + 1);
}

/** Whether an answer has the shards that its caller wants. */
export function isEnough(minCoverage: number, { shards, complete }: Coverage, hasAnswer: boolean): boolean {
  return hasAnswer && complete >= minCoverage * shards;
}

/** @throws KatamariError incomplete */
export function requireCoverage(
  { index, minCoverage }: Pick<GatherFacts, 'index' | 'minCoverage'>,
  coverage: Coverage,
  hasAnswer: boolean,
): void {
  if (isEnough(minCoverage, coverage, hasAnswer)) return;
  const { shards, complete } = coverage;
  const why =
    `${complete} of ${shards} shards of ${index.id} are in the answer, and minCoverage is ${minCoverage}: ` +
    `${missingText(coverage)}. See katamari index status ${index.id.split('@')[0]}, or ask with a lower minCoverage`;
  throw new KatamariError('incomplete', why);
}

function mergedOf(method: Method, values: readonly unknown[]): unknown {
  if (method.gather === 'first') return values.find((value) => !isEmptyResult(value)) ?? values[0];
  return mergeResults(method, values);
}

/** The value of a result. @throws KatamariError bad_request when it is malformed */
export function valueOf(method: Method, body: Uint8Array): unknown {
  return decodeStruct(method.result, body)['success'];
}

function withCoverage(value: unknown, field: string | undefined, coverage: Coverage): unknown {
  return field === undefined ? value : { ...(value as object), [field]: coverage };
}

/** The shards that have not answered, and those that are not wholly in an answer; empty for an answer of all. */
export function allMissing(
  { names }: ServedIndex,
  { answers, missing }: AnsweredScatter,
  coverageField: string | undefined,
): readonly MissingShards[] {
  const all: MissingShards[] = missing.length === 0 ? [] : [{ named: missing, count: missing.length }];
  if (coverageField === undefined) return all;
  for (const { value, places } of answers) {
    const own = missingIn((value as CoveredResult | undefined)?.[coverageField], places, names);
    if (own !== undefined) all.push(own);
  }
  return all;
}

type CoveredResult = Readonly<Record<string, Partial<Coverage> | undefined>>;

const NAMES_SHOWN_MAX = 5;
