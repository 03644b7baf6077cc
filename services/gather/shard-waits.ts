// The shards of one call that wait for a replica, each with what is known of the tries before.

import { type Lack, LACK } from './coverage.ts';
import type { ReplicaWaits } from './replica-waits.ts';
import type { ServedIndex } from './shard-map.ts';

/** What came before a request for some shards. */
export interface EarlierTries {
  /** The last failure. */
  readonly lack: Lack;
  readonly why: string;
  /** 0 for shards that were never asked for. */
  readonly tries: number;
  /** Whether another copy of the same manager may answer. */
  readonly isOfCopy: boolean;
}

export const NEVER_ASKED: EarlierTries = {
  lack: LACK.noReplica,
  why: 'no manager that can be reached serves it',
  tries: 0,
  isOfCopy: false,
};

export interface WaitingShards {
  readonly places: readonly number[];
  readonly before: EarlierTries;
}

export class ShardWaits {
  readonly #replicaWaits: ReplicaWaits;
  /** With the function that ends the wait. */
  readonly #waiting = new Map<WaitingShards, () => void>();

  constructor(replicaWaits: ReplicaWaits) {
    this.#replicaWaits = replicaWaits;
  }

  get isEmpty(): boolean {
    return this.#waiting.size === 0;
  }

  get waiting(): Iterable<WaitingShards> {
    return this.#waiting.keys();
  }

  /** Those of the shards that no manager serves and that have not been missing for long. */
  worthWaitingFor(places: readonly number[], { names, holders }: ServedIndex): readonly number[] {
    return places.filter(
      (place) =>
        holders[place]?.some(({ isReachable }) => isReachable) !== true &&
        this.#replicaWaits.mayWait(names[place] as string),
    );
  }

  /** Calls `resume` once, when the replicas have changed. */
  add(shards: WaitingShards, resume: () => void): void {
    const stop = this.#replicaWaits.add(() => {
      this.#waiting.delete(shards);
      resume();
    });
    this.#waiting.set(shards, stop);
  }

  /** Ends all waits. */
  end(): void {
    for (const stop of this.#waiting.values()) stop();
    this.#waiting.clear();
  }
}
