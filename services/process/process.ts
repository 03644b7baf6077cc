// One process of a mesh, with one role or several: reads nothing, decides nothing, only plugs the rooms together and
// takes them apart again. The path of a call: faceplate -> router -> (link -> manager's link port ->) pool -> link ->
// chassis.

import type { LinkSecurity } from '../../core/link/mod.ts';
import { runtimeName, runtimeVersion, systemClock, type Clock, urlOf } from '../../core/mod.ts';
import { StatsTable, type Send, type MeshStatus } from '../../core/rpc/mod.ts';
import { startStatsFaceplate } from '../../faceplates/stats/mod.ts';
import { type Config, ROLES, type Role, advertisedHost, linkSecurityOf, VERSION } from '../config/mod.ts';
import type { ConsulClient } from '../consul/mod.ts';
import {
  EventLog,
  Fleet,
  keysOf,
  withStats,
  Presence,
  Reachability,
  Router,
  SharedState,
  SnapshotFile,
  type ListenAddress,
  type Route,
  type Snapshot,
} from '../mesh/mod.ts';
import { consulFigures, openConsul } from './consul.ts';
import { FaceplateRole } from './faceplate-role.ts';
import { ManagerRole } from './manager-role.ts';
import { MasterRole } from './master-role.ts';
import { PHASES, type Listener, type MeshHooks, type Component, type ProcessBase } from './process-base.ts';

export interface RunningMesh {
  /** '' for what a process of its roles does not have. */
  readonly addresses: {
    readonly thrift: string;
    readonly jsonRpc: string;
    /** '' without sites. */
    readonly web: string;
    readonly stats: string;
    readonly link: string;
    readonly consul: string;
  };
  /** Of the faceplates that the user has added, by name. */
  readonly added: Readonly<Record<string, string>>;
  /** '' without a faceplate. */
  readonly adminToken: string;
  /** Resolves when every copy of every deployment of the configuration serves for the first time. */
  readonly whenReady: Promise<void>;
  /** Of this process. */
  status(): MeshStatus;
  /** Pids of chassis processes, for tests that kill them. */
  pids(): readonly number[];
  /** Stops taking calls, finishes those under way, ends every chassis. */
  drain(): Promise<void>;
  /** Ends everything now. */
  close(): Promise<void>;
}

/**
 * @throws KatamariError or the system's error (a port that is taken) when the process cannot start; nothing is left
 * behind then
 */
export async function startMesh(
  config: Config,
  hooks: MeshHooks,
  roles: readonly Role[] = ROLES,
): Promise<RunningMesh> {
  const mesh = new MeshProcess(config, hooks, roles);
  try {
    await mesh.start();
    return mesh;
  } catch (error) {
    await mesh.close();
    throw error;
  }
}

class MeshProcess implements RunningMesh, ProcessBase {
  readonly config: Config;
  readonly hooks: MeshHooks;
  readonly roles: readonly Role[];
  readonly clock: Clock = systemClock;
  readonly events: EventLog;
  readonly book: StatsTable = new StatsTable();
  readonly router: Router;
  readonly security: LinkSecurity | undefined;
  readonly advertised: string;
  readonly #startedAtMs = systemClock.nowMs();
  readonly #parts: Component[] = [];
  readonly #fronts: Listener[] = [];
  #client: ConsulClient | undefined;
  #reachability: Reachability | undefined;
  #shared: SharedState | undefined;
  #fleet: Fleet | undefined;
  #snapshot: SnapshotFile | undefined;
  #presence: Presence | undefined;
  #manager: ManagerRole | undefined;
  #faceplate: FaceplateRole | undefined;
  #master: MasterRole | undefined;
  #consulAddress = '';
  #statsAddress = '';
  #isDraining = false;
  #isStarted = false;
  #isReady = false;
  #tellReady: () => void = () => undefined;
  readonly whenReady: Promise<void> = new Promise((resolve) => {
    this.#tellReady = resolve;
  });
  #closing: Promise<void> | undefined;

  constructor(config: Config, hooks: MeshHooks, roles: readonly Role[]) {
    this.config = config;
    this.hooks = hooks;
    this.roles = ROLES.filter((role) => roles.includes(role));
    this.events = new EventLog(config.name);
    // What was gathered from others is in their logs.
    this.events.listen((event) => {
      if (event.process === config.name) hooks.onEvent(event);
    });
    this.router = new Router({ clock: this.clock });
    this.security = linkSecurityOf(config);
    this.advertised = advertisedHost(config);
  }

  get client(): ConsulClient {
    return this.#client as ConsulClient;
  }

  get reachability(): Reachability {
    return this.#reachability as Reachability;
  }

  get shared(): SharedState {
    return this.#shared as SharedState;
  }

  get fleet(): Fleet {
    return this.#fleet as Fleet;
  }

  get addresses(): RunningMesh['addresses'] {
    return {
      thrift: this.#addressOf('thrift'),
      jsonRpc: this.#addressOf('json-rpc'),
      web: this.#addressOf('web'),
      stats: this.#statsAddress,
      link: this.#manager?.linkAddress ?? '',
      consul: this.#consulAddress,
    };
  }

  get added(): RunningMesh['added'] {
    return Object.fromEntries(this.config.faceplates.map(({ name }) => [name, this.#addressOf(name)]));
  }

  #addressOf(front: string): string {
    return this.#faceplate?.addresses.get(front) ?? '';
  }

  get adminToken(): string {
    return this.#faceplate?.adminToken ?? '';
  }

  async start(): Promise<void> {
    const { config, events } = this;
    const consul = await openConsul(config, events);
    this.opened({ phase: 'consul', close: () => consul.close() });
    this.#client = consul.client;
    this.#consulAddress = consul.address;
    this.#reachability = new Reachability(consul.address, events);
    this.reachability.onBack(() => this.#onConsulBack());
    await this.#learn();
    if (this.roles.includes('manager')) this.#manager = await ManagerRole.start(this);
    if (this.roles.includes('faceplate')) this.#faceplate = await FaceplateRole.start(this, this.#manager);
    await this.#openStats();
    this.poolsChanged();
    this.#manager?.run();
    this.#announce();
    if (this.roles.includes('master')) {
      this.#master = MasterRole.start(this, this.#statsAddress);
    }
    this.#isStarted = true;
    this.poolsChanged();
  }

  opened(part: Component, front?: Listener): void {
    this.#parts.push(part);
    if (front !== undefined) this.#fronts.push(front);
  }

  counted(name: string, send: Send): Send {
    return withStats(send, this.book, name, this.router, this.clock);
  }

  poolsChanged(): void {
    const own = this.#manager?.offers() ?? [];
    const admin = this.#faceplate === undefined ? [] : [this.#faceplate.admin];
    this.router.setOffers([...own, ...this.fleet.offers(), ...admin]);
    for (const { interface: found } of own) this.fleet.interfaces.publish(found);
    this.#faceplate?.fleetChanged();
    this.#presence?.changed();
    this.#snapshot?.changed();
    if (this.#isReady || !this.#isStarted || this.#manager?.isComplete === false) return;
    this.#isReady = true;
    const tookMs = Math.round(this.clock.nowMs() - this.#startedAtMs);
    this.events.add('mesh_ready', this.config.mesh, `in ${tookMs} ms`);
    this.#tellReady();
  }

  status(): MeshStatus {
    const { config } = this;
    const { accepted, replied, failed, refused, timed_out, cancelled, inFlight } = this.book.sums();
    return {
      mesh: config.mesh,
      name: config.name,
      version: VERSION,
      runtime: `${runtimeName()} ${runtimeVersion()}`,
      pid: process.pid,
      uptimeMs: Math.round(this.clock.nowMs() - this.#startedAtMs),
      isReady: this.#isReady,
      isDraining: this.#isDraining,
      note: this.#isReady ? '' : 'chassis are starting',
      roles: this.roles,
      timeoutMs: this.#shared?.timeoutMs ?? config.timeoutMs,
      rssBytes: process.memoryUsage.rss(),
      connections: Object.fromEntries(this.#fronts.map((front) => [front.name, front.connections()])),
      listeners: this.#fronts.map(({ name, address }) => ({ name, address })),
      calls: { accepted, replied, failed, refused, timed_out, cancelled, inFlight },
      pools: this.#manager?.status() ?? [],
      processes: [],
      leader: this.#master?.leader?.name ?? '',
      term: this.#master?.leader?.term ?? 0,
    };
  }

  pids(): readonly number[] {
    return this.#manager?.pids() ?? [];
  }

  async drain(): Promise<void> {
    if (this.#isDraining) return await this.#closing;
    this.#isDraining = true;
    this.events.add('mesh_draining', this.config.mesh, 'finishing the calls under way');
    this.#presence?.changed();
    this.#closing ??= this.#end((part) => part.drain?.() ?? part.close());
    await this.#closing;
  }

  async close(): Promise<void> {
    this.#isDraining = true;
    // Also while it drains: what is closed twice does not mind.
    await this.#end((part) => part.close());
  }

  async #end(how: (part: Component) => Promise<void> | void): Promise<void> {
    for (const phase of PHASES) {
      await Promise.all(this.#parts.filter((part) => part.phase === phase).map(async (part) => await how(part)));
    }
  }

  /** What Consul knows of the mesh; when it does not answer, what this process knew last. */
  async #learn(): Promise<void> {
    const { config, events, clock, client, reachability } = this;
    const { mesh, timeoutMs, routes } = config;
    this.#shared = new SharedState({ client, mesh, events, reachability, initial: { timeoutMs, routes } });
    this.#fleet = new Fleet({
      client,
      mesh,
      self: this.roles.includes('manager') ? config.name : '',
      events,
      clock,
      security: this.security,
      frameBytesMax: config.limits.frameBytesMax,
      connects: this.roles.includes('faceplate') ? 'at once' : 'on demand',
      onChange: () => this.poolsChanged(),
      onAnswer: reachability.answered,
      onError: reachability.failed,
    });
    this.#snapshot = new SnapshotFile({ dataDir: config.dataDir, events, clock, take: () => this.#takeSnapshot() });
    const { shared, fleet } = this;
    this.opened({ phase: 'consul', close: () => shared.close() });
    this.opened({ phase: 'fleet', close: () => fleet.close() });
    this.opened({ phase: 'presence', close: () => this.#snapshot?.close() });
    const last = await this.#snapshot.read();
    for (const [id, { service, source }] of Object.entries(last?.interfaces ?? {})) {
      fleet.interfaces.addSource({ id, service }, source);
    }
    let isKnown = false;
    const known = Promise.all([shared.start((changed) => this.#onRoutes(changed)), fleet.start()]).then(() => {
      isKnown = true;
      // A faceplate that took calls before would say that nobody offers what a moment later is there.
      return fleet.whenInterfacesKnown();
    });
    await Promise.race([known, new Promise<void>((resolve) => clock.after(PATIENCE_MS, resolve))]);
    if (last !== undefined && (!isKnown || fleet.records.size === 0)) {
      if (!isKnown) shared.loadSnapshot(last);
      // A Consul that has lost its data lists nobody until they have entered again, which is no reason to do without
      // them.
      fleet.loadSnapshot(new Map(Object.entries(last.managers)));
      const why = isKnown ? 'lists no manager' : 'does not answer';
      events.add('consul_lost', config.consul.address, `${why}; begun with what was known ${last.takenAt}`);
    }
    this.#snapshot.enable();
  }

  #takeSnapshot(): Snapshot {
    const managers = Object.fromEntries(this.fleet.records);
    const pools = Object.values(managers).flatMap((record) => record.pools);
    const interfaces = pools.flatMap(({ interfaceId, service }) => {
      const found = this.fleet.interfaces.get({ id: interfaceId, service });
      return found === undefined ? [] : [[interfaceId, { service, source: found.source }] as const];
    });
    const { timeoutMs, routes } = this.shared;
    return {
      managers,
      interfaces: Object.fromEntries(interfaces),
      timeoutMs,
      routes,
      takenAt: new Date().toISOString(),
    };
  }

  async #openStats(): Promise<void> {
    const { config, events, book } = this;
    const { host, ports, limits } = config;
    const stats = await startStatsFaceplate({
      status: () => this.status(),
      ...(this.#faceplate === undefined ? {} : { meshStatus: () => (this.#faceplate as FaceplateRole).meshStatus() }),
      events: (afterSeq) => events.after(afterSeq),
      book,
      poolStats: () => this.#manager?.poolStats() ?? [],
      extra: () => this.#figures(),
      host,
      port: ports.stats,
      limits,
    });
    this.#statsAddress = urlOf({ host: stats.address, port: stats.port });
    this.opened(
      { phase: 'presence', drain: () => stats.drain(), close: () => stats.close() },
      { name: 'stats', address: this.#statsAddress, connections: () => stats.connections() },
    );
  }

  /** Enters this process in Consul: the session hangs on a check of its most telling port. */
  #announce(): void {
    const { config, events, client, reachability } = this;
    const own = [
      ...(this.#manager === undefined ? [] : [this.#listener('katamari-manager', this.#manager.linkAddress)]),
      ...[...(this.#faceplate?.addresses ?? [])].map(([name, address]) => this.#listener(`katamari-${name}`, address)),
      this.#listener('katamari-stats', this.#statsAddress),
    ] as unknown as readonly [ListenAddress, ...ListenAddress[]];
    const presence = new Presence({
      client,
      mesh: config.mesh,
      name: config.name,
      roles: this.roles,
      listeners: own,
      events,
      onError: reachability.failed,
      isLeaving: () => this.#isDraining,
    });
    this.#presence = presence;
    const stats = this.#advertisedUrl(this.#statsAddress);
    const keys = keysOf(config.mesh);
    const manager = this.#manager;
    if (manager !== undefined) {
      presence.keep(keys.managers + config.name, () => manager.record(stats, this.#isDraining));
    }
    if (this.#faceplate !== undefined) {
      presence.keep(keys.faceplates + config.name, () => ({
        machine: config.machine,
        thrift: this.#advertise(this.addresses.thrift),
        jsonRpc: this.#advertisedUrl(this.addresses.jsonRpc),
        web: this.#advertisedUrl(this.addresses.web),
        added: Object.fromEntries(
          Object.entries(this.added).map(([name, address]) => [name, this.#advertise(address)]),
        ),
        stats,
      }));
    }
    this.opened({ phase: 'presence', close: () => presence.close() });
  }

  #listener(service: string, address: string): ListenAddress {
    const [, port = ''] = /:(\d+)\D*$/.exec(address) ?? [];
    const isLocal = service === 'katamari-manager' && this.#manager?.isLocal === true;
    return { service, host: isLocal ? '127.0.0.1' : this.advertised, port: Number(port) };
  }

  #advertise(address: string): string {
    const [, port = ''] = /:(\d+)\D*$/.exec(address) ?? [];
    return `${this.advertised.includes(':') ? `[${this.advertised}]` : this.advertised}:${port}`;
  }

  #advertisedUrl(address: string): string {
    return address === '' ? '' : `http://${this.#advertise(address)}`;
  }

  #onRoutes(routes: Readonly<Record<string, Route>>): void {
    this.router.setRoutes(routes);
    this.#snapshot?.changed();
  }

  /** What was written for good may be lost: Consul may have come back empty. */
  #onConsulBack(): void {
    this.fleet.interfaces.forgetPublished();
    this.#presence?.onConsulBack();
    this.poolsChanged();
  }

  #figures(): ReturnType<typeof consulFigures> {
    const sessions = [this.#presence?.stats(), this.#master?.sessionStats()].filter((one) => one !== undefined);
    const watches = [...this.shared.stats(), this.fleet.stats(), ...(this.#manager?.watchStats() ?? [])];
    return consulFigures({
      ...this.client.stats(),
      sessions,
      watchAgesMs: watches.flatMap((watch) => (watch === undefined ? [] : [watch.ageMs])),
    });
  }
}

/** How long a start waits for Consul before it begins with what it knew. */
const PATIENCE_MS = 2_000;
