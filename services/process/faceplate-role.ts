// The faceplate role of a process: the fronts for clients, the admin service that every faceplate offers, and the
// view of the whole mesh that
import { KatamariError } from '../../core/mod.ts';
import type { MeshAccess, MeshStatus } from '../../core/rpc/mod.ts';
import { startJsonRpcFaceplate } from '../../faceplates/json-rpc/mod.ts';
import type { Faceplate } from '../../faceplates/kit/mod.ts';
import { startThriftFaceplate } from '../../faceplates/thrift/mod.ts';
import { startWebFaceplate, type Site } from '../../faceplates/web/mod.ts';
import { ExitError, EXIT, thriftTlsOf, VERSION } from '../config/mod.ts';
import { adminOffer, DeploymentStore } from '../master/mod.ts';
import { EventGatherer, ManagerClient, type Offer, type Peer } from '../mesh/mod.ts';
import { startAddedFaceplate } from './added-faceplate.ts';
import { ensureAdminToken } from './admin-token.ts';
import type { ManagerRole } from './manager-role.ts';
import { withMeshService } from './mesh-service.ts';
import type { ProcessBase } from './process-base.ts';
import { StatusGatherer } from './status-gatherer.ts';

// `katamari status`, the dashboard and health checks ask any faceplate for.

import { statSync } from 'node:fs';

export class FaceplateRole {
  readonly #base: ProcessBase;
  readonly #manager: ManagerRole | undefined;
  readonly #gatherer: EventGatherer;
  readonly #view: StatusGatherer;
  readonly adminToken: string;
  readonly admin: Offer;
  /**
   * Where each front listens, by its name: thrift, json-rpc, web when it has sites, and those that the user has
   * added.
   */
  readonly addresses: Map<string, string> = new Map();

  private constructor(base: ProcessBase, manager: ManagerRole | undefined) {
    const { config, clock, events, client, shared, fleet } = base;
    this.#base = base;
    this.#manager = manager;
    this.#gatherer = new EventGatherer({ events, clock, peers: () => fleet.peers });
    this.#view = new StatusGatherer(base);
    this.adminToken = ensureAdminToken(config);
    this.admin = adminOffer({
      token: this.adminToken,
      version: VERSION,
      manager: config.name,
      clock,
      actions: {
        status: () => this.meshStatus(),
        events,
        deployments: new DeploymentStore({ client, mesh: config.mesh, events }),
        roll: (service, version) => this.#roll(service, version),
        restart: (resource, on) => this.#restart(resource, on),
        settings: () => ({ timeoutMs: shared.timeoutMs }),
        setTimeoutMs: (timeoutMs) => shared.setTimeoutMs(timeoutMs),
        routes: () => shared.routes,
        setRoute: (service, route) => shared.setRoute(service, route),
      },
    });
  }

  static async start(base: ProcessBase, manager: ManagerRole | undefined): Promise<FaceplateRole> {
    const role = new FaceplateRole(base, manager);
    base.opened({ phase: 'fleet', close: () => role.#gatherer.close() });
    await role.#openFronts();
    return role;
  }

  /** Managers or their links have changed. */
  fleetChanged(): void {
    this.#gatherer.changed();
  }

  meshStatus(): Promise<MeshStatus> {
    return this.#view.status();
  }

  async #openFronts(): Promise<void> {
    const { config, hooks, router, shared, book } = this.#base;
    const { host, ports, limits, thrift, jsonRpc, web, faceplates } = config;
    const { dispatch, send } = router;
    const mesh: MeshAccess = { dispatch, send, directory: router, timeoutMs: () => shared.timeoutMs };
    const common = { mesh, book, limits, host };
    const { defaultService } = thrift;
    const tls = thriftTlsOf(config);
    const forThrift = await startThriftFaceplate({
      ...common,
      mesh: { ...mesh, send: withMeshService(router, send) },
      port: ports.thrift,
      ...(defaultService === '' ? {} : { defaultService }),
      ...(tls === undefined ? {} : { tls }),
    });
    this.#opened('thrift', forThrift);
    const { allowedOrigins } = jsonRpc;
    const forJsonRpc = await startJsonRpcFaceplate({ ...common, port: ports.jsonRpc, allowedOrigins });
    this.#opened('json-rpc', forJsonRpc);
    if (web.sites.length > 0) {
      checkFolders(web.sites);
      this.#opened('web', await startWebFaceplate({ ...common, ...web }));
    }
    for (const entry of faceplates) {
      const tell = (line: string): void => hooks.onLine?.(entry.name, line);
      this.#opened(entry.name, await startAddedFaceplate(entry, common, tell));
    }
  }

  #opened(name: string, front: Faceplate): void {
    const { address } = front;
    this.addresses.set(name, address);
    this.#base.opened(
      { phase: 'fronts', drain: () => front.drain(), close: () => front.close() },
      { name, address, connections: () => front.connections() },
    );
  }

  /** One manager after the other, so that a pool never loses more than one resource at a time. */
  async #roll(service: string, version: string): Promise<number> {
    const { fleet, clock } = this.#base;
    let count = 0;
    const isOffered = (pools: readonly { readonly service: string; readonly version: string }[]): boolean =>
      pools.some((pool) => pool.service === service && (version === '' || pool.version === version));
    const isOwn = isOffered(this.#manager?.status() ?? []);
    const peers = fleet.peers.filter(({ name }) => isOffered(fleet.records.get(name)?.pools ?? []));
    if (isOwn || peers.length === 0) count += await this.#own(service).manager.roll(service, version);
    for (const peer of peers) count += await new ManagerClient(peer, clock).roll(service, version, ROLL_MS);
    return count;
  }

  async #restart(resource: string, on: string): Promise<void> {
    const { fleet, clock, config } = this.#base;
    const peer: Peer | undefined = fleet.peers.find(({ name }) => name === on);
    if (on === config.name || peer === undefined) await this.#own(resource).manager.restart(resource);
    else await new ManagerClient(peer, clock).restart(resource, ROLL_MS);
  }

  #own(what: string): ManagerRole {
    if (this.#manager === undefined) {
      const there = [...this.#base.fleet.records.keys()].join(', ') || 'none';
      throw new KatamariError('no_pool', `No manager that can be reached has ${what}; managers are ${there}`);
    }
    return this.#manager;
  }
}

/** A folder that is not there would look like a site without files. */
function checkFolders(sites: readonly Site[]): void {
  for (const { prefix, files } of sites) {
    if (files === '' || statSync(files, { throwIfNoEntry: false })?.isDirectory() === true) continue;
    throw new ExitError(
      EXIT.badConfiguration,
      `web.sites: the site ${prefix} has the files ${files}, which is no directory; make it, or name another`,
    );
  }
}

/** A rolling restart may take so long on one manager. */
const ROLL_MS = 600_000;
