// What a cluster reports about itself, for tests: leader, assignments, copies and events. Reads Consul and the
// processes' own pages; the only code of the mesh that it uses is the names of keys.
import type { ClusterCallers } from './callers.ts';
import type { ClusterProcess } from './process.ts';
import type { MeshEvent, PoolStatus } from '../../../core/rpc/mod.ts';
import { keysOf, type AssignmentRecord } from '../../../services/mesh/mod.ts';
import type { Cluster } from './cluster.ts';
import { until } from '../tools/wait.ts';

export interface Lead {
  readonly name: string;
  readonly term: number;
}

export interface HeldLead extends Lead {
  /** Id of the session that holds the lock. */
  readonly session: string;
}

/** A raw entry of Consul's key-value store. */
interface Entry {
  readonly Key: string;
  readonly Value: string | null;
  readonly LockIndex: number;
  readonly Session?: string;
}

const KEYS = keysOf('test');

/** The holder of the leader lock; undefined while there is none. */
export async function leadOf(cluster: Cluster): Promise<HeldLead | undefined> {
  const [entry] = await entriesOf(cluster, KEYS.leader);
  if (entry?.Session === undefined) return undefined;
  return { name: (textOf(entry) as Lead).name, term: entry.LockIndex, session: entry.Session };
}

/** The current assignments by manager. */
export async function ordersOf(cluster: Cluster): Promise<Map<string, AssignmentRecord>> {
  const entries = await entriesOf(cluster, `${KEYS.assignments}?recurse`);
  return new Map(entries.map((entry) => [entry.Key.slice(KEYS.assignments.length), textOf(entry) as AssignmentRecord]));
}

/** The number of assigned copies, if all assignments are of a later term than `term`. */
export async function orderedAfter(cluster: Cluster, term: number): Promise<number | undefined> {
  const orders = [...(await ordersOf(cluster)).values()];
  if (!orders.every((order) => order.term > term)) return undefined;
  return orders.reduce((sum, order) => sum + order.deployments.reduce((own, { count }) => own + count, 0), 0);
}

/** The pools of the whole mesh as the first running faceplate reports them. */
export async function poolsOf(cluster: Cluster): Promise<readonly PoolStatus[]> {
  const faceplate = cluster.faceplates.find(({ isRunning }) => isRunning);
  if (faceplate === undefined) throw new Error('No faceplate runs');
  return (await faceplate.status()).pools;
}

/** Living copies by manager; managers without copies are left out. */
export async function copiesOf(cluster: Cluster): Promise<Record<string, number>> {
  const copies: Record<string, number> = {};
  for (const { manager, alive } of await poolsOf(cluster)) {
    if (alive > 0) copies[manager] = (copies[manager] ?? 0) + alive;
  }
  return copies;
}

/** Waits until living copies are spread as given. Returns how long that took, in ms. */
export async function untilSpread(
  cluster: Cluster,
  wanted: Readonly<Record<string, number>>,
  withinMs: number = SPREAD_MS,
): Promise<number> {
  const since = performance.now();
  let seen: Record<string, number> = {};
  const isSame = (one: Readonly<Record<string, number>>): boolean =>
    Object.keys(one).length === Object.keys(wanted).length &&
    Object.entries(wanted).every(([manager, alive]) => one[manager] === alive);
  await until('', async () => isSame((seen = await copiesOf(cluster))), withinMs).catch((error: unknown) => {
    throw new Error(`Copies are ${JSON.stringify(seen)} after ${withinMs} ms, wanted ${JSON.stringify(wanted)}`, {
      cause: error,
    });
  });
  return performance.now() - since;
}

/** The number of calls that each manager has served so far. */
export async function servedBy(cluster: Cluster): Promise<Record<string, number>> {
  const served: Record<string, number> = {};
  for (const { manager, calls } of await poolsOf(cluster)) served[manager] = (served[manager] ?? 0) + calls;
  return served;
}

/** Each manager's share of the next `calls` or more calls, 0..1. */
export async function sharesOf(cluster: Cluster, callers: ClusterCallers, calls: number): Promise<number[]> {
  const before = await servedBy(cluster);
  const since = callers.sent;
  await until(`${calls} calls`, () => callers.sent - since >= calls, SHARES_MS);
  const after = await servedBy(cluster);
  const served = cluster.managers.map(({ name }) => (after[name] ?? 0) - (before[name] ?? 0));
  const sum = served.reduce((total, one) => total + one, 0);
  return served.map((one) => one / sum);
}

/** Events of this kind that the process itself recorded. */
export async function eventsOf({ addresses, name }: ClusterProcess, kind: MeshEvent['kind']): Promise<MeshEvent[]> {
  const response = await fetch(`${addresses.stats}/events?after=0`, { signal: AbortSignal.timeout(ASK_MS) });
  const { events } = (await response.json()) as { events: readonly MeshEvent[] };
  return events.filter((event) => event.kind === kind && event.process === name);
}

/** For the summary line: `2.1 s`. */
export function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

/** For the summary line: `12,345 calls, 0 failed`. */
export function callsLine(callers: ClusterCallers, failed: number): string {
  return `${callers.sent.toLocaleString('en-US')} calls, ${failed} failed`;
}

async function entriesOf(cluster: Cluster, key: string): Promise<readonly Entry[]> {
  const response = await cluster.consul.ask(`/v1/kv/${key}${key.includes('?') ? '&' : '?'}consistent`);
  return response.status === 404 ? [] : ((await response.json()) as readonly Entry[]);
}

/** Documents of the mesh end with a line that signs them. */
export function withoutSignature(value: string): string {
  return value.replace(/\nhmac-sha256 .*$/, '');
}

function textOf({ Value }: Entry): unknown {
  return JSON.parse(withoutSignature(Buffer.from(Value ?? '', 'base64').toString())) as unknown;
}

const SPREAD_MS = 60_000;
const SHARES_MS = 60_000;
const ASK_MS = 5_000;
