// Two moments in the life of an index version. When every shard is served for the first time, callers can reach it.
// When every shard has enough replicas, it gets the calls that name no version. Each is recorded once, with a
// check-and-set of the record, and a route that was set after the version was added stands.

import type { ConsulClient } from '../consul/mod.ts';
import {
  changedRoute,
  INDEX,
  keysOf,
  pathOfId,
  readEntry,
  routeIn,
  RouteStore,
  type EventLog,
  type IndexRecord,
} from '../mesh/mod.ts';
import type { Election } from './election.ts';
import type { WriteOutcome } from './fenced-write.ts';

export interface IndexProgressOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  readonly election: Election;
  readonly events: EventLog;
}

/** Whether one of the two is due and not recorded. @param fewest managers that serve the least replicated shard */
export function hasProgress(record: IndexRecord, fewest: number): boolean {
  return (record.readyAtMs === 0 && fewest > 0) || isToBePromoted(record, fewest);
}

/** @throws ConsulError */
export async function recordProgress(
  { client, mesh, election, events }: IndexProgressOptions,
  { term, id, fewest }: { readonly term: number; readonly id: string; readonly fewest: number },
  signal: AbortSignal,
): Promise<WriteOutcome | { readonly kind: 'unchanged' }> {
  const keys = keysOf(mesh);
  const key = `${keys.indices}${pathOfId(id)}`;
  const entry = await client.get(key, signal);
  const record = entry === undefined ? undefined : readEntry(INDEX, entry);
  if (entry === undefined || record === undefined || record instanceof Error || !hasProgress(record, fewest))
    return { kind: 'unchanged' };
  const nowMs = Date.now();
  const isReady = record.readyAtMs === 0;
  const isDue = isToBePromoted(record, fewest);
  const next: IndexRecord = {
    ...record,
    readyAtMs: isReady ? nowMs : record.readyAtMs,
    promotedAtMs: isDue ? nowMs : record.promotedAtMs,
  };
  const routeKey = keys.routes + record.name;
  const routeEntry = isDue ? await client.get(routeKey, signal) : undefined;
  const modifyIndex = routeEntry?.modifyIndex ?? 0;
  const before = routeIn(routeEntry);
  // A route that an admin has set since the version was added stays. The indexes of Consul would not show it: when
  // Consul has lost its data, a leader writes records and routes again.
  const isSameStill =
    record.routeIndex === undefined ? modifyIndex < entry.createIndex : record.routeIndex === (before?.index ?? 0);
  const isPromoted = isDue && isSameStill;
  const index = isPromoted ? await new RouteStore(client, mesh).keep(record.name, before) : 0;
  const made = { index, by: 'leader', atMs: nowMs };
  const promoted = { ...before, weights: { [record.version]: 100 } };
  const route = JSON.stringify(changedRoute(before, promoted, made));
  const steps = [
    { verb: 'cas', key, value: JSON.stringify(next), index: entry.modifyIndex } as const,
    ...(isPromoted ? [{ verb: 'cas', key: routeKey, value: route, index: modifyIndex } as const] : []),
  ];
  const outcome = await election.write(term, steps, signal);
  if (outcome.kind !== 'done') return outcome;
  const seconds = ((nowMs - record.atMs) / 1_000).toFixed(1);
  if (isReady) events.add('index_ready', id, `all ${record.shards} shards are served, ${seconds} s after it was added`);
  if (isPromoted) events.add('routes_changed', record.name, `{"${record.version}":100}: it has its replicas`);
  return outcome;
}

/** Whether a version has the replicas for its promotion, which is not recorded yet. */
export function isToBePromoted({ promoteAtReplicas, promotedAtMs }: IndexRecord, fewest: number): boolean {
  return promotedAtMs === 0 && promoteAtReplicas > 0 && fewest >= promoteAtReplicas;
}
