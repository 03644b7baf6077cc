// The managers as holders of shards: what each holds, what it fetches, what fails, and in words what is wrong with it.

import { describeSize } from '../../core/mod.ts';
import {
  parsePlaces,
  type AssignmentRecord,
  type IndexRecord,
  type ManagerRecord,
  type ReplicaFacts,
} from '../mesh/mod.ts';
import type { MeshHoldings } from './index-actions.ts';
import { contentText, runsContent } from './index-checks.ts';
import { hasContentService } from './placement.ts';

export interface IndexNodesInput extends MeshHoldings {
  readonly records: readonly IndexRecord[];
  /** What each manager that has answered says about its shards. */
  readonly replicas: ReadonlyMap<string, readonly ReplicaFacts[]>;
}

/** Enum IndexNodeState. */
export const NODE_STATE = {
  up: 1,
  noContentService: 2,
  drained: 3,
  leaving: 4,
  silent: 5,
  away: 6,
} as const;

/** Struct IndexNode of idl/indices.thrift. */
export interface ThriftIndexNode {
  readonly manager: string;
  readonly machine: string;
  readonly state: number;
  readonly serving: number;
  readonly fetching: number;
  readonly backingOff: number;
  readonly bytes: number;
  readonly freeBytes?: number;
  readonly indices: readonly string[];
  readonly problems: readonly string[];
}

/** Returns the managers in order of their names, also those that are away and have shards in their orders. */
export function indexNodes(input: IndexNodesInput): readonly ThriftIndexNode[] {
  const { managers, orders } = input;
  const away = [...orders].filter(([name, { shards = [] }]) => !managers.has(name) && shards.length > 0);
  return [...[...managers].map(([name, record]) => presentNode(name, record, input)), ...away.map(awayNode)].sort(
    (a, b) => (a.manager < b.manager ? -1 : 1),
  );
}

function presentNode(name: string, record: ManagerRecord, input: IndexNodesInput): ThriftIndexNode {
  const own = input.replicas.get(name) ?? [];
  const count = (...states: readonly string[]): number => own.filter(({ state }) => states.includes(state)).length;
  const freeBytes = input.holdings.get(name)?.freeBytes;
  const wanted = own.filter(({ state }) => state !== 'leaving');
  return {
    manager: name,
    machine: record.machine,
    state: stateOf(name, record, input),
    serving: count('serving'),
    fetching: count('fetching', 'opening'),
    backingOff: count('backing_off'),
    bytes: own.reduce((sum, { bytes, bytesDone }) => sum + Math.min(bytes, bytesDone), 0),
    ...(freeBytes === undefined ? {} : { freeBytes }),
    indices: [...new Set(wanted.map(({ shard }) => shard.slice(0, shard.indexOf('/'))))].sort(),
    problems: [
      ...stateProblems(name, record, input, count('serving')),
      ...diskProblems(wanted, freeBytes),
      ...failures(wanted),
    ],
  };
}

/** A manager that has gone. Its shards stay in its order until it comes back or the leader places them anew. */
function awayNode([manager, { shards = [] }]: readonly [string, AssignmentRecord]): ThriftIndexNode {
  const count = shards.reduce((sum, { places }) => sum + placesIn(places), 0);
  const why = `is away, and has ${shardsText(count)} in its last order; start it, or leave it: other managers get them`;
  return {
    manager,
    machine: '',
    state: NODE_STATE.away,
    serving: 0,
    fetching: 0,
    backingOff: 0,
    bytes: 0,
    indices: shards.map(({ indexVersion }) => indexVersion).sort(),
    problems: [why],
  };
}

function stateOf(name: string, record: ManagerRecord, { drained, replicas, records }: IndexNodesInput): number {
  if (record.isDraining) return NODE_STATE.leaving;
  if (drained.has(name)) return NODE_STATE.drained;
  if (!replicas.has(name)) return NODE_STATE.silent;
  const isAble = records.length === 0 || records.some((one) => runsContent(record, one));
  return isAble ? NODE_STATE.up : NODE_STATE.noContentService;
}

function stateProblems(name: string, record: ManagerRecord, input: IndexNodesInput, serving: number): string[] {
  const { records } = input;
  const stillServes = serving === 0 ? '' : `, and serves ${shardsText(serving)} until other managers do`;
  switch (stateOf(name, record, input)) {
    case NODE_STATE.leaving:
      return [`shuts down${stillServes}`];
    case NODE_STATE.drained:
      return [`is drained, so it gets no shards${stillServes}; katamari undrain ${name} takes it back`];
    case NODE_STATE.silent:
      return ['does not answer over its link, so what it serves is unknown'];
    case NODE_STATE.noContentService: {
      const isDown = records.some((one) => hasContentService(record.pools, one));
      const services = [...new Set(records.map(contentText))].join(', ');
      return [
        isDown
          ? `has no living copy of a content service of the indices (${services}); see katamari status -v`
          : `has no content service of the indices (${services}), so it gets no shards; deploy one with perManager`,
      ];
    }
    default:
      return [];
  }
}

function diskProblems(wanted: readonly ReplicaFacts[], freeBytes: number | undefined): string[] {
  if (freeBytes === undefined) return [];
  const missing = wanted.reduce((sum, { bytes, bytesDone }) => sum + Math.max(0, bytes - bytesDone), 0);
  if (missing > freeBytes)
    return [`has ${describeSize(freeBytes)} of disk left for shards, and ${describeSize(missing)} are to be fetched`];
  return freeBytes === 0 ? ['has no disk left for shards'] : [];
}

function failures(wanted: readonly ReplicaFacts[]): string[] {
  const failing = wanted.filter(({ why }) => why !== '');
  const shown = failing
    .slice(0, FAILURES_SHOWN_MAX)
    .map(({ shard, why, tries }) => `${shard}: ${why} (${tries} ${tries === 1 ? 'try' : 'tries'})`);
  const more = failing.length - shown.length;
  return more > 0 ? [...shown, `${more} more replicas fail`] : shown;
}

function placesIn(places: string): number {
  try {
    return parsePlaces(places).length;
  } catch {
    return 0;
  }
}

function shardsText(count: number): string {
  return count === 1 ? '1 shard' : `${count} shards`;
}

const FAILURES_SHOWN_MAX = 3;
