// Chooses the version that serves a call. A call that requests a version or a range gets the highest version that
// matches. Calls without a version are split over all versions of the service by weight.

import { parse, rcompare } from 'semver';
import type { PoolQuery } from '../../core/rpc/mod.ts';
import type { ServiceEntry } from './match-pools.ts';
import type { Offer } from './offer.ts';

/**
 * Picks one version by weight and returns its offers. Calls with equal keys get the same version; calls without a key
 * are spread evenly in proportion to the weights.
 */
export function splitByWeight(entry: ServiceEntry, offers: readonly Offer[], key: string): readonly Offer[] {
  const [first] = offers;
  if (offers.length === 1 || first === undefined) return offers;
  // A version without a live resource gets no calls while another version has one.
  const withResources = offers.filter(({ alive }) => alive > 0);
  const candidates = withResources.length > 0 ? withResources : offers;
  const weights = candidates.map((offer) => weight(entry, offer));
  const sum = weights.reduce((total, one) => total + one, 0);
  if (sum === 0) return ofSameVersion(candidates, candidates[0] as Offer);
  let point = (key === '' ? evenPoint(entry.splitCalls++) : hashPoint(key)) * sum;
  const index = weights.findIndex((one) => (point -= one) < 0);
  return ofSameVersion(candidates, candidates[index === -1 ? 0 : index] as Offer);
}

/** Returns the offers of the requested version if there is one, else those of the highest version. */
export function highestVersion(offers: readonly Offer[], query: PoolQuery): readonly Offer[] {
  if (offers.length === 1 || offers.every(({ details }) => details.version === query.version)) return offers;
  return ofSameVersion(offers, bestVersion(offers, query.version) as Offer);
}

/**
 * Returns one of the pools with the requested version, else one with the highest version; undefined for no pools. All
 * must match the request. A version that SemVer does not know, such as `1.0`, is lower than all that it knows.
 */
export function bestVersion<Pool extends { readonly details: { readonly version: string } }>(
  pools: readonly Pool[],
  requested: string,
): Pool | undefined {
  const exact = pools.find(({ details }) => details.version === requested);
  return exact ?? [...pools].sort((a, b) => newestFirst(a.details.version, b.details.version))[0];
}

function newestFirst(a: string, b: string): number {
  const [versionA, versionB] = [parse(a), parse(b)];
  if (versionA !== null && versionB !== null) return rcompare(versionA, versionB);
  if (versionA === null && versionB === null) return a < b ? 1 : -1;
  return versionA === null ? 1 : -1;
}

function ofSameVersion(offers: readonly Offer[], chosen: Offer): readonly Offer[] {
  return offers.filter(({ details }) => details.version === chosen.details.version);
}

/**
 * Returns the weight of one offer: the route's weight of its version, divided by the number of offers of that
 * version. Without a route it is the number of live resources.
 */
export function weight({ route, offers }: ServiceEntry, { details, alive }: Offer): number {
  if (route === undefined || Object.keys(route.weights).length === 0) return alive;
  const ofVersion = offers.filter((other) => other.details.version === details.version);
  return (route.weights[details.version] ?? 0) / ofVersion.length;
}

/** Multiples of the golden ratio modulo 1, which spread evenly over 0..1 from the first call on. */
function evenPoint(callNumber: number): number {
  return (callNumber * 0.618033988749895) % 1;
}

/** Maps a key to a point in 0..1: FNV-1a with a final shuffle, because FNV-1a alone mixes short keys badly. */
function hashPoint(key: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return ((hash ^ (hash >>> 13)) >>> 0) / 2 ** 32;
}
