// The shards that a manager serves. Faceplates read them over the link by long polling.

import { randomUUID } from 'node:crypto';
import type { Clock } from '../../core/mod.ts';
import type { Holdings } from '../mesh/mod.ts';
import { TELL_AFTER_MS } from './limits.ts';

/** What is served, and what cannot be. */
export type HoldingsState = Pick<Holdings, 'holdings' | 'failed'>;

export class HoldingsTable {
  readonly #clock: Clock;
  readonly #compute: () => HoldingsState;
  readonly #start: string = randomUUID();
  #seq = 1;
  #held: HoldingsState = { holdings: [], failed: [] };
  /** Whether a change has not been sent yet. */
  #isStale = false;
  #waitMsMax = WAIT_MS_MAX;
  readonly #waits = new Set<() => void>();

  /** @param compute returns what is served now, and what cannot be */
  constructor(clock: Clock, compute: () => HoldingsState) {
    this.#clock = clock;
    this.#compute = compute;
  }

  /** Computes the holdings again. Changes within a few milliseconds are sent together. */
  changed(): void {
    if (this.#isStale) return;
    this.#isStale = true;
    this.#clock.after(TELL_AFTER_MS, () => this.#tell());
  }

  read(): Holdings {
    return { seq: this.#seq, start: this.#start, ...this.#held };
  }

  /** Long poll: waits up to `waitMs`, at most 30 s, while the client has the newest holdings. */
  async next(start: string, afterSeq: number, waitMs: number): Promise<Holdings> {
    if (start === this.#start && afterSeq === this.#seq && waitMs > 0) {
      await new Promise<void>((resolve) => {
        const end = (): void => {
          stopTimer();
          this.#waits.delete(end);
          resolve();
        };
        const stopTimer = this.#clock.after(Math.min(waitMs, this.#waitMsMax), end);
        this.#waits.add(end);
      });
    }
    return this.read();
  }

  /** Ends the waits, because the process drains. Later waits take 200 ms, not 0, to prevent a busy loop. */
  endWaits(): void {
    this.#waitMsMax = DRAINING_WAIT_MS;
    this.#wake();
  }

  #tell(): void {
    this.#isStale = false;
    const next = this.#compute();
    if (JSON.stringify(next) === JSON.stringify(this.#held)) return;
    this.#held = next;
    this.#seq++;
    this.#wake();
  }

  #wake(): void {
    for (const end of this.#waits) end();
  }
}

const WAIT_MS_MAX = 30_000;
const DRAINING_WAIT_MS = 200;
