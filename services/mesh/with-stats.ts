// Wraps a Send with call statistics: each call is counted when it arrives and when it settles. Used for listeners
// that have no statistics of their own: calls of chassis into the mesh, and the port of the manager.

import type { Clock, KatamariError } from '../../core/mod.ts';
import type { Call, CallSink, CallStats, Directory, Reply, Send, StatsTable } from '../../core/rpc/mod.ts';

import { LRUCache } from 'lru-cache';

/** @param faceplate name under which the calls are counted */
export function withStats(send: Send, table: StatsTable, faceplate: string, directory: Directory, clock: Clock): Send {
  const entries = new StatsEntries(table, faceplate, directory);
  return (call, sink) => {
    const startedMs = clock.nowMs();
    const stats = entries.of(call, startedMs);
    stats.accept();
    send(call, new CountedCall(stats, startedMs, clock, sink));
  };
}

/** Counts the end of one call. */
class CountedCall implements CallSink {
  readonly #stats: CallStats;
  readonly #startedMs: number;
  readonly #clock: Clock;
  readonly #sink: CallSink;

  constructor(stats: CallStats, startedMs: number, clock: Clock, sink: CallSink) {
    this.#stats = stats;
    this.#startedMs = startedMs;
    this.#clock = clock;
    this.#sink = sink;
  }

  reply(reply: Reply): void {
    if (reply.isException) this.#stats.exceptions++;
    this.#stats.settle('ok', this.#clock.nowMs() - this.#startedMs, reply.context.queueUs);
    this.#sink.reply(reply);
  }

  fail(error: KatamariError): void {
    this.#stats.settle(error.code, this.#clock.nowMs() - this.#startedMs, 0);
    this.#sink.fail(error);
  }
}

/** Statistics by service and method. Unknown names are counted under '-', so that clients cannot grow the table. */
class StatsEntries {
  readonly #table: StatsTable;
  readonly #faceplate: string;
  readonly #directory: Directory;
  readonly #known = new LRUCache<string, MethodEntries>({ max: NAMES_MAX });

  constructor(table: StatsTable, faceplate: string, directory: Directory) {
    this.#table = table;
    this.#faceplate = faceplate;
    this.#directory = directory;
  }

  of({ service, method }: Call, nowMs: number): CallStats {
    const name = `${service}:${method}`;
    let entry = this.#known.get(name);
    if (entry === undefined || nowMs - entry.seenAtMs > KNOWN_MS) {
      if (!this.#isKnown(service, method)) return this.#table.of(this.#faceplate, '-', '-');
      entry = { stats: this.#table.of(this.#faceplate, service, method), seenAtMs: nowMs };
      this.#known.set(name, entry);
    }
    return entry.stats;
  }

  /** Whether a pool has the method. Searches all pools, so the result is cached for KNOWN_MS. */
  #isKnown(service: string, method: string): boolean {
    return this.#directory
      .pools()
      .some(({ details, interface: { methods } }) => details.service === service && methods.has(method));
  }
}

interface MethodEntries {
  readonly stats: CallStats;
  readonly seenAtMs: number;
}

/** Time after which a known name is checked again, in ms. */
const KNOWN_MS = 1_000;
const NAMES_MAX = 4_096;
