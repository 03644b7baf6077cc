// Lists sources for operators. Each listing runs in a process of its own, so few run at a time. They end with this
// process.

import { inspectSource } from './fetch/fetcher.ts';
import type { SourceListing } from './fetch/job.ts';

export class SourceInspector {
  readonly #allowed: readonly string[];
  readonly #end = new AbortController();
  #running = 0;

  /** @param allowed URL prefixes of the sources that may be read */
  constructor(allowed: readonly string[]) {
    this.#allowed = allowed;
  }

  /** Rejects with an error that says what is wrong with the source. */
  async inspect(source: string): Promise<SourceListing> {
    if (this.#running >= INSPECTIONS_MAX)
      throw new Error(`${INSPECTIONS_MAX} sources are being listed on this manager already; try again in a minute`);
    this.#running++;
    try {
      return await inspectSource(source, this.#allowed, this.#end.signal);
    } finally {
      this.#running--;
    }
  }

  close(): void {
    this.#end.abort(new Error('the manager is shutting down'));
  }
}

const INSPECTIONS_MAX = 4;
