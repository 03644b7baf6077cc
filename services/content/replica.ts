// One shard on this manager, from its order to its removal. One loop carries it from state to state:
// fetching -> opening -> serving -> leaving -> gone, with pauses after failures.

import { Backoff, type Clock } from '../../core/mod.ts';
import { pause } from '../consul/mod.ts';
import { ShardRefusal, type ShardFacts } from './content-client.ts';
import type { Copies, Copy } from './copies.ts';
import type { Fetch, Verify } from './fetch/fetcher.ts';
import { FATAL_OPENS_MAX, FAULTS_MAX, RETRY_FIRST_MS, RETRY_MAX_MS, SOUND_MS } from './limits.ts';
import { DamagedFiles, ReplicaFiles, type FileCheck } from './replica-files.ts';
import type { ReplicaState, ReplicaStatus } from './replica-status.ts';
import { fullNameOf } from './shard-name.ts';
import { isServedBy, type ShardOrder } from './shard.ts';
import type { ShardStore } from './shard-store.ts';
import type { Turns } from './turns.ts';
import { isDeepStrictEqual } from 'node:util';
import { rcompare } from 'semver';

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
  /** Called when its files are found damaged, and it is withdrawn. */
  readonly onDamaged: (why: string) => void;
  /** Called when it is served after that. */
  readonly onRestored: () => void;
}

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
  readonly #files: ReplicaFiles;
  #state: ReplicaState = 'fetching';
  #facts: ShardFacts = { entries: 0, more: {} };
  #why = '';
  #tries = 0;
  /** Copies that have failed while they opened it, since it was served last. */
  #fatalOpens = 0;
  #nextTryAtMs = 0;
  #isAnnounced = false;
  /** Manifest of the announced shard. The current order may have another one. */
  #announcedManifest = '';
  /** Last time at which callers may have read that it is served here. */
  #withdrawnAtMs = Number.NEGATIVE_INFINITY;
  /** Why it cannot be served any more: a copy has refused the announced shard, or its files are damaged. */
  #refusal: ShardRefusal | DamagedFiles | undefined;
  /** Its files were found damaged, and it was not served since. */
  #wasDamaged = false;
  /** Why its files must be checked while it is served; undefined when they need not be. */
  #suspicion: { readonly why: string; readonly isAlone: boolean } | undefined;
  /** Until when calls that fail do not make its files suspect. */
  #soundUntilMs = Number.NEGATIVE_INFINITY;
  /** Ends the pause or the wait of the loop. */
  #wake = new AbortController();
  /** Ends a fetch that is not wanted any more. */
  #unwanted = new AbortController();

  constructor(order: ShardOrder, options: ReplicaOptions) {
    this.#options = options;
    this.#order = order;
    this.name = fullNameOf(order);
    this.#files = new ReplicaFiles({
      ...options,
      onFound: options.onChanged,
      onDamaged: (what) => this.#onDamaged(what),
    });
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
    return this.#files.isOnDisk;
  }

  /** Whether its files can be checked now. */
  get isCheckable(): boolean {
    return this.#isCurrent && this.#files.isOnDisk;
  }

  /** When all its files were read last, here or while they were fetched. */
  get checkedAtMs(): number {
    return this.#files.checkedAtMs;
  }

  /** Whether copies open it now. */
  get isOpening(): boolean {
    return this.#state === 'opening' && this.#options.copies.servers(this.#order).some(({ isJoined }) => isJoined);
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

  /**
   * Checks its files beside everything else. A shard with damaged ones is withdrawn at once, even if it is the only
   * replica, and fetched again. Rejects when it cannot be told whether they are damaged.
   */
  async checkFiles(onBytes: (bytesDone: number) => void, signal: AbortSignal): Promise<FileCheck> {
    const { signal: unwanted } = this.#unwanted;
    try {
      return await this.#files.check(this.#order, onBytes, AbortSignal.any([signal, unwanted]));
    } catch (error) {
      if (unwanted.aborted) return 'replaced';
      throw error;
    }
  }

  #onDamaged({ message }: DamagedFiles): void {
    const { onDamaged } = this.#options;
    const calls = this.#suspicion === undefined ? '' : `; ${CALLS_FAILED}: ${this.#suspicion.why}`;
    this.#why = `${message}${calls}`;
    this.#refusal = new DamagedFiles(this.#why);
    this.#wasDamaged = true;
    this.#soundUntilMs = Number.NEGATIVE_INFINITY;
    this.#withdraw();
    onDamaged(this.#why);
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

  /** @throws FatalShard when copies have failed again and again while they opened it */
  async openIn(copy: Copy): Promise<ShardFacts> {
    const { copies, store } = this.#options;
    try {
      return await copies.open(copy, this.#order, store.contentPath(this.#order));
    } catch (error) {
      if (!copy.hasFailed() || ++this.#fatalOpens < FATAL_OPENS_MAX) throw error;
      throw new FatalShard(copy, error as Error);
    }
  }

  status(): ReplicaStatus {
    const { bytes } = this.#order;
    return {
      name: this.name,
      state: this.#state,
      bytes,
      bytesDone: this.#state === 'fetching' ? this.#files.bytesDone : bytes,
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
      this.#refusal = undefined;
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
    const order = this.#order;
    if (await this.#files.find(order)) return;
    if (!this.#isCurrent) return;
    this.#refusal = undefined;
    this.#state = 'fetching';
    // A copy must not have files open that are replaced.
    await this.#waitForCallers();
    await this.#options.copies.close(this.name);
    if (!this.#isCurrent) return;
    await this.#files.fetch(order, () => this.#isCurrent, this.#unwanted.signal);
  }

  /** Opens the shard until every copy in a pool that can has it open, and at least one. */
  async #open(): Promise<void> {
    const { copies } = this.#options;
    this.#state = 'opening';
    while (this.#isCurrent) {
      const woken = this.#nextWake();
      const servers = copies.servers(this.#order).filter(({ isJoined }) => isJoined);
      const facts = await this.#openInAll(servers);
      if (!this.#isCurrent) return;
      if (this.#refusal !== undefined) throw this.#refusal;
      const joined = copies.servers(this.#order).filter(({ isJoined }) => isJoined);
      this.#facts = facts.find((found) => found !== undefined) ?? this.#facts;
      // Announce without an await after the check. A copy that joins later opens what is announced.
      if (joined.length > 0 && joined.every(({ isOpen }) => isOpen.has(this.name))) return this.#announce();
      if (joined.length === 0) this.#why = this.#noServer();
      await woken;
    }
  }

  /** A shard that may have cost a copy its life is opened in one after the other, so that it costs no two. */
  async #openInAll(servers: readonly Copy[]): Promise<readonly (ShardFacts | undefined)[]> {
    if (this.#fatalOpens === 0) return await Promise.all(servers.map((copy) => this.#openUnlessLeft(copy)));
    const facts: (ShardFacts | undefined)[] = [];
    for (const copy of servers) facts.push(await this.#openUnlessLeft(copy));
    return facts;
  }

  /** Returns undefined if the copy has left meanwhile, which is not a failure of the shard if it happens once. */
  async #openUnlessLeft(copy: Copy): Promise<ShardFacts | undefined> {
    try {
      return await this.openIn(copy);
    } catch (error) {
      if (copy.left.aborted && !(error instanceof FatalShard)) return undefined;
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

  /** Checks the files of a shard whose calls fail. */
  async #check({ why, isAlone }: { readonly why: string; readonly isAlone: boolean }): Promise<void> {
    const { clock, onFailed } = this.#options;
    const found = await this.#checkAtOnce();
    this.#suspicion = undefined;
    if (found !== 'intact' || !this.#isCurrent || !this.#isAnnounced) return;
    this.#soundUntilMs = clock.nowMs() + SOUND_MS;
    if (isAlone) onFailed(`${CALLS_FAILED}, and its files are as they were fetched: ${why}`);
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
    const { clock, copies, onFailed } = this.#options;
    this.#withdraw();
    this.#tries++;
    this.#state = 'backing_off';
    if (error.message !== this.#why && !(error instanceof DamagedFiles)) onFailed(error.message);
    this.#why = error.message;
    const pauseMs = this.#backoff.next();
    this.#nextTryAtMs = clock.nowMs() + pauseMs;
    await this.#waitForCallers();
    await copies.close(this.name);
    if (error instanceof ShardRefusal && error.isDamaged) await this.#checkAtOnce();
    this.#options.onChanged();
    await this.#waitUntil(this.#nextTryAtMs, () => this.#isCurrent);
  }

  /** A content server may call files damaged that it cannot read, so files count as intact when that cannot be told. */
  async #checkAtOnce(): Promise<FileCheck> {
    return await this.#files.checkAtOnce(this.#order, this.#unwanted.signal).catch(() => 'intact');
  }

  #announce(): void {
    this.#state = 'serving';
    this.#why = '';
    this.#tries = 0;
    this.#fatalOpens = 0;
    this.#backoff.reset();
    this.#isAnnounced = true;
    this.#announcedManifest = this.#order.manifest;
    this.#options.onChanged();
    if (this.#wasDamaged) this.#options.onRestored();
    this.#wasDamaged = false;
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

/** Copies of its content server fail while they open the shard. Damaged files may be the cause, so they are checked. */
export class FatalShard extends ShardRefusal {
  constructor({ service, version }: Copy, { message }: Error) {
    const what = `copies of ${service}@${version} fail while they open it, the last time with: ${message}`;
    super(`${what}; see what they have written to the log, and whether the shard is damaged`, true);
  }
}

const CALLS_FAILED = `${FAULTS_MAX} calls in a row have failed here`;
/** Time beyond the global timeout for which a withdrawn shard stays open. */
const FOLLOW_UP_MS = 1_000;
