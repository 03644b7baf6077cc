// The files of one replica on the disk of this manager: found or fetched, checked, and given up when they are damaged.
// A check runs beside everything else; what it finds about files that were replaced meanwhile does not count.

import type { Clock } from '../../core/mod.ts';
import { makeRoom } from './disk-space.ts';
import type { Fetch, Verify } from './fetch/fetcher.ts';
import { fullNameOf } from './shard-name.ts';
import type { ShardOrder } from './shard.ts';
import type { ShardStore } from './shard-store.ts';
import type { Turns } from './turns.ts';

export interface ReplicaFilesOptions {
  readonly store: ShardStore;
  readonly clock: Clock;
  readonly fetch: Fetch;
  readonly verify: Verify;
  /** Turns of the fetches of this manager. */
  readonly turns: Turns;
  /** Called when the files are on the disk. */
  readonly onFound: () => void;
  /** Called with the bytes that were fetched since the last time. */
  readonly onFetched: (bytes: number) => void;
  /** Called at once when damage is found. */
  readonly onDamaged: (damage: DamagedFiles) => void;
}

/** The files of a shard are not as they were fetched. */
export class DamagedFiles extends Error {
  override readonly name = 'DamagedFiles';
}

/** `replaced`: the files that were checked are not those of the replica any more. */
export type FileCheck = 'intact' | 'damaged' | 'replaced';

export class ReplicaFiles {
  readonly #options: ReplicaFilesOptions;
  #isOnDisk = false;
  /** Bytes that the running fetch has on the disk. */
  #bytesDone = 0;
  #checkedAtMs = Number.NEGATIVE_INFINITY;
  /** Counts the files that came and went. */
  #generation = 0;
  /** Damage was found, and nothing was fetched since. */
  #isDamaged = false;

  constructor(options: ReplicaFilesOptions) {
    this.#options = options;
  }

  /** Whether all files are on the disk. */
  get isOnDisk(): boolean {
    return this.#isOnDisk;
  }

  get bytesDone(): number {
    return this.#bytesDone;
  }

  /** When all their content was read last, here or while they were fetched. */
  get checkedAtMs(): number {
    return this.#checkedAtMs;
  }

  /** Looks for the files on the disk. */
  async find(order: ShardOrder): Promise<boolean> {
    const { store, onFound } = this.#options;
    const wasOnDisk = this.#isOnDisk;
    this.#bytesDone = 0;
    let damage = '';
    this.#isOnDisk = !this.#isDamaged && (await store.has(order, (what) => (damage = what)));
    if (damage !== '') await this.#giveUp(order, damage);
    if (!this.#isOnDisk && (await store.restore(order))) this.#replaced(Number.NEGATIVE_INFINITY);
    if (this.#isOnDisk && !wasOnDisk) onFound();
    return this.#isOnDisk;
  }

  /**
   * Fetches the files. No copy may have the old ones open.
   * @param isWanted asked before the new files take their place
   */
  async fetch(order: ShardOrder, isWanted: () => boolean, signal: AbortSignal): Promise<void> {
    const { store, clock, fetch, turns, onFetched, onFound } = this.#options;
    const job = { shard: fullNameOf(order), source: order.source, digest: order.digest, into: store.partPath(order) };
    const onBytes = (bytesDone: number): void => {
      onFetched(Math.max(0, bytesDone - this.#bytesDone));
      this.#bytesDone = bytesDone;
    };
    // Damaged files only take space.
    if (store.recordOf(order) === undefined) await store.discard(order);
    await turns.take(async () => {
      // A fetch that goes on counts from what an earlier one has left.
      this.#bytesDone = await store.partBytes(order);
      await makeRoom(store, order.bytes - this.#bytesDone);
      await fetch(job, onBytes, signal);
    }, signal);
    // No await between this check and the start of the rename: the order could change.
    if (!isWanted()) return;
    await store.commit(order);
    this.#replaced(clock.nowMs());
    onFound();
  }

  /** Checks the SHA-256 of all files, beside the fetches. Rejects when it cannot be told whether they are damaged. */
  async check(order: ShardOrder, onBytes: (bytesDone: number) => void, signal: AbortSignal): Promise<FileCheck> {
    const { store, verify } = this.#options;
    return await this.#settle(order, () => verify(store.livePath(order), 'in_background', onBytes, signal), signal);
  }

  /** The same at once, in a turn of the fetches. */
  async checkAtOnce(order: ShardOrder, signal: AbortSignal): Promise<FileCheck> {
    const { store, turns, verify } = this.#options;
    const work = (): Promise<string> => verify(store.livePath(order), 'at_once', () => undefined, signal);
    return await this.#settle(order, () => turns.take(work, signal), signal);
  }

  async #settle(order: ShardOrder, verify: () => Promise<string>, signal: AbortSignal): Promise<FileCheck> {
    const generation = this.#generation;
    const damage = await verify();
    if (signal.aborted || generation !== this.#generation) return 'replaced';
    if (damage !== '') {
      await this.#giveUp(order, damage);
      return 'damaged';
    }
    this.#checkedAtMs = this.#options.clock.nowMs();
    return 'intact';
  }

  #replaced(checkedAtMs: number): void {
    this.#generation++;
    this.#isDamaged = false;
    this.#isOnDisk = true;
    this.#checkedAtMs = checkedAtMs;
  }

  /** The files are not used any more: neither now, nor by the next process, which may start at any time. */
  async #giveUp(order: ShardOrder, what: string): Promise<void> {
    const { store, onDamaged } = this.#options;
    this.#generation++;
    this.#isDamaged = true;
    this.#isOnDisk = false;
    onDamaged(new DamagedFiles(`its files on this manager are damaged: ${what}`));
    // A disk that cannot be written may be the cause.
    await store.distrust(order).catch(() => undefined);
  }
}
