// `katamari status` prints one line about the mesh and one about the calls of the process that answered. Then it
// prints tables: the processes if there are several, the pools over all managers, and with -v the resources.

import { sleep, describeDuration, describeSize } from '../../../core/mod.ts';
import {
  type MeshStatus,
  type PoolStatus,
  type ProcessState,
  type ProcessStatus,
  type ResourceState,
  type SuspectCall,
  mergePools,
  type MergedPool,
  type PlacedResource,
} from '../../../core/rpc/mod.ts';
import { EXIT, type ExitCode } from '../../config/mod.ts';
import type { AdminClient } from '../kit/admin-client.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { IndexClient } from '../kit/index-client.ts';
import { indexColumns } from '../kit/index-table.ts';
import { formatTable, paint, printable, type Color, type Column, type Terminal } from '../kit/terminal.ts';

export interface StatusOptions extends ClientOptions {
  readonly verbose?: boolean | undefined;
  readonly watch?: boolean | undefined;
  readonly json?: boolean | undefined;
}

export async function runStatus(context: CliContext, options: StatusOptions): Promise<ExitCode> {
  const { terminal } = context;
  const client = connect(context, options);
  for (;;) {
    const status = await client.status();
    const lines =
      options.json === true
        ? [JSON.stringify(status)]
        : [
            ...formatStatus(terminal, status, client.url, options.verbose === true),
            ...(await indexLines(terminal, client)),
          ];
    if (options.watch !== true) {
      terminal.write(`${lines.join('\n')}\n`);
      return EXIT.done;
    }
    if (terminal.isScreen) {
      const fitting = lines.slice(0, terminal.rows() - 1);
      // Overwrite each line in place and clear the rest, so that the screen does not flicker.
      terminal.write(`\x1b[H${fitting.map((line) => `${line}\x1b[K\n`).join('')}\x1b[J`);
    } else terminal.write(`${lines.join('\n')}\n${options.json === true ? '' : '\n'}`);
    await sleep(WATCH_EVERY_MS);
  }
}

/** The table of indices; nothing without indices, and from a mesh without this service. */
async function indexLines(terminal: Terminal, client: AdminClient): Promise<string[]> {
  const indices = await new IndexClient(client).known(false);
  return indices.length === 0 ? [] : ['', ...formatTable(terminal, indexColumns(indices), indices)];
}

export function formatStatus(terminal: Terminal, status: MeshStatus, url: string, isVerbose: boolean): string[] {
  const lines = [
    `Mesh ${printable(status.mesh)} at ${url}: ${describeState(terminal, status)}`,
    `Up ${describeDuration(status.uptimeMs)}, Katamari ${printable(status.version)} on ${printable(status.runtime)}, process ${status.pid}, ${describeSize(status.rssBytes)}, timeout ${describeDuration(status.timeoutMs)}`,
    describeCalls(status.calls),
    '',
  ];
  if (hasManyProcesses(status)) {
    lines.push(...formatTable(terminal, PROCESS_COLUMNS, gatherRoles(status.processes)), '');
    if (status.leader === '') lines.push(paint(terminal, 'yellow', 'No master leads: deployments do not change.'), '');
  }
  if (status.pools.length === 0) return [...lines, 'No pools yet.'];
  const pools = mergePools(status.pools);
  lines.push(...formatTable(terminal, POOL_COLUMNS, pools));
  const suspects = pools.flatMap(({ id, suspects: calls = [] }) => calls.map((call) => ({ pool: id, ...call })));
  const shown = isVerbose ? suspects : suspects.filter(({ refusedForMs }) => refusedForMs > 0);
  if (shown.length > 0) lines.push('', ...formatTable(terminal, SUSPECT_COLUMNS, shown));
  if (isVerbose) {
    const resources = pools.flatMap((pool) => pool.resources);
    const isOneManager = new Set(resources.map(({ manager }) => manager)).size <= 1;
    lines.push('', ...formatTable(terminal, isOneManager ? RESOURCE_COLUMNS : PLACED_COLUMNS, resources));
  }
  return lines;
}

/** Returns `ready`, `not ready (reason)` or `draining`. */
export function describeState(
  terminal: Terminal,
  { isDraining, isReady, note }: Pick<MeshStatus, 'isDraining' | 'isReady' | 'note'>,
): string {
  const [state, color] = isDraining
    ? (['draining', 'yellow'] as const)
    : isReady
      ? (['ready', 'green'] as const)
      : (['not ready', 'red'] as const);
  return `${paint(terminal, color, state)}${note === '' ? '' : ` (${printable(note)})`}`;
}

/** A process with all its roles. */
export interface ProcessLine extends Omit<ProcessStatus, 'role' | 'isLeader'> {
  /** For example `master, manager`; `master (leads)` for the leader. */
  readonly roles: string;
  readonly isManager: boolean;
}

/**
 * Merges the entries of a process into one; a status has one entry per role. Name, machine and stats address identify
 * a process. Keeps the order of the first entries.
 */
export function gatherRoles(processes: readonly ProcessStatus[]): ProcessLine[] {
  const lines = new Map<string, ProcessLine>();
  for (const { role, isLeader, ...process } of processes) {
    const isManager = role === 'manager';
    const roles = isLeader ? `${role} (leads)` : role;
    // Without a stats address, two entries may be different processes.
    const key = JSON.stringify([process.name, process.machine, process.stats || role]);
    const before = lines.get(key);
    if (before === undefined) lines.set(key, { ...process, roles, isManager });
    else {
      lines.set(key, {
        ...(isManager ? process : before),
        state: before.state === 'up' ? process.state : before.state,
        roles: `${before.roles}, ${roles}`,
        isManager: isManager || before.isManager,
      });
    }
  }
  return [...lines.values()];
}

export function hasManyProcesses({ processes }: Pick<MeshStatus, 'processes'>): boolean {
  return gatherRoles(processes).length > 1;
}

/** The call counters as a sum, without the terms that are 0. */
function describeCalls({
  accepted,
  replied,
  failed,
  refused,
  timed_out,
  cancelled,
  inFlight,
}: MeshStatus['calls']): string {
  const rest = { failed, refused, 'timed out': timed_out, cancelled, 'in flight': inFlight };
  const terms = Object.entries(rest).filter(([, count]) => count > 0);
  return `Calls: ${accepted} accepted = ${[`${replied} replied`, ...terms.map(([name, count]) => `${count} ${name}`)].join(' + ')}`;
}

export function formatPools(terminal: Terminal, pools: readonly PoolStatus[]): string[] {
  return formatTable(terminal, POOL_COLUMNS, mergePools(pools));
}

export const PROCESS_STATE_COLORS: Readonly<Record<ProcessState, Color>> = {
  up: 'green',
  draining: 'yellow',
  unreachable: 'red',
};

const PROCESS_COLUMNS: readonly Column<ProcessLine>[] = [
  { head: 'PROCESS', text: ({ name }) => name },
  { head: 'ROLES', text: ({ roles }) => roles },
  { head: 'MACHINE', dropOrder: 2, text: ({ machine }) => machine },
  { head: 'STATE', text: ({ state }) => state, color: ({ state }) => PROCESS_STATE_COLORS[state] },
  {
    head: 'RESOURCES',
    isNumber: true,
    text: ({ isManager, resources }) => (isManager ? String(resources) : '-'),
  },
  {
    head: 'CAPACITY',
    isNumber: true,
    dropOrder: 3,
    text: ({ isManager, capacity }) => (isManager ? String(capacity) : '-'),
  },
  { head: 'STATS', dropOrder: 4, text: ({ stats }) => (stats === '' ? '-' : stats) },
];

const POOL_COLUMNS: readonly Column<MergedPool>[] = [
  { head: 'POOL', text: ({ id }) => id },
  { head: 'ALIVE', isNumber: true, text: ({ alive, wanted }) => `${alive}/${wanted}`, color: aliveColor },
  { head: 'FREE', isNumber: true, dropOrder: 2, text: ({ free }) => String(free) },
  {
    head: 'QUEUED',
    isNumber: true,
    text: ({ queued, queueMax }) => `${queued}/${queueMax}`,
    color: (pool) => (pool.queued > 0 ? 'yellow' : undefined),
  },
  { head: 'WEIGHT', isNumber: true, dropOrder: 5, text: ({ weight }) => `${Math.round(weight * 100)}%` },
  { head: 'CALLS', isNumber: true, text: ({ calls }) => String(calls) },
  {
    head: 'ERRORS',
    isNumber: true,
    text: ({ errors }) => String(errors),
    color: ({ errors }) => (errors > 0 ? 'red' : undefined),
  },
  { head: 'CALLS/S', isNumber: true, dropOrder: 3, text: ({ ratePerS }) => ratePerS.toFixed(1) },
  { head: 'P50 MS', isNumber: true, dropOrder: 4, text: ({ p50Ms }) => milliseconds(p50Ms) },
  { head: 'P99 MS', isNumber: true, dropOrder: 3, text: ({ p99Ms }) => milliseconds(p99Ms) },
  { head: 'QUEUE P99 MS', isNumber: true, dropOrder: 6, text: ({ queueP99Ms }) => milliseconds(queueP99Ms) },
  {
    head: 'RESTARTS',
    isNumber: true,
    dropOrder: 1,
    text: (pool) => String(restartsOf(pool)),
  },
  { head: 'NOTE', text: ({ note }) => note, color: () => 'yellow' },
];

const SUSPECT_COLUMNS: readonly Column<SuspectCall & { readonly pool: string }>[] = [
  { head: 'POOL', text: ({ pool }) => pool },
  { head: 'SUSPECT CALL', text: ({ method }) => method },
  { head: 'CALLER', text: ({ caller }) => caller || '-' },
  { head: 'ARGUMENTS', dropOrder: 1, text: ({ shape }) => shape },
  {
    head: 'COPIES LOST',
    isNumber: true,
    text: ({ losses, doubts }) => (doubts === 0 ? String(losses) : `${losses} to ${losses + doubts}`),
  },
  {
    head: 'REFUSED FOR',
    isNumber: true,
    text: ({ refusedForMs }) => (refusedForMs > 0 ? describeDuration(refusedForMs) : '-'),
    color: () => 'red',
  },
  { head: 'REFUSED', isNumber: true, dropOrder: 2, text: ({ refused }) => String(refused) },
];

const RESOURCE_COLUMNS: readonly Column<PlacedResource>[] = [
  { head: 'RESOURCE', text: ({ name }) => name },
  { head: 'STATE', text: ({ state }) => state.replace('_', ' '), color: ({ state }) => STATE_COLORS[state] },
  { head: 'PID', isNumber: true, text: ({ pid }) => (pid > 0 ? String(pid) : '-') },
  { head: 'IN FLIGHT', isNumber: true, dropOrder: 3, text: ({ inFlight }) => String(inFlight) },
  { head: 'SERVED', isNumber: true, text: ({ callsServed }) => String(callsServed) },
  { head: 'AGE', isNumber: true, dropOrder: 2, text: ({ ageMs }) => (ageMs > 0 ? describeDuration(ageMs) : '-') },
  {
    head: 'MEMORY',
    isNumber: true,
    dropOrder: 1,
    text: ({ rssBytes }) => (rssBytes > 0 ? describeSize(rssBytes) : '-'),
  },
  { head: 'RESTARTS', isNumber: true, dropOrder: 4, text: ({ restarts }) => String(restarts) },
  { head: 'NOTE', text: ({ note }) => note, color: () => 'yellow' },
];

/** Managers use the same resource names, so the manager is a column. */
const PLACED_COLUMNS: readonly Column<PlacedResource>[] = [
  { head: 'MANAGER', text: ({ manager }) => manager },
  ...RESOURCE_COLUMNS,
];

const STATE_COLORS = {
  starting: 'cyan',
  idle: 'green',
  busy: 'green',
  draining: 'yellow',
  stopping: 'yellow',
  backing_off: 'red',
  failed: 'red',
} satisfies Record<ResourceState, Color>;

export function aliveColor({ alive, wanted }: Pick<PoolStatus, 'alive' | 'wanted'>): Color {
  return alive >= wanted ? 'green' : alive > 0 ? 'yellow' : 'red';
}

export function milliseconds(ms: number | null | undefined): string {
  return typeof ms !== 'number' ? '-' : ms < 10 ? ms.toFixed(1) : String(Math.round(ms));
}

export function restartsOf({ restartsByReason }: Pick<PoolStatus, 'restartsByReason'>): number {
  return Object.values(restartsByReason).reduce((sum, count) => sum + count, 0);
}

const WATCH_EVERY_MS = 1_000;
