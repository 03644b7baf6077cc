// Chooses a manager for each shard of a call, and splits the shards of a manager over its free copies.

import { REQUESTS_PER_MANAGER_MAX, UNEVEN_LOAD_RATIO } from './limits.ts';
import { type ShardServer, rankOf, type ServedIndex } from './shard-map.ts';

/** Shards that one request asks a manager for. */
export interface PlannedRequest {
  readonly holder: ShardServer;
  readonly places: readonly number[];
}

export interface RequestPlan {
  readonly requests: readonly PlannedRequest[];
  /** Shards without a manager that can be reached and may be asked. */
  readonly unplaced: readonly number[];
}

/**
 * Plans requests. Calls with equal keys get the same managers while these are equally busy.
 * @param mayAsk whether a manager may be asked for a shard
 */
export function planRequests(
  { holders }: ServedIndex,
  places: readonly number[],
  key: string,
  mayAsk: (holder: ShardServer, place: number) => boolean,
): RequestPlan {
  const turn = key === '' ? 0 : rankOf(key);
  const loads = new Map<ShardServer, number>();
  const chosen = new Map<ShardServer, number[]>();
  const unplaced: number[] = [];
  for (const place of places) {
    const holder = choose(holders[place] ?? [], turn, loads, (one) => mayAsk(one, place));
    if (holder === undefined) {
      unplaced.push(place);
      continue;
    }
    const own = chosen.get(holder);
    if (own === undefined) chosen.set(holder, [place]);
    else own.push(place);
  }
  const requests = [...chosen].flatMap(([holder, own]) => split(holder, own));
  return { requests, unplaced };
}

/** The first holder in the order of the shard, unless another one is much less busy. */
function choose(
  holders: readonly ShardServer[],
  turn: number,
  loads: Map<ShardServer, number>,
  mayAsk: (holder: ShardServer) => boolean,
): ShardServer | undefined {
  let preferred: ShardServer | undefined;
  let best: ShardServer | undefined;
  for (let at = 0; at < holders.length; at++) {
    const holder = holders[(at + turn) % holders.length] as ShardServer;
    if (!holder.isReachable || !mayAsk(holder)) continue;
    preferred ??= holder;
    if (best === undefined || loadOf(holder, loads) < loadOf(best, loads)) best = holder;
  }
  if (preferred === undefined || best === undefined) return undefined;
  return loadOf(preferred, loads) > loadOf(best, loads) * UNEVEN_LOAD_RATIO ? best : preferred;
}

function loadOf(holder: ShardServer, loads: Map<ShardServer, number>): number {
  const known = loads.get(holder);
  if (known !== undefined) return known;
  const load = holder.load();
  loads.set(holder, load);
  return load;
}

function split(holder: ShardServer, places: readonly number[]): readonly PlannedRequest[] {
  const count = Math.min(Math.max(1, holder.offer.free), places.length, REQUESTS_PER_MANAGER_MAX);
  if (count === 1) return [{ holder, places }];
  const each = Math.ceil(places.length / count);
  const requests: PlannedRequest[] = [];
  for (let at = 0; at < places.length; at += each) requests.push({ holder, places: places.slice(at, at + each) });
  return requests;
}
