// What the leader knows of indices: which shards each manager is to hold, and where shards have failed too often to be
// placed again soon. It reads and writes nothing; the leader writes the orders.

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
import { placeShards, type IndexToPlace, type ShardPlaces } from './placement.ts';

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
  /** The shards in the present orders, by manager. */
  readonly ordered: ReadonlyMap<string, readonly ShardsOrder[]>;
}

export interface IndexPlan {
  /** The orders of each manager, in order of the index versions. */
  readonly orders: ReadonlyMap<string, readonly ShardsOrder[]>;
  /** What keeps an index version from having all its replicas, for people. */
  readonly conditions: ReadonlyMap<string, readonly string[]>;
  /** When the plan must be made again though nothing changes, on the clock; infinite for never. */
  readonly nextAtMs: number;
}

export class IndexLeader {
  readonly #clock: Clock;
  /** Shards that failed on a manager: how often, and until when they are not placed there. */
  readonly #avoided = new Map<string, { readonly times: number; readonly untilMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  plan(state: IndexState): IndexPlan {
    const { indices, unreadable, manifests, managers, drained, holdings, ordered } = state;
    const nowMs = this.#clock.nowMs();
    this.#noteFailures(holdings, nowMs);
    const known = [...indices].flatMap(([id, record]): IndexToPlace[] => {
      const manifest = manifests.get(record.manifest);
      if (manifest === undefined) return [];
      const { replicas, contentService, contentRange } = record;
      return [{ id, replicas, contentService, contentRange, shardBytes: manifest.shards.map(({ bytes }) => bytes) }];
    });
    const { orders, conditions } = placeShards({
      indices: known,
      managers: [...managers].map(([name, { machine, capacity, isDraining, pools }]) => ({
        name,
        machine,
        capacity,
        isDrained: isDraining || drained.has(name),
        freeBytes: holdings.get(name)?.freeBytes ?? Number.POSITIVE_INFINITY,
        pools: pools.filter(({ alive }) => alive > 0),
      })),
      ordered: placesOf([...ordered].map(([name, own]) => [name, own.map((one) => [one.indexVersion, one.places])])),
      serving: placesOf([...holdings].map(([name, { serving }]) => [name, Object.entries(serving)])),
      onDisk: placesOf([...holdings].map(([name, { onDisk }]) => [name, Object.entries(onDisk)])),
      isAvoided: (manager, index, place) => this.#isAvoided(manager, index, place, nowMs),
    });
    const ids = new Set(known.map(({ id }) => id));
    const written = [...orders].map(([manager, own]): [string, readonly ShardsOrder[]] => {
      const placed = [...own].flatMap(([id, places]) => this.#orderFor(indices.get(id), id, places));
      // An index version whose record or manifest cannot be read stays as it is.
      const kept = (ordered.get(manager) ?? []).filter(
        ({ indexVersion: id }) => (indices.has(id) || unreadable.has(id)) && !ids.has(id),
      );
      return [manager, [...placed, ...kept].sort((a, b) => (a.indexVersion < b.indexVersion ? -1 : 1))];
    });
    const ends = [...this.#avoided.values()].map(({ untilMs }) => untilMs).filter((untilMs) => untilMs > nowMs);
    return { orders: new Map(written), conditions, nextAtMs: Math.min(Number.POSITIVE_INFINITY, ...ends) };
  }

  #orderFor(record: IndexRecord | undefined, indexVersion: string, places: ReadonlySet<number>): ShardsOrder[] {
    if (record === undefined || places.size === 0) return [];
    const { manifest, source, contentService, contentRange } = record;
    return [{ indexVersion, manifest, source, contentService, contentRange, places: formatPlaces(places) }];
  }

  #noteFailures(holdings: ReadonlyMap<string, HoldingsRecord>, nowMs: number): void {
    for (const [manager, { failed }] of holdings) {
      for (const { indexVersion, place, tries } of failed) {
        if (tries < TRIES_MAX) continue;
        const key = keyOf(manager, indexVersion, place);
        const known = this.#avoided.get(key);
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

function keyOf(manager: string, index: string, place: number): string {
  return `${manager} ${index} ${place}`;
}

/** Places that cannot be read count as none: a manager writes them anew with its next change. */
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
