// Chooses a manager for each shard of a call, and splits the shards of a manager over its free copies.

import { REQUESTS_PER_MANAGER_MAX, UNEVEN_LOAD_RATIO } from './limits.ts';
import { rankAt, rankOf, type ShardServer, type ServedIndex } from './shard-map.ts';

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
 * Plans requests. Calls with equal keys get the same managers while these are equally busy. A manager that joins takes
 * its share of the keys from the others, and no key moves between these.
 * @param mayAsk whether a manager may be asked for a shard
 */
export function planRequests(
  { id, holders, managers }: ServedIndex,
  places: readonly number[],
  key: string,
  nowMs: number,
  mayAsk: (holder: ShardServer, place: number) => boolean,
): RequestPlan {
  const rank = key === '' ? undefined : ranksOf(id, key);
  const loads = new Map<ShardServer, number>();
  const chosen = new Map<ShardServer, number[]>();
  const unplaced: number[] = [];
  for (const place of places) {
    const holder = choose(holders[place] ?? [], place, rank, loads, nowMs, mayAsk);
    if (holder === undefined) {
      unplaced.push(place);
      continue;
    }
    const own = chosen.get(holder);
    if (own === undefined) chosen.set(holder, [place]);
    else own.push(place);
  }
  const mayShare = (holder: ShardServer): boolean => managers.some((one) => one !== holder && one.isReachable);
  const requests = [...chosen].flatMap(([holder, own]) => split(holder, own, mayShare));
  return { requests, unplaced };
}

/** Rank of a manager among those of a shard; the highest one is preferred. */
type HolderRank = (holder: ShardServer, place: number) => number;

/** Ranks of the calls with a key, as rendezvous hashing has them. */
function ranksOf(id: string, key: string): HolderRank {
  const bases = new Map<ShardServer, number>();
  return (holder, place) => {
    let base = bases.get(holder);
    if (base === undefined) bases.set(holder, (base = rankOf(`${id} ${holder.manager} ${key}`)));
    return rankAt(base, place);
  };
}

/**
 * The holder with the highest rank, unless another one is much less busy. Newcomers get few requests.
 * @param rank undefined for the order of the shard
 */
function choose(
  inOrder: readonly ShardServer[],
  place: number,
  rank: HolderRank | undefined,
  loads: Map<ShardServer, number>,
  nowMs: number,
  mayAsk: (holder: ShardServer, place: number) => boolean,
): ShardServer | undefined {
  const holders =
    rank === undefined || inOrder.length < 2 ? inOrder : [...inOrder].sort((a, b) => rank(b, place) - rank(a, place));
  let preferred: ShardServer | undefined;
  let best: ShardServer | undefined;
  let newcomer: ShardServer | undefined;
  for (const holder of holders) {
    if (!holder.isReachable) {
      holder.slowness.restart();
      continue;
    }
    if (!mayAsk(holder, place)) continue;
    if (holder.allowance <= 0) {
      newcomer ??= holder;
      continue;
    }
    preferred ??= holder;
    if (best === undefined || loadOf(holder, loads, nowMs) < loadOf(best, loads, nowMs)) best = holder;
  }
  if (preferred === undefined || best === undefined) return newcomer;
  if (preferred === best) return best;
  return loadOf(preferred, loads, nowMs) > loadOf(best, loads, nowMs) * UNEVEN_LOAD_RATIO ? best : preferred;
}

function loadOf(holder: ShardServer, loads: Map<ShardServer, number>, nowMs: number): number {
  const known = loads.get(holder);
  if (known !== undefined) return known;
  const load = holder.load(nowMs);
  loads.set(holder, load);
  return load;
}

/** @param mayShare whether another manager may answer some of the calls */
function split(
  holder: ShardServer,
  places: readonly number[],
  mayShare: (holder: ShardServer) => boolean,
): readonly PlannedRequest[] {
  const isLimited = holder.allowance < REQUESTS_PER_MANAGER_MAX && mayShare(holder);
  const most = isLimited ? holder.allowance : REQUESTS_PER_MANAGER_MAX;
  const count = Math.max(1, Math.min(holder.offer.free, places.length, most));
  if (count === 1) return [{ holder, places }];
  const each = Math.ceil(places.length / count);
  const requests: PlannedRequest[] = [];
  for (let at = 0; at < places.length; at += each) requests.push({ holder, places: places.slice(at, at + each) });
  return requests;
}
