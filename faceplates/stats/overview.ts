// The mesh status as the dashboard shows it: one entry per pool, merged over its managers, and one per process,
// merged over its roles. `katamari status` shows the same. Pure functions of a MeshStatus.

import { mergePools, type MergedPool, type MeshStatus, type ProcessStatus } from '../../core/rpc/mod.ts';
import type { IndicesOverview } from './index-overview.ts';

/** A MeshStatus with pools merged over their managers and processes merged over their roles, and the indices. */
export interface MeshOverview extends Omit<MeshStatus, 'pools' | 'processes'> {
  readonly pools: readonly MergedPool[];
  /** Empty if this process knows no other. */
  readonly processes: readonly ProcessOverview[];
  readonly indices: IndicesOverview;
}

/** One process with all of its roles. */
export interface ProcessOverview extends Omit<ProcessStatus, 'role'> {
  /** Roles as in ProcessStatus: master, manager, faceplate. */
  readonly roles: readonly ProcessStatus['role'][];
  /** Whether it is the process that answers this request. */
  readonly isThis: boolean;
}

export function overviewOf(status: MeshStatus, indices: IndicesOverview): MeshOverview {
  return { ...status, indices, pools: mergePools(status.pools), processes: gatherProcesses(status) };
}

/**
 * Merges the entries of a status, which has one for each role of a process. Entries with the same name, machine and
 * stats address are one process.
 */
function gatherProcesses({ processes, name }: MeshStatus): ProcessOverview[] {
  const gathered = new Map<string, ProcessOverview>();
  for (const { role, ...process } of processes) {
    // An entry without a stats address cannot be identified.
    const key = JSON.stringify([process.name, process.machine, process.stats === '' ? role : process.stats]);
    const before = gathered.get(key);
    const roles = [...(before?.roles ?? []), role];
    gathered.set(key, {
      ...process,
      roles,
      // Only the manager's entry can have a state other than up, and only it has counts.
      state: before === undefined || before.state === 'up' ? process.state : before.state,
      capacity: Math.max(before?.capacity ?? 0, process.capacity),
      resources: Math.max(before?.resources ?? 0, process.resources),
      isLeader: process.isLeader || before?.isLeader === true,
      isThis: process.name === name,
    });
  }
  return [...gathered.values()];
}
