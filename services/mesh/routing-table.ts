// What a process knows of the services of the mesh: their pools, deployments and routes. It finds the offers of the
// pool that a call gets, which access policy, details, versions and routes decide. The matching pools of a call without
// roles, tags and details come from a cache.

import { KatamariError } from '../../core/mod.ts';
import {
  ANONYMOUS,
  hasNoDetails,
  type Call,
  type CallerIdentity,
  type PoolQuery,
  type PoolView,
} from '../../core/rpc/mod.ts';
import type { AccessFilter } from './access-filter.ts';
import { ArgumentKey } from './argument-key.ts';
import { chooseByRoute, highestVersion, shareOf, type ChoiceReason } from './choose-version.ts';
import { awaitedBy, type DeployedService } from './deployed.ts';
import { explainRoute, type RouteExplanation } from './explain-route.ts';
import { matchPlainCall, matchPools, type ServiceEntry } from './match-pools.ts';
import { mergeViews } from './merged-view.ts';
import { ambiguousMethodError, noMatchError, unknownMethodError, unknownServiceError } from './no-pool-error.ts';
import type { Offer } from './offer.ts';
import { isNoRoute, type Route, type Routes } from './route.ts';
import { VersionSplits } from './version-split.ts';

export class RoutingTable {
  readonly #access: AccessFilter;
  readonly #random: () => number;
  #services: ReadonlyMap<string, ServiceEntry> = new Map();
  /** Names of services by method, for calls that name no service. */
  #servicesByMethod: ReadonlyMap<string, readonly string[]> = new Map();
  #offers: readonly Offer[] = [];
  #deployed: readonly DeployedService[] = [];
  #routes: Routes = new Map();
  #views: readonly PoolView[] = [];

  /** @param random 0..1 */
  constructor(access: AccessFilter, random: () => number) {
    this.#access = access;
    this.#random = random;
  }

  /** @param deployed what should run, merged (mergeDeployed) */
  setOffers(offers: readonly Offer[], deployed: readonly DeployedService[]): void {
    this.#offers = [...offers].sort(byServiceThenVersion);
    this.#deployed = deployed;
    this.#rebuild();
  }

  setRoutes(routes: Routes): void {
    this.#routes = routes;
    this.#rebuild();
  }

  /** Returns each pool once, even if several managers serve it. */
  pools(): readonly PoolView[] {
    return this.#views;
  }

  /** Returns the share of a service's calls that a version gets now, 0..1. */
  weightOf(service: string, version: string): number {
    const entry = this.#services.get(service);
    return entry === undefined ? 0 : shareOf(entry, version);
  }

  hasOtherManager({ details: { service, version }, manager }: Offer): boolean {
    const { offers = [] } = this.#services.get(service) ?? {};
    return offers.some((other) => other.details.version === version && other.manager !== manager && other.isReachable);
  }

  /** The experiment that a call of a service with a route is part of, and its sticky key; undefined without a route. */
  experimentOf(call: Call): { readonly experiment: string; readonly key: string } | undefined {
    const entry = this.#services.get(call.service);
    if (entry?.route === undefined) return undefined;
    const key = call.key === '' ? (entry.argumentKey?.of(call, entry.offers, {}) ?? '') : call.key;
    return { experiment: entry.splits.salt, key };
  }

  /** The services with a route, by the name of their experiment. */
  experiments(): ReadonlyMap<string, readonly string[]> {
    const routed = [...this.#services.values()].filter(({ route }) => route !== undefined);
    const names = byService(routed, ({ splits }) => splits.salt);
    return new Map([...names].map(([experiment, entries]) => [experiment, entries.map(({ name }) => name)]));
  }

  /** Says what the route of a service does with a call; undefined for an unknown service. It counts no call. */
  explain(query: PoolQuery): RouteExplanation | undefined {
    const entry = this.#services.get(query.service);
    if (entry === undefined) return undefined;
    // Splits of its own: the next call of a client gets the version that it would have got.
    const apart = { ...entry, splits: new VersionSplits(entry.splits.salt, this.#random) };
    const offers = query.method === '' ? entry.offers : matchPools(entry, query);
    return explainRoute(entry, query, (reason) => {
      if (offers.length === 0) throw noMatchError(entry, query, this.#known);
      return chooseByRoute(apart, offers, query, reason);
    });
  }

  /** The deployments without a copy that a call could use; of those with a weight, if its route has any. */
  awaited(query: PoolQuery): readonly DeployedService[] {
    if (query.service === '') {
      // The interface of a service without pools is unknown: it may be the one with this method.
      if (this.#servicesByMethod.has(query.method)) return [];
      return [...this.#services.values()].flatMap(({ deployed, offers }) => awaitedBy(query, deployed, offers));
    }
    const entry = this.#services.get(query.service);
    if (entry === undefined) return [];
    const awaited = awaitedBy(query, entry.deployed, entry.offers);
    const weighted = awaited.filter(({ version }) => (entry.route?.weights[version] ?? 0) > 0);
    return query.version === '' && weighted.length > 0 ? weighted : awaited;
  }

  /**
   * The offers of the pool for a call, one per manager; never empty. Versions that the caller may not call are no
   * candidates.
   * @param isWish whether the caller asks for the version of the query @throws KatamariError `no_pool`, `denied`
   */
  choose(query: PoolQuery, reason: ChoiceReason, isWish: boolean): readonly Offer[] {
    const identity = query.identity ?? ANONYMOUS;
    const entry = this.#services.get(query.service) ?? this.#serviceOf(query, identity);
    const offers = this.#match(entry, query, identity);
    if (offers.length === 0) throw this.#access.denied(identity, query);
    if (query.version !== '') {
      if (isWish && entry.route?.callersChoose === false) throw wishDenied(entry.name, query.version);
      return highestVersion(offers, query);
    }
    const chosen = chooseByRoute(entry, offers, query, reason);
    if (chosen.length === 0) throw this.#noPool(identity, query, noMatchError(entry, query, this.#known));
    return chosen;
  }

  /** The offers for the copy of a call to an exact version; none if its caller may not call it. */
  offersOf(query: PoolQuery): readonly Offer[] {
    const entry = this.#services.get(query.service);
    const offers = entry === undefined ? [] : matchPools(entry, query);
    return offers.filter((offer) => this.#access.mayCall(query.identity ?? ANONYMOUS, offer, query.method));
  }

  /** The matching offers that the caller may call; empty if there are only others. @throws KatamariError `no_pool` */
  #match(entry: ServiceEntry, query: PoolQuery, identity: CallerIdentity): readonly Offer[] {
    const isPlain = query.roles.length === 0 && query.tags.length === 0 && hasNoDetails(query);
    const matching = isPlain ? matchPlainCall(entry, query) : matchPools(entry, query);
    if (matching.length === 0) throw this.#noPool(identity, query, noMatchError(entry, query, this.#known));
    if (isPlain) return this.#access.allowed(identity, matching, query);
    if (!this.#access.isLimited(identity)) return matching;
    // Of the pools that the caller may call, the best is chosen: tags and details must not lead to another one.
    const offers = entry.offers.filter((offer) => this.#access.mayCall(identity, offer, query.method));
    return matchPools({ ...entry, offers }, query);
  }

  /** The service of a call that names none: the only service that has the method. @throws KatamariError `no_pool` */
  #serviceOf(query: PoolQuery, identity: CallerIdentity): ServiceEntry {
    if (query.service !== '') throw this.#noPool(identity, query, unknownServiceError(query, this.#known));
    const all = this.#servicesByMethod.get(query.method) ?? [];
    const names = this.#access.isLimited(identity)
      ? all.filter((name) => this.#mayCallAny(identity, this.#services.get(name) as ServiceEntry, query.method))
      : all;
    const entry = this.#services.get(names[0] ?? '');
    if (entry === undefined) throw this.#noPool(identity, query, unknownMethodError(query, this.#known));
    if (names.length > 1) throw ambiguousMethodError(query, names);
    return entry;
  }

  #mayCallAny(identity: CallerIdentity, { offers }: ServiceEntry, method: string): boolean {
    return offers.some((offer) => this.#access.mayCall(identity, offer, method));
  }

  /** Keeps what the mesh offers from callers that may not call it: neither the code nor the text tells them. */
  #noPool(identity: CallerIdentity, query: PoolQuery, error: KatamariError): KatamariError {
    if (!this.#access.isLimited(identity)) return error;
    const { service, version, method } = query;
    if (!this.#access.mayName(identity, service, method)) return this.#access.denied(identity, query);
    const target = `${service}${version === '' ? '' : `@${version}`}${service === '' ? '' : '.'}${method}`;
    return new KatamariError('no_pool', `No pool that this caller may call offers ${target}`, error.facts);
  }

  get #known(): {
    services: ReadonlyMap<string, ServiceEntry>;
    servicesByMethod: ReadonlyMap<string, readonly string[]>;
  } {
    return { services: this.#services, servicesByMethod: this.#servicesByMethod };
  }

  #rebuild(): void {
    const offersOf = byService(this.#offers, ({ details }) => details.service);
    const deployedOf = byService(this.#deployed, ({ service }) => service);
    const names = new Set([...offersOf.keys(), ...deployedOf.keys()]);
    this.#services = new Map(
      [...names].map((name) => [name, this.#entryOf(name, offersOf.get(name) ?? [], deployedOf.get(name) ?? [])]),
    );
    const byMethod = new Map<string, Set<string>>();
    for (const { details, interface: iface } of this.#offers) {
      for (const method of iface.methods.keys())
        byMethod.set(method, (byMethod.get(method) ?? new Set()).add(details.service));
    }
    this.#servicesByMethod = new Map([...byMethod].map(([method, services]) => [method, [...services]]));
    this.#views = mergeViews(this.#offers);
    this.#access.forget();
  }

  #entryOf(name: string, offers: readonly Offer[], deployed: readonly DeployedService[]): ServiceEntry {
    const route = this.#routeOf(name);
    const argumentKey = ArgumentKey.forRoute(route, offers);
    const splits = this.#splitsOf(name, route);
    return { name, offers, deployed, route, argumentKey, plainMatches: new Map(), splits };
  }

  /** A change of pools or weights does not begin the pattern of versions anew. */
  #splitsOf(service: string, route: Route | undefined): VersionSplits {
    const known = this.#services.get(service)?.splits;
    const salt = route?.experiment ?? service;
    return known?.salt === salt ? known : new VersionSplits(salt, this.#random);
  }

  /** The route of a service; undefined when it has no rules, and no version has a weight. */
  #routeOf(service: string): Route | undefined {
    const route = this.#routes.get(service);
    return route === undefined || isNoRoute(route) ? undefined : route;
  }
}

function wishDenied(service: string, version: string): KatamariError {
  const why = `the route of ${service} does not let callers choose one; leave it out`;
  return new KatamariError('denied', `This call asks for version ${version}, and ${why}`);
}

function byServiceThenVersion(a: Offer, b: Offer): number {
  if (a.details.service !== b.details.service) return a.details.service < b.details.service ? -1 : 1;
  return a.details.version === b.details.version ? 0 : a.details.version < b.details.version ? -1 : 1;
}

function byService<T>(all: readonly T[], serviceOf: (one: T) => string): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>();
  for (const one of all) {
    const service = serviceOf(one);
    const group = groups.get(service);
    if (group === undefined) groups.set(service, [one]);
    else group.push(one);
  }
  return groups;
}
