// Computes the progress of a rollout from a status: how many copies of a version, or on a manager, are started or
// stopped.

import type { MeshStatus, PlacedResource } from '../../../core/rpc/mod.ts';
import { printable } from './terminal.ts';
import { describeResources, type Step } from './wait-for-rollout.ts';

export interface RolloutCopies {
  readonly alive: number;
  /** Copies that have a process. */
  readonly living: readonly PlacedResource[];
  readonly resources: readonly PlacedResource[];
  /** Desired copies of managers that report no resources, such as unreachable ones. They may still run. */
  readonly unseen: number;
  /** Problems that managers report; '' without any. */
  readonly note: string;
}

/** Returns the copies of one version, or all copies on one manager. */
export function copiesOf(
  { pools }: MeshStatus,
  which: { readonly service: string; readonly version: string } | { readonly manager: string },
): RolloutCopies {
  const matching = pools.filter((pool) =>
    'manager' in which
      ? pool.manager === which.manager
      : pool.service === which.service && pool.version === which.version,
  );
  const resources = matching.flatMap((pool) => pool.resources.map((one) => ({ ...one, manager: pool.manager })));
  const notes = matching.filter(({ note }) => note !== '').map(({ manager, note }) => `${manager}: ${note}`);
  return {
    alive: matching.reduce((sum, { alive }) => sum + alive, 0),
    living: resources.filter(({ pid }) => pid > 0),
    resources,
    unseen: matching.reduce((sum, pool) => sum + (pool.resources.length === 0 ? pool.wanted : 0), 0),
    note: notes.join('; '),
  };
}

/** Returns the number of processes that run or may run. */
export function countOf({ living, unseen }: RolloutCopies): number {
  return living.length + unseen;
}

/**
 * Returns the progress of a start. It is done when `desired` copies are alive and no process of `oldPlaces` is left.
 */
export function startStep(
  status: MeshStatus,
  which: { readonly service: string; readonly version: string },
  desired: number,
  oldPlaces: ReadonlySet<string> = new Set(),
): Step {
  const { alive, living, resources, note } = copiesOf(status, which);
  const old = living.filter((one) => oldPlaces.has(placeOf(one)));
  const isOld = new Set(old);
  const isUp = ({ state }: PlacedResource): boolean => state === 'idle' || state === 'busy';
  const done = oldPlaces.size === 0 ? alive : resources.filter((one) => isUp(one) && !isOld.has(one)).length;
  const isDone = done >= desired && old.length === 0;
  return {
    name: `${which.service}@${which.version}`,
    done: Math.min(done, desired),
    desired,
    word: oldPlaces.size === 0 ? 'alive' : 'replaced',
    isDone,
    note: isDone ? '' : note || (resources.length < desired ? whyNotPlaced(status) : ''),
    missing: [
      ...describeResources(resources.filter((one) => !isUp(one))),
      ...(resources.length < desired ? [`${desired - resources.length} not started by any manager yet`] : []),
    ],
  };
}

/** Returns the progress of a stop. It is done when at most `desired` of the `before` copies have a process. */
export function stopStep(
  status: MeshStatus,
  which: { readonly service: string; readonly version: string } | { readonly manager: string },
  before: number,
  desired: number,
): Step {
  const copies = copiesOf(status, which);
  const { living, note } = copies;
  const left = Math.max(0, countOf(copies) - desired);
  return {
    name: 'manager' in which ? which.manager : `${which.service}@${which.version}`,
    done: Math.max(0, before - desired - left),
    desired: before - desired,
    word: 'ended',
    isDone: left === 0,
    note: left === 0 ? '' : note,
    missing: describeResources(living),
  };
}

/** Identifies a process by manager, resource and process id. */
export function placeOf({ manager, name, pid }: PlacedResource): string {
  return `${manager}:${name} ${pid}`;
}

/** Returns why no manager starts copies; '' if the status shows no reason. */
function whyNotPlaced({ processes, leader }: MeshStatus): string {
  const managers = processes.filter(({ role }) => role === 'manager');
  if (leader === '') return 'no leader, so no manager gets orders. Is a master running?';
  if (managers.length === 0) return 'no manager is running';
  if (managers.every(({ state }) => state !== 'up'))
    return `no manager can start copies: ${managers.map(({ name, state }) => `${printable(name)} is ${state}`).join(', ')}`;
  return '';
}
