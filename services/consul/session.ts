// A process's hold on Consul: a session that lives as long as the process does, and the keys that live as long as the
// session.
//
// Two things end a session besides closing it. The check: Consul looks at the process every second, so a killed
// process is noticed in about one. The TTL: a process that Consul cannot look at, or whose machine is gone, is
// noticed at the latest at twice the TTL. When the session is lost (Consul was restarted, the process was frozen,
// somebody destroyed it) it is made anew and every key announced through it is announced again. While Consul cannot
// be reached nothing is given up: it tries on, with growing pauses, and says in `stats` how it goes.

import { systemClock, type Clock, Backoff } from '../../core/mod.ts';
import { ConsulError, type ConsulClient, type ProcessCheck } from './client.ts';
import { FAREWELL_MS, pause, within } from './pause.ts';

export interface ConsulSessionOptions {
  readonly client: ConsulClient;
  /** Name of the process, unique in the mesh; part of the service's id. */
  readonly name: string;
  /** The Consul service that carries the check, for example `katamari-manager`. */
  readonly service: {
    readonly name: string;
    readonly host: string;
    readonly port: number;
    readonly tags?: readonly string[];
    readonly meta?: Readonly<Record<string, string>>;
  };
  /** How Consul sees that the process lives. Without one the session beats a TTL check itself, every second. */
  readonly check?: ProcessCheck;
  readonly ttlMs?: number;
  /** What becomes of the keys: gone (the default), or free for the next to lock. */
  readonly behavior?: 'release' | 'delete';
  /** How long nobody may lock a key that a lost session held; 0 for keys that only this process writes. */
  readonly lockDelayMs?: number;
  /** The session is gone, and with it all keys; it is being made anew. */
  readonly onLost?: () => void;
  /** A new session stands, and the keys are being announced again. */
  readonly onRestored?: () => void;
  /** Told of each failed try; it goes on. */
  readonly onError?: (error: ConsulError) => void;
  readonly clock?: Clock;
  readonly random?: () => number;
}

export interface SessionStats {
  /** True when a session stands, as far as is known. */
  readonly isHeld: boolean;
  /** Since Consul last confirmed it, in ms; Infinity when it never did. */
  readonly ageMs: number;
  readonly renewals: number;
  readonly errors: number;
  readonly losses: number;
  /** Keys announced, and how many of them are held now. */
  readonly keysWanted: number;
  readonly keysHeld: number;
}

/** TTL of the session; Consul accepts no less than 10 s and gives up after twice that. */
const TTL_MS = 10_000;
const CHECK_TTL_MS = 3_000;
/** Consul forgets the service of a dead process after this, the shortest it knows. */
const DEREGISTER_AFTER_MS = 60_000;
/** A session is asked for so often while Consul does not have the check yet: the agent enters it in the background. */
const CHECK_PAUSE_MS = 50;
/** After so many times the agent is not waited for any more. */
const CHECK_WAITS_MAX = 20;
const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 5_000;
/** A key that somebody else holds (this process's own predecessor, mostly) is tried for again so often. */
const HELD_PAUSE_MS = 500;
/**
 * Own keys are looked at with every so many renewals: somebody may have deleted one, or Consul may run on older data.
 */
const VERIFY_EVERY = 5;
const WATCH_WAIT_MS = 60_000;

interface AnnouncedKey {
  value: string;
  /** What Consul has under the present session; undefined when it is not ours. */
  written: string | undefined;
  /** Resolved when held, or withdrawn. */
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
  /** Ends what hangs on the present session; replaced with each new one. */
  #term = new AbortController();
  #id = '';
  /** The one before, until it is certainly gone. */
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

  /** Id of the service on the agent, and of its check behind `service:`. */
  get serviceId(): string {
    return `${this.#options.service.name}:${this.#options.name}`;
  }

  /** The present session, '' while there is none. */
  get id(): string {
    return this.#id;
  }

  /** On the clock: until then the session's TTL cannot have run out. For those who act only while certain. */
  get certainUntilMs(): number {
    return this.#id === '' ? Number.NEGATIVE_INFINITY : this.#confirmedAtMs + this.#ttlMs;
  }

  /** Begins, and resolves once the first session stands. Does not reject: while Consul is away it waits. */
  start(): Promise<void> {
    this.#running ??= Promise.all([this.#hold(), this.#beat(), this.#announceAll()]);
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
      keysWanted: this.#keys.size,
      keysHeld,
    };
  }

  /**
   * Announces a key: it holds this value for as long as the process lives, through lost sessions and restarts of
   * Consul, until withdrawn. Again with another value changes it. Resolves true once it is held (which waits for a
   * predecessor's lock to go), false when it was withdrawn or the session closed before that.
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

  /** Takes an announced key back. */
  async withdraw(key: string): Promise<void> {
    const announced = this.#keys.get(key);
    if (announced === undefined) return;
    this.#keys.delete(key);
    announced.settle(false);
    if (announced.written === undefined) return;
    // Somebody else may have it by now, if the session was lost a moment ago.
    const entry = await this.#client.get(key);
    if (entry !== undefined && entry.session === this.#id) await this.#client.delete(key, { cas: entry.modifyIndex });
  }

  /**
   * Tries once to lock a key under the present session. False when another has it or there is no session. Unlike an
   * announced key it is not taken again after a loss: whoever holds it must learn that from `onLost`.
   */
  async lock(key: string, value: string): Promise<boolean> {
    const id = this.#id;
    if (id === '') return false;
    const isHeld = await this.#client.put(key, value, { acquire: id, signal: this.#end.signal });
    return isHeld && id === this.#id;
  }

  /** Gives a locked key back; false when it was not held. */
  async unlock(key: string, value: string): Promise<boolean> {
    return this.#id === '' ? false : this.#client.put(key, value, { release: this.#id });
  }

  /**
   * Destroys the session (all keys go), deregisters the service, and ends. Best effort when Consul is away: it finds
   * out by the check.
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
    const farewells = within(this.#clock, FAREWELL_MS, (signal) =>
      Promise.allSettled([
        ...(id === '' ? [] : [this.#client.destroySession(id, signal)]),
        ...(this.#running === undefined ? [] : [this.#client.deregisterService(this.serviceId, signal)]),
      ]),
    );
    for (const result of await farewells) {
      if (result.status === 'rejected') this.#failed(result.reason);
    }
  }

  get #ttlMs(): number {
    return this.#options.ttlMs ?? TTL_MS;
  }

  /** Establishes, keeps, and establishes again. */
  async #hold(): Promise<void> {
    while (!this.#end.signal.aborted) {
      if (!(await this.#establish())) return;
      await Promise.all([this.#renew(this.#id), this.#watch(this.#id)]);
      if (!this.#end.signal.aborted) this.#lost();
    }
  }

  /** Service, check and session; false when closed meanwhile. */
  async #establish(): Promise<boolean> {
    const { signal } = this.#end;
    const { name, service, behavior = 'delete', lockDelayMs = 0 } = this.#options;
    let waits = 0;
    while (!signal.aborted) {
      try {
        // An agent that is told of a service while there is no leader may keep it to itself for half a minute.
        if ((await this.#client.leader(signal)) === '') {
          await pause(this.#clock, this.#backoff.next(), signal);
          continue;
        }
        // Should it live after all (an answer can be out of date), it would keep its keys from the next.
        if (this.#previousId !== '') await this.#client.destroySession(this.#previousId, signal);
        this.#previousId = '';
        const mayHaveBeenHere = await this.#isPlaceOwn(signal);
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
        // A service that was there before keeps the status of its check, which may be critical still.
        if (this.#options.check === undefined) await this.#client.passCheck(`service:${this.serviceId}`, signal);
        const askedAtMs = this.#clock.nowMs();
        const request = { name, ttlMs: this.#ttlMs, lockDelayMs, behavior, checks: [`service:${this.serviceId}`] };
        const id = await this.#client.createSession(request, signal);
        if (signal.aborted) {
          await this.#client.destroySession(id).catch(() => {});
          return false;
        }
        if (mayHaveBeenHere) await this.#endPredecessors(id, signal);
        this.#established(id, askedAtMs);
        return true;
      } catch (error) {
        if (signal.aborted) return false;
        // The agent tells the servers of a new check in the background, and of one that passes again within its
        // interval.
        const isWaiting = error instanceof ConsulError && /Missing check|critical state/.test(error.message);
        if (!isWaiting) this.#failed(error);
        else if (++waits % CHECK_WAITS_MAX === 0) await this.#carryCheck();
        await pause(this.#clock, isWaiting ? CHECK_PAUSE_MS : this.#backoff.next(), signal);
      }
    }
    return false;
  }

  /**
   * The service was registered at this agent for the address of this process, not for that of another with the same
   * name.
   */
  async #isPlaceOwn(signal: AbortSignal): Promise<boolean> {
    const { host, port } = this.#options.service;
    const place = (await this.#client.servicePlaces(signal)).get(this.serviceId);
    return place?.host === host && place.port === port;
  }

  /**
   * Sessions that this process had before it ended, or before Consul came back with older data, when it could not
   * take leave: their check looks at this process and is well, so they would hold its keys until their TTL has run
   * out.
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
      // Without that right the keys are had when the TTL has run out.
      if (!signal.aborted) this.#failed(error);
    }
  }

  async #carryCheck(): Promise<void> {
    try {
      await this.#client.carryCheck(`service:${this.serviceId}`, this.#end.signal);
    } catch (error) {
      if (!this.#end.signal.aborted) this.#failed(error);
    }
  }

  #established(id: string, askedAtMs: number): void {
    const isFirst = this.#losses === 0;
    this.#id = id;
    this.#confirmedAtMs = askedAtMs;
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
        const askedAtMs = this.#clock.nowMs();
        if (!(await this.#client.renewSession(id, signal))) {
          // A leader that has just started may not have read of the session yet; this asks it to make sure.
          if (!(await this.#client.hasSession(id, { signal })).lives) break;
          continue;
        }
        this.#confirmedAtMs = askedAtMs;
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

  /** Sees at once that the session is gone, where a renewal sees it within a third of the TTL. */
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

  /** Keys that are not as announced any more are announced again. */
  async #verify(id: string, signal: AbortSignal): Promise<void> {
    for (const [key, announced] of this.#keys) {
      if (announced.written === undefined) continue;
      const entry = await this.#client.get(key, signal);
      if (entry?.session !== id || entry.value !== announced.written) announced.written = undefined;
    }
    this.#wakeAnnouncer();
  }

  /** Writes what is announced and not written, one after the other; sleeps until something changes. */
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
      // Withdrawn or changed while the write was under way; a change comes round again.
      if (isHeld && !this.#keys.has(key)) await this.#client.delete(key);
      return true;
    }
    if (!isHeld || id !== this.#id) return false;
    announced.written = value;
    announced.settle(true);
    return true;
  }

  /** Beats the TTL check of a process that Consul has no way to look at. */
  async #beat(): Promise<void> {
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
