// The manager role of a process: its resource manager, the port on which faceplates of other processes reach its
// pools, the socket on which
import { startLinkServer, whyNotListen, type LinkServer } from '../../core/link/mod.ts';
import type { PoolStatus } from '../../core/rpc/mod.ts';
import { ExitError, EXIT, desiredDeployment } from '../config/mod.ts';
import type { WatchStats } from '../consul/mod.ts';
import { withManagerService, type ManagerRecord, type Offer } from '../mesh/mod.ts';
import { Orders, ResourceManager, type KnownInterface } from '../resource-manager/mod.ts';
import { withMeshService } from './mesh-service.ts';
import type { ProcessBase } from './process-base.ts';

// its chassis reach the mesh, and the leader's orders.

import path from 'node:path';

export class ManagerRole {
  readonly #base: ProcessBase;
  readonly manager: ResourceManager;
  readonly #orders: Orders;
  #isDeployed = false;
  #isLeaving = false;
  linkAddress = '';
  /** Its link is open to this machine only. */
  isLocal = false;

  private constructor(base: ProcessBase) {
    this.#base = base;
    const { config, events, clock, hooks } = base;
    this.manager = new ResourceManager({
      name: config.name,
      events,
      clock,
      frameBytesMax: config.limits.frameBytesMax,
      onLine: hooks.onLine ?? (() => undefined),
      env: () => ({ KATAMARI_MESH: this.#insideAddress }),
      onPoolsChanged: () => base.poolsChanged(),
      knownInterfaces: (service, version) => this.#interfacesElsewhere(service, version),
    });
    this.#orders = new Orders({
      client: base.client,
      mesh: config.mesh,
      name: config.name,
      dataDir: config.dataDir,
      events,
      clock,
      apply: (deployments) => this.manager.setDeployments('order', deployments),
      onDrained: (isDrained) => this.manager.setDrained(isDrained),
    });
  }

  /** @throws CliError when the link would be open to strangers */
  static async start(base: ProcessBase): Promise<ManagerRole> {
    const role = new ManagerRole(base);
    const { manager } = role;
    base.opened({ phase: 'manager', drain: () => manager.drain(), close: () => manager.close() });
    await role.#openInside();
    await role.#openLink();
    return role;
  }

  /** Starts what is to run here. */
  run(): void {
    this.manager.setDeployments('file', this.#base.config.deployments.map(desiredDeployment));
    this.#isDeployed = true;
    void this.#orders.start();
    this.#base.opened({ phase: 'link', close: () => this.#orders.close() });
  }

  get isComplete(): boolean {
    return this.#isDeployed && this.manager.isComplete;
  }

  offers(): readonly Offer[] {
    return this.manager.offers();
  }

  status(): PoolStatus[] {
    return this.manager.status((service, version) => this.#base.router.weightOf(service, version));
  }

  poolStats(): ReturnType<ResourceManager['poolStats']> {
    return this.manager.poolStats();
  }

  pids(): readonly number[] {
    return this.manager.pids();
  }

  watchStats(): readonly WatchStats[] {
    return this.#orders.stats().watches;
  }

  record(stats: string, isDraining: boolean): ManagerRecord {
    const { config, advertised } = this.#base;
    const [, port = ''] = /:(\d+)$/.exec(this.linkAddress) ?? [];
    const host = this.isLocal ? '127.0.0.1' : advertised;
    return {
      address: `${host.includes(':') ? `[${host}]` : host}:${port}`,
      machine: config.machine,
      capacity: config.manager.capacity,
      isDraining: isDraining || this.#isLeaving,
      stats,
      pools: this.manager.offers().map(({ id, details, alive, interface: { id: interfaceId } }) => ({
        id,
        ...details,
        interfaceId,
        alive,
      })),
    };
  }

  /** A chassis must not answer the same calls otherwise than those of its version on other machines. */
  #interfacesElsewhere(service: string, version: string): KnownInterface[] {
    const { fleet, config } = this.#base;
    return [...fleet.records].flatMap(([name, { pools }]) => {
      const pool = pools.find((one) => one.service === service && one.version === version);
      if (name === config.name || pool === undefined) return [];
      const found = fleet.interfaces.get({ id: pool.interfaceId, service });
      return found === undefined ? [] : [{ interface: found, where: `manager ${name}` }];
    });
  }

  get #insideAddress(): string {
    return `unix:${path.join(this.manager.socketDir, 'mesh.sock')}`;
  }

  async #openInside(): Promise<void> {
    const { router, shared, config } = this.#base;
    const timeoutMs = (): number => shared.timeoutMs;
    const inside = await startLinkServer(this.#insideAddress, {
      timeoutMsMax: timeoutMs,
      send: withMeshService(router, this.#base.counted('inside', router.send)),
      limits: { ...config.limits, pipelineMax: Math.max(config.limits.pipelineMax, INSIDE_CALLS_MAX) },
      timeoutMs,
      caller: 'a chassis',
      flushAt: 'immediate',
    });
    this.#opened('inside', 'inside', inside);
  }

  async #openLink(): Promise<void> {
    const { config, security, roles, shared, events } = this.#base;
    const { host, ports, limits } = config;
    const why = whyNotListen(linkAddressOf(host, ports.link), security);
    // A whole mesh in one process needs nobody from outside: its link stays on this machine.
    this.isLocal = why !== undefined && roles.length === 3;
    if (why !== undefined && !this.isLocal) {
      throw new ExitError(EXIT.badConfiguration, `${why} (link.secret, link.secretFile, link.caFile ...)`);
    }
    const timeoutMs = (): number => shared.timeoutMs;
    const own = this.#base.counted('link', this.manager.send);
    const link = await startLinkServer(linkAddressOf(this.isLocal ? '127.0.0.1' : host, ports.link), {
      timeoutMsMax: timeoutMs,
      send: withManagerService(
        {
          status: () => this.#base.status(),
          events,
          name: config.name,
          roll: (service, version) => this.manager.roll(service, version),
          restart: (resource) => this.manager.restart(resource),
        },
        own,
      ),
      // All calls of a faceplate to this manager are on one link; what limits them is the queues.
      limits: { ...limits, pipelineMax: Math.max(limits.pipelineMax, LINK_CALLS_MAX) },
      timeoutMs,
      caller: 'a faceplate',
      flushAt: 'immediate',
      ...(security === undefined ? {} : { security }),
    });
    this.linkAddress = link.address.replace(/^tcp:/, '');
    this.#opened('link', 'link', link, () => this.#sendGoAway());
  }

  /** Faceplates hear from Consul that this manager leaves; until they have, calls are served as ever. */
  async #sendGoAway(): Promise<void> {
    this.#isLeaving = true;
    this.#base.poolsChanged();
    if (this.#base.config.consul.embedded) return;
    await new Promise<void>((resolve) => this.#base.clock.after(NOTICE_MS, resolve));
  }

  #opened(
    name: string,
    phase: 'inside' | 'link',
    front: Pick<LinkServer, 'address' | 'connections' | 'drain' | 'close'>,
    beforeDrain: () => Promise<void> = () => Promise.resolve(),
  ): void {
    this.#base.opened(
      { phase, drain: () => beforeDrain().then(() => front.drain()), close: () => front.close() },
      { name, address: front.address.replace(/^tcp:/, ''), connections: () => front.connections() },
    );
  }
}

function linkAddressOf(host: string, port: number): string {
  return `tcp:${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** Calls of one chassis under way back into the mesh. */
const INSIDE_CALLS_MAX = 1_024;
/** Calls under way on one link. */
const LINK_CALLS_MAX = 65_536;
/** Long enough for a record to reach every faceplate through Consul. */
const NOTICE_MS = 300;
