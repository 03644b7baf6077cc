// The manager role of a process: its resource manager, the leader's orders for it, the link that faceplates of other
// processes use to call its pools, and the socket that its chassis use to call other services.

import path from 'node:path';
import { formatLinkAddress, isLoopback, parseLinkAddress, startLinkServer } from '../../core/link/mod.ts';
import { formatAddress, mustNotFail, type Address } from '../../core/mod.ts';
import { desiredDeployment, EXIT, ExitError, ROLES } from '../config/mod.ts';
import {
  keysOf,
  ManifestCache,
  withManagerService,
  withStats,
  type CheckFacts,
  type CheckTarget,
  type DeployedService,
  type Deployment,
  type ManagerRecord,
  type Offer,
  type Presence,
  type ReplicaFacts,
  type SourceFacts,
} from '../mesh/mod.ts';
import { Fetcher, Keeper, SourceInspector, ShardOrders, ShardStore } from '../content/mod.ts';
import { Orders, ResourceManager, type KnownInterface } from '../resource-manager/mod.ts';
import { auditBadPeer } from './audit-refusals.ts';
import { ChassisSockets } from './chassis-sockets.ts';
import type { ProcessBase } from './process-base.ts';

export class ManagerRole {
  readonly manager: ResourceManager;
  readonly #base: ProcessBase;
  readonly #keeper: Keeper;
  readonly #inspector: SourceInspector;
  readonly #orders: Orders;
  readonly #link: ManagerLink;
  #isDeployed = false;
  #presence: Presence | undefined;
  #hasHoldings = false;

  private constructor(
    base: ProcessBase,
    manager: ResourceManager,
    keeper: Keeper,
    inspector: SourceInspector,
    orders: Orders,
    link: ManagerLink,
  ) {
    this.#base = base;
    this.manager = manager;
    this.#keeper = keeper;
    this.#inspector = inspector;
    this.#orders = orders;
    this.#link = link;
  }

  /**
   * Opens the ports of a manager. `deploy` starts the chassis.
   * @throws ExitError when other machines could use the link without authentication
   */
  static async open(base: ProcessBase): Promise<ManagerRole> {
    const { client, config, events, clock, components, hooks, offers, fleet, router, shared, status, consulMetrics } =
      base;
    const { name, mesh, dataDir, limits } = config;
    let role: ManagerRole | undefined;
    const fetcher = new Fetcher(config.content.sources, config.content.fetchBytesPerS);
    const keeper = new Keeper({
      store: new ShardStore(config.content.directory),
      fetch: fetcher.fetch,
      verify: fetcher.verify,
      events,
      clock,
      timeoutMs: () => shared.timeoutMs,
      openTimeoutMs: config.content.openTimeoutMs,
      verifyEveryMs: config.content.verifyEveryMs,
      onRecord: () => role?.announceHoldings(),
    });
    const inspector = new SourceInspector(config.content.sources);
    components.register({ stage: 'link', drain: async () => inspector.close(), close: () => inspector.close() });
    const shardOrders = new ShardOrders({
      keeper,
      manifests: new ManifestCache({ client, mesh, folder: path.join(dataDir, 'shards', 'manifests') }),
      events,
      clock,
    });
    const manager: ResourceManager = new ResourceManager({
      name,
      events,
      clock,
      limits,
      onLine: hooks.onLine ?? (() => undefined),
      env: (owner) => ({ KATAMARI_MESH: sockets.addressFor(owner) }),
      prepare: (chassis) => keeper.prepare(chassis),
      watch: (iface) => keeper.watch(iface),
      onPoolsChanged: () => offers.changed(),
      knownInterfaces: (service, version) => interfacesElsewhere(base, service, version),
    });
    components.register({ stage: 'manager', drain: () => manager.drain(), close: () => manager.close() });
    components.register({
      stage: 'link',
      drain: async () => {
        keeper.drain();
        fetcher.close();
      },
      close: async () => {
        await keeper.close();
        fetcher.close();
      },
    });
    const sockets = await ChassisSockets.open(base, manager.socketDir);
    const link = await ManagerLink.open(base, manager, keeper, inspector);
    const orders = new Orders({
      client,
      mesh,
      name,
      dataDir,
      events,
      clock,
      apply: (deployments) => manager.setDeployments('order', deployments),
      applyShards: (shards) => shardOrders.set(shards),
      onDrained: (isDrained) => manager.setDrained(isDrained),
    });
    components.register({
      stage: 'link',
      close: () => {
        shardOrders.close();
        return orders.close();
      },
    });
    offers.addSource(() => manager.offers());
    base.gatherer.followOwn((start, afterSeq, waitMs) => keeper.holdings(start, afterSeq, waitMs));
    role = new ManagerRole(base, manager, keeper, inspector, orders, link);
    offers.addRunning(() => role?.deployed() ?? []);
    offers.onChange(() => manager.offers().forEach((offer) => fleet.interfaces.publish(offer.interface)));
    status.reportPools(() => manager.status((service, version) => router.weightOf(service, version)));
    consulMetrics.addWatches(() => orders.stats().watches);
    return role;
  }

  /** Starts the deployments of the configuration and follows the leader's orders. */
  deploy(): void {
    this.manager.setDeployments('file', this.#base.config.deployments.map(desiredDeployment));
    this.#isDeployed = true;
    mustNotFail('the start of the orders', this.#orders.start());
  }

  /** Publishes what this manager holds of indices, from the first order on. */
  announceHoldings(presence: Presence | undefined = this.#presence): void {
    this.#presence = presence;
    if (presence === undefined || !this.#keeper.hasOrders) return;
    if (this.#hasHoldings) return presence.changed();
    this.#hasHoldings = true;
    const { mesh, name } = this.#base.config;
    presence.keep(keysOf(mesh).holdings + name, () => this.#keeper.record());
  }

  /** The shards of an index that this manager is to hold. @param index '' for all */
  replicas(index: string): readonly ReplicaFacts[] {
    return replicasOf(this.#keeper, index);
  }

  /** The fetches of this manager; see Keeper. */
  fetches(): ReturnType<Keeper['fetches']> {
    return this.#keeper.fetches();
  }

  /** The checks of the files of shards; see Keeper. */
  checks(): ReturnType<Keeper['checks']> {
    return this.#keeper.checks();
  }

  /** Starts to check the files of an index on this manager. */
  verify(id: string, target: CheckTarget): readonly CheckFacts[] {
    return verifyShards(this.#keeper, id, target);
  }

  /** What a check has found so far; none for an unknown id. */
  verification(id: string): readonly CheckFacts[] {
    return this.#keeper.verification(id);
  }

  /** Lists the shards of a source. Rejects with an error that says what is wrong with it. */
  inspect(source: string): Promise<SourceFacts> {
    return this.#inspector.inspect(source);
  }

  /** Replaces the deployments of the configuration, because its file has changed. */
  redeploy(deployments: readonly Deployment[]): void {
    this.manager.setDeployments('file', deployments);
  }

  /** Whether every replica of every configured deployment is ready. */
  get isComplete(): boolean {
    return this.#isDeployed && this.manager.isComplete;
  }

  offers(): readonly Offer[] {
    return this.manager.offers();
  }

  /** What this manager runs or will run, whether or not it has a pool. */
  deployed(): readonly DeployedService[] {
    if (this.#isDeployed) return this.manager.deployed();
    // The ports are open, and `deploy` follows.
    return this.#base.config.deployments
      .map(desiredDeployment)
      .filter(({ count }) => count > 0)
      .map(({ service, version, roles, queueMax }) => ({ service, version, roles, queueMax, failure: '' }));
  }

  /** Address on which the link listens. */
  get linkAddress(): Address {
    return this.#link.address;
  }

  /** Address that other processes use to reach the link. */
  get advertisedLink(): Address {
    const { address, isLocal } = this.#link;
    return { host: isLocal ? LOOPBACK : this.#base.advertised, port: address.port };
  }

  /** The record of this manager in Consul. @param stats URL of the stats faceplate of this process */
  record(stats: string): ManagerRecord {
    const { config, components } = this.#base;
    const offers = this.offers();
    const hasPool = ({ service, version }: DeployedService): boolean =>
      offers.some(({ details }) => details.service === service && details.version === version);
    return {
      address: formatAddress(this.advertisedLink),
      machine: config.machine,
      capacity: config.manager.capacity,
      isDraining: components.isDraining || this.#link.isLeaving,
      stats,
      starting: this.deployed().filter((one) => !hasPool(one)),
      pools: offers.map(({ id, details, alive, interface: { id: interfaceId } }) => ({
        id,
        ...details,
        interfaceId,
        alive,
      })),
    };
  }
}

/** The link server, on which faceplates of other processes call the pools of this manager. */
class ManagerLink {
  /** Address on which it listens. */
  readonly address: Address;
  /** Whether only this machine can connect. */
  readonly isLocal: boolean;
  readonly #base: ProcessBase;
  #isLeaving = false;

  private constructor(base: ProcessBase, address: Address, isLocal: boolean) {
    this.#base = base;
    this.address = address;
    this.isLocal = isLocal;
  }

  static async open(
    base: ProcessBase,
    manager: ResourceManager,
    keeper: Keeper,
    inspector: SourceInspector,
  ): Promise<ManagerLink> {
    const { config, security, roles, shared, events, audit, router, callStats, ledger, clock, components, status } =
      base;
    const { host, ports, limits } = config;
    // Without a secret that other machines can have, no other machine can use the link.
    const isLocal = !config.link.isShared && security.tls === undefined && !isLoopback({ host, port: ports.link });
    if (isLocal && roles.length < ROLES.length) {
      throw new ExitError(
        EXIT.badConfiguration,
        `host: the link on ${host} is for other machines, and they do not have the secret that this process made for itself. Give all processes of the mesh the same link.secretFile (openssl rand -hex 32 makes a secret)`,
      );
    }
    const timeoutMs = (): number => shared.timeoutMs;
    const listen = { host: isLocal ? LOOPBACK : host, port: ports.link };
    const server = await startLinkServer(formatLinkAddress(listen), {
      timeoutMsMax: timeoutMs,
      send: withManagerService(
        {
          status: () => status.read(),
          events,
          holdings: (start, afterSeq, waitMs) => keeper.holdings(start, afterSeq, waitMs),
          replicas: (index) => replicasOf(keeper, index),
          verify: (id, target) => verifyShards(keeper, id, target),
          verification: (id) => keeper.verification(id),
          inspect: (source) => inspector.inspect(source),
          versions: base.versions,
          name: config.name,
          roll: (service, version, by) =>
            recorded(
              base,
              { action: 'restart', subject: version === '' ? service : `${service}@${version}`, by },
              components.untilDraining(manager.roll(service, version), `the rolling restart of ${service}`),
            ),
          restart: (resource, by) =>
            recorded(
              base,
              { action: 'restart', subject: resource, by },
              components.untilDraining(manager.restart(resource), `the restart of ${resource}`),
            ),
        },
        withStats(manager.send, callStats, 'link', router, clock),
      ),
      // A faceplate sends all its calls to this manager over one link. The queues of the pools limit them.
      limits: { ...limits, pipelineMax: Math.max(limits.pipelineMax, LINK_CALLS_MAX) },
      ledger,
      timeoutMs,
      caller: 'a faceplate',
      flushAt: 'immediate',
      security,
      onRefused: (from, why) => auditBadPeer(audit, from, why),
    });
    security.onRenewed(() => server.renewCertificates());
    const bound = parseLinkAddress(server.address);
    const address = 'port' in bound ? bound : listen;
    const link = new ManagerLink(base, address, isLocal);
    components.register(
      { stage: 'link', drain: () => link.#leave().then(() => server.drain()), close: () => server.close() },
      { name: 'link', address: formatAddress(address), connections: () => server.connections() },
    );
    return link;
  }

  /** True once the record in Consul asks faceplates to stop sending calls. */
  get isLeaving(): boolean {
    return this.#isLeaving;
  }

  /** Announces in Consul that this manager leaves, and waits until faceplates have had time to see it. */
  async #leave(): Promise<void> {
    const { config, offers, clock } = this.#base;
    this.#isLeaving = true;
    offers.changed();
    if (config.consul.embedded) return;
    await new Promise<void>((resolve) => clock.after(NOTICE_MS, resolve));
  }
}

/** What a keeper says about the shards of an index, or of all for ''. */
function replicasOf(keeper: Keeper, index: string): readonly ReplicaFacts[] {
  return keeper
    .status()
    .filter(({ name }) => index === '' || name.startsWith(`${index}@`))
    .map(({ name, ...facts }) => ({ shard: name, ...facts }));
}

function verifyShards(keeper: Keeper, id: string, { index, version, shard }: CheckTarget): readonly CheckFacts[] {
  keeper.verify(id, (name) => {
    const [indexVersion = '', shardName] = name.split('/');
    const isIndex = version === '' ? indexVersion.startsWith(`${index}@`) : indexVersion === `${index}@${version}`;
    return isIndex && (shard === '' || shard === shardName);
  });
  return keeper.verification(id);
}

/** Adds what another process of the mesh has ordered over the link to the audit log. */
async function recorded<T>(
  { audit }: ProcessBase,
  { action, subject, by }: { readonly action: string; readonly subject: string; readonly by: string },
  work: Promise<T>,
): Promise<T> {
  const common = { who: 'mesh', from: `link ${by}`, action, subject };
  audit.record({ ...common, result: 'started' });
  try {
    const result = await work;
    audit.record({ ...common, result: 'done' });
    return result;
  } catch (error) {
    audit.record({ ...common, result: 'failed', reason: (error as Error).message });
    throw error;
  }
}

/** Interfaces that living chassis of a version speak on other managers. A new chassis must speak the same. */
function interfacesElsewhere({ fleet, config }: ProcessBase, service: string, version: string): KnownInterface[] {
  return [...fleet.records].flatMap(([name, { pools }]) => {
    if (name === config.name) return [];
    const living = pools.filter((pool) => pool.service === service && pool.version === version && pool.alive > 0);
    return living.flatMap(({ interfaceId: id }) => {
      const known = fleet.interfaces.get({ id, service });
      return known === undefined ? [] : [{ interface: known, where: `manager ${name}` }];
    });
  });
}

const LOOPBACK = '127.0.0.1';
/** Concurrent calls on one link. */
const LINK_CALLS_MAX = 65_536;
/** Long enough for a record to reach every faceplate through Consul. */
const NOTICE_MS = 300;
