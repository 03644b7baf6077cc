// Watches all keys under a prefix until its signal fires, across any failure of Consul.
//
// A blocking query with the last index returns when there is something newer. After any failure (agent gone, dead
// connection, invalid response) the watch backs off and reads again without an index. That read returns at once with
// the state that Consul has then: newer, older or empty. The watch also reads again when the index goes backwards.
// Each result is compared with the last one, so restarts and spurious responses cause no change.
//
// After Consul has lost its data, the leader writes them back one by one, and a key last that says so (`restoredKey`).
// Until then the watch keeps the entries that are missing, so that no listener sees a part for the whole.

import { systemClock, type Clock, Backoff, mustNotFail, reportDefect } from '../../core/mod.ts';
import type { ConsulClient } from './client.ts';
import { ConsulError } from './requests.ts';
import type { ConsulEntry } from './store.ts';
import { pause } from './pause.ts';

export type WatchedEntries = ReadonlyMap<string, ConsulEntry>;

export interface ChangeFacts {
  /** True if Consul's index went backwards. Its data may then be older than before, or gone. */
  readonly isAfterReset: boolean;
  /** Index of Consul for this state. */
  readonly index: number;
}

export interface WatchOptions {
  /** Ends the watch. */
  readonly signal: AbortSignal;
  /** Called for every response of Consul, with or without a change. */
  readonly onAnswer?: () => void;
  /** Called for each failed request; the watch retries. */
  readonly onError?: (error: ConsulError) => void;
  readonly clock?: Clock;
  readonly random?: () => number;
  /** Longest wait of a blocking query, in ms. */
  readonly waitMs?: number;
  readonly backoffMaxMs?: number;
  /** Key that Consul has while its data are whole. Without it, what Consul returns always counts as whole. */
  readonly restoredKey?: string;
}

export interface WatchStats {
  /** Time since the last response of Consul, in ms; Infinity before the first. */
  readonly ageMs: number;
  readonly answers: number;
  readonly errors: number;
  readonly changes: number;
  /** How often the index went backwards. */
  readonly resets: number;
}

export interface ConsulWatch {
  stats(): WatchStats;
  /** Resolves after the first call of `onChange`, or when the watch ends. */
  readonly ready: Promise<void>;
}

const WAIT_MS = 60_000;
/** Waits for data that are written back: the key that says so is not below the prefix. Doubled each time. */
const RESTORING_WAIT_FIRST_MS = 100;
const RESTORING_WAIT_MAX_MS = 5_000;
const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 5_000;
/** Pause between reads of a prefix that changes constantly. */
const CHURN_PAUSE_MS = 10;

/** Calls `onChange` with all entries under `prefix` by full key: once at the start, then on every change. */
export function watchPrefix(
  client: ConsulClient,
  prefix: string,
  onChange: (entries: WatchedEntries, facts: ChangeFacts) => void,
  options: WatchOptions,
): ConsulWatch {
  const watch = new PrefixWatch(client, prefix, onChange, options);
  mustNotFail(`the watch of ${prefix}`, watch.run());
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
  /** The entries before Consul lost its data, until they are written back. */
  #lost: WatchedEntries | undefined;
  #restoringWaitMs = RESTORING_WAIT_FIRST_MS;
  #index = 0;
  /** Index of the last response. Kept across failures, to detect that Consul lost its data meanwhile. */
  #lastIndex = 0;
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
    const { signal } = this.#options;
    while (!signal.aborted) {
      const isWaiting = this.#index > 0;
      try {
        const waitMs = this.#lost === undefined ? (this.#options.waitMs ?? WAIT_MS) : this.#restoringWaitMs;
        const { index, entries } = await this.#client.list(this.#prefix, { index: this.#index, waitMs, signal });
        if (signal.aborted) break;
        if (this.#isReset(index) || this.#lost !== undefined) await this.#answeredAfterLoss(index, entries);
        else this.#answered(index, entries);
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

  /** Consul has other data than before: they count as whole when they have the key that is written last. */
  async #answeredAfterLoss(index: number, entries: readonly ConsulEntry[]): Promise<void> {
    const { signal, restoredKey } = this.#options;
    if (restoredKey === undefined) return this.#answered(index, entries);
    this.#lost ??= this.#seen ?? new Map();
    if ((await this.#client.get(restoredKey, signal)) === undefined) {
      this.#restoringWaitMs = Math.min(this.#restoringWaitMs * 2, RESTORING_WAIT_MAX_MS);
      const found = new Set(entries.map(({ key }) => key));
      return this.#answered(index, [...[...this.#lost.values()].filter(({ key }) => !found.has(key)), ...entries]);
    }
    // The entries may have been read before the last of them was written.
    const whole = await this.#client.list(this.#prefix, { signal });
    this.#lost = undefined;
    this.#restoringWaitMs = RESTORING_WAIT_FIRST_MS;
    this.#answered(whole.index, whole.entries, true);
  }

  #isReset(index: number): boolean {
    return index < this.#lastIndex;
  }

  #answered(index: number, entries: readonly ConsulEntry[], isRestored = false): void {
    this.#backoff.reset();
    this.#answers++;
    this.#answeredAtMs = this.#clock.nowMs();
    this.#options.onAnswer?.();
    const isReset = this.#isReset(index);
    const isAfterReset = isReset || isRestored;
    if (isReset) this.#resets++;
    this.#lastIndex = index;
    this.#index = isReset ? 0 : index;
    const next = new Map(entries.map((entry) => [entry.key, entry]));
    if (this.#seen !== undefined && isSame(this.#seen, next)) return;
    this.#seen = next;
    this.#changes++;
    try {
      this.#onChange(next, { isAfterReset, index });
    } catch (error) {
      // The watch goes on: the next change may be one that the listener can handle.
      reportDefect(error);
    }
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
      old.problem !== entry.problem ||
      old.session !== entry.session ||
      old.lockIndex !== entry.lockIndex ||
      old.flags !== entry.flags
    ) {
      return false;
    }
  }
  return true;
}
