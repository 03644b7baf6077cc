// Registers this process in Consul: its records under its session, and its listeners as Consul services. The first
// change is written at once, further changes at most every 100 ms. Unchanged records are not written again.

import { formatAddress, mustNotFail, systemClock, type Clock } from '../../core/mod.ts';
import {
  announceService,
  type Announcement,
  type ConsulClient,
  type ConsulError,
  ConsulSession,
  type SessionStats,
} from '../consul/mod.ts';
import type { EventLog } from './event-log.ts';

/** A listener of this process that is registered as a Consul service. */
export interface ListenAddress {
  /** Name of the Consul service, for example `katamari-thrift`. */
  readonly service: string;
  readonly host: string;
  readonly port: number;
}

export interface PresenceOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  /** Name of this process. */
  readonly name: string;
  /** Roles of the process in the service metadata, for Prometheus, which discovers stats faceplates in Consul. */
  readonly roles: readonly string[];
  /** The session depends on the health check of the first listener. */
  readonly listeners: readonly [ListenAddress, ...ListenAddress[]];
  readonly events: EventLog;
  readonly onError: (error: ConsulError) => void;
  /** Returns true during shutdown. The listeners close then and the session is lost, which is not reported. */
  readonly isLeaving?: () => boolean;
  /** Whether Consul runs in this process. */
  readonly isConsulHere?: boolean;
  readonly clock?: Clock;
}

interface Announced {
  /** Name of the Consul service. */
  readonly service: string;
  readonly announcement: Announcement;
}

export class Presence {
  readonly #options: PresenceOptions;
  readonly #clock: Clock;
  readonly #session: ConsulSession;
  #announcements: readonly Announced[];
  /** Current values by full key. */
  readonly #records = new Map<string, () => unknown>();
  #isCoalescing = false;
  #isStale = false;
  #stopTimer: () => void = () => undefined;
  #closing: Promise<void> | undefined;

  constructor(options: PresenceOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const { client, mesh, name, listeners, onError } = options;
    const [own, ...others] = listeners;
    this.#announcements = others.map((listener) => ({
      service: listener.service,
      announcement: announceService(
        client,
        {
          // Two meshes may use one agent and have processes with the same name.
          id: `${listener.service}:${mesh}:${name}`,
          name: listener.service,
          host: listener.host,
          port: listener.port,
          tags: this.#tags,
          meta: this.#meta,
          check: {
            kind: 'tcp',
            address: formatAddress(listener),
            intervalMs: options.isConsulHere === true ? OWN_CHECK_EVERY_MS : CHECK_EVERY_MS,
            timeoutMs: CHECK_TIMEOUT_MS,
          },
          deregisterAfterMs: DEREGISTER_AFTER_MS,
        },
        { onError, clock: this.#clock },
      ),
    }));
    this.#session = new ConsulSession({
      client,
      name: `${mesh}:${name}`,
      service: { name: own.service, host: own.host, port: own.port, tags: this.#tags, meta: this.#meta },
      check: {
        kind: 'tcp',
        address: formatAddress(own),
        intervalMs: sessionCheckEveryMs(options.isConsulHere),
        timeoutMs: CHECK_TIMEOUT_MS,
      },
      lockDelayMs: 0,
      onLost: () => this.#report('consul_lost', 'the session of this process is lost; creating a new one'),
      onRestored: () => this.#report('consul_found', 'this process has a session again'),
      onError,
      clock: this.#clock,
    });
    mustNotFail('the session', this.#session.start());
  }

  /** Publishes the result of `read` as JSON under `key` until this process ends. */
  keep(key: string, read: () => unknown): void {
    this.#records.set(key, read);
    this.changed();
  }

  /** Writes the records after a change. */
  changed(): void {
    this.#isStale = true;
    if (!this.#isCoalescing) this.#write();
  }

  /** Checks the registrations; call it when Consul answers again. */
  onConsulBack(): void {
    for (const { announcement } of this.#announcements) announcement.verify();
  }

  stats(): SessionStats {
    return this.#session.stats();
  }

  /**
   * Deregisters the services for clients, so that nobody finds them in Consul any more. The records, and the services
   * `kept`, stay until `close`.
   */
  async leave(kept: ReadonlySet<string>): Promise<void> {
    const leaving = this.#announcements.filter(({ service }) => !kept.has(service));
    this.#announcements = this.#announcements.filter(({ service }) => kept.has(service));
    await Promise.all(leaving.map(({ announcement }) => announcement.withdraw()));
  }

  /**
   * Deletes the records and registrations of this process. Idempotent. If Consul does not
   * respond within 2 s, its health checks remove the process later.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#isCoalescing = true;
    this.#stopTimer();
    await Promise.all([
      this.#session.close(),
      ...this.#announcements.map(({ announcement }) => announcement.withdraw()),
    ]);
  }

  #report(kind: 'consul_lost' | 'consul_found', text: string): void {
    const { events, isLeaving } = this.#options;
    if (isLeaving?.() !== true) events.add(kind, 'session', text);
  }

  get #tags(): readonly string[] {
    return [this.#options.mesh];
  }

  get #meta(): Readonly<Record<string, string>> {
    const { mesh, name, roles } = this.#options;
    return { mesh, name, roles: roles.join(',') };
  }

  #write(): void {
    this.#isStale = false;
    for (const [key, read] of this.#records) void this.#session.announce(key, JSON.stringify(read()));
    this.#isCoalescing = true;
    this.#stopTimer = this.#clock.after(COALESCE_MS, () => {
      this.#isCoalescing = false;
      if (this.#isStale) this.#write();
    });
  }
}

/** Interval of the check that the session of a process depends on, in ms. */
export function sessionCheckEveryMs(isConsulHere = false): number {
  return isConsulHere ? OWN_CHECK_EVERY_MS : SESSION_CHECK_EVERY_MS;
}

/** Changes within this time are written together. */
const COALESCE_MS = 100;
const SESSION_CHECK_EVERY_MS = 1_000;
/** A Consul in this process ends with it, so that its checks only find what an earlier process has left behind. */
const OWN_CHECK_EVERY_MS = 10_000;
const CHECK_EVERY_MS = 5_000;
const CHECK_TIMEOUT_MS = 2_000;
const DEREGISTER_AFTER_MS = 60_000;
