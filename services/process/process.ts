// One process of a mesh, with one role or several. Opens its components step by step: Consul, the mesh, the ports of
// its roles, its presence in Consul, the election. Each step takes the results of earlier steps. `Components` closes
// them in reverse order.
//
// The path of a call: faceplate -> router -> (link -> link port of a manager ->) pool -> link -> chassis.

import { formatAddress, urlOf, type Address } from '../../core/mod.ts';
import type { MeshStatus } from '../../core/rpc/mod.ts';
import { startStatsFaceplate } from '../../faceplates/stats/mod.ts';
import { type Config, httpAccessOf, portTlsOf, ROLES, type Role } from '../config/mod.ts';
import type { Presence } from '../mesh/mod.ts';
import { auditFamilies } from './audit-metrics.ts';
import { recordConfiguration } from './record-configuration.ts';
import { announceProcess } from './announce-process.ts';
import { openConsul, type OpenConsul } from './consul.ts';
import { openFaceplateRole, type FaceplateRole } from './faceplate-role.ts';
import { joinMesh } from './join-mesh.ts';
import { ManagerRole } from './manager-role.ts';
import { startMasterRole } from './master-role.ts';
import { type ProcessBase } from './process-base.ts';
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
  /** Shuts down gracefully: accepts no more calls, finishes those in flight, then stops every chassis. */
  drain(): Promise<void>;
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
): Promise<RunningMesh> {
  const context = createContext(config, hooks, roles);
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
  return new MeshProcess({ base, consul, manager, faceplate, stats, presence, whenReady: awaitReady(base, manager) });
}

/** Opens the stats faceplate; returns where it listens. */
async function openStats(
  base: ProcessBase,
  manager: ManagerRole | undefined,
  faceplate: FaceplateRole | undefined,
): Promise<Address> {
  const { config, events, audit, callStats, components, status, consulMetrics, access, policy } = base;
  const { host, ports, limits } = config;
  const stats = await startStatsFaceplate({
    status: () => status.read(),
    ...(faceplate === undefined ? {} : { meshStatus: () => faceplate.meshStatus() }),
    events: (afterSeq) => events.after(afterSeq),
    callStats: callStats,
    poolStats: () => manager?.manager.poolStats() ?? [],
    extra: () => [...consulMetrics.families(), ...auditFamilies(audit), ...access.families(policy)],
    authenticator: access.authenticator,
    mayRead: (identity) => !policy.isBroken && policy.policy?.mayReadStats(identity) !== false,
    tls: portTlsOf('stats', config.stats.tls),
    host,
    port: ports.stats,
    limits,
    access: httpAccessOf(config),
  });
  const address = { host: stats.address, port: stats.port };
  components.register(
    { stage: 'presence', drain: () => stats.drain(), close: () => stats.close() },
    { name: 'stats', address: stats.url, connections: () => stats.connections() },
  );
  return address;
}

/** Marks the process ready once the manager is complete; without a manager, at once. Resolves then. */
function awaitReady(base: ProcessBase, manager: ManagerRole | undefined): Promise<void> {
  const { config, clock, events, offers, startedAtMs, status } = base;
  return new Promise((resolve) => {
    let isReady = false;
    offers.onChange(() => {
      if (isReady || manager?.isComplete === false) return;
      isReady = true;
      status.markReady();
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
  }

  status(): MeshStatus {
    return this.#base.status.read();
  }

  pids(): readonly number[] {
    return this.#manager?.manager.pids() ?? [];
  }

  async drain(): Promise<void> {
    const { components, config, events } = this.#base;
    if (!components.isDraining) {
      components.beginDraining();
      events.add('mesh_draining', config.mesh, 'finishing the calls in flight');
      events.endWaits();
      this.#presence.changed();
    }
    await components.drain();
  }

  async close(): Promise<void> {
    await this.#base.components.close();
  }
}
