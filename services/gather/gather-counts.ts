// Counts of the gathered calls of this process, for the metrics. A call only increments numbers; names of shards are
// never kept.

import type { KatamariError } from '../../core/mod.ts';
import type { CallSink, Reply } from '../../core/rpc/mod.ts';
import { LACK, type MissingShards } from './coverage.ts';

/**
 * How a gathered call ended.
 * - whole: every shard is in the answer.
 * - partial: shards are missing, and the caller allowed it.
 * - exception: a content server threw a declared exception.
 * - incomplete: more shards are missing than the caller allowed.
 * - failed: any other error.
 */
export const GATHER_RESULTS = ['whole', 'partial', 'exception', 'incomplete', 'failed'] as const;

/** Calls of one method of an index version. */
export type GatherResults = Record<(typeof GATHER_RESULTS)[number], number>;

export class GatherCounts {
  /** Requests to managers; one call sends several. */
  readonly requests: Record<'first' | 'retry' | 'hedge', number> = { first: 0, retry: 0, hedge: 0 };
  /** Shards that were missing in answers, by reason. */
  readonly missing: Record<keyof typeof LACK, number> = {
    noReplica: 0,
    timedOut: 0,
    failed: 0,
    overloaded: 0,
    cutShort: 0,
  };
  /** By index version, then by method. */
  readonly #calls = new Map<string, Map<string, GatherResults>>();

  get calls(): ReadonlyMap<string, ReadonlyMap<string, Readonly<GatherResults>>> {
    return this.#calls;
  }

  /** The counts of a method, to be incremented. @param method a method of the interface, so their number is bounded */
  of(indexVersion: string, method: string): GatherResults {
    let methods = this.#calls.get(indexVersion);
    if (methods === undefined) this.#calls.set(indexVersion, (methods = new Map()));
    let results = methods.get(method);
    if (results === undefined) {
      results = { whole: 0, partial: 0, exception: 0, incomplete: 0, failed: 0 };
      methods.set(method, results);
    }
    return results;
  }

  /** Forgets an index version that was removed. */
  forget(indexVersion: string): void {
    this.#calls.delete(indexVersion);
  }

  /** Counts the shards that an answer misses. */
  missed(missing: readonly MissingShards[]): void {
    for (const { named } of missing)
      for (const { lack } of named) {
        const reason = REASONS.find(([, number]) => number === lack)?.[0];
        if (reason !== undefined) this.missing[reason]++;
      }
  }
}

/** Counts how a call ends. */
export class CountedSink implements CallSink {
  readonly #sink: CallSink;
  readonly #results: GatherResults;

  constructor(sink: CallSink, results: GatherResults) {
    this.#sink = sink;
    this.#results = results;
  }

  reply(reply: Reply): void {
    const { coverage } = reply.context;
    if (coverage === undefined) this.#results.exception++;
    else if (coverage.complete < coverage.shards) this.#results.partial++;
    else this.#results.whole++;
    this.#sink.reply(reply);
  }

  fail(error: KatamariError): void {
    if (error.code === 'incomplete') this.#results.incomplete++;
    else this.#results.failed++;
    this.#sink.fail(error);
  }
}

const REASONS = Object.entries(LACK) as [keyof typeof LACK, number][];
