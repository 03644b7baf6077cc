// Settings, routes and the deployments in Consul, which all processes of a mesh share. Changes apply as soon as a watch
// delivers them. While Consul is unreachable, and when it comes back without data, the last known values stay in use.

import { KatamariError, systemClock, type Clock } from '../../core/mod.ts';
import {
  changeValue,
  type ConsulClient,
  type ConsulEntry,
  setUnlessChanged,
  watchPrefix,
  type ChangeFacts,
  type ConsulWatch,
  type WatchedEntries,
  type WatchStats,
} from '../consul/mod.ts';
import type { DeployedService } from './deployed.ts';
import { DEPLOYMENT, type Deployment } from './deployment.ts';
import type { EventLog } from './event-log.ts';
import type { Reachability } from './reachability.ts';
import { keysOf, readEntry, readRecords, type Keys, type RecordCache } from './records.ts';
import { isNoRoute, isSameRoute, mergeRoute, ROUTE, type Route, type RouteChange, type Routes } from './route.ts';
import { routeIn, routeOvertaken, RouteStore, type RouteEdit } from './route-store.ts';
import { setMaxListeners } from 'node:events';
import { z } from 'zod';

export interface SharedStateOptions {
  readonly client: ConsulClient;
  readonly mesh: string;
  readonly events: EventLog;
  readonly reachability: Reachability;
  /** Values that apply until Consul has others. */
  readonly initial: { readonly timeoutMs: number; readonly routes: Routes };
  readonly clock?: Clock;
}

export class SharedState {
  readonly #options: SharedStateOptions;
  readonly #clock: Clock;
  readonly #keys: Keys;
  readonly #store: RouteStore;
  readonly #end = new AbortController();
  readonly #watches: ConsulWatch[] = [];
  #initial: SharedStateOptions['initial'];
  #timeoutMs: number;
  #routes: Routes;
  #deployed: readonly DeployedService[] = [];
  readonly #deploymentCache: RecordCache<Deployment> = new Map();
  /** Settings and routes that the mesh has in Consul; they win over those of the configuration. */
  #hasOwnTimeout = false;
  #ownRoutes: Routes = new Map();
  #onRoutes: (routes: Routes) => void = () => undefined;
  #onDeployed: () => void = () => undefined;

  constructor(options: SharedStateOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#keys = keysOf(options.mesh);
    this.#store = new RouteStore(options.client, options.mesh);
    // Each request in flight adds a listener to this signal. Many listeners are not a leak, so disable the warning.
    setMaxListeners(0, this.#end.signal);
    this.#initial = options.initial;
    this.#timeoutMs = options.initial.timeoutMs;
    this.#routes = options.initial.routes;
  }

  /** Global timeout in ms. */
  get timeoutMs(): number {
    return this.#timeoutMs;
  }

  get routes(): Routes {
    return this.#routes;
  }

  /** The deployments in Consul that have copies, whether or not a manager runs them yet. */
  get deployed(): readonly DeployedService[] {
    return this.#deployed;
  }

  /** Statistics of the watches, for the metrics. */
  stats(): readonly WatchStats[] {
    return this.#watches.map((watch) => watch.stats());
  }

  /** Loads the values of a snapshot, for a start without Consul. */
  loadSnapshot({ timeoutMs, routes }: { timeoutMs: number; routes: Routes }): void {
    this.#setTimeout(timeoutMs);
    this.#ownRoutes = routes;
    this.#setRoutes(routes);
  }

  /**
   * Starts the watches. Resolves when all values are known, or after 2 s without a response. The process then starts
   * with the values of the configuration.
   */
  async start(onRoutes: (routes: Routes) => void, onDeployed: () => void = () => undefined): Promise<void> {
    this.#onDeployed = onDeployed;
    this.#onRoutes = onRoutes;
    onRoutes(this.#routes);
    this.#watch(this.#keys.settings, (entries, facts) => this.#takeSettings(entries, facts));
    this.#watch(this.#keys.routes, (entries, facts) => this.#takeRoutes(entries, facts));
    this.#watch(this.#keys.deployments, (entries, facts) => this.#takeDeployments(entries, facts));
    const timeout = new Promise<void>((resolve) => {
      const stop = this.#clock.after(START_WAIT_MS, resolve);
      this.#end.signal.addEventListener('abort', stop, { once: true });
    });
    await Promise.race([Promise.all(this.#watches.map(({ ready }) => ready)), timeout]);
  }

  /**
   * Replaces the values of the configuration, because its file has changed.
   * @returns keys of changed values that have no effect, because the mesh has others in Consul
   */
  setInitial(initial: SharedStateOptions['initial']): string[] {
    const before = this.#initial;
    this.#initial = initial;
    if (!this.#hasOwnTimeout) this.#setTimeout(initial.timeoutMs);
    this.#setRoutes(new Map([...initial.routes, ...this.#ownRoutes]));
    const services = [...new Set([...before.routes.keys(), ...initial.routes.keys()])];
    return [
      ...(this.#hasOwnTimeout && initial.timeoutMs !== before.timeoutMs ? ['timeout'] : []),
      ...services
        .filter((service) => this.#ownRoutes.has(service))
        .filter((service) => JSON.stringify(initial.routes.get(service)) !== JSON.stringify(before.routes.get(service)))
        .map((service) => `routes.${service}`),
    ];
  }

  /**
   * Sets the global timeout of the whole mesh. undefined restores the value of the configuration.
   * @throws KatamariError bad_request when another client changes it at the same time; ConsulError
   */
  async setTimeoutMs(timeoutMs: number | undefined): Promise<void> {
    const value = timeoutMs === undefined ? undefined : JSON.stringify({ timeoutMs });
    const refusal = (): Error => overtaken('The settings were');
    const change = setUnlessChanged(() => value, refusal);
    if (!(await changeValue(this.#options.client, this.#keys.settings, change))) throw refusal();
    this.#hasOwnTimeout = timeoutMs !== undefined;
    this.#setTimeout(timeoutMs ?? this.#initial.timeoutMs);
  }

  /**
   * Sets the weights of a service for the whole mesh, and what else `route` has; the rest of its route stays. undefined
   * restores the route of the configuration.
   * @param by name of the admin token
   * @param index number of the change whose route this one replaces, 0 for that of the configuration; undefined for any
   * @throws KatamariError bad_request when another change came first; ConsulError
   */
  async setRoute(service: string, route: Route | undefined, by: string, index?: number): Promise<void> {
    let first: { readonly before: string | undefined; readonly next: Route } | undefined;
    await this.#editRoute(service, by, (entry) => {
      const now = routeIn(entry);
      if (index !== undefined && index !== (now?.index ?? 0)) throw routeChangedSince(service, now, index);
      const next = route === undefined ? NO_ROUTE : mergeRoute(this.#routeOf(service, entry), route);
      first ??= { before: entry?.value, next };
      const isOther = entry?.value !== first.before && !isSameRoute(now ?? NO_ROUTE, first.next);
      if (isOther) throw routeOvertaken(service);
      return first.next;
    });
  }

  /**
   * Changes the route of a service for the whole mesh, from the one that is in force.
   * @param by name of the admin token
   * @param change returns the new route, or undefined to leave it; runs again after a change of another client
   * @throws what `change` throws; KatamariError bad_request when other clients change it all the time; ConsulError
   */
  async changeRoute(service: string, by: string, change: (route: Route) => Route | undefined): Promise<void> {
    await this.#editRoute(service, by, (entry) => change(this.#routeOf(service, entry)));
  }

  /** The changes of a route, the newest first. @throws ConsulError */
  async routeHistory(service: string): Promise<readonly RouteChange[]> {
    return await this.#store.history(service);
  }

  /** Removes the history of a service that is gone. @throws ConsulError */
  async forgetRoutes(service: string): Promise<void> {
    await this.#store.forget(service);
  }

  /** The route in force with this entry in Consul: an entry that cannot be read leaves the last valid one. */
  #routeOf(service: string, entry: ConsulEntry | undefined): Route {
    const read = entry === undefined ? undefined : readEntry(ROUTE, entry);
    const own = read instanceof Error ? this.#ownRoutes.get(service) : read;
    return own ?? this.#initial.routes.get(service) ?? NO_ROUTE;
  }

  async #editRoute(service: string, by: string, edit: RouteEdit): Promise<void> {
    const written = await this.#store.change(service, by, edit);
    if (written !== undefined) this.#adoptRoute(service, written);
  }

  /** Applies a route that was written here at once; other processes get it from their watches. */
  #adoptRoute(service: string, route: Route): void {
    const isReset = isNoRoute(route);
    const routes = new Map(this.#routes);
    const next = isReset ? this.#initial.routes.get(service) : route;
    const own = new Map(this.#ownRoutes);
    if (isReset) own.delete(service);
    else own.set(service, route);
    this.#ownRoutes = own;
    if (next === undefined) routes.delete(service);
    else routes.set(service, next);
    this.#setRoutes(routes);
  }

  /** Ends the watches. */
  close(): void {
    this.#end.abort();
  }

  #watch(prefix: string, onChange: (entries: WatchedEntries, facts: ChangeFacts) => void): void {
    const { client, reachability } = this.#options;
    const watch = watchPrefix(client, prefix, onChange, {
      signal: this.#end.signal,
      onAnswer: reachability.answered,
      onError: reachability.failed,
      clock: this.#clock,
      restoredKey: this.#keys.begun,
    });
    this.#watches.push(watch);
  }

  #takeSettings(entries: WatchedEntries, { isAfterReset }: ChangeFacts): void {
    const found = entries.get(this.#keys.settings);
    if (found === undefined && isAfterReset) return;
    const parsed = found === undefined ? undefined : readEntry(SETTINGS, found);
    if (parsed instanceof Error)
      this.#options.events.add(
        'settings_changed',
        'settings',
        `ignored; the last valid settings stay in use: ${parsed.message}`,
      );
    else {
      this.#hasOwnTimeout = parsed?.timeoutMs !== undefined;
      this.#setTimeout(parsed?.timeoutMs ?? this.#initial.timeoutMs);
    }
  }

  #setTimeout(timeoutMs: number): void {
    if (timeoutMs === this.#timeoutMs) return;
    this.#timeoutMs = timeoutMs;
    this.#options.events.add('settings_changed', 'timeoutMs', `${timeoutMs}`);
  }

  #takeRoutes(entries: WatchedEntries, { isAfterReset }: ChangeFacts): void {
    const routes = new Map(isAfterReset ? this.#ownRoutes : undefined);
    for (const [key, entry] of entries) {
      const service = key.slice(this.#keys.routes.length);
      const parsed = readEntry(ROUTE, entry);
      if (parsed instanceof Error) {
        this.#options.events.add(
          'routes_changed',
          service,
          `ignored; the last valid route stays in use: ${parsed.message}`,
        );
        const last = this.#ownRoutes.get(service);
        if (last !== undefined) routes.set(service, last);
      } else routes.set(service, parsed);
    }
    this.#ownRoutes = routes;
    this.#setRoutes(new Map([...this.#initial.routes, ...routes]));
  }

  /** Only the names matter here. The masters report invalid documents. */
  #takeDeployments(entries: WatchedEntries, { isAfterReset }: ChangeFacts): void {
    if (entries.size === 0 && isAfterReset) return;
    const found = readRecords(DEPLOYMENT, this.#keys.deployments, entries, { cache: this.#deploymentCache });
    this.#deployed = [...found.values()]
      .filter(({ count }) => count > 0)
      .map(({ service, version, roles, queueMax }) => ({ service, version, roles, queueMax, failure: '' }));
    this.#onDeployed();
  }

  #setRoutes(routes: Routes): void {
    let isChanged = false;
    for (const service of new Set([...routes.keys(), ...this.#routes.keys()])) {
      const [before, now] = [textOf(this.#routes.get(service)), textOf(routes.get(service))];
      if (before === now) continue;
      isChanged = true;
      this.#options.events.add('routes_changed', service, now);
    }
    if (!isChanged) return;
    this.#routes = routes;
    this.#onRoutes(routes);
  }
}

/** A route in an event: its weights, and what else it has. */
function textOf(route: Route | undefined): string {
  const { index: _, by: _by, atMs: _atMs, splitIndex: _splitIndex, ...said } = route ?? NO_ROUTE;
  const { weights, ...more } = said;
  return JSON.stringify(Object.keys(more).length === 0 ? weights : said);
}

function routeChangedSince(service: string, now: Route | undefined, index: number): KatamariError {
  const by = now === undefined ? 'its route was reset' : `change ${now.index ?? 0} by ${now.by ?? 'nobody known'} came`;
  return new KatamariError(
    'bad_request',
    `The route of ${service} is not that of change ${index} any more: ${by} since, so this change was not made; read again what is set, and try again`,
  );
}

function overtaken(what: string): KatamariError {
  return new KatamariError(
    'bad_request',
    `${what} changed by another client at the same time, so this change was not made; read again what is set, and try again`,
  );
}

const SETTINGS = z.object({ timeoutMs: z.int().min(1).max(3_600_000).optional() });
const NO_ROUTE: Route = { weights: {} };
/** How long the start waits for Consul. */
const START_WAIT_MS = 2_000;
