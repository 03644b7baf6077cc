// The state of an index version, from its record, its manifest, and what the managers say about its shards.

import { indexIdOf, type IndexRecord, type ManifestRecord, type ReplicaFacts } from '../mesh/mod.ts';
import { isToBePromoted } from './index-progress.ts';

export interface IndexFacts {
  readonly record: IndexRecord;
  /** Undefined while it cannot be read. */
  readonly manifest: ManifestRecord | undefined;
  /** What each manager that has answered says about its shards of this index, in any order. */
  readonly replicas: ReadonlyMap<string, readonly ReplicaFacts[]>;
  /** What keeps it from having all its replicas. */
  readonly conditions: readonly string[];
  /** Share of the calls that name no version, from 0 to 1. */
  readonly share: number;
  /** Managers that may hold its shards now. */
  readonly holders: number;
}

/** Struct IndexStatus of idl/indices.thrift. */
export interface ThriftIndexStatus {
  readonly name: string;
  readonly version: string;
  readonly contentService: string;
  readonly state: number;
  readonly conditions: readonly string[];
  readonly share: number;
  readonly entries: number;
  readonly bytes: number;
  readonly shards: number;
  readonly served: number;
  readonly replicas: number;
  readonly replicasServed: number;
  readonly shardList: readonly ThriftShardStatus[];
  readonly [field: string]: unknown;
}

/** Struct ShardStatus; the state of a replica is a number of enum ReplicaState. */
interface ThriftShardStatus {
  readonly name: string;
  readonly bytes: number;
  readonly digest: string;
  readonly entries: number;
  readonly replicas: readonly { readonly manager: string; readonly state: number; readonly bytesDone: number }[];
}

/** Enum IndexState. */
const INDEX_STATE = { loading: 1, complete: 2, degraded: 3, incomplete: 4 } as const;

const FETCHING = 1;
/** Enum ReplicaState, by the names of idl/manager.thrift. */
const REPLICA_STATES: Readonly<Record<string, number>> = {
  fetching: FETCHING,
  opening: 2,
  serving: 3,
  leaving: 4,
  backing_off: 5,
};

export function indexStatus(
  { record, manifest, replicas, conditions, share, holders }: IndexFacts,
  withShards: boolean,
): ThriftIndexStatus {
  const id = indexIdOf(record);
  const byShard = new Map<string, (ReplicaFacts & { readonly manager: string })[]>();
  for (const [manager, own] of [...replicas].sort(([a], [b]) => (a < b ? -1 : 1))) {
    for (const one of own) {
      if (!one.shard.startsWith(`${id}/`)) continue;
      const name = one.shard.slice(id.length + 1);
      const found = byShard.get(name);
      if (found === undefined) byShard.set(name, [{ ...one, manager }]);
      else found.push({ ...one, manager });
    }
  }
  const shards = (manifest?.shards ?? []).map((shard) => ({ ...shard, own: byShard.get(shard.name) ?? [] }));
  const serving = shards.map(({ own }) => own.filter(({ state }) => state === 'serving').length);
  const served = serving.filter((count) => count > 0).length;
  const fewest = serving.length === 0 ? 0 : Math.min(...serving);
  const wanted = shards.flatMap(({ own }) => own.filter(({ state }) => state !== 'leaving'));
  const failing = wanted.filter(({ why }) => why !== '');
  const { contentService, contentRange, readyAtMs, atMs } = record;
  return {
    name: record.name,
    version: record.version,
    source: record.source,
    contentService: contentRange === '' ? contentService : `${contentService}@${contentRange}`,
    replicas: record.replicas,
    replicasServed: fewest,
    holders,
    pinnedTo: record.pinnedTo ?? [],
    promoteAtReplicas: record.promoteAtReplicas,
    state: stateOf(record, served, fewest),
    conditions: [
      ...conditions,
      ...failing
        .slice(0, FAILURES_SHOWN_MAX)
        .map(
          ({ shard, manager, why, tries }) =>
            `${shard} on ${manager}: ${why} (${tries} ${tries === 1 ? 'try' : 'tries'})`,
        ),
      ...(failing.length > FAILURES_SHOWN_MAX ? [`${failing.length - FAILURES_SHOWN_MAX} more replicas fail`] : []),
    ],
    share,
    entries: shards.reduce((sum, { own }) => sum + Math.max(0, ...own.map(({ entries }) => entries)), 0),
    bytes: record.bytes,
    shards: record.shards,
    served,
    ...(readyAtMs === 0 ? {} : { readyInMs: readyAtMs - atMs }),
    addedAtMs: atMs,
    addedBy: record.by,
    bytesDone: wanted.reduce((sum, { bytes, bytesDone }) => sum + Math.min(bytes, bytesDone), 0),
    bytesWanted: wanted.reduce((sum, { bytes }) => sum + bytes, 0),
    manifest: record.manifest,
    shardList: withShards
      ? shards.map(({ name, bytes, digest, own }) => ({
          name,
          bytes,
          digest,
          entries: Math.max(0, ...own.map(({ entries }) => entries)),
          replicas: own.map(({ manager, state, bytesDone, why, tries, nextTryInMs }) => ({
            manager,
            state: REPLICA_STATES[state] ?? FETCHING,
            bytesDone,
            why,
            tries,
            nextTryInMs,
          })),
        }))
      : [],
  };
}

/** A version is loading until the leader has recorded that all its shards are served, since callers wait for that. */
function stateOf(record: IndexRecord, served: number, fewest: number): number {
  if (record.readyAtMs === 0) return INDEX_STATE.loading;
  if (served < record.shards) return INDEX_STATE.incomplete;
  return fewest < record.replicas || isToBePromoted(record, fewest) ? INDEX_STATE.degraded : INDEX_STATE.complete;
}

const FAILURES_SHOWN_MAX = 20;
