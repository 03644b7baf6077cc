// Chooses the version that gets a call: the one asked for, else a weighted split over all versions of the service.

import { rcompare } from 'semver';
import type { PoolQuery } from '../../core/rpc/mod.ts';
import type { Offer } from './offer.ts';
import type { Route } from './route.ts';

// Which version of a service takes a call: the requested one, else a split by the weights of the route.

/** All that is known of one service. */
export interface ServiceEntry {
  readonly name: string;
  readonly offers: readonly Offer[];
  readonly route: Route | undefined;
  /** What was found for calls that ask for no more than a method ('') or a method of a version that there is: by version, then by method. */
  readonly plain: Map<string, Map<string, readonly Offer[]>>;
  /** Calls so far that were split by weight. */
  turn: number;
}

export function score({ details }: Offer, wanted: PoolQuery): number {
  const tags = wanted.tags.filter((tag) => details.tags.includes(tag)).length;
  return tags + Object.entries(wanted.details).filter(([key, value]) => details.more[key] === value).length;
}

/** One version for the call: the same one for equal keys, else each in its share, evenly spread. */
export function splitByWeight(entry: ServiceEntry, offers: readonly Offer[], key: string): readonly Offer[] {
  const [first] = offers;
  if (offers.length === 1 || first === undefined) return offers;
  // A version none of whose resources is alive gets nothing while another one lives.
  const living = offers.filter(({ alive }) => alive > 0);
  const among = living.length > 0 ? living : offers;
  const weights = among.map((offer) => weight(entry, offer));
  const sum = weights.reduce((total, one) => total + one, 0);
  if (sum === 0) return sameVersion(among, among[0] as Offer);
  let point = (key === '' ? evenly(entry.turn++) : hashed(key)) * sum;
  const index = weights.findIndex((one) => (point -= one) < 0);
  return sameVersion(among, among[index === -1 ? 0 : index] as Offer);
}

/** The highest version that matches; of several pools of it, all. */
export function bestVersion(offers: readonly Offer[], wanted: PoolQuery): readonly Offer[] {
  if (offers.length === 1 || offers.every(({ details }) => details.version === wanted.version)) return offers;
  const [highest] = [...offers].sort((a, b) => rcompare(a.details.version, b.details.version));
  return sameVersion(offers, highest as Offer);
}

function sameVersion(offers: readonly Offer[], chosen: Offer): readonly Offer[] {
  return offers.filter(({ details }) => details.version === chosen.details.version);
}

/** A route's weight, or the living resources when the service has none. Split among a version's pools by their resources. */
export function weight({ route, offers }: ServiceEntry, { details, alive }: Offer): number {
  if (route === undefined || Object.keys(route.weights).length === 0) return alive;
  const ofVersion = offers.filter((other) => other.details.version === details.version);
  return (route.weights[details.version] ?? 0) / ofVersion.length;
}

/** Points in 0..1 that fill it evenly from the first ones on: multiples of the golden ratio. */
function evenly(turn: number): number {
  return (turn * 0.618033988749895) % 1;
}

/** A key as a point in 0..1: FNV-1a, well mixed for short keys by a final shuffle. */
function hashed(key: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return ((hash ^ (hash >>> 13)) >>> 0) / 2 ** 32;
}
