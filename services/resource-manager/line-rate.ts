// Bounds how many lines of chassis output are handed on: per chassis, and for all chassis of a manager together. To
// format and log a line costs more than to read it, so a chassis that prints without end would otherwise hold the event
// loop. Lines above a limit are dropped and counted, and a line says how many.

import type { Clock } from '../../core/mod.ts';

/** The lines of all chassis of a manager in the current second. */
export class LineRate {
  readonly #clock: Clock;
  #second = 0;
  #lines = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Returns what hands on the lines of one chassis, as far as the limits allow. */
  limited(onLine: (line: string) => void): (line: string) => void {
    let second = 0;
    let lines = 0;
    let dropped = 0;
    const report = (): void => {
      const count = dropped;
      dropped = 0;
      onLine(
        `${count} lines were dropped: limits are ${CHASSIS_LINES_MAX} lines per second, ${ALL_LINES_MAX} for all chassis`,
      );
    };
    return (line) => {
      const now = this.#now();
      if (now !== second) {
        second = now;
        lines = 0;
      }
      if (lines < CHASSIS_LINES_MAX && this.#lines < ALL_LINES_MAX) {
        lines++;
        this.#lines++;
        onLine(line);
      } else if (dropped++ === 0) this.#clock.after(REPORT_MS, report);
    };
  }

  #now(): number {
    const second = Math.floor(this.#clock.nowMs() / 1_000);
    if (second !== this.#second) {
      this.#second = second;
      this.#lines = 0;
    }
    return second;
  }
}

/** Lines per second. */
const CHASSIS_LINES_MAX = 2_000;
const ALL_LINES_MAX = 10_000;
const REPORT_MS = 1_000;
