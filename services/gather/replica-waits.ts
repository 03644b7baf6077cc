// Calls that wait for a replica of a shard that no manager serves now, as calls of services wait for a copy: the only
// content server restarts, or the last manager of the shard has just gone. A shard that has been missing for longer
// makes calls fail at once. The deadline of a call ends its wait.

import type { Clock } from '../../core/mod.ts';

export class ReplicaWaits {
  readonly #clock: Clock;
  readonly #waits = new Set<() => void>();
  /** When a call first found no replica of a shard, by its full name. */
  readonly #missingSinceMs = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether a shard was missing when a call asked for it last. */
  get hasMissing(): boolean {
    return this.#missingSinceMs.size > 0;
  }

  /** These shards have replicas. */
  found(shards: readonly string[]): void {
    for (const shard of shards) this.#missingSinceMs.delete(shard);
  }

  /** Whether a call may wait for a shard that no manager serves. */
  mayWait(shard: string): boolean {
    if (this.#waits.size >= WAITS_MAX) return false;
    const nowMs = this.#clock.nowMs();
    const sinceMs = this.#missingSinceMs.get(shard);
    if (sinceMs !== undefined) return nowMs - sinceMs < MISSING_MS;
    // Indices come and go; a shard that is forgotten counts as missing from now on.
    if (this.#missingSinceMs.size >= SHARDS_KEPT_MAX) this.#missingSinceMs.clear();
    this.#missingSinceMs.set(shard, nowMs);
    return true;
  }

  /** Calls `resume` once, when the replicas have changed. Returns a function that ends the wait. */
  add(resume: () => void): () => void {
    this.#waits.add(resume);
    return () => this.#waits.delete(resume);
  }

  /** The replicas have changed. */
  changed(): void {
    if (this.#waits.size === 0) return;
    const waits = [...this.#waits];
    this.#waits.clear();
    for (const resume of waits) resume();
  }
}

/** As long as a service counts whose last manager has left. */
const MISSING_MS = 60_000;
const WAITS_MAX = 256;
const SHARDS_KEPT_MAX = 10_000;
