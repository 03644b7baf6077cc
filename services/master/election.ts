// Which master leads. Each master that stands has `masters/<name>` under its session; the first of those that live,
// by rank, then name, asks for the lock on `leader`. The lock's LockIndex is the term: it only grows, since a lost
// session releases the key instead of deleting it.
//
// Three things keep a leader from acting when it is none any more. Its lease: it acts only while its own clock says
// that the session's TTL cannot have run out, with a fifth to spare, also after it was frozen. The fence: what it
// writes is one transaction with the proof that it still holds the lock, so Consul refuses a late one. The term on
// every order, for those who receive them.
//
// A lock that is given back on purpose is taken by the next at once; a killed leader is noticed by the check of its
// port, in about a second; a frozen one by the TTL. When the first in the order lives and does not take the lock (it
// cannot, or is stuck), the next does after a while.

import { systemClock, type Clock, Backoff } from '../../core/mod.ts';
import {
  ConsulError,
  ConsulSession,
  pause,
  watchPrefix,
  type ConsulClient,
  type ConsulEntry,
  type SessionStats,
  type TransactionStep,
  type ConsulWatch,
  type WatchedEntries,
  type WatchStats,
} from '../consul/mod.ts';
import {
  keysOf,
  LEADER,
  MASTER,
  readRecord,
  readRecords,
  type EventLog,
  type Keys,
  type LeaderRecord,
  type MasterRecord,
} from '../mesh/mod.ts';
import { highestTermOrdered, raiseTerm } from './terms.ts';

export interface ElectionOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  /** Of this process, unique in the mesh. */
  readonly name: string;
  /** Lower leads first. */
  readonly rank: number;
  readonly machine: string;
  /** Its stats faceplate: Consul looks every second whether it listens. */
  readonly stats: { readonly host: string; readonly port: number };
  readonly events: EventLog;
  /** This process leads from now on. */
  readonly onLead?: (term: number) => void;
  /** It leads no more, or is not certain of it. */
  readonly onFollow?: () => void;
  /** Told of each failed try; it goes on. */
  readonly onError?: (error: ConsulError) => void;
  readonly clock?: Clock;
  readonly random?: () => number;
  /** Of the session. */
  readonly ttlMs?: number;
}

export interface LeaderView {
  readonly name: string;
  readonly term: number;
}

export interface MasterView extends MasterRecord {
  readonly name: string;
}

/**
 * - done: written, at this index of Consul.   - conflict: something had changed since it was read; look again.
 * - stale: this process does not lead in that term (any more); nothing was written.
 */
export type WriteOutcome =
  | { readonly kind: 'done'; readonly index: number }
  | { readonly kind: 'conflict'; readonly why: string }
  | { readonly kind: 'stale' };

/** What is known of the own lock. */
interface Stint {
  readonly session: string;
  readonly term: number;
  /** ModifyIndex of the key: whoever touches it changes this. */
  readonly index: number;
  readonly sinceMs: number;
}

const TTL_MS = 10_000;
/** Part of the TTL before whose end nothing is done any more. */
const MARGIN = 0.2;
const CHECK_EVERY_MS = 1_000;
const CHECK_TIMEOUT_MS = 2_000;
/** The own lease is looked at so often. */
const TICK_MS = 200;
/** One that goes before the leader leads after it has been there for so long. */
const STAY_MS = 3_000;
/** If it then did not take the lock, the next time it waits four times as long, up to this. */
const STAY_MAX_MS = 300_000;
/** The watch shows a lock that was taken within this, or it is looked up. */
const CONFIRM_MS = 500;
/** Nobody leads: each master waits so long for each that goes before it. */
const PATIENCE_MS = 3_000;
const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 2_000;
/** A farewell takes no longer. */
const RESIGN_MS = 2_000;

export class Election {
  readonly #options: ElectionOptions;
  readonly #client: ConsulClient;
  readonly #keys: Keys;
  readonly #clock: Clock;
  readonly #session: ConsulSession;
  readonly #backoff: Backoff;
  readonly #end = new AbortController();
  readonly #listeners = new Set<() => void>();
  #watches: readonly ConsulWatch[] = [];
  #masters: readonly MasterView[] | undefined;
  #leaderEntry: ConsulEntry | undefined;
  #hasSeenLeader = false;
  #leader: LeaderView | undefined;
  #isStanding = true;
  #stint: Stint | undefined;
  /** The stint before, to know it again. */
  #lastStint: Stint | undefined;
  /** What `onLead` was told last. */
  #toldTerm: number | undefined;
  /** Largest term of anybody, as far as this process saw. */
  #highestTerm = 0;
  #vacantSinceMs = 0;
  #rivalSinceMs: number | undefined;
  #stayMs = STAY_MS;
  #wake: () => void = () => undefined;
  #stopTicking: () => void = () => undefined;
  #running: Promise<void> | undefined;
  #standing: Promise<void> = Promise.resolve();
  #resigning: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: ElectionOptions) {
    this.#options = options;
    this.#client = options.client;
    this.#keys = keysOf(options.mesh);
    this.#clock = options.clock ?? systemClock;
    const random = options.random ?? Math.random;
    this.#backoff = new Backoff({ firstMs: BACKOFF_FIRST_MS, maxMs: BACKOFF_MAX_MS, random });
    const { client, mesh, name, stats } = options;
    this.#session = new ConsulSession({
      client,
      name: `${mesh}:${name}`,
      service: { name: 'katamari-master', ...stats, tags: [mesh], meta: { mesh, name } },
      check: {
        kind: 'tcp',
        address: hostPort(stats),
        intervalMs: CHECK_EVERY_MS,
        timeoutMs: CHECK_TIMEOUT_MS,
      },
      ttlMs: this.#ttlMs,
      behavior: 'release',
      // The fence does what a lock delay is for, and nobody waits.
      lockDelayMs: 0,
      onLost: () => this.#drop(),
      onRestored: () => this.#wake(),
      onError: (error) => options.onError?.(error),
      clock: this.#clock,
      random,
    });
  }

  /** Whoever leads, as this process sees it. */
  get leader(): LeaderView | undefined {
    return this.#leader;
  }

  /** The own term, while this process leads and is certain of it on its own clock; ask right before each act. */
  get term(): number | undefined {
    const stint = this.#stint;
    if (stint === undefined || stint.session !== this.#session.id) return undefined;
    const endMs = this.#session.certainUntilMs - this.#ttlMs * MARGIN;
    return this.#clock.nowMs() < endMs ? stint.term : undefined;
  }

  /** Masters that live, in the order in which they lead. */
  masters(): readonly MasterView[] {
    return this.#masters ?? [];
  }

  stats(): { readonly session: SessionStats; readonly watches: readonly WatchStats[] } {
    return { session: this.#session.stats(), watches: this.#watches.map((watch) => watch.stats()) };
  }

  /** Stands for election. Resolves when the session stands; while Consul is away it waits. */
  start(): Promise<void> {
    if (this.#running === undefined) {
      const { name, rank, machine, stats } = this.#options;
      const record: MasterRecord = { rank, machine, stats: `http://${hostPort(stats)}` };
      void this.#session.announce(`${this.#keys.masters}${name}`, JSON.stringify(record));
      this.#vacantSinceMs = this.#clock.nowMs();
      this.#watches = [
        this.#watch(this.#keys.leader, (entries) => this.#sawLeader(entries.get(this.#keys.leader))),
        this.#watch(this.#keys.masters, (entries) => this.#sawMasters(entries)),
      ];
      this.#tick();
      this.#running = this.#run();
    }
    return this.#session.start();
  }

  /** Calls back whenever `term`, `leader` or `masters()` may have changed; the returned function ends that. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Writes as the leader of this term: all steps at once, and only if the lock is still the one of that term when
   * Consul does it.
   * @throws ConsulError when Consul cannot be asked; then it may or may not have been written
   */
  async write(term: number, steps: readonly TransactionStep[], signal?: AbortSignal): Promise<WriteOutcome> {
    const stint = this.#stint;
    if (stint === undefined || this.term !== term) {
      this.#settle();
      return { kind: 'stale' };
    }
    const key = this.#keys.leader;
    const fence: readonly TransactionStep[] = [
      { verb: 'check-session', key, session: stint.session },
      { verb: 'check-index', key, index: stint.index },
    ];
    const outcome = await this.#client.transact([...fence, ...steps], signal);
    if (outcome.isDone) return { kind: 'done', index: outcome.index };
    if (!outcome.refused.some(({ at }) => at < fence.length)) {
      return { kind: 'conflict', why: outcome.refused[0]?.why ?? 'refused' };
    }
    if (this.#stint === stint) this.#drop();
    return { kind: 'stale' };
  }

  /** Gives the lock back and stands no more: the next leads at once. Best effort when Consul is away. */
  resign(): Promise<void> {
    this.#resigning ??= this.#resign();
    return this.#resigning;
  }

  /** Resigns and ends. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #resign(): Promise<void> {
    this.#isStanding = false;
    this.#drop();
    if (this.#running === undefined) return;
    const farewell = async (): Promise<void> => {
      await this.#standing;
      await this.#session.unlock(this.#keys.leader, this.#lockValue);
      await this.#session.withdraw(`${this.#keys.masters}${this.#options.name}`);
    };
    const patience = new AbortController();
    await Promise.race([
      farewell().catch((error: unknown) => this.#failed(error)),
      pause(this.#clock, RESIGN_MS, patience.signal),
    ]);
    patience.abort();
  }

  async #close(): Promise<void> {
    await this.resign();
    this.#end.abort();
    this.#stopTicking();
    this.#wake();
    await this.#running;
    await this.#session.close();
  }

  get #ttlMs(): number {
    return this.#options.ttlMs ?? TTL_MS;
  }

  get #lockValue(): string {
    return JSON.stringify({ name: this.#options.name } satisfies LeaderRecord);
  }

  #watch(prefix: string, onChange: (entries: WatchedEntries) => void): ConsulWatch {
    return watchPrefix(this.#client, prefix, onChange, {
      signal: this.#end.signal,
      onError: (error) => this.#options.onError?.(error),
      clock: this.#clock,
    });
  }

  #sawLeader(entry: ConsulEntry | undefined): void {
    const stint = this.#stint;
    this.#hasSeenLeader = true;
    this.#leaderEntry = entry;
    if (entry !== undefined && (entry.session === '' || entry.session !== this.#session.id)) {
      this.#highestTerm = Math.max(this.#highestTerm, entry.lockIndex);
    }
    const record = entry === undefined || entry.session === '' ? undefined : readRecord(LEADER, entry.value);
    if (record === undefined) {
      if (this.#leader !== undefined) this.#vacantSinceMs = this.#clock.nowMs();
      this.#setLeader(undefined);
    } else {
      const name = record instanceof Error ? '?' : record.name;
      this.#setLeader({ name, term: entry?.lockIndex ?? 0 });
    }
    // An answer may be from before the lock was taken.
    const isOlder = entry !== undefined && stint !== undefined && entry.modifyIndex < stint.index;
    const isOwn =
      entry?.session === stint?.session && entry?.lockIndex === stint?.term && entry?.modifyIndex === stint?.index;
    if (stint !== undefined && !isOlder && !isOwn) this.#drop();
    this.#changed();
  }

  #setLeader(leader: LeaderView | undefined): void {
    const before = this.#leader;
    if (before?.name === leader?.name && before?.term === leader?.term) return;
    this.#leader = leader;
    const text =
      leader === undefined
        ? `no master leads; ${before?.name} did, in term ${before?.term}`
        : `leads in term ${leader.term}`;
    this.#options.events.add('leader_changed', leader?.name ?? '', text);
  }

  #sawMasters(entries: WatchedEntries): void {
    const found = readRecords(MASTER, this.#keys.masters, entries, { onlyHeld: true });
    this.#masters = [...found]
      .map(([name, record]) => ({ name, ...record }))
      .sort((a, b) => a.rank - b.rank || (a.name < b.name ? -1 : 1));
    this.#changed();
  }

  /** The lock is lost, given back, or in doubt. */
  #drop(): void {
    this.#lastStint = this.#stint ?? this.#lastStint;
    this.#stint = undefined;
    this.#rivalSinceMs = undefined;
    this.#changed();
  }

  #changed(): void {
    this.#settle();
    for (const listener of this.#listeners) listener();
    this.#wake();
  }

  /** Says it when this process has begun or ceased to lead. */
  #settle(): void {
    const { term } = this;
    const before = this.#toldTerm;
    if (term === before) return;
    this.#toldTerm = term;
    if (before !== undefined) this.#options.onFollow?.();
    if (term !== undefined) this.#options.onLead?.(term);
    for (const listener of this.#listeners) listener();
  }

  #tick(): void {
    this.#stopTicking = this.#clock.after(TICK_MS, () => {
      if (this.#end.signal.aborted) return;
      this.#settle();
      this.#wake();
      this.#tick();
    });
  }

  async #run(): Promise<void> {
    const { signal } = this.#end;
    while (!signal.aborted) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      try {
        const standing = this.#stand();
        this.#standing = standing.catch(() => undefined);
        await standing;
        this.#backoff.reset();
        await woken;
      } catch (error) {
        if (signal.aborted) return;
        this.#failed(error);
        await pause(this.#clock, this.#backoff.next(), signal);
      }
    }
  }

  /** One look at who leads and who should, and the one step that follows from it. */
  async #stand(): Promise<void> {
    const { id } = this.#session;
    if (!this.#isStanding || id === '' || !this.#hasSeenLeader || this.#masters === undefined) return;
    const place = this.#masters.findIndex(({ name }) => name === this.#options.name);
    if (this.#stint !== undefined) {
      await this.#confirm(this.#stint);
      if (place > 0) await this.#makeWay();
      else this.#rivalSinceMs = undefined;
      return;
    }
    const holder = this.#leaderEntry?.session ?? '';
    // Held by this very session: the answer to the lock got lost.
    if (holder !== '' && holder !== id) {
      const leads = this.#masters.findIndex(({ name }) => name === this.#leader?.name);
      if (leads !== -1 && leads < place) this.#stayMs = STAY_MS;
      return;
    }
    if (place === -1) return;
    if (place > 0 && this.#clock.nowMs() - this.#vacantSinceMs < place * PATIENCE_MS) return;
    await this.#take(id);
    if (this.#stint !== undefined && place > 0) this.#stayMs = Math.min(this.#stayMs * 4, STAY_MAX_MS);
  }

  /** The watch has not shown the own lock: what came and went between two of its answers it never shows. */
  async #confirm({ index, sinceMs }: Stint): Promise<void> {
    if (this.#leaderEntry?.modifyIndex === index || this.#clock.nowMs() - sinceMs < CONFIRM_MS) return;
    this.#sawLeader(await this.#client.get(this.#keys.leader, this.#end.signal));
  }

  /** Somebody lives who goes before this leader: when it stays, it shall lead. */
  async #makeWay(): Promise<void> {
    if (this.#stint === undefined) return;
    this.#rivalSinceMs ??= this.#clock.nowMs();
    if (this.#clock.nowMs() - this.#rivalSinceMs < this.#stayMs) return;
    this.#drop();
    await this.#session.unlock(this.#keys.leader, this.#lockValue);
    // Its turn to take it now.
    this.#vacantSinceMs = this.#clock.nowMs();
  }

  async #take(id: string): Promise<void> {
    const { signal } = this.#end;
    const key = this.#keys.leader;
    if (!(await this.#session.lock(key, this.#lockValue))) return;
    let entry = await this.#client.get(key, signal);
    if (entry === undefined || entry.session !== id) return;
    const last = this.#lastStint;
    const isLast = last?.session === id && last.term === entry.lockIndex && last.index === entry.modifyIndex;
    if (!isLast) {
      const ordered = await highestTermOrdered(this.#client, this.#keys, entry.lockIndex, signal);
      const highest = Math.max(this.#highestTerm, ordered);
      if (entry.lockIndex <= highest) {
        const lock = { key, value: this.#lockValue, session: id };
        await raiseTerm(this.#client, lock, highest + 1 - entry.lockIndex, signal);
        entry = await this.#client.get(key, signal);
        if (entry === undefined || entry.session !== id || entry.lockIndex <= highest) return;
      }
    }
    if (!this.#isStanding || id !== this.#session.id) return;
    const sinceMs = this.#clock.nowMs();
    this.#stint = { session: id, term: entry.lockIndex, index: entry.modifyIndex, sinceMs };
    this.#highestTerm = Math.max(this.#highestTerm, entry.lockIndex);
    this.#changed();
  }

  #failed(error: unknown): void {
    if (!(error instanceof ConsulError)) throw error;
    if (!error.isCancelled) this.#options.onError?.(error);
  }
}

function hostPort({ host, port }: { readonly host: string; readonly port: number }): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}
