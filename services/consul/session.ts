// The Consul session of a process, and the keys that it holds. The session lasts as long as the process, and the keys
// as long as the session.
//
// When a process dies without `close`, its health check or its TTL ends the session. Consul runs the health check
// every second, so it detects a killed process in about one second. The TTL covers processes that Consul cannot check
// and machines that are gone; it ends the session after at most twice the TTL. If the session is lost while the
// process runs (Consul restarted, the process was frozen, an operator destroyed it), it is created again, and all
// announced keys are written again. While Consul is unreachable the session retries forever with exponential backoff;
// `stats` shows the state.

import { systemClock, type Clock, Backoff, mustNotFail } from '../../core/mod.ts';
import { type ConsulClient, type ProcessCheck } from './client.ts';
import { ConsulError } from './requests.ts';
import { DEREGISTER_TIMEOUT_MS, pause, within } from './pause.ts';

export interface ConsulSessionOptions {
  readonly client: ConsulClient;
  /** Name of the process, unique in the mesh; part of the id of the service. */
  readonly name: string;
  /** The Consul service that carries the check, for example `katamari-manager`. */
  readonly service: {
    readonly name: string;
    readonly host: string;
    readonly port: number;
    readonly tags?: readonly string[];
    readonly meta?: Readonly<Record<string, string>>;
  };
  /** Health check of the process. Without one, the session uses a TTL check and passes it once a second. */
  readonly check?: ProcessCheck;
  readonly ttlMs?: number;
  /** What happens to the keys of a lost session: `delete` (default), or `release`, which lets others lock them. */
  readonly behavior?: 'release' | 'delete';
  /** How long the keys of a lost session stay locked; 0 for keys that only this process writes. */
  readonly lockDelayMs?: number;
  /** Called when the session and all its keys are lost, before a new session is created. */
  readonly onLost?: () => void;
  /** Called when a new session exists, before the keys are written again. */
  readonly onRestored?: () => void;
  /** Called for each failed request; the session retries. */
  readonly onError?: (error: ConsulError) => void;
  readonly clock?: Clock;
  readonly random?: () => number;
}

export interface SessionStats {
  /** Whether a session exists, by the last response of Consul. */
  readonly isHeld: boolean;
  /** Time since Consul last confirmed the session, in ms; Infinity if it never did. */
  readonly ageMs: number;
  readonly renewals: number;
  readonly errors: number;
  readonly losses: number;
  readonly keysAnnounced: number;
  /** Announced keys that are held with their current value. */
  readonly keysHeld: number;
}

/** TTL of the session. Consul accepts at least 10 s and ends the session after at most twice the TTL. */
const TTL_MS = 10_000;
const CHECK_TTL_MS = 3_000;
/** Consul deregisters the service of a dead process after this time, the shortest that it accepts. */
const DEREGISTER_AFTER_MS = 60_000;
/** Interval of attempts to create a session while the agent has not yet synced the check to the servers. */
const CHECK_PAUSE_MS = 50;
/** Attempts before the session copies the check to the catalog itself. */
const CHECK_WAITS_MAX = 20;
const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 5_000;
/** Interval of attempts to lock a key that another session holds, usually one of this process before its restart. */
const HELD_PAUSE_MS = 500;
/** Renewals between two verifications of the keys. They detect a deleted key and a Consul restored from a backup. */
const VERIFY_EVERY = 5;
const WATCH_WAIT_MS = 60_000;

interface AnnouncedKey {
  value: string;
  /** The value in Consul under the current session; undefined if this session does not hold the key. */
  written: string | undefined;
  /** Resolves true when the key is held, false when it is withdrawn. */
  readonly settled: Promise<boolean>;
  readonly settle: (isHeld: boolean) => void;
}

export class ConsulSession {
  readonly #options: ConsulSessionOptions;
  readonly #client: ConsulClient;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  readonly #end = new AbortController();
  readonly #keys = new Map<string, AnnouncedKey>();
  /** Ends the renewals and the watch of the current session. Each new session gets a new one. */
  #term = new AbortController();
  #id = '';
  /** The previous session, until it is destroyed. */
  #previousId = '';
  #confirmedAtMs = Number.NEGATIVE_INFINITY;
  #renewals = 0;
  #errors = 0;
  #losses = 0;
  #wakeAnnouncer: () => void = () => {};
  #isEstablished: Promise<void>;
  #markEstablished!: () => void;
  #running: Promise<unknown> | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: ConsulSessionOptions) {
    this.#options = options;
    this.#client = options.client;
    this.#clock = options.clock ?? systemClock;
    this.#backoff = new Backoff({
      firstMs: BACKOFF_FIRST_MS,
      maxMs: BACKOFF_MAX_MS,
      random: options.random ?? Math.random,
    });
    this.#isEstablished = new Promise((resolve) => {
      this.#markEstablished = resolve;
    });
  }

  /** Id of the service on the agent. The id of its check is `service:` plus this id. */
  get serviceId(): string {
    return `${this.#options.service.name}:${this.#options.name}`;
  }

  /** Id of the current session, '' while there is none. */
  get id(): string {
    return this.#id;
  }

  /** Time on the clock until which the TTL cannot have expired. A leader acts only before it. */
  get certainUntilMs(): number {
    return this.#id === '' ? Number.NEGATIVE_INFINITY : this.#confirmedAtMs + this.#ttlMs;
  }

  /** Starts, and resolves once the first session exists. Never rejects; retries while Consul is unreachable. */
  start(): Promise<void> {
    if (this.#running === undefined) {
      this.#running = Promise.all([this.#hold(), this.#keepCheckPassing(), this.#announceAll()]);
      mustNotFail('the session in Consul', this.#running);
    }
    return this.#isEstablished;
  }

  stats(): SessionStats {
    let keysHeld = 0;
    for (const key of this.#keys.values()) if (key.written === key.value) keysHeld++;
    return {
      isHeld: this.#id !== '',
      ageMs: this.#clock.nowMs() - this.#confirmedAtMs,
      renewals: this.#renewals,
      errors: this.#errors,
      losses: this.#losses,
      keysAnnounced: this.#keys.size,
      keysHeld,
    };
  }

  /**
   * Announces a key: keeps it locked with this value until it is withdrawn, across lost sessions and restarts of
   * Consul. A second call changes the value. Resolves true once the key is held, which may wait for the lock of a
   * previous process to expire; resolves false if the key is withdrawn or the session closes first.
   */
  announce(key: string, value: string): Promise<boolean> {
    const before = this.#keys.get(key);
    if (before !== undefined && before.value === value) return before.settled;
    before?.settle(false);
    const announced = announcedOf(value, before?.written);
    this.#keys.set(key, announced);
    this.#wakeAnnouncer();
    return announced.settled;
  }

  /** Stops announcing a key and deletes it. */
  async withdraw(key: string): Promise<void> {
    const announced = this.#keys.get(key);
    if (announced === undefined) return;
    this.#keys.delete(key);
    announced.settle(false);
    if (announced.written === undefined) return;
    // If this session was lost a moment ago, another one may hold the key by now.
    const entry = await this.#client.get(key);
    if (entry !== undefined && entry.session === this.#id) await this.#client.delete(key, { cas: entry.modifyIndex });
  }

  /**
   * Tries once to lock a key with the current session. Returns false if another session holds the key or there is no
   * session. Unlike an announced key, it is not locked again after the session is lost; `onLost` reports the loss.
   */
  async lock(key: string, value: string): Promise<boolean> {
    const id = this.#id;
    if (id === '') return false;
    const isHeld = await this.#client.put(key, value, { acquire: id, signal: this.#end.signal });
    return isHeld && id === this.#id;
  }

  /** Unlocks a key. Returns false if it was not held. */
  async unlock(key: string, value: string): Promise<boolean> {
    return this.#id === '' ? false : this.#client.put(key, value, { release: this.#id });
  }

  /**
   * Destroys the session with all its keys, and deregisters the service. If Consul does not respond within
   * DEREGISTER_TIMEOUT_MS, the health check ends the session later.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#end.abort();
    this.#term.abort();
    this.#wakeAnnouncer();
    this.#markEstablished();
    await this.#running;
    for (const announced of this.#keys.values()) announced.settle(false);
    const id = this.#id;
    this.#id = '';
    const results = within(this.#clock, DEREGISTER_TIMEOUT_MS, (signal) =>
      Promise.allSettled([
        ...(id === '' ? [] : [this.#client.destroySession(id, signal)]),
        ...(this.#running === undefined ? [] : [this.#client.deregisterService(this.serviceId, signal)]),
      ]),
    );
    for (const result of await results) {
      if (result.status === 'rejected') this.#failed(result.reason);
    }
  }

  get #ttlMs(): number {
    return this.#options.ttlMs ?? TTL_MS;
  }

  /** Creates a session, keeps it, and creates the next one when it is lost. */
  async #hold(): Promise<void> {
    while (!this.#end.signal.aborted) {
      if (!(await this.#establish())) return;
      await Promise.all([this.#renew(this.#id), this.#watch(this.#id)]);
      if (!this.#end.signal.aborted) this.#lost();
    }
  }

  /** Registers service and check and creates the session. Returns false if closed meanwhile. */
  async #establish(): Promise<boolean> {
    const { signal } = this.#end;
    const { name, service, behavior = 'delete', lockDelayMs = 0 } = this.#options;
    let waits = 0;
    while (!signal.aborted) {
      try {
        // Without a leader, an agent may take half a minute to sync a registration to the servers.
        if ((await this.#client.leader(signal)) === '') {
          await pause(this.#clock, this.#backoff.next(), signal);
          continue;
        }
        // The response that reported the loss may have been stale. If the previous session still exists, it keeps its
        // keys locked.
        if (this.#previousId !== '') await this.#client.destroySession(this.#previousId, signal);
        this.#previousId = '';
        const mayHavePredecessors = await this.#isOwnRegistration(signal);
        await this.#client.registerService(
          {
            id: this.serviceId,
            name: service.name,
            host: service.host,
            port: service.port,
            tags: service.tags ?? [],
            meta: service.meta ?? {},
            check: this.#options.check ?? { kind: 'ttl', ttlMs: CHECK_TTL_MS },
            deregisterAfterMs: DEREGISTER_AFTER_MS,
          },
          signal,
        );
        // A service that was registered before keeps the status of its check, which may still be critical.
        if (this.#options.check === undefined) await this.#client.passCheck(`service:${this.serviceId}`, signal);
        const sentAtMs = this.#clock.nowMs();
        const request = { name, ttlMs: this.#ttlMs, lockDelayMs, behavior, checks: [`service:${this.serviceId}`] };
        const id = await this.#client.createSession(request, signal);
        if (signal.aborted) {
          await this.#client.destroySession(id).catch(() => {});
          return false;
        }
        if (mayHavePredecessors) await this.#endPredecessors(id, signal);
        this.#established(id, sentAtMs);
        return true;
      } catch (error) {
        if (signal.aborted) return false;
        // The agent syncs a new check to the servers in the background. It runs a critical check again after the
        // interval of the check.
        const isWaiting = error instanceof ConsulError && error.trouble === 'check-missing';
        if (!isWaiting) this.#failed(error);
        else if (++waits % CHECK_WAITS_MAX === 0) await this.#syncCheck();
        await pause(this.#clock, isWaiting ? CHECK_PAUSE_MS : this.#backoff.next(), signal);
      }
    }
    return false;
  }

  /**
   * Whether the registration of the service on this agent has the address of this process. If not, another process of
   * the same name made it.
   */
  async #isOwnRegistration(signal: AbortSignal): Promise<boolean> {
    const { host, port } = this.#options.service;
    const registered = (await this.#client.serviceAddresses(signal)).get(this.serviceId);
    return registered?.host === host && registered.port === port;
  }

  /**
   * Destroys sessions that this process left behind when it was killed or Consul was restored from older data. Their
   * health check reaches this process and passes, so they would hold its keys until their TTL expires.
   */
  async #endPredecessors(id: string, signal: AbortSignal): Promise<void> {
    try {
      const sessions = await this.#client.sessions(signal);
      const own = sessions.find((session) => session.id === id);
      const check = `service:${this.serviceId}`;
      for (const { id: other, name, node, checks } of sessions) {
        if (other === id || name !== own?.name || node !== own.node || !checks.includes(check)) continue;
        await this.#client.destroySession(other, signal);
      }
    } catch (error) {
      // Without permission to list sessions, the keys become free when the TTL of the old session expires.
      if (!signal.aborted) this.#failed(error);
    }
  }

  async #syncCheck(): Promise<void> {
    try {
      await this.#client.syncCheck(`service:${this.serviceId}`, this.#end.signal);
    } catch (error) {
      if (!this.#end.signal.aborted) this.#failed(error);
    }
  }

  #established(id: string, sentAtMs: number): void {
    const isFirst = this.#losses === 0;
    this.#id = id;
    this.#confirmedAtMs = sentAtMs;
    this.#backoff.reset();
    this.#term = new AbortController();
    for (const announced of this.#keys.values()) announced.written = undefined;
    this.#markEstablished();
    this.#wakeAnnouncer();
    if (!isFirst) this.#options.onRestored?.();
  }

  #lost(): void {
    this.#previousId = this.#id;
    this.#id = '';
    this.#losses++;
    for (const announced of this.#keys.values()) announced.written = undefined;
    this.#options.onLost?.();
  }

  /** Renews at a third of the TTL; returns when the session is gone. */
  async #renew(id: string): Promise<void> {
    const { signal } = this.#term;
    let pauseMs = this.#ttlMs / 3;
    let isTroubled = false;
    while (!signal.aborted) {
      await pause(this.#clock, pauseMs, signal);
      if (signal.aborted) return;
      try {
        const sentAtMs = this.#clock.nowMs();
        if (!(await this.#client.renewSession(id, signal))) {
          // A leader that has just started may not have replayed the session yet, so do a consistent read.
          if (!(await this.#client.hasSession(id, { signal })).lives) break;
          continue;
        }
        this.#confirmedAtMs = sentAtMs;
        this.#renewals++;
        this.#backoff.reset();
        pauseMs = this.#ttlMs / 3;
        if (isTroubled || this.#renewals % VERIFY_EVERY === 0) await this.#verify(id, signal);
        isTroubled = false;
      } catch (error) {
        if (signal.aborted) return;
        this.#failed(error);
        isTroubled = true;
        pauseMs = this.#backoff.next();
      }
    }
    this.#term.abort();
  }

  /** Detects the loss of the session at once; a renewal would detect it within a third of the TTL. */
  async #watch(id: string): Promise<void> {
    const { signal } = this.#term;
    let index = 0;
    while (!signal.aborted) {
      try {
        const seen = await this.#client.hasSession(id, { index, waitMs: WATCH_WAIT_MS, signal });
        if (!seen.lives) break;
        index = seen.index < index ? 0 : seen.index;
      } catch (error) {
        if (signal.aborted) return;
        this.#failed(error);
        index = 0;
        await pause(this.#clock, this.#backoff.next(), signal);
      }
    }
    this.#term.abort();
  }

  /** Reads the announced keys. Marks those that have changed in Consul, so that they are written again. */
  async #verify(id: string, signal: AbortSignal): Promise<void> {
    for (const [key, announced] of this.#keys) {
      if (announced.written === undefined) continue;
      const entry = await this.#client.get(key, signal);
      if (entry?.session !== id || entry.value !== announced.written) announced.written = undefined;
    }
    this.#wakeAnnouncer();
  }

  /** Writes announced keys that differ from Consul, one after the other; sleeps until something changes. */
  async #announceAll(): Promise<void> {
    const { signal } = this.#end;
    const backoff = new Backoff({
      firstMs: BACKOFF_FIRST_MS,
      maxMs: BACKOFF_MAX_MS,
      random: this.#options.random ?? Math.random,
    });
    while (!signal.aborted) {
      const woken = new Promise<void>((resolve) => {
        this.#wakeAnnouncer = resolve;
      });
      let retryMs = Number.POSITIVE_INFINITY;
      for (const [key, announced] of this.#keys) {
        if (this.#id === '' || signal.aborted) break;
        if (announced.written === announced.value) continue;
        try {
          if (await this.#write(key, announced)) backoff.reset();
          else retryMs = Math.min(retryMs, HELD_PAUSE_MS);
        } catch (error) {
          if (signal.aborted) return;
          this.#failed(error);
          retryMs = Math.min(retryMs, backoff.next());
        }
      }
      if (retryMs === Number.POSITIVE_INFINITY) await woken;
      else await Promise.race([woken, pause(this.#clock, retryMs, signal)]);
    }
  }

  async #write(key: string, announced: AnnouncedKey): Promise<boolean> {
    const id = this.#id;
    const { value } = announced;
    const isHeld = await this.#client.put(key, value, { acquire: id, signal: this.#end.signal });
    if (this.#keys.get(key) !== announced) {
      // Withdrawn or changed during the write. The loop writes a changed value next.
      if (isHeld && !this.#keys.has(key)) await this.#client.delete(key);
      return true;
    }
    if (!isHeld || id !== this.#id) return false;
    announced.written = value;
    announced.settle(true);
    return true;
  }

  /** Keeps the TTL check passing, for a process that Consul cannot check itself. */
  async #keepCheckPassing(): Promise<void> {
    if (this.#options.check !== undefined) return;
    const { signal } = this.#end;
    while (!signal.aborted) {
      await pause(this.#clock, CHECK_TTL_MS / 3, signal);
      if (signal.aborted || this.#id === '') continue;
      try {
        await this.#client.passCheck(`service:${this.serviceId}`, signal);
      } catch (error) {
        if (!signal.aborted) this.#failed(error);
      }
    }
  }

  #failed(error: unknown): void {
    if (!(error instanceof ConsulError)) throw error;
    if (error.isCancelled) return;
    this.#errors++;
    this.#options.onError?.(error);
  }
}

function announcedOf(value: string, written: string | undefined): AnnouncedKey {
  let settle!: (isHeld: boolean) => void;
  const settled = new Promise<boolean>((resolve) => {
    settle = resolve;
  });
  return { value, written, settled, settle };
}
