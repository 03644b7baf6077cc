// Finds the pools that can take a call: the method must exist, roles must be equal, the version must satisfy the
// request, and a requested detail that the pool has must be equal. Tags are a preference: of these pools, those with
// the most matching tags and details are returned.

import type { PoolQuery } from '../../core/rpc/mod.ts';
import type { ArgumentKey } from './argument-key.ts';
import type { Offer } from './offer.ts';
import type { DeployedService } from './deployed.ts';
import type { Route } from './route.ts';
import { isVersionMatch } from './version-match.ts';
import type { VersionSplits } from './version-split.ts';

/** What the router knows about one service. */
export interface ServiceEntry {
  readonly name: string;
  /** Its pools; none while no copy was ever up. */
  readonly offers: readonly Offer[];
  readonly deployed: readonly DeployedService[];
  readonly route: Route | undefined;
  /** Finds sticky keys in arguments; undefined if the route does not say so. */
  readonly argumentKey: ArgumentKey | undefined;
  /** Cached matches of plain calls, by requested version ('' for none), then by method. */
  readonly plainMatches: Map<string, Map<string, readonly Offer[]>>;
  /** How its calls were split over versions so far. */
  readonly splits: VersionSplits;
}

/**
 * Same as `matchPools`, for a call without roles, tags and details, with a cache that lives until the offers change.
 * Misses and version ranges are not cached, so that clients cannot grow the cache with invented names.
 */
export function matchPlainCall(entry: ServiceEntry, query: PoolQuery): readonly Offer[] {
  const { method, version } = query;
  const cached = entry.plainMatches.get(version)?.get(method);
  if (cached !== undefined) return cached;
  const offers = matchPools(entry, query);
  if (offers.length > 0 && isKeptMatch(offers, query)) {
    const byMethod = entry.plainMatches.get(version) ?? new Map<string, readonly Offer[]>();
    entry.plainMatches.set(version, byMethod.set(method, offers));
  }
  return offers;
}

/** Whether `matchPlainCall` keeps these matches of a query: not those of a version range. */
export function isKeptMatch(offers: readonly Offer[], { version }: PoolQuery): boolean {
  return version === '' || offers.every(({ details }) => details.version === version);
}

/**
 * Returns the best matching pools of a service. The method is checked first, so that a pool without it never wins by
 * its tags or details.
 */
export function matchPools({ offers }: ServiceEntry, query: PoolQuery): readonly Offer[] {
  return matchDetails(
    offers.filter(({ interface: { methods } }) => methods.has(query.method)),
    query,
  );
}

/**
 * Returns the offers with the best score among those whose roles, version and details match. Does not check the
 * method.
 */
export function matchDetails(offers: readonly Offer[], query: PoolQuery): readonly Offer[] {
  const allowed = offers.filter(({ details }) => {
    if (!isSameSet(details.roles, query.roles) || !isVersionMatch(details.version, query.version)) return false;
    return Object.entries(query.details).every(
      ([key, value]) => !Object.hasOwn(details.more, key) || details.more[key] === value,
    );
  });
  if (allowed.length <= 1) return allowed;
  const scores = allowed.map((offer) => score(offer, query));
  const best = Math.max(...scores);
  return allowed.filter((_, index) => scores[index] === best);
}

/** Returns the number of requested tags and details that an offer has. */
function score({ details }: Offer, query: PoolQuery): number {
  const tags = query.tags.filter((tag) => details.tags.includes(tag)).length;
  return tags + Object.entries(query.details).filter(([key, value]) => details.more[key] === value).length;
}

function isSameSet(some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every((one) => others.includes(one));
}
