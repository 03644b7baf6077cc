// The faceplate role of a process: the faceplates for clients, the admin service that every faceplate offers, and the
// status of the whole mesh.

import { portOf } from '../../core/mod.ts';
import {
  dispatchOf,
  PeerIdentity,
  withCall,
  type Call,
  type CallerIdentity,
  type MeshAccess,
  type MeshStatus,
  type Send,
} from '../../core/rpc/mod.ts';
import { startJsonRpcFaceplate } from '../../faceplates/json-rpc/mod.ts';
import type { Faceplate, FaceplateContext } from '../../faceplates/kit/mod.ts';
import { startThriftFaceplate } from '../../faceplates/thrift/mod.ts';
import { startWebFaceplate, type Site } from '../../faceplates/web/mod.ts';
import { EXIT, ExitError, VERSION } from '../config/mod.ts';
import { adminOffers, DeploymentStore, RolloutStore } from '../master/mod.ts';
import { indexActions } from './index-actions.ts';
import { IndexGatherer } from './index-gatherer.ts';
import { EventGatherer, TokenStore } from '../mesh/mod.ts';
import { auditedAccess } from './audit-refusals.ts';
import { portCredentials } from './port-credentials.ts';
import { startAddedFaceplate } from './added-faceplate.ts';
import { accessActionsOf } from './access.ts';
import { openAdminTokens } from './admin-token.ts';
import type { ManagerRole } from './manager-role.ts';
import { meshOffer, withMeshService } from './mesh-service.ts';
import type { ProcessBase } from './process-base.ts';
import { restartResource, restartService } from './rolling-restart.ts';
import { StatusGatherer } from './status-gatherer.ts';
import { VersionPage } from './version-page.ts';
import { statSync } from 'node:fs';

/** Address of a faceplate: as text for people, and its port. */
export interface FaceplateAddress {
  readonly text: string;
  readonly port: number;
}

export interface FaceplateRole {
  readonly adminToken: string;
  /** By the name of the faceplate: thrift, json-rpc, web if it has sites, and those that the user added. */
  readonly addresses: ReadonlyMap<string, FaceplateAddress>;
  /** Status of the whole mesh. */
  meshStatus(): Promise<MeshStatus>;
  readonly indices: IndexGatherer;
  readonly versions: VersionPage;
}

/** Opens all faceplates of the configuration. @throws ExitError when an added faceplate or a site is wrong */
export async function openFaceplateRole(base: ProcessBase, manager: ManagerRole | undefined): Promise<FaceplateRole> {
  const { config, clock, events, client, shared, fleet, components, offers, audit, access } = base;
  const gatherer = new EventGatherer({ events, clock, peers: () => fleet.peers });
  components.register({ stage: 'fleet', close: () => gatherer.close() });
  const statusGatherer = new StatusGatherer(base);
  const meshStatus = (): Promise<MeshStatus> => statusGatherer.status();
  const actions = indexActions(base, manager);
  const rootTokens = openAdminTokens(config, base.credentials);
  access.addRootTokens(rootTokens);
  const tokens = openTokens(base);
  access.addStore(tokens);
  const admin = adminOffers({
    rootTokens,
    tokens,
    audit,
    version: VERSION,
    manager: config.name,
    clock,
    actions: {
      status: meshStatus,
      events,
      deployments: new DeploymentStore({ client, mesh: config.mesh, events }),
      roll: (service, version, by) =>
        components.untilDraining(
          restartService(base, manager, service, version, by),
          `the rolling restart of ${service}`,
        ),
      restart: (resource, on, by) =>
        components.untilDraining(restartResource(base, manager, resource, on, by), `the restart of ${resource}`),
      settings: () => ({ timeoutMs: shared.timeoutMs }),
      setTimeoutMs: (timeoutMs) => shared.setTimeoutMs(timeoutMs),
      routes: () => shared.routes,
      explainRoute: (call) => base.router.explain(call),
      observe: (service) => base.observer.observe(service),
      setRoute: (service, route, by, index) => shared.setRoute(service, route, by, index),
      routeHistory: (service) => shared.routeHistory(service),
      versionsOf: (name) => [
        ...base.router.pools().flatMap(({ details }) => (details.service === name ? [details.version] : [])),
        ...offers.deployed().flatMap(({ service, version }) => (service === name ? [version] : [])),
      ],
      interfacesOf: (name) =>
        base.router.pools().flatMap(({ details, interface: iface }) => (details.service === name ? [iface] : [])),
      interfaceOf: (service, version) =>
        base.router.pools().find(({ details }) => details.service === service && details.version === version)
          ?.interface,
      rollouts: new RolloutStore({ client, mesh: config.mesh, events }),
      access: accessActionsOf(base),
      indices: actions,
    },
  });
  const addresses = await openFaceplates(base);
  const inner = meshOffer(base.router, config.name);
  offers.addSource(() => [...admin, inner]);
  offers.onChange(() => gatherer.changed());
  const versions = new VersionPage({
    clock,
    routes: () => shared.routes,
    routeHistory: (service) => shared.routeHistory(service),
    observe: (service) => base.observer.observe(service),
    meshStatus,
    admin,
    rootToken: () => rootTokens()[0],
  });
  return { adminToken: rootTokens()[0], addresses, meshStatus, indices: new IndexGatherer(base, actions), versions };
}

/** Follows the admin tokens of the mesh. */
function openTokens(base: ProcessBase): TokenStore {
  const { config, clock, events, client, reachability, components, consulMetrics } = base;
  const tokens = new TokenStore({
    client,
    mesh: config.mesh,
    events,
    clock,
    onAnswer: reachability.answered,
    onError: reachability.failed,
  });
  tokens.start();
  components.register({ stage: 'consul', close: () => tokens.close() });
  consulMetrics.addWatches(() => tokens.stats());
  return tokens;
}

async function openFaceplates(base: ProcessBase): Promise<ReadonlyMap<string, FaceplateAddress>> {
  const { config, hooks, router, shared, callStats, ledger, components, credentials } = base;
  const { host, ports, limits, thrift, jsonRpc, web, faceplates } = config;
  const { dispatch, send } = router;
  const { authenticator } = base.access;
  const timeoutMs = (): number => shared.timeoutMs;
  const mesh: MeshAccess = { dispatch, send, directory: router, timeoutMs, authenticator };
  const access = auditedAccess(config, base.audit);
  const common = { mesh, callStats, limits, ledger, host, access };
  const addresses = new Map<string, FaceplateAddress>();
  const register = (name: string, faceplate: Faceplate): void => {
    const { address } = faceplate;
    addresses.set(name, { text: address, port: portOf(address) ?? 0 });
    components.register(
      { stage: 'faceplates', drain: () => faceplate.drain(), close: () => faceplate.close() },
      { name, address, connections: () => faceplate.connections() },
    );
  };
  const { defaultService } = thrift;
  const tls = portCredentials(config, 'thrift', credentials);
  const thriftFaceplate = await startThriftFaceplate({
    ...common,
    mesh: { ...mesh, send: withMeshService(router, send) },
    port: ports.thrift,
    ...(defaultService === '' ? {} : { defaultService }),
    ...(tls === undefined ? {} : { tls }),
  });
  register('thrift', thriftFaceplate);
  const jsonRpcAccess = { ...access, origins: [...access.origins, ...jsonRpc.allowedOrigins] };
  register(
    'json-rpc',
    await startJsonRpcFaceplate({
      ...common,
      errorStatus: jsonRpc.errorStatus,
      port: ports.jsonRpc,
      access: jsonRpcAccess,
      tls: portCredentials(config, 'jsonRpc', credentials),
    }),
  );
  if (web.sites.length > 0) {
    checkFolders(web.sites);
    register('web', await startWebFaceplate({ ...common, ...web, tls: portCredentials(config, 'web', credentials) }));
  }
  // The address of a client is known only to the faceplate. One that does not tell it has anonymous callers.
  const added = withAnonymous(mesh, authenticator.anonymous(host));
  const identify: FaceplateContext['identify'] = async ({ address, authorization = '' }) =>
    new PeerIdentity(authenticator, address).of(authorization);
  for (const entry of faceplates) {
    const report = (line: string): void => hooks.onLine?.(entry.name, line);
    register(entry.name, await startAddedFaceplate(entry, { ...common, mesh: added, identify }, report));
  }
  return addresses;
}

/** Access to the mesh for a faceplate whose calls may not say who makes them. */
function withAnonymous(mesh: MeshAccess, anonymous: CallerIdentity): MeshAccess {
  const { directory } = mesh;
  const send: Send = (call, sink) => {
    // The module may be another copy of this code, or older, and leave these fields out.
    const { identity = anonymous, group = '' } = call as Partial<Call>;
    mesh.send(identity === call.identity && group === call.group ? call : withCall(call, { identity, group }), sink);
  };
  return {
    ...mesh,
    anonymous,
    send,
    dispatch: dispatchOf(send),
    directory: {
      pools: () => directory.pools(),
      mayCall: (identity, pool, method) => directory.mayCall(identity, pool, method),
      choose: (query) => directory.choose({ ...query, identity: query.identity ?? anonymous }),
      waitForCopy: (query, call) => directory.waitForCopy({ ...query, identity: query.identity ?? anonymous }, call),
    },
  };
}

/**
 * Checks that the folders of all sites exist. A missing one would otherwise look like a site without files.
 * @throws ExitError
 */
function checkFolders(sites: readonly Site[]): void {
  for (const { prefix, files } of sites) {
    if (files === '' || statSync(files, { throwIfNoEntry: false })?.isDirectory() === true) continue;
    throw new ExitError(
      EXIT.badConfiguration,
      `web.sites: files of the site ${prefix} is ${files}, which is not a directory; create it or change the setting`,
    );
  }
}
