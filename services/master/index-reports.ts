// What is known about indices: the state of each version, what keeps it from having its replicas, and where the leader
// would place shards. It writes nothing.

import { indexIdOf, parsePlaces, type IndexRecord, type ManifestRecord } from '../mesh/mod.ts';
import type { IndexActions, MeshHoldings } from './index-actions.ts';
import { runsContent } from './index-checks.ts';
import { IndexLeader, type IndexPlan } from './index-leader.ts';
import { indexNodes, type ThriftIndexNode } from './index-nodes.ts';
import { indexStatus, type ThriftIndexStatus } from './index-status.ts';
import { unknownIndex } from './index-store.ts';
import { isAllowed } from './placement.ts';

/**
 * The state of index versions with their shards.
 * @param records as last read from Consul, which may not answer
 */
export function readIndices(
  actions: IndexActions,
  records: readonly IndexRecord[],
): Promise<readonly ThriftIndexStatus[]> {
  return new IndexReports(actions).look(records);
}

/** What may hold the shards of index versions, and what keeps them from having all their replicas. */
interface Prospects extends Pick<MeshHoldings, 'managers' | 'drained'> {
  readonly conditions: IndexPlan['conditions'];
  /** Places of each index version that each manager is to have. */
  readonly orders: ReadonlyMap<string, ReadonlyMap<string, readonly number[]>>;
}

export class IndexReports {
  readonly #actions: IndexActions;
  /** Reused for CONDITIONS_MS: it costs reads of Consul and a plan. */
  #prospects: { readonly untilMs: number; readonly of: Promise<Prospects> } | undefined;

  constructor(actions: IndexActions) {
    this.#actions = actions;
  }

  async status(name: string, withShards: boolean): Promise<readonly ThriftIndexStatus[]> {
    const records = await this.#actions.store.list();
    const asked = name === '' ? records : records.filter((one) => one.name === name);
    if (asked.length === 0 && name !== '') throw unknownIndex(name, '', records);
    return await this.#statuses(asked, name, withShards);
  }

  /** Returns the state of these versions. If Consul does not answer, its error is a condition of each. */
  async look(records: readonly IndexRecord[]): Promise<readonly ThriftIndexStatus[]> {
    return await this.#statuses(records, '', true, async () => {
      try {
        return await this.#currentProspects();
      } catch (error) {
        const why = `what keeps shards from being placed is unknown: ${(error as Error).message}`;
        const conditions = new Map(records.map((record) => [indexIdOf(record), [why]]));
        return { conditions, managers: this.#actions.managers(), drained: new Set(), orders: new Map() };
      }
    });
  }

  /** The managers as holders of shards. */
  async nodes(): Promise<readonly ThriftIndexNode[]> {
    const { store, readHoldings, replicas } = this.#actions;
    const [records, mesh, held] = await Promise.all([store.list(), readHoldings(), replicas('')]);
    return indexNodes({ ...mesh, records, replicas: held });
  }

  async one(record: IndexRecord): Promise<ThriftIndexStatus> {
    const [status] = await this.#statuses([record], record.name, false);
    return status as ThriftIndexStatus;
  }

  /** Names of the managers that may hold shards of a version now. */
  async holdersFor(record: IndexRecord): Promise<readonly string[]> {
    return holdersOf(record, await this.#actions.readHoldings());
  }

  /** Disk left for shards on each of these managers; undefined where it has not told it yet. */
  async freeBytesFor(record: IndexRecord): Promise<ReadonlyMap<string, number | undefined>> {
    const mesh = await this.#actions.readHoldings();
    return new Map(holdersOf(record, mesh).map((name) => [name, mesh.holdings.get(name)?.freeBytes]));
  }

  /** Plans anew at the next question, because a version was changed here. */
  changed(): void {
    this.#prospects = undefined;
  }

  /** Places the shards of all index versions, and of those given, as the leader would. */
  async plan(
    more: ReadonlyMap<string, { readonly record: IndexRecord; readonly manifest: ManifestRecord }>,
  ): Promise<Prospects> {
    const { store, manifest, readHoldings, clock } = this.#actions;
    const { managers, drained, holdings, orders } = await readHoldings();
    const indices = new Map((await store.list()).map((record) => [indexIdOf(record), record]));
    const manifests = new Map<string, ManifestRecord>();
    for (const [id, one] of more) {
      indices.set(id, one.record);
      manifests.set(one.record.manifest, one.manifest);
    }
    for (const { manifest: sha256 } of indices.values()) {
      if (manifests.has(sha256)) continue;
      const found = await manifest(sha256).catch(() => undefined);
      if (found !== undefined) manifests.set(sha256, found);
    }
    const plan = new IndexLeader(clock).plan({
      indices,
      unreadable: new Set(),
      manifests,
      managers,
      drained,
      holdings,
      ordered: new Map([...managers.keys()].map((name) => [name, orders.get(name)?.shards ?? []])),
    });
    return { orders: placesByIndex(plan), conditions: plan.conditions, managers, drained };
  }

  async #statuses(
    records: readonly IndexRecord[],
    name: string,
    withShards: boolean,
    readProspects: () => Promise<Prospects> = () => this.#currentProspects(),
  ): Promise<readonly ThriftIndexStatus[]> {
    if (records.length === 0) return [];
    const [replicas, prospects] = await Promise.all([this.#actions.replicas(name), readProspects()]);
    return await Promise.all(
      records.map(async (record) => {
        const manifest = await this.#actions.manifest(record.manifest).catch(() => undefined);
        const own = [
          ...(manifest === undefined ? ['the list of its shards cannot be read from Consul'] : []),
          ...(prospects.conditions.get(indexIdOf(record)) ?? []),
          ...silentManagers(record, prospects, replicas),
        ];
        const share = this.#actions.shareOf(record.name, record.version);
        const holders = holdersOf(record, prospects).length;
        return indexStatus({ record, manifest, replicas, conditions: own, share, holders }, withShards);
      }),
    );
  }

  #currentProspects(): Promise<Prospects> {
    const nowMs = this.#actions.clock.nowMs();
    if (this.#prospects !== undefined && nowMs < this.#prospects.untilMs) return this.#prospects.of;
    const of = this.plan(new Map());
    this.#prospects = { untilMs: nowMs + CONDITIONS_MS, of };
    of.catch(() => (this.#prospects = undefined));
    return of;
  }
}

/** Names of the managers that may hold shards of a version now. */
function holdersOf(
  record: IndexRecord,
  { managers, drained }: Pick<Prospects, 'managers' | 'drained'>,
): readonly string[] {
  const pinnedTo = new Set(record.pinnedTo);
  return [...managers]
    .filter(([name, manager]) => !drained.has(name) && isAllowed(name, { pinnedTo }) && runsContent(manager, record))
    .map(([name]) => name)
    .sort();
}

/** A condition for each manager that is to have shards of a version, and does not answer. */
function silentManagers(
  record: IndexRecord,
  { orders }: Prospects,
  answered: ReadonlyMap<string, unknown>,
): readonly string[] {
  const id = indexIdOf(record);
  return [...orders]
    .filter(([name, own]) => own.has(id) && !answered.has(name))
    .map(([name]) => `${name} does not answer, so what it serves is unknown; see whether it runs and can be reached`);
}

/** The places of each index version in the orders of each manager. */
function placesByIndex({ orders }: IndexPlan): ReadonlyMap<string, ReadonlyMap<string, readonly number[]>> {
  return new Map(
    [...orders].map(([manager, own]) => [
      manager,
      new Map(own.map(({ indexVersion, places }) => [indexVersion, parsePlaces(places)])),
    ]),
  );
}

const CONDITIONS_MS = 1_000;
