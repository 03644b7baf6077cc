// Plans the shards of the managers for the leader: it collects what the plan needs, has index-leader.ts make it, and
// says when it must be made again although nothing has changed. It writes nothing; the leader writes the orders.

import type { Clock } from '../../core/mod.ts';
import type { HoldingsRecord, IndexRecord, ManagerRecord, ManifestCache, ManifestRecord } from '../mesh/mod.ts';
import { IndexLeader, type IndexPlan } from './index-leader.ts';
import type { MeshView } from './mesh-view.ts';
import type { ProblemLog } from './problem-log.ts';

export interface ShardPlannerOptions {
  readonly manifests: Pick<ManifestCache, 'get' | 'keepOnly'>;
  readonly problems: ProblemLog;
  readonly clock: Clock;
  /** Called when the plan must be made again. */
  readonly onDue: () => void;
}

/** What the planner reads of the mesh. */
export type ShardView = Pick<MeshView, 'indices' | 'unreadableIndices' | 'drained' | 'orders' | 'holdings'>;

/** The shards of each manager, and the replicas that each index version has. */
export type ShardPlan = Pick<IndexPlan, 'orders' | 'served'>;

export class ShardPlanner {
  readonly #options: ShardPlannerOptions;
  readonly #indexLeader: IndexLeader;
  /** What present managers held last. */
  readonly #lastHoldings = new Map<string, HoldingsRecord>();
  #dueAtMs = Number.POSITIVE_INFINITY;
  #isClosed = false;
  #stopTimer: () => void = () => undefined;

  constructor(options: ShardPlannerOptions) {
    this.#options = options;
    this.#indexLeader = new IndexLeader(options.clock);
  }

  /**
   * Returns the shards that each manager is to hold. A manager without an entry keeps what it has.
   * @param present the managers that count as present
   */
  async plan(view: ShardView, present: ReadonlyMap<string, ManagerRecord>, signal: AbortSignal): Promise<ShardPlan> {
    const { indices, unreadableIndices, drained, orders } = view;
    const { problems, clock } = this.#options;
    this.#keepHoldings(view, present);
    problems.keepOnly('index_incomplete', indices);
    this.#indexLeader.observe({ managers: present, indices });
    const ordered = new Map([...orders].map(([name, { record }]) => [name, record?.shards]));
    if (indices.size === 0 && [...ordered.values()].every((own = []) => own.length === 0)) return NO_SHARDS;
    const plan = this.#indexLeader.plan({
      indices,
      unreadable: unreadableIndices,
      manifests: await this.#readManifests(indices, signal),
      managers: present,
      drained,
      holdings: this.#lastHoldings,
      ordered,
    });
    for (const id of indices.keys()) problems.report('index_incomplete', id, plan.conditions.get(id)?.join('; '));
    this.#planAgainIn(plan.nextAtMs - clock.nowMs());
    return plan;
  }

  /** Ends the timer. A plan that is being made starts no new one. */
  close(): void {
    this.#isClosed = true;
    this.#stopTimer();
  }

  /** A manager that is missing for a moment has lost its record with its session, and still holds its shards. */
  #keepHoldings({ holdings }: ShardView, present: ReadonlyMap<string, ManagerRecord>): void {
    for (const name of present.keys()) {
      const found = holdings.get(name);
      if (found !== undefined) this.#lastHoldings.set(name, found);
    }
    for (const name of this.#lastHoldings.keys()) if (!present.has(name)) this.#lastHoldings.delete(name);
  }

  /** Returns the manifests that can be read, by their hash. The others are reported and read again later. */
  async #readManifests(
    indices: ReadonlyMap<string, IndexRecord>,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, ManifestRecord>> {
    const { manifests, problems } = this.#options;
    const found = new Map<string, ManifestRecord>();
    const read = async ([id, { manifest }]: readonly [string, IndexRecord]): Promise<void> => {
      try {
        found.set(manifest, await manifests.get(manifest, signal));
        problems.report('order_refused', id, undefined);
      } catch (error) {
        if (signal.aborted) return;
        // The shards of this version stay where they are, and deployments go on.
        problems.report('order_refused', id, (error as Error).message);
        this.#planAgainIn(MANIFEST_RETRY_MS);
      }
    };
    const wanted = [...indices];
    for (let at = 0; at < wanted.length; at += MANIFEST_READS_MAX)
      await Promise.all(wanted.slice(at, at + MANIFEST_READS_MAX).map(read));
    await manifests.keepOnly(new Set(wanted.map(([, { manifest }]) => manifest)));
    return found;
  }

  /** Calls `onDue` after `waitMs`, unless it is due earlier. */
  #planAgainIn(waitMs: number): void {
    const { clock, onDue } = this.#options;
    if (this.#isClosed || waitMs === Number.POSITIVE_INFINITY) return;
    const dueAtMs = clock.nowMs() + Math.max(0, waitMs);
    if (dueAtMs >= this.#dueAtMs) return;
    this.#stopTimer();
    this.#dueAtMs = dueAtMs;
    this.#stopTimer = clock.after(Math.max(0, waitMs), () => {
      this.#dueAtMs = Number.POSITIVE_INFINITY;
      onDue();
    });
  }
}

const NO_SHARDS: ShardPlan = { orders: new Map(), served: new Map() };
/** Manifests that are read at a time, and the pause after one that could not be read. */
const MANIFEST_READS_MAX = 8;
const MANIFEST_RETRY_MS = 2_000;
