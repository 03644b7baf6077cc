// Which managers serve which shards, as this process knows it: index versions from Consul, holdings from the links of
// the managers, pools from the fleet. A view of an index version is computed at first use after a change.

import { isVersionMatch, parsePlaces, type Holding, type Holdings, type Offer } from '../mesh/mod.ts';
import { NEWCOMER_REQUESTS_MAX } from './limits.ts';
import { Slowness } from './slowness.ts';

/** An index version and its shards. */
export interface KnownIndex {
  /** `name@version` */
  readonly id: string;
  /** SHA-256 of its manifest. */
  readonly manifest: string;
  /** The content service that serves it, and the SemVer range of its versions. */
  readonly contentService: string;
  readonly contentRange: string;
  /** Names of the shards, by place. */
  readonly shards: readonly string[];
}

/** A manager that serves shards, with the pool of its content service. */
export class ShardServer {
  readonly manager: string;
  offer: Offer;
  /** Requests of this process that it has not answered. */
  inFlight = 0;
  readonly slowness: Slowness = new Slowness();

  constructor(manager: string, offer: Offer) {
    this.manager = manager;
    this.offer = offer;
  }

  get isReachable(): boolean {
    return this.offer.isReachable;
  }

  /** Requests for each copy, this one included, times the slowness of its answers. */
  load(nowMs: number): number {
    const { queued, alive } = this.offer;
    return ((queued + this.inFlight + 1) / Math.max(1, alive)) * this.slowness.at(nowMs);
  }

  /** How many requests it may get now, if another manager can answer in its place. */
  get allowance(): number {
    return this.slowness.isNewcomer ? NEWCOMER_REQUESTS_MAX - this.inFlight : Number.POSITIVE_INFINITY;
  }
}

/** Where the shards of an index version are. */
export interface ServedIndex {
  readonly id: string;
  /** SHA-256 of its manifest: a version that was removed and added anew has another one. */
  readonly manifest: string;
  /** Full names by place: `index@version/shard`. */
  readonly names: readonly string[];
  /** All places. */
  readonly places: readonly number[];
  readonly placeOf: ReadonlyMap<string, number>;
  /** Holders by place, in an order that differs from shard to shard, so that they share the calls. */
  readonly holders: readonly (readonly ShardServer[])[];
  /** All holders, each once. */
  readonly managers: readonly ShardServer[];
  /** Why a manager does not serve a shard that it is to serve, by full name. */
  readonly failures: ReadonlyMap<string, string>;
  /** The content servers of all holders, as `serversText` names them. */
  readonly server: string;
  /** The same shards with the holders that they have now; undefined when the version was removed. */
  readonly again: () => ServedIndex | undefined;
}

export class ShardMap {
  #indices: ReadonlyMap<string, KnownIndex> = new Map();
  readonly #holdings = new Map<string, Holdings['holdings']>();
  readonly #failed = new Map<string, Holdings['failed']>();
  /** By manager, service and version. */
  readonly #holders = new Map<string, ShardServer>();
  readonly #views = new Map<string, ServedIndex>();

  setIndices(indices: ReadonlyMap<string, KnownIndex>): void {
    for (const [id, index] of this.#indices) if (indices.get(id) !== index) this.#views.delete(id);
    this.#indices = indices;
  }

  /** Replaces what a manager serves; undefined when it has left. */
  setHoldings(manager: string, held: Pick<Holdings, 'holdings' | 'failed'> | undefined): void {
    const [holdings, failed] = [held?.holdings ?? [], held?.failed ?? []];
    this.#forgetViewsOf(manager);
    this.#holdings.set(manager, holdings);
    this.#failed.set(manager, failed);
    this.#forgetViewsOf(manager);
    if (held !== undefined) return;
    this.#holdings.delete(manager);
    this.#failed.delete(manager);
  }

  setOffers(offers: readonly Offer[]): void {
    const seen = new Set<string>();
    for (const offer of offers) {
      const key = holderKey(offer.manager, offer.details.service, offer.details.version);
      // A manager may have several pools of one version; the first one serves.
      if (seen.has(key)) continue;
      seen.add(key);
      const holder = this.#holders.get(key);
      if (holder !== undefined) holder.offer = offer;
      else {
        this.#holders.set(key, new ShardServer(offer.manager, offer));
        this.#forgetViewsOf(offer.manager);
      }
    }
    for (const [key, { manager }] of this.#holders) {
      if (seen.has(key)) continue;
      this.#holders.delete(key);
      this.#forgetViewsOf(manager);
    }
  }

  /** Returns undefined for an unknown index version. */
  get(id: string): ServedIndex | undefined {
    const known = this.#views.get(id);
    if (known !== undefined) return known;
    const index = this.#indices.get(id);
    if (index === undefined) return undefined;
    const view = this.#view(index);
    this.#views.set(id, view);
    return view;
  }

  /** A pool of the content service that serves the index version; undefined while none is known. */
  offerOf(id: string): Offer | undefined {
    const index = this.#indices.get(id);
    if (index === undefined) return undefined;
    for (const [manager, holdings] of this.#holdings) {
      const server = this.#serverOf(manager, holdingOf(holdings, index));
      if (server !== undefined) return server.offer;
    }
    return undefined;
  }

  /** The number of shards of an index version that some manager serves. Costs less than a view. */
  servedCount(id: string): number {
    const index = this.#indices.get(id);
    if (index === undefined) return 0;
    const served = new Set<number>();
    for (const holdings of this.#holdings.values())
      for (const place of placesOf(holdingOf(holdings, index)?.places ?? '')) served.add(place);
    return served.size;
  }

  #view(index: KnownIndex): ServedIndex {
    const { id, manifest, shards } = index;
    const names = shards.map((name) => `${id}/${name}`);
    const holders: ShardServer[][] = shards.map(() => []);
    for (const [manager, holdings] of this.#holdings) {
      const holding = holdingOf(holdings, index);
      const server = this.#serverOf(manager, holding);
      if (server !== undefined) for (const place of placesOf(holding?.places ?? '')) holders[place]?.push(server);
    }
    const bases = new Map(holders.flat().map((server) => [server, rankOf(`${id} ${server.manager}`)]));
    for (const [place, own] of holders.entries()) {
      if (own.length < 2) continue;
      const rank = (server: ShardServer): number => rankAt(bases.get(server) as number, place);
      own.sort((a, b) => rank(b) - rank(a));
    }
    const managers = [...bases.keys()];
    const places = names.map((_, place) => place);
    const placeOf = new Map(names.map((name, place) => [name, place]));
    const again = (): ServedIndex | undefined => {
      const now = this.get(id);
      return now?.manifest === manifest ? now : undefined;
    };
    return {
      id,
      manifest,
      names,
      places,
      placeOf,
      holders,
      managers,
      server: serversText(managers),
      failures: this.#failuresOf(id, names),
      again,
    };
  }

  #failuresOf(id: string, names: readonly string[]): ReadonlyMap<string, string> {
    const failures = new Map<string, string>();
    for (const [manager, failed] of this.#failed)
      for (const { indexVersion, place, why } of failed)
        if (indexVersion === id) failures.set(names[place] ?? '', `${manager}: ${why}`);
    return failures;
  }

  #serverOf(manager: string, holding: Holding | undefined): ShardServer | undefined {
    if (holding === undefined) return undefined;
    return this.#holders.get(holderKey(manager, holding.serviceName, holding.serviceVersion));
  }

  #forgetViewsOf(manager: string): void {
    for (const { indexVersion } of [...(this.#holdings.get(manager) ?? []), ...(this.#failed.get(manager) ?? [])])
      this.#views.delete(indexVersion);
  }
}

/** `Service@version` of each content server, which may count otherwise in other versions. */
export function serversText(managers: readonly ShardServer[]): string {
  const names = managers.map(({ offer: { details } }) => `${details.service}@${details.version}`);
  return [...new Set(names)].sort().join(' ');
}

/** What a manager says about an index version: of this manifest, and served by its content service. */
function holdingOf(
  holdings: readonly Holding[],
  { id, manifest, contentService, contentRange }: KnownIndex,
): Holding | undefined {
  return holdings.find(
    (one) =>
      one.indexVersion === id &&
      one.manifest === manifest &&
      one.serviceName === contentService &&
      isVersionMatch(one.serviceVersion, contentRange),
  );
}

/** Places that a manager sent; none when it sent something else. */
function placesOf(text: string): readonly number[] {
  try {
    return parsePlaces(text);
  } catch {
    return [];
  }
}

function holderKey(manager: string, service: string, version: string): string {
  return `${manager} ${service}@${version}`;
}

/** FNV-1a with a final shuffle: equal texts have equal ranks in every process. */
export function rankOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return (hash ^ (hash >>> 13)) >>> 0;
}

/** Rank for a shard, from a rank of its manager: neighbors differ in all bits. */
export function rankAt(rank: number, place: number): number {
  const value = rank ^ Math.imul(place + 1, 0x9e3779b1);
  const hash = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}
