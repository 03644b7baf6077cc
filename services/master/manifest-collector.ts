// Deletes manifests that no index version names: an `add` ended between its two writes, or a `remove` did. The leader
// notes since when it has seen each of them without a record, and deletes it an hour later, so that it does not
// interfere with an `add` that is running. Without such a manifest it writes nothing.

import type { Clock } from '../../core/mod.ts';
import type { EventLog } from '../mesh/mod.ts';
import type { Election } from './election.ts';
import type { WriteOutcome } from './fenced-write.ts';
import type { ManifestStore } from './manifest-store.ts';

export interface ManifestCollectorOptions {
  readonly manifests: ManifestStore;
  readonly election: Pick<Election, 'write'>;
  readonly events: EventLog;
  readonly clock: Clock;
  /** Called when `collect` must be called again. */
  readonly onDue: () => void;
}

export interface ManifestsSeen {
  /** Hashes of the manifests in Consul, as this process has seen them. */
  readonly stored: readonly string[];
  /** Hashes that records name. */
  readonly used: ReadonlySet<string>;
}

export class ManifestCollector {
  readonly #options: ManifestCollectorOptions;
  /** Since when manifests have been seen unused, in this term. */
  readonly #unusedSinceMs = new Map<string, number>();
  #term = 0;
  #isClosed = false;
  #stopTimer: () => void = () => undefined;

  constructor(options: ManifestCollectorOptions) {
    this.#options = options;
  }

  /**
   * Deletes the manifests that have been unused for KEEP_MS.
   * @returns 'stale' if this process does not lead in that term
   * @throws ConsulError
   */
  async collect(term: number, { stored, used }: ManifestsSeen, signal: AbortSignal): Promise<'done' | 'stale'> {
    const { clock, events, election, manifests } = this.#options;
    if (term !== this.#term) this.#unusedSinceMs.clear();
    this.#term = term;
    const unused = new Set(stored.filter((hash) => IS_HASH.test(hash) && !used.has(hash)));
    for (const hash of this.#unusedSinceMs.keys()) if (!unused.has(hash)) this.#unusedSinceMs.delete(hash);
    for (const hash of unused) {
      const sinceMs = this.#unusedSinceMs.get(hash) ?? clock.nowMs();
      this.#unusedSinceMs.set(hash, sinceMs);
      if (clock.nowMs() - sinceMs < KEEP_MS) continue;
      const deleteAt = (key: string, index: number): Promise<WriteOutcome> =>
        election.write(term, [{ verb: 'delete-cas', key, index }], signal);
      const outcome = await manifests.deleteUnused(hash, deleteAt, signal);
      if (outcome?.kind === 'stale') return 'stale';
      // If it is still there, it is looked at again after the same time.
      this.#unusedSinceMs.set(hash, clock.nowMs());
      if (outcome?.kind === 'done')
        events.add('deployment_changed', 'indices', `deleted an unused list of shards, ${hash}`);
    }
    this.#callWhenDue();
    return 'done';
  }

  /** Ends the timer. */
  close(): void {
    this.#isClosed = true;
    this.#stopTimer();
  }

  #callWhenDue(): void {
    const { clock, onDue } = this.#options;
    this.#stopTimer();
    if (this.#isClosed || this.#unusedSinceMs.size === 0) return;
    const dueAtMs = Math.min(...this.#unusedSinceMs.values()) + KEEP_MS;
    this.#stopTimer = clock.after(Math.max(0, dueAtMs - clock.nowMs()), onDue);
  }
}

const IS_HASH = /^[0-9a-f]{64}$/;
/** Time for which a manifest may be without a record. An `add` writes its record within seconds. */
const KEEP_MS = 3_600_000;
