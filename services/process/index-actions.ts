// What the admin service for indices needs of this process: managers over links, orders and holdings from Consul.

import { KatamariError } from '../../core/mod.ts';
import { IndexStore, type IndexActions, type ManagerChecks, type MeshHoldings } from '../master/mod.ts';
import {
  ASSIGNMENT,
  HOLDINGS,
  keysOf,
  ManagerClient,
  type CheckFacts,
  readRecords,
  type ManagerRecord,
  type ReplicaFacts,
  type SourceFacts,
} from '../mesh/mod.ts';
import type { ManagerRole } from './manager-role.ts';
import type { ProcessBase } from './process-base.ts';

/** @param own the manager of this process */
export function indexActions(base: ProcessBase, own: ManagerRole | undefined): IndexActions {
  const { client, config, events, clock, router, shared, fleet, gatherer, manifests, offers } = base;
  const peerOf = (manager: string): ManagerClient => {
    const peer = fleet.peers.find(({ name }) => name === manager);
    if (peer === undefined) throw new KatamariError('resource_failed', `Manager ${manager} has left; try again`);
    return new ManagerClient(peer, clock);
  };
  return {
    store: new IndexStore({ client, mesh: config.mesh, events }),
    manifest: (sha256) => manifests.get(sha256),
    managers: () => managersOf(base, own),
    inspect: (manager, source) =>
      own !== undefined && manager === config.name ? inspectOwn(own, source) : peerOf(manager).inspect(source),
    replicas: async (index) => {
      const found = await Promise.all(
        fleet.peers.map(async (peer): Promise<[string, readonly ReplicaFacts[]] | undefined> => {
          try {
            return [peer.name, await new ManagerClient(peer, clock).replicas(index)];
          } catch {
            // A manager that does not answer serves nothing that can be seen from here.
            return undefined;
          }
        }),
      );
      const mine = own === undefined ? [] : [[config.name, own.replicas(index)] as const];
      return new Map([...mine, ...found.filter((one) => one !== undefined)]);
    },
    verify: (id, target) => askAll(base, own, (manager) => manager.verify(id, target)),
    verification: (id) => askAll(base, own, (manager) => manager.verification(id)),
    readHoldings: () => readHoldings(base, own),
    isService: (name) =>
      ![...gatherer.records.values()].some((record) => record.name === name) &&
      (router.pools().some(({ details }) => details.service === name) ||
        offers.deployed().some(({ service }) => service === name)),
    routes: () => shared.routes,
    setRoute: (service, route, by) => shared.setRoute(service, route, by),
    changeRoute: (service, by, change) => shared.changeRoute(service, by, change),
    forgetRoutes: (service) => shared.forgetRoutes(service),
    shareOf: (name, version) => router.weightOf(name, version),
    clock,
  };
}

/** Asks all managers about a check of files. */
async function askAll(
  { fleet, clock, config }: ProcessBase,
  own: ManagerRole | undefined,
  ask: (manager: ManagerRole | ManagerClient) => Promise<readonly CheckFacts[]> | readonly CheckFacts[],
): Promise<ManagerChecks> {
  const checks = new Map<string, readonly CheckFacts[]>();
  const silent: string[] = [];
  if (own !== undefined) checks.set(config.name, await ask(own));
  await Promise.all(
    fleet.peers.map(async (peer) => {
      try {
        checks.set(peer.name, await ask(new ManagerClient(peer, clock)));
      } catch {
        silent.push(peer.name);
      }
    }),
  );
  return { checks, silent: silent.sort() };
}

async function inspectOwn(own: ManagerRole, source: string): Promise<SourceFacts> {
  try {
    return await own.inspect(source);
  } catch (error) {
    throw new KatamariError('bad_request', (error as Error).message);
  }
}

function managersOf({ config, fleet }: ProcessBase, own: ManagerRole | undefined): ReadonlyMap<string, ManagerRecord> {
  // The record in Consul lags a little behind.
  return own === undefined ? fleet.records : new Map([...fleet.records, [config.name, own.record('')]]);
}

async function readHoldings(base: ProcessBase, own: ManagerRole | undefined): Promise<MeshHoldings> {
  const { client, config } = base;
  const { holdings, assignments, drained } = keysOf(config.mesh);
  const [held, ordered, drains] = await Promise.all(
    [holdings, assignments, drained].map(async (prefix) => {
      const { entries } = await client.list(prefix);
      return new Map(entries.map((entry) => [entry.key, entry]));
    }),
  );
  return {
    managers: managersOf(base, own),
    drained: new Set([...(drains?.keys() ?? [])].map((key) => key.slice(drained.length))),
    holdings: readRecords(HOLDINGS, holdings, held ?? new Map(), { onlyHeld: true }),
    orders: readRecords(ASSIGNMENT, assignments, ordered ?? new Map()),
  };
}
