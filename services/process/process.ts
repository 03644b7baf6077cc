// One process of a mesh, with one role or several. Opens its components step by step: Consul, the mesh, the ports of
// its roles, its presence in Consul, the election. Each step takes the results of earlier steps. `Components` closes
// them in reverse order.
//
// The path of a call: faceplate -> router -> (link -> link port of a manager ->) pool -> link -> chassis.

import { formatAddress, systemClock, urlOf, type Address, type Clock } from '../../core/mod.ts';
import type { MeshStatus } from '../../core/rpc/mod.ts';
import { startStatsFaceplate } from '../../faceplates/stats/mod.ts';
import { type Config, desiredDeployment, prepareDirectories, ROLES, type Role } from '../config/mod.ts';
import type { Presence } from '../mesh/mod.ts';
import { auditedAccess } from './audit-refusals.ts';
import { portCredentials } from './port-credentials.ts';
import { auditFamilies } from './audit-metrics.ts';
import { indexFamilies } from './index-metrics.ts';
import { rolloutFamilies } from './rollout-metrics.ts';
import { routeFamilies } from './route-metrics.ts';
import { recordConfiguration } from './record-configuration.ts';
import { announceProcess } from './announce-process.ts';
import { openConsul, type OpenConsul } from './consul.ts';
import { openFaceplateRole, type FaceplateRole } from './faceplate-role.ts';
import { joinMesh } from './join-mesh.ts';
import { ManagerRole } from './manager-role.ts';
import { startMasterRole } from './master-role.ts';
import { type ProcessBase } from './process-base.ts';
import { ProcessReadiness } from './process-readiness.ts';
import { createContext, type MeshHooks, type ProcessContext } from './process-context.ts';

export interface RunningMesh {
  /** Addresses that this process listens on; '' if its roles do not open that port. */
  readonly addresses: {
    readonly thrift: string;
    readonly jsonRpc: string;
    /** '' without sites. */
    readonly web: string;
    readonly stats: string;
    readonly link: string;
    readonly consul: string;
  };
  /** Addresses of the faceplates that the user added, by name. */
  readonly added: Readonly<Record<string, string>>;
  /** '' without the faceplate role. */
  readonly adminToken: string;
  /** Resolves once all replicas of all configured deployments are ready at the same time. */
  readonly whenReady: Promise<void>;
  /** Returns the status of this process. */
  status(): MeshStatus;
  /** Returns the process ids of the chassis, for tests that kill them. */
  pids(): readonly number[];
  /**
   * Applies what a changed configuration changes in a running process: deployments, routes and the timeout.
   * @returns keys that have no effect, because the mesh has other values in Consul
   * @throws Error, before anything changes, when a deployment is wrong
   */
  reload(config: Config): readonly string[];
  /** Records an error that nothing has handled. */
  recordDefect(error: unknown): void;
  /** Resolves when a part of the process has failed without which it must end. */
  readonly whenFatal: Promise<Error>;
  /**
   * Shuts down gracefully: `/readyz` fails and Consul lists its faceplates no more; after the delay it accepts no more
   * calls, finishes those in flight, then stops every chassis.
   * @param delayMs how long the ports of its faceplates serve on, so that load balancers notice; default 0
   */
  drain(delayMs?: number): Promise<void>;
  /** Shuts down now: calls in flight fail. */
  close(): Promise<void>;
}

/**
 * Starts a process of a mesh. If a step fails, it closes everything that earlier steps opened, then rejects.
 * @throws ExitError, KatamariError, or the system's error such as EADDRINUSE
 */
export async function startMesh(
  config: Config,
  hooks: MeshHooks,
  roles: readonly Role[] = ROLES,
  clock: Clock = systemClock,
): Promise<RunningMesh> {
  for (const warning of prepareDirectories(config, roles)) hooks.onWarning?.(warning);
  const context = createContext(config, hooks, roles, clock);
  try {
    return await openProcess(context);
  } catch (error) {
    await context.components.close();
    throw error;
  }
}

async function openProcess(context: ProcessContext): Promise<RunningMesh> {
  const { roles, advertised } = context;
  const consul = await openConsul(context);
  const base = await joinMesh(context, consul);
  const manager = roles.includes('manager') ? await ManagerRole.open(base) : undefined;
  const faceplate = roles.includes('faceplate') ? await openFaceplateRole(base, manager) : undefined;
  const stats = await openStats(base, manager, faceplate);
  base.offers.changed();
  manager?.deploy();
  const advertisedStats = { host: advertised, port: stats.port };
  const presence = announceProcess(base, manager, faceplate, advertisedStats);
  if (roles.includes('master')) startMasterRole(base, advertisedStats);
  await recordConfiguration(context);
  return new MeshProcess({
    base,
    consul,
    manager,
    faceplate,
    stats,
    presence,
    whenReady: awaitReady(base, manager, faceplate),
  });
}

/** Opens the stats faceplate; returns where it listens. */
async function openStats(
  base: ProcessBase,
  manager: ManagerRole | undefined,
  faceplate: FaceplateRole | undefined,
): Promise<Address> {
  const { config, events, audit, callStats, ledger, components, status, consulMetrics, access, policy, defects } = base;
  const { credentials } = base;
  const { host, ports, limits } = config;
  const stats = await startStatsFaceplate({
    status: () => status.read(),
    ...(faceplate === undefined
      ? {}
      : {
          meshStatus: () => faceplate.meshStatus(),
          indices: () => faceplate.indices.overview(),
          shardNames: (id: string) => faceplate.indices.shardNames(id),
          versions: faceplate.versions,
        }),
    events: (afterSeq) => events.after(afterSeq),
    callStats: callStats,
    poolStats: () => manager?.manager.poolStats() ?? [],
    extra: () => [
      ...consulMetrics.families(),
      ...auditFamilies(audit),
      ...access.families(policy),
      ...indexFamilies(base.gatherer, manager),
      ...routeFamilies(base.router),
      ...rolloutFamilies(status.rollouts()),
      defects.family(),
    ],
    authenticator: access.authenticator,
    mayRead: (identity) => !policy.isBroken && policy.policy?.mayReadStats(identity) !== false,
    tls: portCredentials(config, 'stats', credentials),
    host,
    port: ports.stats,
    limits,
    access: auditedAccess(config, audit),
    ledger,
  });
  const address = { host: stats.address, port: stats.port };
  components.register(
    { stage: 'presence', drain: () => stats.drain(), close: () => stats.close() },
    { name: 'stats', address: stats.url, connections: () => stats.connections() },
  );
  return address;
}

/** Reports from now on whether the process is ready. Resolves when it is ready for the first time. */
function awaitReady(
  base: ProcessBase,
  manager: ManagerRole | undefined,
  faceplate: FaceplateRole | undefined,
): Promise<void> {
  const { config, clock, events, offers, router, shared, startedAtMs, status } = base;
  const readiness = new ProcessReadiness({
    clock,
    hasFaceplates: faceplate !== undefined,
    isComplete: () => manager?.isComplete !== false,
    hasDeployments: () => offers.deployed().length > 0,
    pools: () => router.pools(),
    ownPools: () => status.pools(),
    timeoutMs: () => shared.timeoutMs,
  });
  status.reportReadiness(() => readiness.why());
  return new Promise((resolve) => {
    let isReady = false;
    offers.onChange(() => {
      readiness.update();
      if (isReady || readiness.why() !== '') return;
      isReady = true;
      events.add('mesh_ready', config.mesh, `in ${Math.round(clock.nowMs() - startedAtMs)} ms`);
      resolve();
    });
    offers.changed();
  });
}

/** The results of the steps of a start. */
interface OpenParts {
  readonly base: ProcessBase;
  readonly consul: OpenConsul;
  readonly manager: ManagerRole | undefined;
  readonly faceplate: FaceplateRole | undefined;
  readonly stats: Address;
  readonly presence: Presence;
  readonly whenReady: Promise<void>;
}

class MeshProcess implements RunningMesh {
  readonly addresses: RunningMesh['addresses'];
  readonly added: RunningMesh['added'];
  readonly adminToken: string;
  readonly whenReady: Promise<void>;
  readonly #base: ProcessBase;
  readonly #manager: ManagerRole | undefined;
  readonly #presence: Presence;
  #recording: Promise<void> = Promise.resolve();
  readonly #hasFaceplates: boolean;
  /** Resolved by `close`, which ends the delay of a shutdown. */
  readonly #closed = resolvable();

  constructor({ base, consul, manager, faceplate, stats, presence, whenReady }: OpenParts) {
    const addressOf = (name: string): string => faceplate?.addresses.get(name)?.text ?? '';
    this.addresses = {
      thrift: addressOf('thrift'),
      jsonRpc: addressOf('json-rpc'),
      web: addressOf('web'),
      stats: urlOf(stats, base.config.stats.tls.certFile !== ''),
      link: manager === undefined ? '' : formatAddress(manager.linkAddress),
      consul: consul.address,
    };
    this.added = Object.fromEntries(base.config.faceplates.map(({ name }) => [name, addressOf(name)]));
    this.adminToken = faceplate?.adminToken ?? '';
    this.whenReady = whenReady;
    this.#base = base;
    this.#manager = manager;
    this.#presence = presence;
    this.#hasFaceplates = faceplate !== undefined;
  }

  status(): MeshStatus {
    return this.#base.status.read();
  }

  pids(): readonly number[] {
    return this.#manager?.manager.pids() ?? [];
  }

  reload({ deployments, timeoutMs, routes }: Config): readonly string[] {
    const { shared } = this.#base;
    const desired = deployments.map(desiredDeployment);
    const overridden = shared.setInitial({ timeoutMs, routes: new Map(Object.entries(routes)) });
    this.#manager?.redeploy(desired);
    // Only what applies now; the next start records what needs one.
    const config = { ...this.#base.config, deployments, timeoutMs, routes };
    this.#recording = this.#recording.then(() => recordConfiguration({ ...this.#base, config }));
    return overridden;
  }

  recordDefect(error: unknown): void {
    this.#base.defects.record(error);
  }

  get whenFatal(): Promise<Error> {
    return this.#base.defects.fatal;
  }

  async drain(delayMs = 0): Promise<void> {
    const { components, config, events, clock } = this.#base;
    if (!components.isDraining) {
      components.beginDraining();
      const waitMs = this.#hasFaceplates ? delayMs : 0;
      const serving = waitMs === 0 ? '' : `the ports serve on for ${waitMs} ms, then `;
      events.add('mesh_draining', config.mesh, `${serving}finishing the calls in flight`);
      events.endWaits();
      this.#presence.changed();
      const left = this.#presence.leave(KEPT_SERVICES);
      if (waitMs > 0) {
        await Promise.race([new Promise<void>((resolve) => clock.after(waitMs, resolve)), this.#closed.promise]);
        await left;
      }
    }
    await components.drain();
  }

  async close(): Promise<void> {
    this.#closed.resolve();
    await this.#recording;
    await this.#base.components.close();
  }
}

/** Stays registered while the process drains: Prometheus reads its metrics until the end. */
const KEPT_SERVICES: ReadonlySet<string> = new Set(['katamari-stats', 'katamari-manager']);

function resolvable(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve!: () => void;
  const promise = new Promise<void>((done) => (resolve = done));
  return { promise, resolve };
}
