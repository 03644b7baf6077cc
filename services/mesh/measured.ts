// A Dispatch with its books: every call is entered once when it comes and once when it settles. For the fronts that have no books of
// their own: calls from chassis into the mesh, and the manager's port.

import { LRUCache } from 'lru-cache';
import {
  asKatamariError,
  type Call,
  type CallStats,
  type Clock,
  type Directory,
  type Dispatch,
  type StatsBook,
} from '../../chassis-sdk/internal.ts';

export function measured(
  dispatch: Dispatch,
  book: StatsBook,
  faceplate: string,
  directory: Directory,
  clock: Clock,
): Dispatch {
  const pages = new Pages(book, faceplate, directory);
  return async (call) => {
    const startedMs = clock.nowMs();
    const stats = pages.of(call, startedMs);
    stats.accept();
    try {
      const reply = await dispatch(call);
      if (reply.isException) stats.exceptions++;
      stats.settle('ok', clock.nowMs() - startedMs, reply.context.queueUs);
      return reply;
    } catch (thrown) {
      const error = asKatamariError(thrown);
      stats.settle(error.code, clock.nowMs() - startedMs, 0);
      throw error;
    }
  };
}

/** The pages of calls by what they are. Names that nobody here knows are entered under '-': a stranger cannot make the book grow. */
class Pages {
  readonly #book: StatsBook;
  readonly #faceplate: string;
  readonly #directory: Directory;
  readonly #known = new LRUCache<string, Page>({ max: NAMES_MAX });

  constructor(book: StatsBook, faceplate: string, directory: Directory) {
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

interface Page {
  readonly stats: CallStats;
  readonly seenAtMs: number;
}

/** How long a name is believed to be what it was, in ms. */
const KNOWN_MS = 1_000;
const NAMES_MAX = 4_096;
