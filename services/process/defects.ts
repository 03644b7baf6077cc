// Counts the uncaught errors of this process by name, and reports them as events: each name at once, then at most
// once a minute, so that a defect in a timer does not fill the log.

import { FatalDefect, nameDefect, type Clock } from '../../core/mod.ts';
import type { EventLog } from '../mesh/mod.ts';
import type { MetricFamily } from '../../faceplates/stats/mod.ts';

interface KnownDefect {
  count: number;
  reportedCount: number;
  reportedAtMs: number;
}

export class Defects {
  readonly #events: EventLog;
  readonly #clock: Clock;
  readonly #byName = new Map<string, KnownDefect>();
  readonly fatal: Promise<FatalDefect>;
  #onFatal!: (defect: FatalDefect) => void;

  constructor(events: EventLog, clock: Clock) {
    this.#events = events;
    this.#clock = clock;
    this.fatal = new Promise((resolve) => (this.#onFatal = resolve));
  }

  record(error: unknown): void {
    const found = nameDefect(error);
    const name = this.#byName.has(found) || this.#byName.size < NAMES_MAX ? found : 'other';
    const nowMs = this.#clock.nowMs();
    const known = this.#byName.get(name) ?? { count: 0, reportedCount: 0, reportedAtMs: Number.NEGATIVE_INFINITY };
    this.#byName.set(name, known);
    known.count++;
    if (nowMs - known.reportedAtMs >= REPORT_EVERY_MS || error instanceof FatalDefect) {
      const missed = known.count - known.reportedCount - 1;
      const times = missed > 0 ? `, and ${missed} times since the last report` : '';
      const goesOn = error instanceof FatalDefect ? 'this process drains and exits' : 'this process goes on';
      const [text = '', ...lines] = describe(error);
      this.#events.add('defect', name, `${text}${times}; ${goesOn}`, lines);
      known.reportedCount = known.count;
      known.reportedAtMs = nowMs;
    }
    if (error instanceof FatalDefect) this.#onFatal(error);
  }

  family(): MetricFamily {
    return {
      name: 'katamari_defects_total',
      help: 'Errors that nothing in this process has handled, by name.',
      type: 'counter',
      samples: [...this.#byName].map(([name, { count }]) => ({ labels: { name }, value: count })),
    };
  }
}

/** Message and stack of an error, bounded. */
function describe(error: unknown): string[] {
  if (!(error instanceof Error)) return [`uncaught: ${String(error).slice(0, LINE_MAX)}`];
  const { stack = '' } = error.cause instanceof Error ? error.cause : error;
  const frames = stack.split('\n').filter((line) => /^\s+at /.test(line));
  return [`uncaught ${error.name}: ${error.message}`, ...frames.slice(0, FRAMES_MAX)].map((line) =>
    line.slice(0, LINE_MAX),
  );
}

const NAMES_MAX = 100;
const REPORT_EVERY_MS = 60_000;
const FRAMES_MAX = 12;
const LINE_MAX = 1_000;
