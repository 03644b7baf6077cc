// The mesh as a person wants it: one entry a pool, whatever its number of managers, and one a process, whatever its
// number of roles. For the page, which thereby agrees with `katamari status`. Reads a MeshStatus, touches nothing.

import { mergePools, type MergedPool, type MeshStatus, type ProcessStatus } from '../../core/rpc/mod.ts';

/** A MeshStatus whose pools are merged over their managers and whose processes have all their roles. */
export interface MeshOverview extends Omit<MeshStatus, 'pools' | 'processes'> {
  readonly pools: readonly MergedPool[];
  /** Empty when this process knows of itself alone. */
  readonly processes: readonly ProcessOverview[];
}

/** One process with every role that it has. */
export interface ProcessOverview extends Omit<ProcessStatus, 'role'> {
  /** As in ProcessStatus: master, manager, faceplate. */
  readonly roles: readonly ProcessStatus['role'][];
  /** Whether it is the one that was asked. */
  readonly isThis: boolean;
}

export function overviewOf(status: MeshStatus): MeshOverview {
  return { ...status, pools: mergePools(status.pools), processes: gatherProcesses(status) };
}

/**
 * A status has an entry for each role. Where a process is, by name and machine and stats address, tells which of them
 * are one.
 */
function gatherProcesses({ processes, name }: MeshStatus): ProcessOverview[] {
  const gathered = new Map<string, ProcessOverview>();
  for (const { role, ...process } of processes) {
    // One that tells nobody where it is might be any.
    const key = JSON.stringify([process.name, process.machine, process.stats === '' ? role : process.stats]);
    const before = gathered.get(key);
    const roles = [...(before?.roles ?? []), role];
    gathered.set(key, {
      ...process,
      roles,
      // Only a manager's entry can be worse than up, and only it has figures.
      state: before === undefined || before.state === 'up' ? process.state : before.state,
      capacity: Math.max(before?.capacity ?? 0, process.capacity),
      resources: Math.max(before?.resources ?? 0, process.resources),
      isLeader: process.isLeader || before?.isLeader === true,
      isThis: process.name === name,
    });
  }
  return [...gathered.values()];
}
