// The routes of a mesh in Consul, and their history. A route has the number of the change that made it. Before it is
// replaced, it is written to the history under that number, so a history has no gap whatever happens in between.

import { KatamariError } from '../../core/mod.ts';
import type { ConsulClient, ConsulEntry } from '../consul/mod.ts';
import { keysOf, readEntry, type Keys } from './records.ts';
import { changedRoute, isNoRoute, isSameRoute, ROUTE, ROUTE_CHANGE, type Route, type RouteChange } from './route.ts';

/** Returns the new route, or undefined to leave it. It gets what Consul has, and runs again after another change. */
export type RouteEdit = (entry: ConsulEntry | undefined) => Route | undefined;

export class RouteStore {
  readonly #client: ConsulClient;
  readonly #keys: Keys;

  constructor(client: ConsulClient, mesh: string) {
    this.#client = client;
    this.#keys = keysOf(mesh);
  }

  /**
   * Changes the route of a service. One that says nothing is removed, which restores that of the configuration.
   * @returns the route that Consul has now, undefined if `edit` leaves it
   * @throws what `edit` throws; KatamariError bad_request when other clients change it all the time; ConsulError
   */
  async change(service: string, by: string, edit: RouteEdit): Promise<Route | undefined> {
    const key = this.#keys.routes + service;
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const entry = await this.#client.get(key);
      const route = edit(entry);
      if (route === undefined) return undefined;
      const now = routeIn(entry);
      if (entry === undefined ? isNoRoute(route) : now !== undefined && isSameRoute(route, now)) return now ?? route;
      const index = await this.keep(service, now);
      const made = { index, by, atMs: Date.now() };
      const changed = changedRoute(now, route, made);
      const isDone = isNoRoute(route)
        ? await this.#remove(service, entry as ConsulEntry, { ...made, route: null })
        : await this.#client.put(key, JSON.stringify(changed), { cas: entry?.modifyIndex ?? 0 });
      if (!isDone) continue;
      await this.#prune(service);
      return isNoRoute(route) ? route : changed;
    }
    throw routeOvertaken(service);
  }

  /**
   * Writes the route that is about to be replaced to the history, and returns the number of the next change.
   * @throws ConsulError
   */
  async keep(service: string, now: Route | undefined): Promise<number> {
    const numbers = (await this.#kept(service)).map(({ key }) => Number(key.slice(key.lastIndexOf('/') + 1)));
    const { index = 0, by = '', atMs = 0, splitIndex: _, ...route } = now ?? { weights: {} };
    if (now !== undefined && !numbers.includes(index))
      await this.#client.put(this.#keyOf(service, index), JSON.stringify({ index, by, atMs, route }));
    return Math.max(index, ...numbers, 0) + 1;
  }

  /**
   * The changes of a route, the newest first: at most HISTORY_MAX, and the one that made the present route.
   * @throws ConsulError
   */
  async history(service: string): Promise<readonly RouteChange[]> {
    const entry = await this.#client.get(this.#keys.routes + service);
    const now = routeIn(entry);
    const { index = 0, by = '', atMs = 0, splitIndex: _, ...route } = now ?? { weights: {} };
    const current: RouteChange[] = now === undefined ? [] : [{ index, by, atMs, route }];
    const kept = (await this.#kept(service))
      .map((one) => readEntry(ROUTE_CHANGE, one))
      .filter((change): change is RouteChange => !(change instanceof Error));
    const earlier = kept.filter((change) => now === undefined || change.index < index);
    return [...current, ...earlier.sort((a, b) => b.index - a.index)];
  }

  /** Removes the history of a service that is gone. @throws ConsulError */
  async forget(service: string): Promise<void> {
    await this.#client.delete(this.#folderOf(service), { isTree: true });
  }

  /** Removes a route. Its end is a change of the history too. */
  async #remove(service: string, entry: ConsulEntry, change: RouteChange): Promise<boolean> {
    const outcome = await this.#client.transact([
      { verb: 'delete-cas', key: entry.key, index: entry.modifyIndex },
      { verb: 'cas', key: this.#keyOf(service, change.index), value: JSON.stringify(change), index: 0 },
    ]);
    return outcome.isDone;
  }

  /** Removes changes beyond HISTORY_MAX. A failure is made up for by the next change. */
  async #prune(service: string): Promise<void> {
    try {
      const old = (await this.#kept(service)).map(({ key }) => key).slice(0, -HISTORY_MAX);
      for (const key of old) await this.#client.delete(key);
    } catch {
      // The history is longer than it should be until then.
    }
  }

  /** The kept changes, the oldest first. */
  async #kept(service: string): Promise<readonly ConsulEntry[]> {
    const { entries } = await this.#client.list(this.#folderOf(service));
    return entries.toSorted((a, b) => (a.key < b.key ? -1 : 1));
  }

  #folderOf(service: string): string {
    return `${this.#keys.routeHistory}${service}/`;
  }

  #keyOf(service: string, index: number): string {
    return this.#folderOf(service) + String(index).padStart(10, '0');
  }
}

/** The route in an entry of Consul; undefined if there is none, or it cannot be read. */
export function routeIn(entry: ConsulEntry | undefined): Route | undefined {
  const route = entry === undefined ? undefined : readEntry(ROUTE, entry);
  return route instanceof Error ? undefined : route;
}

export function routeOvertaken(service: string): KatamariError {
  return new KatamariError(
    'bad_request',
    `The route of ${service} was changed by another client at the same time, so this change was not made; read again what is set, and try again`,
  );
}

const ATTEMPTS_MAX = 10;
const HISTORY_MAX = 50;
