// Blocking queries: a query waits for its topic and then reads again. An unnecessary wake-up costs a read, not a
// wrong response, because only a higher index ends the wait. A waiting query is one entry and one timer; nothing
// polls.

import type { Clock } from '../../core/mod.ts';
import { Refusal } from './go-compat.ts';

/** The data that a query depends on. */
export type Topic =
  | { readonly kind: 'key'; readonly key: string }
  | { readonly kind: 'prefix'; readonly prefix: string }
  | { readonly kind: 'sessions' }
  | { readonly kind: 'catalog' };

/** The data that a write changed. */
export interface Touched {
  readonly keys: readonly string[];
  readonly hasSessions: boolean;
  readonly hasCatalog: boolean;
}

export interface Seen {
  readonly index: number;
}

interface Watcher {
  readonly topic: Topic;
  readonly wake: () => void;
}

/** Wait as in Consul: 5 minutes by default, at most 10 minutes, plus random jitter of up to a sixteenth. */
const WAIT_DEFAULT_MS = 300_000;
const WAIT_MAX_MS = 600_000;
const JITTER_FRACTION = 16;

export class Watchers {
  readonly #clock: Clock;
  readonly #max: number;
  readonly #random: () => number;
  readonly #newest: () => number;
  readonly #watchers = new Set<Watcher>();
  #closed = false;

  /** @param newest returns the index of the last change */
  constructor(clock: Clock, max: number, random: () => number, newest: () => number) {
    this.#newest = newest;
    this.#clock = clock;
    this.#max = max;
    this.#random = random;
  }

  /** Number of waiting queries. */
  get count(): number {
    return this.#watchers.size;
  }

  /** Runs `look` until its index is above `above` or the wait is over. If `above` is 0, it runs once. */
  async query<T extends Seen>(
    topic: Topic,
    above: number,
    waitMs: number,
    signal: AbortSignal,
    look: () => T,
  ): Promise<T> {
    let seen = look();
    if (above <= 0 || atLeastOne(seen.index) > above || this.#closed) return seen;
    // If the client's index is above that of the agent, the agent has lost its data since. Consul would wait. This
    // agent returns at once, so that the client notices.
    if (above > Math.max(1, this.#newest())) return seen;
    if (this.#watchers.size >= this.#max) {
      throw new Refusal(
        429,
        `Too many blocking queries: ${this.#watchers.size} are waiting, limit is ${this.#max}; close some, or read without an index`,
      );
    }
    const limitMs = Math.min(waitMs > 0 ? waitMs : WAIT_DEFAULT_MS, WAIT_MAX_MS);
    const endMs = this.#clock.nowMs() + limitMs + (limitMs / JITTER_FRACTION) * this.#random();
    for (;;) {
      const woken = await this.#wait(topic, endMs - this.#clock.nowMs(), signal);
      if (!woken) return seen;
      seen = look();
      if (atLeastOne(seen.index) > above) return seen;
    }
  }

  touch(touched: Touched): void {
    if (this.#watchers.size === 0) return;
    for (const watcher of this.#watchers) if (isConcerned(watcher.topic, touched)) watcher.wake();
  }

  /** Ends all waits; queries return their last result. */
  close(): void {
    this.#closed = true;
    for (const watcher of this.#watchers) watcher.wake();
  }

  #wait(topic: Topic, forMs: number, signal: AbortSignal): Promise<boolean> {
    if (forMs <= 0 || signal.aborted || this.#closed) return Promise.resolve(false);
    return new Promise((resolve) => {
      const end = (woken: boolean): void => {
        this.#watchers.delete(watcher);
        stopTimer();
        signal.removeEventListener('abort', giveUp);
        resolve(woken && !this.#closed);
      };
      const giveUp = (): void => end(false);
      const watcher: Watcher = { topic, wake: () => end(true) };
      const stopTimer = this.#clock.after(forMs, giveUp);
      signal.addEventListener('abort', giveUp, { once: true });
      this.#watchers.add(watcher);
    });
  }
}

function isConcerned(topic: Topic, touched: Touched): boolean {
  switch (topic.kind) {
    case 'key':
      return touched.keys.includes(topic.key);
    case 'prefix':
      return touched.keys.some((key) => key.startsWith(topic.prefix));
    case 'sessions':
      return touched.hasSessions;
    case 'catalog':
      return touched.hasCatalog;
  }
}

/** Clients read index 0 as "no index", so an empty table returns 1. */
export function atLeastOne(index: number): number {
  return index < 1 ? 1 : index;
}
