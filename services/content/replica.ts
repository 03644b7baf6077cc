// One shard on this manager, from its order to its removal. One loop carries it from state to state:
// fetching -> opening -> serving -> leaving -> gone, with pauses after failures.

import { Backoff, type Clock } from '../../core/mod.ts';
import { pause } from '../consul/mod.ts';
import { ShardRefusal, type ShardFacts } from './content-client.ts';
import type { Copies, Copy } from './copies.ts';
import type { Fetch, Verify } from './fetch/fetcher.ts';
import { DISK_RESERVE_BYTES, FAULTS_MAX, RETRY_FIRST_MS, RETRY_MAX_MS, SOUND_MS } from './limits.ts';
import { fullNameOf, isServedBy, type ShardOrder } from './shard.ts';
import type { ShardStore } from './shard-store.ts';
import type { Turns } from './turns.ts';
import { isDeepStrictEqual } from 'node:util';
import { rcompare } from 'semver';

export type ReplicaState = 'fetching' | 'opening' | 'serving' | 'leaving' | 'backing_off';

export interface ReplicaStatus {
  /** `index@version/shard` */
  readonly name: string;
  readonly state: ReplicaState;
  readonly bytes: number;
  readonly bytesDone: number;
  readonly entries: number;
  /** Why it is not served; '' while nothing is wrong. */
  readonly why: string;
  /** Failures since it was served last. */
  readonly tries: number;
  /** Time until the next try, in ms; 0 when none waits. */
  readonly nextTryInMs: number;
}

export interface ReplicaOptions {
  readonly store: ShardStore;
  readonly copies: Copies;
  readonly clock: Clock;
  readonly fetch: Fetch;
  readonly verify: Verify;
  /** Turns of the fetches of this manager. */
  readonly turns: Turns;
  /** Resolves when no shard without an order is being moved to `old/`. */
  readonly strays: () => Promise<void>;
  readonly timeoutMs: () => number;
  /** Called when the shard starts or stops being served, is on the disk, or has failed. */
  readonly onChanged: () => void;
  /** Called with the bytes that were fetched since the last time. */
  readonly onFetched: (bytes: number) => void;
  /** Called for a failure whose reason differs from that of the last one. */
  readonly onFailed: (why: string) => void;
}

/** The files of a shard are not as they were fetched. */
class DamagedFiles extends ShardRefusal {}

export class Replica {
  readonly #options: ReplicaOptions;
  /** `index@version/shard` */
  readonly name: string;
  /** Resolves when the replica is gone, or the keeper has closed. */
  readonly ended: Promise<void>;
  readonly #backoff: Backoff = new Backoff({ firstMs: RETRY_FIRST_MS, maxMs: RETRY_MAX_MS, random: Math.random });
  #order: ShardOrder;
  #isWanted = true;
  /** The order has changed since the loop began with it. */
  #hasChanged = false;
  #isClosed = false;
  #isGone = false;
  #isOnDisk = false;
  #state: ReplicaState = 'fetching';
  #bytesDone = 0;
  #facts: ShardFacts = { entries: 0, more: {} };
  #why = '';
  #tries = 0;
  #nextTryAtMs = 0;
  #isAnnounced = false;
  /** Manifest of the announced shard. The current order may have another one. */
  #announcedManifest = '';
  /** Last time at which callers may have read that it is served here. */
  #withdrawnAtMs = Number.NEGATIVE_INFINITY;
  /** A copy has refused the shard while it was announced. */
  #refusal: ShardRefusal | undefined;
  /** Why its files must be checked while it is served; undefined when they need not be. */
  #suspicion: { readonly why: string; readonly isAlone: boolean } | undefined;
  /** Until when its files count as whole. */
  #soundUntilMs = Number.NEGATIVE_INFINITY;
  /** Ends the pause or the wait of the loop. */
  #wake = new AbortController();
  /** Ends a fetch that is not wanted any more. */
  #unwanted = new AbortController();

  constructor(order: ShardOrder, options: ReplicaOptions) {
    this.#options = options;
    this.#order = order;
    this.name = fullNameOf(order);
    this.ended = this.#run();
  }

  get indexVersion(): string {
    return this.#order.indexVersion;
  }

  get place(): number {
    return this.#order.place;
  }

  /** Whether its loop has ended. A new order then needs a new replica. */
  get isGone(): boolean {
    return this.#isGone;
  }

  /** Whether all its files are on the disk. */
  get isOnDisk(): boolean {
    return this.#isOnDisk;
  }

  /** SHA-256 of the manifest of the announced shard, else of the ordered one. */
  get manifest(): string {
    return this.#isAnnounced ? this.#announcedManifest : this.#order.manifest;
  }

  /** Whether callers may be sent to the shard here. */
  get isAnnounced(): boolean {
    return this.#isAnnounced;
  }

  /** Takes the current order. If it has changed, the shard is fetched and opened again. */
  order(order: ShardOrder): void {
    const isSame = isDeepStrictEqual(order, this.#order);
    if (isSame && this.#isWanted) return;
    this.#order = order;
    if (!isSame) {
      this.#hasChanged = true;
      this.#unwanted.abort(new Error('its order has changed'));
    }
    this.#isWanted = true;
    this.#unwanted = new AbortController();
    this.wake();
  }

  /** Called when the shard is no longer ordered. */
  giveUp(): void {
    if (!this.#isWanted) return;
    this.#isWanted = false;
    this.#unwanted.abort(new Error('it is not ordered any more'));
    this.wake();
  }

  /** Called when a copy that has not joined its pool refuses the announced shard. */
  refused(refusal: ShardRefusal): void {
    this.#refusal = refusal;
    this.#withdraw();
    this.wake();
  }

  /**
   * Calls of the announced shard fail, so its files are checked. It is served until they are found damaged.
   * @param isAlone whether the calls were about this shard alone
   */
  suspect(why: string, isAlone: boolean): void {
    if (!this.#isAnnounced || this.#suspicion !== undefined) return;
    if (this.#options.clock.nowMs() < this.#soundUntilMs) return;
    this.#suspicion = { why, isAlone };
    this.wake();
  }

  /** Wakes the loop, because something that it may wait for has changed. */
  wake(): void {
    this.#wake.abort();
  }

  /** Stops all work. What is on the disk and open stays as it is. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#unwanted.abort(new Error('this manager is stopping'));
    this.wake();
    await this.ended;
  }

  isServedBy(copy: Copy): boolean {
    return isServedBy(this.#order, copy);
  }

  /** The newest version of the content service that has the shard open in a pool. */
  newestServer(): Copy | undefined {
    return this.#options.copies
      .servers(this.#order)
      .filter(({ isJoined, isOpen }) => isJoined && isOpen.has(this.name))
      .sort((a, b) => rcompare(a.version, b.version))[0];
  }

  async openIn(copy: Copy): Promise<ShardFacts> {
    const { copies, store } = this.#options;
    return await copies.open(copy, this.#order, store.contentPath(this.#order));
  }

  status(): ReplicaStatus {
    const { bytes } = this.#order;
    return {
      name: this.name,
      state: this.#state,
      bytes,
      bytesDone: this.#state === 'fetching' ? this.#bytesDone : bytes,
      entries: this.#facts.entries,
      why: this.#why,
      tries: this.#tries,
      nextTryInMs:
        this.#state === 'backing_off' ? Math.max(0, Math.round(this.#nextTryAtMs - this.#options.clock.nowMs())) : 0,
    };
  }

  async #run(): Promise<void> {
    // The first step starts after the keeper knows the replica.
    await Promise.resolve();
    await this.#options.strays();
    while (!this.#isClosed) {
      if (!this.#isWanted) {
        await this.#leave();
        if (this.#isGone) return;
        continue;
      }
      this.#hasChanged = false;
      const { signal } = this.#unwanted;
      try {
        await this.#fetch();
        if (!this.#isCurrent) continue;
        await this.#open();
        await this.#serve();
      } catch (error) {
        // An aborted fetch has not failed: the next turn works towards the new order.
        if (this.#isCurrent && !signal.aborted) await this.#pauseAfter(error as Error);
      }
    }
  }

  /** Whether the loop works on the current order. */
  get #isCurrent(): boolean {
    return this.#isWanted && !this.#hasChanged && !this.#isClosed;
  }

  async #fetch(): Promise<void> {
    const { store, copies, fetch, turns, onFetched } = this.#options;
    const order = this.#order;
    const wasOnDisk = this.#isOnDisk;
    this.#isOnDisk = store.has(order) || (await store.restore(order));
    if (this.#isOnDisk) {
      // The leader leaves it here, though it may take a while until a copy serves it.
      if (!wasOnDisk) this.#options.onChanged();
      return;
    }
    this.#state = 'fetching';
    this.#bytesDone = 0;
    // A copy must not have files open that are replaced.
    await this.#waitForCallers();
    await copies.close(this.name);
    if (!this.#isCurrent) return;
    const job = { shard: this.name, source: order.source, digest: order.digest, into: store.partPath(order) };
    const onBytes = (bytesDone: number): void => {
      onFetched(Math.max(0, bytesDone - this.#bytesDone));
      this.#bytesDone = bytesDone;
    };
    const { signal } = this.#unwanted;
    await turns.take(async () => {
      // A fetch that goes on counts from what an earlier one has left.
      this.#bytesDone = await store.partBytes(order);
      await this.#askForSpace(order.bytes - this.#bytesDone);
      await fetch(job, onBytes, signal);
    }, signal);
    // No await between this check and the start of the rename: the order could change.
    if (!this.#isCurrent) return;
    await store.commit(order);
    this.#isOnDisk = true;
    this.#options.onChanged();
  }

  async #askForSpace(bytes: number): Promise<void> {
    const { store } = this.#options;
    const needed = bytes + DISK_RESERVE_BYTES;
    if ((await store.freeBytes()) >= needed) return;
    await store.sweepOld(Date.now(), true);
    const free = await store.freeBytes();
    if (free < needed)
      throw new Error(
        `the disk has ${inMiB(free)} free, and the shard needs ${inMiB(bytes)} beside a reserve of ${inMiB(DISK_RESERVE_BYTES)}; free space on this machine`,
      );
  }

  /** Opens the shard until every copy in a pool that can has it open, and at least one. */
  async #open(): Promise<void> {
    const { copies } = this.#options;
    this.#state = 'opening';
    this.#refusal = undefined;
    while (this.#isCurrent) {
      const woken = this.#nextWake();
      const servers = copies.servers(this.#order).filter(({ isJoined }) => isJoined);
      const facts = await Promise.all(servers.map((copy) => this.#openUnlessLeft(copy)));
      if (!this.#isCurrent) return;
      const joined = copies.servers(this.#order).filter(({ isJoined }) => isJoined);
      this.#facts = facts.find((found) => found !== undefined) ?? this.#facts;
      // Announce without an await after the check. A copy that joins later opens what is announced.
      if (joined.length > 0 && joined.every(({ isOpen }) => isOpen.has(this.name))) return this.#announce();
      if (joined.length === 0) this.#why = this.#noServer();
      await woken;
    }
  }

  /** Returns undefined if the copy has left meanwhile, which is not a failure of the shard. */
  async #openUnlessLeft(copy: Copy): Promise<ShardFacts | undefined> {
    try {
      return await this.openIn(copy);
    } catch (error) {
      if (copy.left.aborted) return undefined;
      throw error;
    }
  }

  #noServer(): string {
    const { contentService, contentRange } = this.#order;
    const what = contentRange === '' ? contentService : `${contentService}@${contentRange}`;
    return `no copy of the content service ${what} serves on this manager`;
  }

  async #serve(): Promise<void> {
    while (this.#isCurrent && this.#isAnnounced)
      await (this.#suspicion === undefined ? this.#nextWake() : this.#check(this.#suspicion));
    this.#suspicion = undefined;
    if (this.#isClosed) return;
    this.#withdraw();
    if (this.#refusal !== undefined) throw this.#refusal;
  }

  /** Checks the files of a shard whose calls fail, and withdraws it when they are damaged. */
  async #check({ why, isAlone }: { readonly why: string; readonly isAlone: boolean }): Promise<void> {
    const { clock, onFailed } = this.#options;
    const isIntact = await this.#isIntact();
    this.#suspicion = undefined;
    if (!this.#isCurrent || !this.#isAnnounced) return;
    this.#soundUntilMs = clock.nowMs() + SOUND_MS;
    const what = `${FAULTS_MAX} calls in a row have failed here`;
    if (isIntact && !isAlone) return;
    if (isIntact) return onFailed(`${what}, and its files are as they were fetched: ${why}`);
    this.#refusal = new DamagedFiles(`its files are damaged; ${what}: ${why}`, true);
    this.#withdraw();
  }

  /** Gives the shard up, unless it is wanted again before its files are closed. */
  async #leave(): Promise<void> {
    const { copies, store } = this.#options;
    this.#withdraw();
    this.#state = 'leaving';
    this.#why = '';
    await this.#waitForCallers();
    if (this.#isWanted || this.#isClosed) return;
    await copies.close(this.name);
    if (!this.#isWanted) await store.retire(this.#order).catch(() => undefined);
    this.#isGone = !this.#isWanted;
  }

  /** Waits while callers that still have the old holdings may call the shard or ask for documents of an answer. */
  async #waitForCallers(): Promise<void> {
    const wasWanted = this.#isWanted;
    const hadChanged = this.#hasChanged;
    const endMs = this.#withdrawnAtMs + this.#options.timeoutMs() + FOLLOW_UP_MS;
    await this.#waitUntil(endMs, () => this.#isWanted === wasWanted && this.#hasChanged === hadChanged);
  }

  async #waitUntil(endMs: number, isWaiting: () => boolean): Promise<void> {
    const { clock } = this.#options;
    while (isWaiting() && !this.#isClosed && clock.nowMs() < endMs) {
      this.#wake = new AbortController();
      await pause(clock, endMs - clock.nowMs(), this.#wake.signal);
    }
  }

  async #pauseAfter(error: Error): Promise<void> {
    const { clock, copies, store, onFailed } = this.#options;
    this.#withdraw();
    this.#tries++;
    this.#state = 'backing_off';
    if (error.message !== this.#why) onFailed(error.message);
    this.#why = error.message;
    const pauseMs = this.#backoff.next();
    this.#nextTryAtMs = clock.nowMs() + pauseMs;
    await this.#waitForCallers();
    await copies.close(this.name);
    const mayBeDamaged = error instanceof ShardRefusal && error.isDamaged;
    if (error instanceof DamagedFiles || (mayBeDamaged && !(await this.#isIntact()))) {
      this.#soundUntilMs = Number.NEGATIVE_INFINITY;
      this.#isOnDisk = false;
      await store.discard(this.#order).catch(() => undefined);
    }
    this.#options.onChanged();
    await this.#waitUntil(this.#nextTryAtMs, () => this.#isCurrent);
  }

  /** Whether the files are as they were fetched. A content server may call files damaged that it cannot read. */
  async #isIntact(): Promise<boolean> {
    const { store, turns, verify } = this.#options;
    const { signal } = this.#unwanted;
    const folder = store.livePath(this.#order);
    return await turns.take(() => verify(folder, signal), signal).catch(() => true);
  }

  #announce(): void {
    this.#state = 'serving';
    this.#why = '';
    this.#tries = 0;
    this.#backoff.reset();
    this.#isAnnounced = true;
    this.#announcedManifest = this.#order.manifest;
    this.#options.onChanged();
  }

  #withdraw(): void {
    if (!this.#isAnnounced) return;
    this.#isAnnounced = false;
    this.#withdrawnAtMs = this.#options.clock.nowMs();
    this.#options.onChanged();
  }

  #nextWake(): Promise<void> {
    this.#wake = new AbortController();
    const { signal } = this.#wake;
    return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }
}

function inMiB(bytes: number): string {
  return `${Math.ceil(bytes / 1024 / 1024)} MiB`;
}

/** Time beyond the global timeout for which a withdrawn shard stays open. */
const FOLLOW_UP_MS = 1_000;
