// What a manager knows of calls by version: what its own router has counted, and what the faceplates have told it last.
// Each faceplate tells one manager, so asking all managers gives the whole.

import type { Clock } from '../../core/mod.ts';
import { sourceOf, type VersionReport } from './version-count.ts';

export interface VersionReportsOptions {
  readonly clock: Clock;
  /** What the router of this process has counted of a service; '' for all. */
  readonly own: (service: string) => readonly VersionReport[];
}

export class VersionReports {
  readonly #options: VersionReportsOptions;
  /** The latest report of each process about a service, the oldest first. */
  readonly #told = new Map<string, { readonly report: VersionReport; readonly atMs: number }>();

  constructor(options: VersionReportsOptions) {
    this.#options = options;
  }

  /** Keeps the report of another process. */
  tell(report: VersionReport): void {
    const key = sourceOf(report);
    const known = this.#told.get(key);
    if (known !== undefined && known.report.seq > report.seq) return;
    this.#told.delete(key);
    this.#told.set(key, { report, atMs: this.#options.clock.nowMs() });
    this.#forget();
  }

  /** The reports about a service; '' for all. */
  readonly read = (service: string): readonly VersionReport[] => {
    this.#forget();
    const told = [...this.#told.values()].map(({ report }) => report);
    return [
      ...this.#options.own(service),
      ...told.filter(({ serviceName }) => service === '' || serviceName === service),
    ];
  };

  /** Processes that end say nothing any more, but their calls still count for a while. */
  #forget(): void {
    const nowMs = this.#options.clock.nowMs();
    for (const [key, { atMs }] of this.#told) {
      if (this.#told.size <= KEPT_MAX && nowMs - atMs < KEPT_MS) return;
      this.#told.delete(key);
    }
  }
}

/** Of all processes and services together. A report has up to some 100 KB, usually 10. */
const KEPT_MAX = 1_000;
const KEPT_MS = 3_600_000;
