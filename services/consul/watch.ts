// Follows all keys under a prefix for as long as it is told to, whatever happens to Consul meanwhile.
//
// It asks with the index it saw last and is answered when there is something newer. After any failure (agent gone,
// connection dead without a word, answer not understood) it pauses and starts afresh without an index: that read
// answers at once and shows whatever state Consul came back with, newer, older or empty. The same when the index went
// backwards. What it hands on is compared with what it handed on before, so restarts and spurious answers are silent
// unless something is really different.

import { systemClock, type Clock, Backoff } from '../../core/mod.ts';
import { ConsulError, type ConsulClient, type ConsulEntry } from './client.ts';
import { pause } from './pause.ts';

export type WatchedEntries = ReadonlyMap<string, ConsulEntry>;

export interface ChangeFacts {
  /** Consul's history broke before this: its data may be older than what was seen, or gone. */
  readonly isAfterReset: boolean;
  /** Consul's index at which this was so. */
  readonly index: number;
}

export interface WatchOptions {
  /** Ends the watch. */
  readonly signal: AbortSignal;
  /** Told of each failed try; the watch goes on. */
  /** Told of every answer of Consul, also of one that brings no change. */
  readonly onAnswer?: () => void;
  readonly onError?: (error: ConsulError) => void;
  readonly clock?: Clock;
  readonly random?: () => number;
  /** How long Consul may hold a query open. */
  readonly waitMs?: number;
  readonly backoffMaxMs?: number;
}

export interface WatchStats {
  /** Since Consul last answered, in ms; Infinity before the first answer. */
  readonly ageMs: number;
  readonly answers: number;
  readonly errors: number;
  readonly changes: number;
  /** Times the index went backwards. */
  readonly resets: number;
}

export interface ConsulWatch {
  stats(): WatchStats;
  /** Resolves when the first answer was handed on, or the watch was ended. */
  readonly ready: Promise<void>;
}

const WAIT_MS = 60_000;
const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 5_000;
/** A prefix that changes all the time is read this often at most. */
const CHURN_PAUSE_MS = 10;

/** Calls `onChange` with everything under `prefix`, by full key: once at first, then on every real change. */
export function watchPrefix(
  client: ConsulClient,
  prefix: string,
  onChange: (entries: WatchedEntries, facts: ChangeFacts) => void,
  options: WatchOptions,
): ConsulWatch {
  const watch = new PrefixWatch(client, prefix, onChange, options);
  void watch.run();
  return watch;
}

class PrefixWatch implements ConsulWatch {
  readonly ready: Promise<void>;
  readonly #client: ConsulClient;
  readonly #prefix: string;
  readonly #onChange: (entries: WatchedEntries, facts: ChangeFacts) => void;
  readonly #options: WatchOptions;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  #markReady!: () => void;
  #seen: WatchedEntries | undefined;
  #index = 0;
  /** Highest index seen, to notice when Consul starts over while it could not be reached. */
  #highestIndex = 0;
  #answeredAtMs = Number.NEGATIVE_INFINITY;
  #answers = 0;
  #errors = 0;
  #changes = 0;
  #resets = 0;

  constructor(
    client: ConsulClient,
    prefix: string,
    onChange: (entries: WatchedEntries, facts: ChangeFacts) => void,
    options: WatchOptions,
  ) {
    this.#client = client;
    this.#prefix = prefix;
    this.#onChange = onChange;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const random = options.random ?? Math.random;
    this.#backoff = new Backoff({ firstMs: BACKOFF_FIRST_MS, maxMs: options.backoffMaxMs ?? BACKOFF_MAX_MS, random });
    this.ready = new Promise((resolve) => {
      this.#markReady = resolve;
    });
  }

  stats(): WatchStats {
    return {
      ageMs: this.#clock.nowMs() - this.#answeredAtMs,
      answers: this.#answers,
      errors: this.#errors,
      changes: this.#changes,
      resets: this.#resets,
    };
  }

  async run(): Promise<void> {
    const { signal, waitMs = WAIT_MS } = this.#options;
    while (!signal.aborted) {
      const isWaiting = this.#index > 0;
      try {
        const { index, entries } = await this.#client.list(this.#prefix, { index: this.#index, waitMs, signal });
        if (signal.aborted) break;
        this.#answered(index, entries);
        if (isWaiting) await pause(this.#clock, CHURN_PAUSE_MS, signal);
      } catch (error) {
        if (signal.aborted) break;
        if (!(error instanceof ConsulError)) throw error;
        this.#errors++;
        this.#index = 0;
        this.#options.onError?.(error);
        await pause(this.#clock, this.#backoff.next(), signal);
      }
    }
    this.#markReady();
  }

  #answered(index: number, entries: readonly ConsulEntry[]): void {
    this.#backoff.reset();
    this.#answers++;
    this.#answeredAtMs = this.#clock.nowMs();
    this.#options.onAnswer?.();
    const isAfterReset = index < this.#highestIndex;
    if (isAfterReset) this.#resets++;
    this.#highestIndex = index;
    this.#index = isAfterReset ? 0 : index;
    const next = new Map(entries.map((entry) => [entry.key, entry]));
    if (this.#seen !== undefined && isSame(this.#seen, next)) return;
    this.#seen = next;
    this.#changes++;
    this.#onChange(next, { isAfterReset, index });
    this.#markReady();
  }
}

function isSame(before: WatchedEntries, next: WatchedEntries): boolean {
  if (before.size !== next.size) return false;
  for (const [key, entry] of next) {
    const old = before.get(key);
    if (
      old === undefined ||
      old.modifyIndex !== entry.modifyIndex ||
      old.value !== entry.value ||
      old.session !== entry.session ||
      old.lockIndex !== entry.lockIndex ||
      old.flags !== entry.flags
    ) {
      return false;
    }
  }
  return true;
}
