// Progress output of a bench: on a terminal a bar with the figures of the last second, redrawn in place; otherwise
// one line every second. Nothing with --json, whose output is one document.

import { formatBar, LiveLines, paint, type Terminal } from '../kit/terminal.ts';
import { count, latency, rate } from './figures.ts';
import type { Tally } from './tally.ts';

/** The current round. */
export interface Stage {
  /** The version in a comparison; '' otherwise. */
  readonly version: string;
  readonly warmUpMs: number;
  readonly measuredMs: number;
  readonly tally: Tally;
}

export class BenchProgress {
  readonly #terminal: Terminal;
  readonly #isShown: boolean;
  readonly #live: LiveLines;
  readonly #totalMs: number;
  #timer: NodeJS.Timeout | undefined;
  #stage: Stage | undefined;
  #doneMs = 0;
  #begunAtMs = 0;
  #sampledAtMs = 0;
  #answers = 0;
  #figures = '';

  /** @param totalMs duration of all rounds */
  constructor(terminal: Terminal, isShown: boolean, totalMs: number) {
    this.#terminal = terminal;
    this.#isShown = isShown;
    this.#live = new LiveLines(terminal);
    this.#totalMs = totalMs;
  }

  begin(stage: Stage): void {
    this.#stage = stage;
    this.#begunAtMs = this.#sampledAtMs = performance.now();
    this.#answers = 0;
    this.#figures = '';
    if (!this.#isShown) return;
    const isScreen = this.#terminal.isScreen;
    this.#timer = setInterval(() => (isScreen ? this.#draw() : this.#printLine()), isScreen ? DRAW_MS : SAMPLE_MS);
    if (isScreen) this.#draw();
  }

  end(): void {
    clearInterval(this.#timer);
    if (this.#stage !== undefined) this.#doneMs += this.#stage.warmUpMs + this.#stage.measuredMs;
    this.#stage = undefined;
  }

  /** Removes the bar from the screen. */
  clear(): void {
    this.end();
    if (this.#isShown && this.#terminal.isScreen) this.#live.clear();
  }

  #draw(): void {
    const nowMs = performance.now();
    if (nowMs - this.#sampledAtMs >= SAMPLE_MS) this.#figures = this.#sample(nowMs);
    const { tally } = this.#stage as Stage;
    const passedMs = Math.min(this.#totalMs, this.#doneMs + nowMs - this.#begunAtMs);
    const bar = formatBar(this.#terminal, Math.floor((passedMs / this.#totalMs) * BAR_PLACES), BAR_PLACES, BAR_PLACES);
    const seconds = `${Math.round(passedMs / 1_000)} of ${Math.round(this.#totalMs / 1_000)} s`;
    const failed = tally.failed === 0 ? '' : paint(this.#terminal, 'red', `  ${count(tally.failed)} failed so far`);
    this.#live.draw([`${bar}  ${seconds}  ${this.#what(nowMs)}`, `${this.#figures}${failed}`]);
  }

  #printLine(): void {
    const nowMs = performance.now();
    const { tally } = this.#stage as Stage;
    const seconds = Math.round((this.#doneMs + nowMs - this.#begunAtMs) / 1_000);
    const what = this.#what(nowMs - SAMPLE_MS / 2);
    const figures = this.#sample(nowMs);
    const parts = [what, figures, tally.failed === 0 ? '' : `${count(tally.failed)} failed so far`];
    this.#terminal.write(`${seconds} s  ${parts.filter((part) => part !== '').join(', ')}\n`);
  }

  /** Describes the current version and phase. */
  #what(nowMs: number): string {
    const { version, warmUpMs, measuredMs } = this.#stage as Stage;
    const passedMs = nowMs - this.#begunAtMs;
    const phase =
      passedMs < warmUpMs ? 'warming up' : passedMs > warmUpMs + measuredMs + SAMPLE_MS ? 'waiting for replies' : '';
    return [version, phase].filter((word) => word !== '').join(' ');
  }

  /** Returns the figures since the previous sample. */
  #sample(nowMs: number): string {
    const { tally, warmUpMs } = this.#stage as Stage;
    const answers = tally.answersInTime - this.#answers;
    const ratePerS = (answers * 1_000) / (nowMs - this.#sampledAtMs);
    const { recent } = tally;
    const [p50, p99] = [recent.percentileMs(50), recent.percentileMs(99)];
    const isEmpty = recent.count === 0;
    recent.clear();
    this.#answers = tally.answersInTime;
    this.#sampledAtMs = nowMs;
    const isWarm = nowMs - this.#begunAtMs > warmUpMs + SAMPLE_MS / 2;
    if (isEmpty) return isWarm ? 'no replies' : '';
    return `${rate(ratePerS)} calls/s, p50 ${latency(p50)} ms, p99 ${latency(p99)} ms`;
  }
}

const DRAW_MS = 250;
const SAMPLE_MS = 1_000;
const BAR_PLACES = 30;
