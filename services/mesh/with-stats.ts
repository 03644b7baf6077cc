// A Send with its books: every call is entered once when it comes and once when it settles. For the fronts that have no books of
import type { Clock, KatamariError } from '../../core/mod.ts';
import type { Call, CallSink, CallStats, Directory, Reply, Send, StatsTable } from '../../core/rpc/mod.ts';

// their own: calls from chassis into the mesh, and the manager's port.

import { LRUCache } from 'lru-cache';

export function withStats(send: Send, book: StatsTable, faceplate: string, directory: Directory, clock: Clock): Send {
  const pages = new StatsEntries(book, faceplate, directory);
  return (call, sink) => {
    const startedMs = clock.nowMs();
    const stats = pages.of(call, startedMs);
    stats.accept();
    send(call, new CountedCall(stats, startedMs, clock, sink));
  };
}

/** One call in the books. */
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

/** The pages of calls by what they are. Names that nobody here knows are entered under '-': a stranger cannot make the book grow. */
class StatsEntries {
  readonly #book: StatsTable;
  readonly #faceplate: string;
  readonly #directory: Directory;
  readonly #known = new LRUCache<string, MethodEntries>({ max: NAMES_MAX });

  constructor(book: StatsTable, faceplate: string, directory: Directory) {
    this.#book = book;
    this.#faceplate = faceplate;
    this.#directory = directory;
  }

  of({ service, method }: Call, nowMs: number): CallStats {
    const name = `${service}:${method}`;
    let page = this.#known.get(name);
    if (page === undefined || nowMs - page.seenAtMs > KNOWN_MS) {
      if (!this.#isKnown(service, method)) return this.#book.of(this.#faceplate, '-', '-');
      page = { stats: this.#book.of(this.#faceplate, service, method), seenAtMs: nowMs };
      this.#known.set(name, page);
    }
    return page.stats;
  }

  /** Goes through all pools: not for every call. */
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

/** How long a name is believed to be what it was, in ms. */
const KNOWN_MS = 1_000;
const NAMES_MAX = 4_096;
