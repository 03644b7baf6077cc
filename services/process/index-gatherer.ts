// The state of all indices for the status page: records and manifests as this process knows them, replicas from the
// managers over their links. Gathered on demand. A result is reused for twenty times as long as it took, so that many
// shards and many viewers cost at most a twentieth of the time.

import {
  runLengths,
  SHARD_LETTERS,
  type IndexOverview,
  type IndicesOverview,
  type ManagerShards,
} from '../../faceplates/stats/mod.ts';
import { GATHER_RESULTS } from '../gather/mod.ts';
import { readIndices, type IndexActions, type ThriftIndexStatus } from '../master/mod.ts';
import { indexIdOf } from '../mesh/mod.ts';
import type { ProcessBase } from './process-base.ts';

type Base = Pick<ProcessBase, 'gatherer' | 'clock' | 'manifests' | 'fleet'>;

export class IndexGatherer {
  readonly #base: Base;
  readonly #actions: IndexActions;
  #gathering: Promise<readonly IndexOverview[]> | undefined;
  #gathered: { readonly versions: readonly IndexOverview[]; readonly untilMs: number } | undefined;
  /** Managers that answered last. */
  #answered: ReadonlySet<string> = new Set();

  constructor(base: Base, actions: IndexActions) {
    this.#base = base;
    this.#actions = {
      ...actions,
      replicas: async (index) => {
        const found = await actions.replicas(index);
        this.#answered = new Set(found.keys());
        return found;
      },
    };
  }

  async overview(): Promise<IndicesOverview> {
    const { gatherer } = this.#base;
    const { requests, missing } = gatherer.counts;
    return { versions: gatherer.records.size === 0 ? [] : await this.#versions(), requests, missing };
  }

  /** Names of the shards of a version in order; undefined for an unknown one. */
  async shardNames(id: string): Promise<readonly string[] | undefined> {
    const record = this.#base.gatherer.records.get(id);
    if (record === undefined) return undefined;
    return (await this.#base.manifests.get(record.manifest)).shards.map(({ name }) => name);
  }

  async #versions(): Promise<readonly IndexOverview[]> {
    const { clock, gatherer } = this.#base;
    if (this.#gathered === undefined || clock.nowMs() >= this.#gathered.untilMs)
      this.#gathering ??= this.#gather().finally(() => (this.#gathering = undefined));
    const versions = (await this.#gathering) ?? this.#gathered?.versions ?? [];
    // The counts are those of now.
    return versions.map((one) => ({ ...one, calls: callsOf(gatherer.counts.calls.get(indexIdOf(one))) }));
  }

  async #gather(): Promise<readonly IndexOverview[]> {
    const { clock, gatherer } = this.#base;
    const startedMs = clock.nowMs();
    const records = [...gatherer.records.values()]
      .sort((a, b) => (a.name === b.name ? b.atMs - a.atMs : a.name < b.name ? -1 : 1))
      .slice(0, VERSIONS_MAX);
    const statuses = await readIndices(this.#actions, records);
    let left = STATES_LENGTH_MAX;
    const versions = statuses.map((status) => {
      const managers = this.#managers(status);
      left -= managers.reduce((sum, { states }) => sum + states.length, 0);
      return overviewOf(status, left < 0 ? [] : managers);
    });
    const tookMs = clock.nowMs() - startedMs;
    const freshMs = Math.min(FRESH_MAX_MS, Math.max(FRESH_MIN_MS, tookMs * FRESH_RATIO));
    this.#gathered = { versions, untilMs: clock.nowMs() + freshMs };
    return versions;
  }

  /** The rows of a version. A manager that does not answer keeps its last one while it is registered. */
  #managers(status: ThriftIndexStatus): readonly ManagerShards[] {
    const rows = rowsOf(status);
    const before = this.#gathered?.versions.find((one) => indexIdOf(one) === indexIdOf(status))?.managers ?? [];
    const silent = before
      .filter(({ name }) => !this.#answered.has(name) && this.#base.fleet.records.has(name))
      .map((row) => ({ ...row, isReachable: false }));
    return [...rows, ...silent].sort((a, b) => (a.name < b.name ? -1 : 1));
  }
}

/** One row for each manager that is to hold a shard. */
function rowsOf({ shardList }: ThriftIndexStatus): readonly ManagerShards[] {
  const rows = new Map<string, { letters: string[]; bytesDone: number; bytesWanted: number }>();
  for (const [place, { bytes, replicas }] of shardList.entries()) {
    for (const { manager, state, bytesDone } of replicas) {
      let row = rows.get(manager);
      if (row === undefined) {
        row = { letters: Array<string>(shardList.length).fill('-'), bytesDone: 0, bytesWanted: 0 };
        rows.set(manager, row);
      }
      const letter = LETTERS[state] ?? '-';
      row.letters[place] = letter;
      if (letter === SHARD_LETTERS.leaving) continue;
      row.bytesDone += Math.min(bytes, bytesDone);
      row.bytesWanted += bytes;
    }
  }
  return [...rows].map(([name, { letters, bytesDone, bytesWanted }]) => ({
    name,
    isReachable: true,
    states: runLengths(letters),
    bytesDone,
    bytesWanted,
  }));
}

function overviewOf(status: ThriftIndexStatus, managers: readonly ManagerShards[]): IndexOverview {
  const { name, version, contentService, share, entries, bytes, shards, served, replicas, conditions } = status;
  const state = STATES[status.state] ?? 'loading';
  return {
    name,
    version,
    contentService,
    state,
    share,
    entries,
    bytes,
    shards,
    served,
    replicas,
    conditions,
    managers,
    calls: {},
  };
}

/** Calls of all methods together. */
function callsOf(
  methods: ReadonlyMap<string, Readonly<Record<string, number>>> | undefined,
): Readonly<Record<string, number>> {
  const all = [...(methods?.values() ?? [])];
  return Object.fromEntries(
    GATHER_RESULTS.map((result) => [result, all.reduce((sum, results) => sum + (results[result] ?? 0), 0)]),
  );
}

/** By the numbers of enum IndexState in idl/indices.thrift. */
const STATES: Readonly<Record<number, IndexOverview['state']>> = {
  1: 'loading',
  2: 'complete',
  3: 'degraded',
  4: 'incomplete',
};
/** By the numbers of enum ReplicaState. */
const LETTERS: Readonly<Record<number, string>> = {
  1: SHARD_LETTERS.fetching,
  2: SHARD_LETTERS.opening,
  3: SHARD_LETTERS.serving,
  4: SHARD_LETTERS.leaving,
  5: SHARD_LETTERS.backing_off,
};
const FRESH_RATIO = 20;
const FRESH_MIN_MS = 500;
const FRESH_MAX_MS = 10_000;
const VERSIONS_MAX = 100;
/** Characters of the states of all versions together. */
const STATES_LENGTH_MAX = 256 * 1024;
