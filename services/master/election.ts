// Elects the master that leads. Each candidate holds `masters/<name>` under its session. The first live candidate, by
// rank, then name, acquires the lock on `leader`. The LockIndex of the lock is the term. The term only grows, because
// a lost session releases the key instead of deleting it.
//
// Three mechanisms keep a former leader from acting:
// - The lease: the leader acts only while, by its own clock, the TTL of its session cannot have expired. A margin of
//   a fifth covers a process that was frozen.
// - The fence: every write is a transaction that also checks that the lock is still held, so Consul refuses a late
//   write.
// - The term on every order, which the managers check.
//
// Failover after a graceful resignation is immediate. A killed leader is detected by the health check of its port in
// about one second, a frozen one by the TTL. If the first candidate is alive but does not take the lock, the next
// candidate takes it after a delay.

import {
  systemClock,
  type Clock,
  Backoff,
  formatAddress,
  urlOf,
  mustNotFail,
  untilNextTurnMs,
} from '../../core/mod.ts';
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
  sessionCheckEveryMs,
  type BackupRevision,
  type EventLog,
  type Keys,
  type LeaderRecord,
  type MasterRecord,
} from '../mesh/mod.ts';
import { writeFenced, type LeaderLock, type WriteOutcome } from './fenced-write.ts';
import { highestTermOrdered, raiseTerm } from './terms.ts';

export interface ElectionOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  /** Name of this process, unique in the mesh. */
  readonly name: string;
  /** Candidates with a lower rank have priority. */
  readonly rank: number;
  readonly machine: string;
  /** Address of its stats faceplate. Consul checks that it listens. */
  readonly stats: { readonly host: string; readonly port: number };
  readonly events: EventLog;
  /** Called when this process becomes the leader. */
  readonly onLead?: (term: number) => void;
  /** Called when this process stops being the leader, or is no longer certain of it. */
  readonly onFollow?: () => void;
  /** Called after each failed attempt; the election retries. */
  readonly onError?: (error: ConsulError) => void;
  readonly clock?: Clock;
  readonly random?: () => number;
  /** Whether Consul runs in this process. */
  readonly isConsulHere?: boolean;
  /** TTL of the session. */
  readonly ttlMs?: number;
}

export interface LeaderView {
  readonly name: string;
  readonly term: number;
}

export interface MasterView extends MasterRecord {
  readonly name: string;
}

/** The lock that this process holds. */
interface Leadership extends Omit<LeaderLock, 'key'> {
  readonly term: number;
  readonly sinceMs: number;
}

const TTL_MS = 10_000;
/** Fraction of the TTL before its end in which the leader no longer acts. */
const MARGIN = 0.2;
const CHECK_TIMEOUT_MS = 2_000;
/** Interval at which the delays below are checked; and the lease, while there is a leader and no rival. */
const TICK_MS = 200;
const CALM_TICK_MS = 1_000;
/** A candidate with priority over the leader takes over after it has been present for this time. */
const RIVAL_DELAY_MS = 3_000;
/** If that candidate does not take the lock, the next delay is four times as long, up to this. */
const RIVAL_DELAY_MAX_MS = 300_000;
/** If the watch does not show an acquired lock within this time, it is read directly. */
const CONFIRM_MS = 500;
/** Without a leader, a candidate waits this long for each candidate with priority over it. */
const PRIORITY_DELAY_MS = 3_000;
const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 2_000;
/** A master with a newer backup has this time to take the lock. */
const YIELD_MS = 20_000;
/** Limit for releasing the lock at shutdown. */
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
  /** Responses of the watch of the leader's key. */
  #leaderShown = 0;
  #hasSeenLeader = false;
  #leader: LeaderView | undefined;
  #isCandidate = true;
  #leadership: Leadership | undefined;
  /** The previous leadership, to recognize the same lock. */
  #lastLeadership: Leadership | undefined;
  /** The term of the last `onLead` call. */
  #reportedTerm: number | undefined;
  /** Highest term of any leader that this process has seen. */
  #highestTerm = 0;
  #vacantSinceMs = 0;
  #rivalSinceMs: number | undefined;
  /** A candidate that is to lead first, until when. */
  #yieldedTo: { readonly name: string; readonly untilMs: number } | undefined;
  #rivalDelayMs = RIVAL_DELAY_MS;
  #wake: () => void = () => undefined;
  #stopTicking: () => void = () => undefined;
  #running: Promise<void> | undefined;
  #lastStep: Promise<void> = Promise.resolve();
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
        address: formatAddress(stats),
        intervalMs: sessionCheckEveryMs(options.isConsulHere),
        timeoutMs: CHECK_TIMEOUT_MS,
      },
      ttlMs: this.#ttlMs,
      behavior: 'release',
      // The fence replaces the lock delay, so no delay is needed.
      lockDelayMs: 0,
      onLost: () => this.#dropLeadership(),
      onRestored: () => this.#wake(),
      onError: (error) => options.onError?.(error),
      clock: this.#clock,
      random,
    });
  }

  /** The current leader, as this process sees it. */
  get leader(): LeaderView | undefined {
    return this.#leader;
  }

  /**
   * The term of this process while it leads and its lease is valid; undefined otherwise. Read it right before each
   * action.
   */
  get term(): number | undefined {
    const leadership = this.#leadership;
    if (leadership === undefined || leadership.session !== this.#session.id) return undefined;
    const endMs = this.#session.certainUntilMs - this.#ttlMs * MARGIN;
    return this.#clock.nowMs() < endMs ? leadership.term : undefined;
  }

  /** Live masters in order of priority. */
  masters(): readonly MasterView[] {
    return this.#masters ?? [];
  }

  stats(): { readonly session: SessionStats; readonly watches: readonly WatchStats[] } {
    return { session: this.#session.stats(), watches: this.#watches.map((watch) => watch.stats()) };
  }

  /** Joins the election. Resolves when the session exists; waits while Consul is unreachable. */
  start(): Promise<void> {
    if (this.#running === undefined) {
      this.#announce(undefined);
      this.#vacantSinceMs = this.#clock.nowMs();
      this.#watches = [
        this.#watch(this.#keys.leader, (entries) => {
          this.#leaderShown++;
          this.#onLeader(entries.get(this.#keys.leader));
        }),
        this.#watch(this.#keys.masters, (entries) => this.#onMasters(entries)),
      ];
      this.#tick();
      this.#running = this.#run();
      mustNotFail('the election', this.#running);
    }
    return this.#session.start();
  }

  /** Calls `listener` when `term`, `leader` or `masters()` may have changed. Returns a function that unsubscribes. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Writes as the leader of this term. All steps are one transaction, which succeeds only if the lock still belongs
   * to that term.
   *
   * @throws ConsulError if Consul does not answer; the write may or may not have happened
   */
  async write(term: number, steps: readonly TransactionStep[], signal?: AbortSignal): Promise<WriteOutcome> {
    const leadership = this.#leadership;
    if (leadership === undefined || this.term !== term) {
      this.#reportLeadership();
      return { kind: 'stale' };
    }
    const lock = { ...leadership, key: this.#keys.leader };
    const outcome = await writeFenced(this.#client, lock, steps, signal);
    if (outcome.kind === 'stale' && this.#leadership === leadership) this.#dropLeadership();
    return outcome;
  }

  /** Tells the other masters how new the backup of this one is; undefined while Consul has the data. */
  offerBackup(backup: BackupRevision | undefined): void {
    if (this.#running !== undefined && this.#isCandidate) this.#announce(backup);
  }

  /** Releases the lock, so that another candidate leads, and takes it back if that one does not in time. */
  async yieldTo(name: string): Promise<void> {
    this.#yieldedTo = { name, untilMs: this.#clock.nowMs() + YIELD_MS };
    await this.#release();
  }

  /**
   * Releases the lock and leaves the election, so the next candidate leads at once. Best effort while Consul is
   * unreachable.
   */
  resign(): Promise<void> {
    this.#resigning ??= this.#resign();
    return this.#resigning;
  }

  /** Resigns and stops. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #resign(): Promise<void> {
    this.#isCandidate = false;
    this.#dropLeadership();
    if (this.#running === undefined) return;
    const release = async (): Promise<void> => {
      await this.#lastStep;
      await this.#session.unlock(this.#keys.leader, this.#lockValue);
      await this.#session.withdraw(`${this.#keys.masters}${this.#options.name}`);
    };
    const timeout = new AbortController();
    await Promise.race([
      release().catch((error: unknown) => this.#failed(error)),
      pause(this.#clock, RESIGN_MS, timeout.signal),
    ]);
    timeout.abort();
  }

  #announce(backup: BackupRevision | undefined): void {
    const { name, rank, machine, stats } = this.#options;
    const record: MasterRecord = { rank, machine, stats: urlOf(stats), ...(backup === undefined ? {} : { backup }) };
    void this.#session.announce(`${this.#keys.masters}${name}`, JSON.stringify(record));
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

  #onLeader(entry: ConsulEntry | undefined): void {
    const leadership = this.#leadership;
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
    // A watch response can be older than the lock.
    const isOlder = entry !== undefined && leadership !== undefined && entry.modifyIndex < leadership.index;
    const isOwn =
      entry?.session === leadership?.session &&
      entry?.lockIndex === leadership?.term &&
      entry?.modifyIndex === leadership?.index;
    if (leadership !== undefined && !isOlder && !isOwn) this.#dropLeadership();
    this.#changed();
  }

  #setLeader(leader: LeaderView | undefined): void {
    const before = this.#leader;
    if (before?.name === leader?.name && before?.term === leader?.term) return;
    this.#leader = leader;
    const text =
      leader === undefined
        ? `no master leads; ${before?.name} led in term ${before?.term}`
        : `leads in term ${leader.term}`;
    this.#options.events.add('leader_changed', leader?.name ?? '', text);
  }

  #onMasters(entries: WatchedEntries): void {
    const found = readRecords(MASTER, this.#keys.masters, entries, { onlyHeld: true });
    this.#masters = [...found]
      .map(([name, record]) => ({ name, ...record }))
      .sort((a, b) => a.rank - b.rank || (a.name < b.name ? -1 : 1));
    this.#changed();
  }

  /** The lock is lost, released or in doubt. */
  #dropLeadership(): void {
    this.#lastLeadership = this.#leadership ?? this.#lastLeadership;
    this.#leadership = undefined;
    this.#rivalSinceMs = undefined;
    this.#changed();
  }

  #changed(): void {
    this.#reportLeadership();
    for (const listener of this.#listeners) listener();
    this.#wake();
  }

  /** Calls `onLead` or `onFollow` if the leadership of this process changed. */
  #reportLeadership(): void {
    const { term } = this;
    const before = this.#reportedTerm;
    if (term === before) return;
    this.#reportedTerm = term;
    if (before !== undefined) this.#options.onFollow?.();
    if (term !== undefined) this.#options.onLead?.(term);
    for (const listener of this.#listeners) listener();
  }

  #tick(): void {
    const isCalm = this.#leader !== undefined && this.#rivalSinceMs === undefined;
    const tickMs = isCalm ? CALM_TICK_MS : TICK_MS;
    this.#stopTicking = this.#clock.after(untilNextTurnMs(this.#clock.nowMs(), tickMs), () => {
      if (this.#end.signal.aborted) return;
      // A listener that throws must not be the last tick.
      this.#tick();
      this.#wake();
      this.#reportLeadership();
    });
  }

  async #run(): Promise<void> {
    const { signal } = this.#end;
    while (!signal.aborted) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      try {
        const step = this.#step();
        this.#lastStep = step.catch(() => undefined);
        await step;
        this.#backoff.reset();
        await woken;
      } catch (error) {
        if (signal.aborted) return;
        this.#failed(error);
        await pause(this.#clock, this.#backoff.next(), signal);
      }
    }
  }

  /** One step of the election: compares the current leader with the first candidate and acts once. */
  async #step(): Promise<void> {
    const { id } = this.#session;
    if (!this.#isCandidate || id === '' || !this.#hasSeenLeader || this.#masters === undefined) return;
    const priority = this.#masters.findIndex(({ name }) => name === this.#options.name);
    if (this.#leadership !== undefined) {
      await this.#confirm(this.#leadership);
      if (priority > 0) await this.#yieldToRival();
      else this.#rivalSinceMs = undefined;
      return;
    }
    const lockHolder = this.#leaderEntry?.session ?? '';
    // If this session holds the lock, the response to the lock request was lost.
    if (lockHolder !== '' && lockHolder !== id) {
      if (this.#leader?.name === this.#yieldedTo?.name) this.#yieldedTo = undefined;
      const leaderPriority = this.#masters.findIndex(({ name }) => name === this.#leader?.name);
      if (leaderPriority !== -1 && leaderPriority < priority) this.#rivalDelayMs = RIVAL_DELAY_MS;
      return;
    }
    if (priority === -1 || this.#isYielding()) return;
    if (priority > 0 && this.#clock.nowMs() - this.#vacantSinceMs < priority * PRIORITY_DELAY_MS) return;
    await this.#acquire(id);
    if (this.#leadership !== undefined && priority > 0)
      this.#rivalDelayMs = Math.min(this.#rivalDelayMs * 4, RIVAL_DELAY_MAX_MS);
  }

  /**
   * Reads the lock if the watch has not shown it. A watch can miss a change that was reverted between two responses.
   */
  async #confirm({ index, sinceMs }: Leadership): Promise<void> {
    if (this.#leaderEntry?.modifyIndex === index || this.#clock.nowMs() - sinceMs < CONFIRM_MS) return;
    const shownBefore = this.#leaderShown;
    const entry = await this.#client.get(this.#keys.leader, this.#end.signal);
    // What the watch has shown meanwhile may be newer.
    if (this.#leaderShown === shownBefore) this.#onLeader(entry);
  }

  /** Yields to a candidate with priority over this leader, once that candidate has been present long enough. */
  async #yieldToRival(): Promise<void> {
    if (this.#leadership === undefined) return;
    this.#rivalSinceMs ??= this.#clock.nowMs();
    if (this.#clock.nowMs() - this.#rivalSinceMs < this.#rivalDelayMs) return;
    await this.#release();
  }

  async #release(): Promise<void> {
    this.#dropLeadership();
    await this.#session.unlock(this.#keys.leader, this.#lockValue);
    // Another candidate can take the lock now.
    this.#vacantSinceMs = this.#clock.nowMs();
  }

  /** Whether another candidate is to lead first. */
  #isYielding(): boolean {
    const { name, untilMs } = this.#yieldedTo ?? { name: '', untilMs: 0 };
    return this.#clock.nowMs() < untilMs && this.masters().some((master) => master.name === name);
  }

  async #acquire(id: string): Promise<void> {
    const { signal } = this.#end;
    const key = this.#keys.leader;
    if (!(await this.#session.lock(key, this.#lockValue))) return;
    let entry = await this.#client.get(key, signal);
    if (entry === undefined || entry.session !== id) return;
    const last = this.#lastLeadership;
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
    if (!this.#isCandidate || id !== this.#session.id) return;
    const sinceMs = this.#clock.nowMs();
    this.#leadership = { session: id, term: entry.lockIndex, index: entry.modifyIndex, sinceMs };
    this.#highestTerm = Math.max(this.#highestTerm, entry.lockIndex);
    this.#changed();
  }

  #failed(error: unknown): void {
    if (!(error instanceof ConsulError)) throw error;
    if (!error.isCancelled) this.#options.onError?.(error);
  }
}
