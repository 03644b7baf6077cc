// How late this process itself is, and how long another one waited for a processor: what a client measures beyond
// what it is meant to measure. Its own lag is a tick every few milliseconds and by how much each came late. The wait
// of the other process is told by Linux (time that its main thread was ready to run and did not,
// /proc/PID/schedstat), so that a busy machine is not taken for a slow program, while work that the program does
// itself counts in full.

import { readFileSync } from 'node:fs';

export class LagMeter {
  readonly #watched: number;
  readonly #timer: NodeJS.Timeout;
  /** Ticks that came late, oldest first: when, and by how much. */
  readonly #late: { readonly atMs: number; readonly lagMs: number }[] = [];
  /** Waits of the watched process so far, oldest first. */
  readonly #waits: { readonly atMs: number; readonly waitedMs: number }[] = [];
  #expectedAtMs = performance.now() + TICK_MS;
  worstMs = 0;

  /** @param watched pid of the other process */
  constructor(watched: number) {
    this.#watched = watched;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** The longest hold-up of this process that overlapped the span, in ms. */
  worstBetween(fromMs: number, toMs: number): number {
    const held = this.#late.filter(({ atMs, lagMs }) => atMs >= fromMs && atMs - lagMs <= toMs);
    return Math.max(0, ...held.map(({ lagMs }) => lagMs));
  }

  /** How long the watched process waited for a processor within the span, in ms. */
  waitedBetween(fromMs: number, toMs: number): number {
    const before = this.#waits.findLast(({ atMs }) => atMs <= fromMs) ?? this.#waits[0];
    const after = this.#waits.find(({ atMs }) => atMs >= toMs) ?? this.#waits.at(-1);
    return before === undefined || after === undefined ? 0 : after.waitedMs - before.waitedMs;
  }

  /** Share of the time that the watched process waited for a processor, 0..1. */
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

/** Since it started; undefined when nobody tells. */
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
