// Measures the event loop lag of this process and how long another process waited for a CPU, so that a client can
// subtract both from its latencies. Lag is how late each tick of a timer came. The other process's wait is from
// /proc/PID/schedstat (Linux): the time that its main thread was ready to run and did not. A busy machine is thus not
// mistaken for a slow program, while the program's own work counts in full.

import { readFileSync } from 'node:fs';

export class LagMeter {
  readonly #watched: number;
  readonly #timer: NodeJS.Timeout;
  /** Late ticks, oldest first: when, and how late. */
  readonly #late: { readonly atMs: number; readonly lagMs: number }[] = [];
  /** Samples of the watched process's wait, oldest first. */
  readonly #waits: { readonly atMs: number; readonly waitedMs: number }[] = [];
  #expectedAtMs = performance.now() + TICK_MS;
  worstMs = 0;

  /** @param watched pid of the other process */
  constructor(watched: number) {
    this.#watched = watched;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** The longest lag of this process that overlapped the span, in ms. */
  worstBetween(fromMs: number, toMs: number): number {
    const held = this.#late.filter(({ atMs, lagMs }) => atMs >= fromMs && atMs - lagMs <= toMs);
    return Math.max(0, ...held.map(({ lagMs }) => lagMs));
  }

  /** How long the watched process waited for a CPU within the span, in ms. */
  waitedBetween(fromMs: number, toMs: number): number {
    const before = this.#waits.findLast(({ atMs }) => atMs <= fromMs) ?? this.#waits[0];
    const after = this.#waits.find(({ atMs }) => atMs >= toMs) ?? this.#waits.at(-1);
    return before === undefined || after === undefined ? 0 : after.waitedMs - before.waitedMs;
  }

  /** Share of the time that the watched process waited for a CPU, 0..1. */
  get waitedShare(): number {
    const [first, last] = [this.#waits[0], this.#waits.at(-1)];
    if (first === undefined || last === undefined || first === last) return 0;
    return (last.waitedMs - first.waitedMs) / (last.atMs - first.atMs);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const atMs = performance.now();
    const lagMs = atMs - this.#expectedAtMs;
    this.#expectedAtMs = atMs + TICK_MS;
    keep(this.#waits, { atMs, waitedMs: waitedMs(this.#watched) ?? this.#waits.at(-1)?.waitedMs ?? 0 });
    if (lagMs < NOTABLE_MS) return;
    this.worstMs = Math.max(this.worstMs, lagMs);
    keep(this.#late, { atMs, lagMs });
  }
}

/** Wait since the process started, in ms; undefined when it cannot be read. */
function waitedMs(pid: number): number | undefined {
  try {
    const [, waitedNs = ''] = readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ');
    return Number(waitedNs) / 1e6;
  } catch {
    return undefined;
  }
}

function keep<T>(list: T[], item: T): void {
  list.push(item);
  if (list.length > KEPT_MAX) list.shift();
}

const TICK_MS = 10;
const NOTABLE_MS = 2;
const KEPT_MAX = 100_000;
