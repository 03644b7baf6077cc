// Chooses the version that serves a call. A call that requests a version or a range gets the highest version that
// matches and has a live resource. The others get theirs by the route of the service: by its rules, then by weight.

import { parse, rcompare } from 'semver';
import { KatamariError } from '../../core/mod.ts';
import type { PoolQuery } from '../../core/rpc/mod.ts';
import type { EncodedArguments } from './argument-key.ts';
import { awaitedBy } from './deployed.ts';
import type { ServiceEntry } from './match-pools.ts';
import type { Offer } from './offer.ts';
import { FALLBACK, type Route, type RouteRule } from './route.ts';
import { ruleApplies } from './route-rules.ts';

/** Gets the reason of a choice. */
export interface ChoiceReason {
  /** Name of the rule of the route that has chosen, or FALLBACK; '' for the weights. */
  rule: string;
  /** Set if arguments were encoded to find a sticky key. */
  encoded?: EncodedArguments;
}

/**
 * Picks the version of a call that requests none, by the rules of the route and then by weight, and returns its
 * offers; none when the call must wait for a version that has a weight and no copy yet.
 * @throws KatamariError `overloaded` when the version has nobody alive, and the route says that calls fail then
 */
export function chooseByRoute(
  entry: ServiceEntry,
  offers: readonly Offer[],
  query: PoolQuery,
  reason: ChoiceReason,
): readonly Offer[] {
  reason.rule = '';
  const { route, argumentKey } = entry;
  const key = argumentKey === undefined || query.key !== '' ? query.key : argumentKey.of(query, offers, reason);
  const { rules = NO_RULES, fallback = 'others' } = route ?? NO_ROUTE;
  // Most services have none.
  const rule = rules.length === 0 ? undefined : rules.find((one) => ruleApplies(one, query, entry.splits.salt, key));
  if (rule === undefined && fallback === 'others') return splitByWeight(entry, offers, key);
  if (rule !== undefined) reason.rule = rule.name;
  const version = rule?.to ?? pick(entry, weighted(entry, offers), key);
  const own = ofVersion(offers, version);
  if (own.some(({ alive }) => alive > 0)) return own;
  reason.rule = FALLBACK;
  if (fallback === 'others') return splitByWeight(entry, offers, key);
  if (fallback !== 'fail') return ofVersion(offers, fallback);
  const why = rule === undefined ? 'the weights of its route choose' : `the rule ${rule.name} of its route chooses`;
  throw new KatamariError(
    'overloaded',
    `No copy of ${entry.name}@${version} is alive, which ${why} for this call; the route has fallback: fail`,
    { notRun: true, retryAfterMs: RETRY_AFTER_MS },
  );
}

/**
 * Picks one version by weight and returns its offers; none when the call must wait for a version that has a weight
 * and no copy yet. Calls with equal keys get the same version. Of the calls without a key, each version gets its share.
 */
function splitByWeight(entry: ServiceEntry, offers: readonly Offer[], key: string): readonly Offer[] {
  if (entry.route === undefined) {
    const version = offers[0]?.details.version;
    if (offers.every(({ details }) => details.version === version)) return offers;
  }
  return ofVersion(offers, pick(entry, splitOf(entry, offers), key));
}

function pick({ splits }: ServiceEntry, { versions, weights }: Split, key: string): string {
  if (versions.length <= 1) return versions[0] ?? '';
  const split = splits.get(versions, weights);
  return key === '' ? split.next() : split.of(key);
}

/** Returns the share of the calls of a service that a version gets now, 0..1. */
export function shareOf(entry: ServiceEntry, version: string): number {
  const { versions, weights } = splitOf(entry, entry.offers);
  const sum = weights.reduce((total, one) => total + one, 0);
  const weight = weights[versions.indexOf(version)] ?? 0;
  return sum === 0 ? 0 : weight / sum;
}

/** The versions with a weight that are to run, whether or not a copy is alive; all if there is no weight. */
function weighted(entry: ServiceEntry, offers: readonly Offer[]): Split {
  const { route, deployed } = entry;
  const coming = awaitedBy({ version: '', roles: offers[0]?.details.roles ?? [] }, deployed, offers);
  const all = new Set([...offers.map(({ details }) => details.version), ...coming.map(({ version }) => version)]);
  const versions = [...all].filter((version) => (route?.weights[version] ?? 0) > 0);
  if (versions.length === 0) return splitOf(entry, offers);
  return { versions, weights: versions.map((version) => route?.weights[version] ?? 0) };
}

/** The versions that share the calls, with their weights. */
interface Split {
  readonly versions: readonly string[];
  readonly weights: readonly number[];
}

/**
 * The first of these that exists:
 *
 * 1. versions with a weight and a live resource, by weight
 * 2. versions with a weight that have a pool or are deployed, by weight: calls wait for them
 * 3. all versions with a live resource, by the number of resources: there is no route, or no version that has a weight
 * is to run
 * 4. all versions
 */
function splitOf({ route, deployed }: ServiceEntry, offers: readonly Offer[]): Split {
  const living = aliveByVersion(offers);
  if (route !== undefined) {
    const weightOf = (version: string): number => route.weights[version] ?? 0;
    const known = [...living.keys()].filter((version) => weightOf(version) > 0);
    const serving = known.filter((version) => (living.get(version) ?? 0) > 0);
    if (serving.length > 0) return { versions: serving, weights: serving.map(weightOf) };
    const query = { version: '', roles: offers[0]?.details.roles ?? [] };
    const coming = awaitedBy(query, deployed, offers).filter(
      ({ version, failure }) => failure === '' && weightOf(version) > 0,
    );
    const awaited = [...new Set([...known, ...coming.map(({ version }) => version)])];
    if (awaited.length > 0) return { versions: awaited, weights: awaited.map(weightOf) };
  }
  const serving = [...living.keys()].filter((version) => (living.get(version) ?? 0) > 0);
  if (serving.length > 0) return { versions: serving, weights: serving.map((version) => living.get(version) ?? 0) };
  const versions = [...living.keys()];
  return { versions, weights: versions.map(() => 1) };
}

function aliveByVersion(offers: readonly Offer[]): Map<string, number> {
  const alive = new Map<string, number>();
  for (const offer of offers) {
    const { version } = offer.details;
    alive.set(version, (alive.get(version) ?? 0) + offer.alive);
  }
  return alive;
}

/**
 * Returns the offers of the requested version if there is one, else those of the highest version with a live
 * resource, else those of the highest version.
 */
export function highestVersion(offers: readonly Offer[], query: PoolQuery): readonly Offer[] {
  if (offers.length === 1 || offers.every(({ details }) => details.version === query.version)) return offers;
  const exact = ofVersion(offers, query.version);
  if (exact.length > 0) return exact;
  const living = offers.filter(({ alive }) => alive > 0);
  const best = bestVersion(living.length > 0 ? living : offers, query.version) as Offer;
  return ofVersion(offers, best.details.version);
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

function ofVersion(offers: readonly Offer[], version: string): readonly Offer[] {
  return offers.filter(({ details }) => details.version === version);
}

const RETRY_AFTER_MS = 500;
const NO_RULES: readonly RouteRule[] = [];
const NO_ROUTE: Route = { weights: {} };
