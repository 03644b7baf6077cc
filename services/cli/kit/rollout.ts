// The copies of one version of a service over all managers, and how far an order about them has come: coming up, or ending.

import type { MeshStatus, PlacedResource } from '../../../core/rpc/mod.ts';
import { printable } from './terminal.ts';
import { describeResources, type Step } from './wait-for-rollout.ts';

export interface RolloutCopies {
  readonly alive: number;
  /** Those that have a process. */
  readonly living: readonly PlacedResource[];
  readonly resources: readonly PlacedResource[];
  /** Those that were there when their manager could still be asked. */
  readonly unseen: number;
  /** What managers say is wrong; '' when none does. */
  readonly note: string;
}

/** Of one version, or of everything on one manager. */
export function copiesOf(
  { pools }: MeshStatus,
  which: { readonly service: string; readonly version: string } | { readonly manager: string },
): RolloutCopies {
  const meant = pools.filter((pool) =>
    'manager' in which
      ? pool.manager === which.manager
      : pool.service === which.service && pool.version === which.version,
  );
  const resources = meant.flatMap((pool) => pool.resources.map((one) => ({ ...one, manager: pool.manager })));
  const notes = meant.filter(({ note }) => note !== '').map(({ manager, note }) => `${manager}: ${note}`);
  return {
    alive: meant.reduce((sum, { alive }) => sum + alive, 0),
    living: resources.filter(({ pid }) => pid > 0),
    resources,
    unseen: meant.reduce((sum, pool) => sum + (pool.resources.length === 0 ? pool.wanted : 0), 0),
    note: notes.join('; '),
  };
}

/** How many processes there are, or were. */
export function countOf({ living, unseen }: RolloutCopies): number {
  return living.length + unseen;
}

/** Until `wanted` copies are alive, and none of them is one of the old processes. */
export function comingUp(
  status: MeshStatus,
  which: { readonly service: string; readonly version: string },
  wanted: number,
  oldPlaces: ReadonlySet<string> = new Set(),
): Step {
  const { alive, living, resources, note } = copiesOf(status, which);
  const old = living.filter((one) => oldPlaces.has(placeOf(one)));
  const isOld = new Set(old);
  const isUp = ({ state }: PlacedResource): boolean => state === 'idle' || state === 'busy';
  const done = oldPlaces.size === 0 ? alive : resources.filter((one) => isUp(one) && !isOld.has(one)).length;
  const isDone = done >= wanted && old.length === 0;
  return {
    name: `${which.service}@${which.version}`,
    done: Math.min(done, wanted),
    wanted,
    word: oldPlaces.size === 0 ? 'alive' : 'replaced',
    isDone,
    note: isDone ? '' : note || (resources.length < wanted ? whyNotPlaced(status) : ''),
    missing: [
      ...describeResources(resources.filter((one) => !isUp(one))),
      ...(resources.length < wanted ? [`${wanted - resources.length} of them no manager has begun to start`] : []),
    ],
  };
}

/** Until no more than `wanted` of the `before` copies have a process. */
export function ending(
  status: MeshStatus,
  which: { readonly service: string; readonly version: string } | { readonly manager: string },
  before: number,
  wanted: number,
): Step {
  const copies = copiesOf(status, which);
  const { living, note } = copies;
  const left = Math.max(0, countOf(copies) - wanted);
  return {
    name: 'manager' in which ? which.manager : `${which.service}@${which.version}`,
    done: Math.max(0, before - wanted - left),
    wanted: before - wanted,
    word: 'ended',
    isDone: left === 0,
    note: left === 0 ? '' : note,
    missing: describeResources(living),
  };
}

/** A process by where it is, for telling old from new. */
export function placeOf({ manager, name, pid }: PlacedResource): string {
  return `${manager}:${name} ${pid}`;
}

/** Why no manager gets copies, as far as the status tells; '' when it is only a matter of time. */
function whyNotPlaced({ processes, leader }: MeshStatus): string {
  const managers = processes.filter(({ role }) => role === 'manager');
  if (leader === '') return 'no master leads, so no manager is told; is a master up?';
  if (managers.length === 0) return 'no manager is up';
  if (managers.every(({ state }) => state !== 'up'))
    return `no manager can take it: ${managers.map(({ name, state }) => `${printable(name)} is ${state}`).join(', ')}`;
  return '';
}
