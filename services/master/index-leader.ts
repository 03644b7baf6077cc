// Plans which shards each manager is to hold, and remembers where shards have failed too often to be placed again soon.
// It reads and writes nothing; the leader writes the orders.

import type { Clock } from '../../core/mod.ts';
import {
  formatPlaces,
  parsePlaces,
  type HoldingsRecord,
  type IndexRecord,
  type ManagerRecord,
  type ManifestRecord,
  type ShardsOrder,
} from '../mesh/mod.ts';
import {
  type ContentChoice,
  hasContentService,
  placeShards,
  type IndexToPlace,
  type ShardPlaces,
} from './placement.ts';

export interface IndexState {
  /** By `name@version`. */
  readonly indices: ReadonlyMap<string, IndexRecord>;
  /** Index versions whose document cannot be read: their shards stay where they are. */
  readonly unreadable: ReadonlySet<string>;
  /** By SHA-256. */
  readonly manifests: ReadonlyMap<string, ManifestRecord>;
  /** The managers that count as present. */
  readonly managers: ReadonlyMap<string, ManagerRecord>;
  readonly drained: ReadonlySet<string>;
  readonly holdings: ReadonlyMap<string, HoldingsRecord>;
  /** The shards in the current orders, by manager; undefined for a manager whose order cannot be read. */
  readonly ordered: ReadonlyMap<string, readonly ShardsOrder[] | undefined>;
}

export interface IndexPlan {
  /**
   * The orders of each manager, in order of the index versions. A manager without an entry keeps what it has: one that
   * shuts down is to find its shards when it is back.
   */
  readonly orders: ReadonlyMap<string, readonly ShardsOrder[]>;
  /** What keeps an index version from having all its replicas, for people. */
  readonly conditions: ReadonlyMap<string, readonly string[]>;
  /** For each index version, the number of managers that serve its least replicated shard. */
  readonly served: ReadonlyMap<string, number>;
  /** Time of the clock at which the plan must be made again even if nothing changes; infinite for never. */
  readonly nextAtMs: number;
}

export class IndexLeader {
  readonly #clock: Clock;
  /** Shards that failed on a manager: how often, and until when they are not placed there. */
  readonly #avoided = new Map<string, { readonly times: number; readonly untilMs: number }>();
  /** Since when each manager is present. */
  readonly #presentSinceMs = new Map<string, number>();
  /** When each manager last had a living copy of a content service, by manager and service with range. */
  readonly #lastAliveMs = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  plan(state: IndexState): IndexPlan {
    const { indices, unreadable, manifests, managers, drained } = state;
    const holdings = new Map([...state.holdings].map(([name, held]) => [name, ofThese(held, indices)]));
    const nowMs = this.#clock.nowMs();
    this.#noteFailures(holdings, nowMs);
    this.observe(state);
    const unknownUntilMs = this.#unknownUntilMs(state);
    if (unknownUntilMs > nowMs)
      return { orders: new Map(), conditions: new Map(), served: new Map(), nextAtMs: unknownUntilMs };
    const ordered = new Map(
      [...managers.keys()].map((name): [string, readonly HeldShards[]] => [
        name,
        state.ordered.get(name) ?? heldBy(holdings.get(name)),
      ]),
    );
    const known = [...indices].flatMap(([id, record]): IndexToPlace[] => {
      const manifest = manifests.get(record.manifest);
      if (manifest === undefined) return [];
      const { replicas, contentService, contentRange } = record;
      const shardBytes = manifest.shards.map(({ bytes }) => bytes);
      const pinnedTo = new Set(record.pinnedTo);
      return [{ id, replicas, contentService, contentRange, shardBytes, pinnedTo }];
    });
    const serving = placesOf([...holdings].map(([name, held]) => [name, Object.entries(held.serving)]));
    const { orders, conditions } = placeShards({
      indices: known,
      managers: [...managers]
        .filter(([name, { isDraining }]) => !isDraining || drained.has(name))
        .map(([name, { machine, capacity, pools }]) => ({
          name,
          machine,
          capacity,
          isDrained: drained.has(name),
          freeBytes: holdings.get(name)?.freeBytes ?? Number.POSITIVE_INFINITY,
          pools: pools.filter(({ alive }) => alive > 0),
        })),
      ordered: placesOf([...ordered].map(([name, own]) => [name, own.map((one) => [one.indexVersion, one.places])])),
      serving,
      onDisk: placesOf([...managers.keys()].map((name) => [name, this.#onDisk(name, state, nowMs)])),
      isAvoided: (manager, index, place) => this.#isAvoided(manager, index, place, nowMs),
      mayReturn: (manager, index) => this.#mayReturn(manager, index, nowMs),
    });
    const ids = new Set(known.map(({ id }) => id));
    const written = [...orders].map(([manager, own]): [string, readonly ShardsOrder[]] => {
      const placed = [...own].flatMap(([id, places]) => this.#orderFor(indices.get(id), id, places));
      // An index version whose record or manifest cannot be read stays as it is.
      const kept = (state.ordered.get(manager) ?? []).filter(
        ({ indexVersion: id }) => (indices.has(id) || unreadable.has(id)) && !ids.has(id),
      );
      return [manager, [...placed, ...kept].sort((a, b) => (a.indexVersion < b.indexVersion ? -1 : 1))];
    });
    const served = new Map(known.map((index) => [index.id, fewestHolders(index, serving)]));
    return { orders: new Map(written), conditions, served, nextAtMs: this.#nextAtMs(known, orders, managers, nowMs) };
  }

  /** Records since when managers are present and have copies. Called at every change, also without indices. */
  observe({ managers, indices }: Pick<IndexState, 'managers' | 'indices'>): void {
    const nowMs = this.#clock.nowMs();
    for (const name of this.#presentSinceMs.keys()) if (!managers.has(name)) this.#presentSinceMs.delete(name);
    for (const [name, { pools }] of managers) {
      if (!this.#presentSinceMs.has(name)) this.#presentSinceMs.set(name, nowMs);
      const alive = pools.filter((pool) => pool.alive > 0);
      for (const record of indices.values())
        if (hasContentService(alive, record)) this.#lastAliveMs.set(serviceKeyOf(name, record), nowMs);
    }
    for (const [key, atMs] of this.#lastAliveMs) if (atMs + PATIENCE_MS < nowMs) this.#lastAliveMs.delete(key);
  }

  /**
   * Time until which managers whose shards are unknown may still report them. Until then nothing is planned, because
   * other managers would fetch the same shards.
   */
  #unknownUntilMs({ managers, ordered, holdings }: IndexState): number {
    const unknown = [...managers.keys()].filter((name) => ordered.get(name) === undefined && !holdings.has(name));
    return Math.max(0, ...unknown.map((name) => this.#tellingEndMs(name)));
  }

  /** The shards on the disk of a manager. Until a new manager has reported them, those of its order. */
  #onDisk(manager: string, { holdings, ordered }: IndexState, nowMs: number): readonly (readonly [string, string])[] {
    const told = holdings.get(manager);
    if (told !== undefined) return Object.entries(told.onDisk);
    if (this.#tellingEndMs(manager) <= nowMs) return [];
    return (ordered.get(manager) ?? []).map(({ indexVersion, places }) => [indexVersion, places]);
  }

  #tellingEndMs(manager: string): number {
    return (this.#presentSinceMs.get(manager) ?? 0) + TELLING_MS;
  }

  #mayReturn(manager: string, index: IndexToPlace, nowMs: number): boolean {
    return this.#returnEndMs(manager, index) > nowMs;
  }

  #returnEndMs(manager: string, index: IndexToPlace): number {
    const lastAliveMs = this.#lastAliveMs.get(serviceKeyOf(manager, index)) ?? 0;
    return Math.max(this.#presentSinceMs.get(manager) ?? 0, lastAliveMs) + PATIENCE_MS;
  }

  #nextAtMs(
    indices: readonly IndexToPlace[],
    orders: ShardPlaces,
    managers: IndexState['managers'],
    nowMs: number,
  ): number {
    const ends = [...this.#avoided.values()].map(({ untilMs }) => untilMs);
    for (const [name, { pools }] of managers) {
      const alive = pools.filter((pool) => pool.alive > 0);
      for (const index of indices) {
        const isReturning = orders.get(name)?.has(index.id) === true && !hasContentService(alive, index);
        if (isReturning) ends.push(this.#returnEndMs(name, index));
      }
    }
    return ends.reduce((next, endMs) => (endMs > nowMs && endMs < next ? endMs : next), Number.POSITIVE_INFINITY);
  }

  #orderFor(record: IndexRecord | undefined, indexVersion: string, places: ReadonlySet<number>): ShardsOrder[] {
    if (record === undefined || places.size === 0) return [];
    const { manifest, source, contentService, contentRange } = record;
    return [{ indexVersion, manifest, source, contentService, contentRange, places: formatPlaces(places) }];
  }

  #noteFailures(holdings: ReadonlyMap<string, HoldingsRecord>, nowMs: number): void {
    for (const [manager, { failed }] of holdings) {
      for (const { indexVersion, place, tries } of failed) {
        const key = keyOf(manager, indexVersion, place);
        const known = this.#avoided.get(key);
        // A shard that was placed here again counts from one try, since it had its tries before.
        if (tries < (known === undefined ? TRIES_MAX : 1)) continue;
        if (known !== undefined && known.untilMs > nowMs) continue;
        const times = (known?.times ?? 0) + 1;
        const pauseMs = Math.min(AVOID_MAX_MS, AVOID_FIRST_MS * 2 ** (times - 1));
        this.#avoided.set(key, { times, untilMs: nowMs + pauseMs });
      }
    }
    // What failed long ago is forgotten.
    for (const [key, { untilMs }] of this.#avoided) if (untilMs + AVOID_MAX_MS < nowMs) this.#avoided.delete(key);
  }

  #isAvoided(manager: string, index: string, place: number, nowMs: number): boolean {
    const found = this.#avoided.get(keyOf(manager, index, place));
    return found !== undefined && found.untilMs > nowMs;
  }
}

/** Shards of an index version, as an order or the holdings of a manager name them. */
type HeldShards = Pick<ShardsOrder, 'indexVersion' | 'places'>;

/** Leaves out versions that were removed and added again with other shards: these holdings are of the earlier one. */
function ofThese(held: HoldingsRecord, indices: IndexState['indices']): HoldingsRecord {
  const { manifests = {} } = held;
  const isOther = ([id]: readonly [string, unknown]): boolean => {
    const [wanted, own] = [indices.get(id)?.manifest, manifests[id]];
    return wanted !== undefined && own !== undefined && wanted !== own;
  };
  if (!Object.entries(manifests).some(isOther)) return held;
  const without = (places: Readonly<Record<string, string>>): Record<string, string> =>
    Object.fromEntries(Object.entries(places).filter((entry) => !isOther(entry)));
  const failed = held.failed.filter(({ indexVersion }) => !isOther([indexVersion, undefined]));
  return { ...held, serving: without(held.serving), onDisk: without(held.onDisk), failed };
}

/** What a manager has on its disk or serves. */
function heldBy(holdings: HoldingsRecord | undefined): readonly HeldShards[] {
  if (holdings === undefined) return [];
  const versions = new Set([...Object.keys(holdings.serving), ...Object.keys(holdings.onDisk)]);
  return [...versions].map((indexVersion) => {
    const places = [holdings.serving, holdings.onDisk].flatMap((held) => readable(held[indexVersion] ?? ''));
    return { indexVersion, places: formatPlaces(new Set(places)) };
  });
}

/** The number of managers that serve the shard of an index with the fewest. */
function fewestHolders({ id, shardBytes }: IndexToPlace, serving: ShardPlaces): number {
  const counts = shardBytes.map(() => 0);
  for (const held of serving.values())
    for (const place of held.get(id) ?? []) if (place < counts.length) counts[place] = (counts[place] as number) + 1;
  return counts.reduce((fewest, count) => Math.min(fewest, count), counts.length === 0 ? 0 : Number.POSITIVE_INFINITY);
}

function serviceKeyOf(manager: string, { contentService, contentRange }: ContentChoice): string {
  return `${manager} ${contentService}@${contentRange}`;
}

function keyOf(manager: string, index: string, place: number): string {
  return `${manager} ${index} ${place}`;
}

/** Places that cannot be read count as none. A manager writes them again with its next change. */
function placesOf(managers: readonly (readonly [string, readonly (readonly [string, string])[]])[]): ShardPlaces {
  return new Map(
    managers.map(([name, own]) => [name, new Map(own.map(([index, text]) => [index, new Set(readable(text))]))]),
  );
}

function readable(text: string): readonly number[] {
  try {
    return parsePlaces(text);
  } catch {
    return [];
  }
}

/** Failures after which a shard is placed elsewhere. */
const TRIES_MAX = 3;
const AVOID_FIRST_MS = 30_000;
const AVOID_MAX_MS = 3_600_000;
/** Time for which a manager keeps its shards without a copy of their content service. */
const PATIENCE_MS = 60_000;
/** Time within which a new manager reports what it holds. */
const TELLING_MS = 3_000;
