// Measures whether the load generator itself was the bottleneck: its CPU use, and how late it noticed its own
// ticks.

import { describeDuration } from '../../config/mod.ts';
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
  const says = 'so these figures are those of this command at least as much as of the mesh';
  if (cpu > CPU_MAX) {
    return `This command was the limit: it used ${Math.round(cpu * 100)} % of a core, ${says}. Ask for a lower rate or fewer callers, or run several on other machines and add up.`;
  }
  if (lagP99Ms > LAG_MS_MAX) {
    return `This command was held up: its event loop was late by ${describeDuration(lagP99Ms)} (p99), ${says}. Run it where there is a core for it, or ask for less.`;
  }
  return '';
}

const CPU_MAX = 0.9;
const LAG_MS_MAX = 10;
