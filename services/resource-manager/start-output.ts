// The output of a start that is not decided yet. A permanent fault is reported once for all copies, with its output, so
// lines are held back for a moment: until the start succeeds or fails, or for a second after they were printed. A slow
// machine takes longer to start a program, so the time does not begin with the start.

import type { Clock } from '../../core/mod.ts';

export class StartOutput {
  readonly #clock: Clock;
  readonly #onLine: (line: string) => void;
  readonly #held: { readonly line: string; readonly untilMs: number }[] = [];
  #stopTimer: (() => void) | undefined;
  #isHolding = true;
  #hasExited = false;

  constructor(clock: Clock, onLine: (line: string) => void) {
    this.#clock = clock;
    this.#onLine = onLine;
  }

  push(line: string): void {
    if (!this.#isHolding) {
      this.#onLine(line);
      return;
    }
    this.#held.push({ line, untilMs: this.#clock.nowMs() + HOLD_BACK_MS });
    if (this.#held.length > HELD_LINES_MAX) this.#passFirst();
    if (!this.#hasExited) this.#stopTimer ??= this.#clock.after(HOLD_BACK_MS, () => this.#passOld());
  }

  /** The process has exited. Its last lines wait for the decision, which comes soon. */
  exited(): void {
    this.#hasExited = true;
    this.#stopTimer?.();
  }

  /** Passes on the lines that are held back, and all further lines at once. */
  passOn(): void {
    this.#isHolding = false;
    this.#stopTimer?.();
    while (this.#held.length > 0) this.#passFirst();
  }

  /** Drops the lines that are held back, because a report has them. */
  drop(): void {
    this.#held.length = 0;
    this.passOn();
  }

  #passOld(): void {
    this.#stopTimer = undefined;
    const nowMs = this.#clock.nowMs();
    while (this.#held[0] !== undefined && this.#held[0].untilMs <= nowMs) this.#passFirst();
    const [first] = this.#held;
    if (first !== undefined) this.#stopTimer = this.#clock.after(first.untilMs - nowMs, () => this.#passOld());
  }

  #passFirst(): void {
    const first = this.#held.shift();
    if (first !== undefined) this.#onLine(first.line);
  }
}

const HOLD_BACK_MS = 1_000;
/** The report of a fault has no more lines than the last 50 (chassis-process.ts). */
const HELD_LINES_MAX = 50;
