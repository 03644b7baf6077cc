// This process as the mesh sees it: its records in Consul under its session, its listeners as Consul services. Records go out at once when
// they change, and then at most every so often, however fast things come and go; nothing is written when nothing changed.

import { systemClock, type Clock } from '../../core/mod.ts';
import {
  announceService,
  type Announcement,
  type ConsulClient,
  type ConsulError,
  ConsulSession,
  type SessionStats,
} from '../consul/mod.ts';
import type { EventLog } from './event-log.ts';

/** A listener of this process, to be found as a Consul service. */
export interface ListenAddress {
  /** `katamari-thrift` and so on. */
  readonly service: string;
  readonly host: string;
  readonly port: number;
}

export interface PresenceOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  /** Of this process. */
  readonly name: string;
  /** For Prometheus, which finds the stats faceplates by Consul. */
  readonly roles: readonly string[];
  /** The session hangs on a check of the first. */
  readonly listeners: readonly [ListenAddress, ...ListenAddress[]];
  readonly events: EventLog;
  readonly onError: (error: ConsulError) => void;
  /** The process ends: its listeners close, and with them goes the check that its session hangs on, which is no news. */
  readonly isLeaving?: () => boolean;
  readonly clock?: Clock;
}

export class Presence {
  readonly #options: PresenceOptions;
  readonly #clock: Clock;
  readonly #session: ConsulSession;
  readonly #announcements: Announcement[];
  /** By full key. */
  readonly #records = new Map<string, () => unknown>();
  #isGathering = false;
  #isStale = false;
  #stopGathering: () => void = () => undefined;
  #closing: Promise<void> | undefined;

  constructor(options: PresenceOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const { client, mesh, name, listeners, onError } = options;
    const [own, ...others] = listeners;
    this.#announcements = others.map((listener) =>
      announceService(
        client,
        {
          // Two meshes at one agent may have processes of one name.
          id: `${listener.service}:${mesh}:${name}`,
          name: listener.service,
          host: listener.host,
          port: listener.port,
          tags: this.#tags,
          meta: this.#meta,
          check: {
            kind: 'tcp',
            address: hostPort(listener),
            intervalMs: CHECK_EVERY_MS,
            timeoutMs: CHECK_TIMEOUT_MS,
          },
          deregisterAfterMs: DEREGISTER_AFTER_MS,
        },
        { onError, clock: this.#clock },
      ),
    );
    this.#session = new ConsulSession({
      client,
      name: `${mesh}:${name}`,
      service: { name: own.service, host: own.host, port: own.port, tags: this.#tags, meta: this.#meta },
      check: {
        kind: 'tcp',
        address: hostPort(own),
        intervalMs: SESSION_CHECK_EVERY_MS,
        timeoutMs: CHECK_TIMEOUT_MS,
      },
      lockDelayMs: 0,
      onLost: () => this.#tell('consul_lost', 'the session of this process is gone; it is being made anew'),
      onRestored: () => this.#tell('consul_found', 'the session of this process stands again'),
      onError,
      clock: this.#clock,
    });
    void this.#session.start();
  }

  /** Keeps what `read` gives under `key`, as JSON, for as long as this process lives. */
  keep(key: string, read: () => unknown): void {
    this.#records.set(key, read);
    this.changed();
  }

  /** Something that a record tells has changed. */
  changed(): void {
    this.#isStale = true;
    if (!this.#isGathering) this.#write();
  }

  /** Consul answers again after it did not. */
  consulIsBack(): void {
    for (const announcement of this.#announcements) announcement.look();
  }

  stats(): SessionStats {
    return this.#session.stats();
  }

  /** Withdraws everything and ends; twice is fine. Best effort when Consul is away: it finds out by its checks. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#isGathering = true;
    this.#stopGathering();
    await Promise.all([this.#session.close(), ...this.#announcements.map((one) => one.withdraw())]);
  }

  #tell(kind: 'consul_lost' | 'consul_found', text: string): void {
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
    this.#isGathering = true;
    this.#stopGathering = this.#clock.after(GATHER_MS, () => {
      this.#isGathering = false;
      if (this.#isStale) this.#write();
    });
  }
}

function hostPort({ host, port }: ListenAddress): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** Changes that come faster are told together. */
const GATHER_MS = 100;
const SESSION_CHECK_EVERY_MS = 1_000;
const CHECK_EVERY_MS = 5_000;
const CHECK_TIMEOUT_MS = 2_000;
const DEREGISTER_AFTER_MS = 60_000;
