// Measures whether the load generator itself was the bottleneck: its CPU use, and how late it noticed its own
// ticks.

import { describeDuration } from '../../../core/mod.ts';
import { LatencyHistogram } from './histogram.ts';
import type { PreciseTimer } from './precise-timer.ts';

export interface GeneratorFigures {
  /** Share of one core; can be slightly above 1. */
  readonly cpu: number;
  readonly lagP99Ms: number;
  readonly lagMaxMs: number;
  /** If the generator was the bottleneck: a sentence with the remedy; '' otherwise. */
  readonly warning: string;
}

/** Samples CPU time and timer delay while calls are measured. */
export class GeneratorWatch {
  readonly #timer: PreciseTimer;
  readonly #lag = new LatencyHistogram();
  #cpuUs = 0;
  #wallMs = 0;
  #begun: { readonly cpu: NodeJS.CpuUsage; readonly atMs: number } | undefined;

  constructor(timer: PreciseTimer) {
    this.#timer = timer;
  }

  begin(): void {
    this.#timer.lag.clear();
    this.#begun = { cpu: process.cpuUsage(), atMs: performance.now() };
  }

  end(): void {
    if (this.#begun === undefined) return;
    const { user, system } = process.cpuUsage(this.#begun.cpu);
    this.#cpuUs += user + system;
    this.#wallMs += performance.now() - this.#begun.atMs;
    this.#lag.add(this.#timer.lag);
    this.#begun = undefined;
  }

  figures(): GeneratorFigures {
    const cpu = this.#wallMs === 0 ? 0 : this.#cpuUs / 1_000 / this.#wallMs;
    const figures = { cpu, lagP99Ms: this.#lag.percentileMs(99), lagMaxMs: this.#lag.maxMs };
    return { ...figures, warning: warningOn(figures) };
  }
}

function warningOn({ cpu, lagP99Ms }: Omit<GeneratorFigures, 'warning'>): string {
  const consequence = 'so these figures describe this command at least as much as the mesh';
  if (cpu > CPU_MAX) {
    return `This command was the bottleneck: it used ${Math.round(cpu * 100)} % of a core, ${consequence}. Use a lower rate or fewer callers, or run the command on several machines and add up the results.`;
  }
  if (lagP99Ms > LAG_MS_MAX) {
    return `This command was delayed: its event loop was late by ${describeDuration(lagP99Ms)} (p99), ${consequence}. Run it on a machine with a free core, or lower the load.`;
  }
  return '';
}

const CPU_MAX = 0.9;
const LAG_MS_MAX = 10;
