// Restarts that an operator requested: one resource, or all resources of a service on all managers of the mesh.

import { KatamariError } from '../../core/mod.ts';
import { ManagerClient } from '../mesh/mod.ts';
import type { ManagerRole } from './manager-role.ts';
import type { ProcessBase } from './process-base.ts';

/**
 * Restarts all resources of a service: one manager at a time, and on each manager one resource at a time per version.
 * @param version '' for all versions
 * @param by who asked for it
 * @returns the number of resources restarted
 * @throws KatamariError no_pool when no reachable manager has the service
 */
export async function restartService(
  { fleet, clock }: ProcessBase,
  manager: ManagerRole | undefined,
  service: string,
  version: string,
  by: string,
): Promise<number> {
  const isOffered = (pools: readonly { readonly service: string; readonly version: string }[]): boolean =>
    pools.some((pool) => pool.service === service && (version === '' || pool.version === version));
  const isOwn = isOffered(manager?.offers().map(({ details }) => details) ?? []);
  const peers = fleet.peers.filter(({ name }) => isOffered(fleet.records.get(name)?.pools ?? []));
  let count = 0;
  if (isOwn || peers.length === 0) {
    count += await requireManager(fleet.records, manager, service).manager.roll(service, version);
  }
  for (const peer of peers) count += await new ManagerClient(peer, clock).roll(service, version, by, ROLL_MS);
  return count;
}

/**
 * Restarts one resource.
 * @param managerName the manager that runs it; if it is not a known peer, the manager of this process is asked
 * @param by who asked for it
 * @throws KatamariError no_pool when neither can be reached
 */
export async function restartResource(
  { fleet, clock, config }: ProcessBase,
  manager: ManagerRole | undefined,
  resource: string,
  managerName: string,
  by: string,
): Promise<void> {
  const peer = managerName === config.name ? undefined : fleet.peers.find(({ name }) => name === managerName);
  if (peer !== undefined) return await new ManagerClient(peer, clock).restart(resource, by, ROLL_MS);
  await requireManager(fleet.records, manager, resource).manager.restart(resource);
}

function requireManager(
  records: ReadonlyMap<string, unknown>,
  manager: ManagerRole | undefined,
  what: string,
): ManagerRole {
  if (manager !== undefined) return manager;
  const names = [...records.keys()].join(', ') || 'none';
  throw new KatamariError('no_pool', `No reachable manager has ${what}; managers are ${names}`);
}

/** How long a rolling restart may take on one manager. */
const ROLL_MS = 600_000;
