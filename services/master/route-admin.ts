// The methods of the admin service about routes, in the shapes of idl/katamari.thrift.

import { ANONYMOUS, identityOf, NO_DETAILS, NONE, type PoolQuery } from '../../core/rpc/mod.ts';
import {
  wholeRoute,
  type ObservedVersions,
  type Route,
  type RouteChange,
  type RouteExplanation,
  type Routes,
} from '../mesh/mod.ts';
import { refused, type AdminMethod, type TokenArgs } from './admin-guard.ts';
import {
  checkRoute,
  checkRouteArgument,
  checkRouteCopies,
  checkRouteVersions,
  isReset,
  routeOf,
  type KnownVersions,
  type ThriftRoute,
} from './route-check.ts';

export interface RouteActions {
  readonly routes: () => Routes;
  readonly explainRoute: (call: PoolQuery) => RouteExplanation | undefined;
  /** What all processes have counted of a service, and what their mirrors have found; '' for all services. */
  readonly observe: (service: string) => Promise<ObservedVersions>;
  /** Sets the weights, and what else the route has; undefined restores the route of the configuration. */
  readonly setRoute: (service: string, route: Route | undefined, by: string, index?: number) => Promise<void>;
  /** The newest first. */
  readonly routeHistory: (service: string) => Promise<readonly RouteChange[]>;
}

interface RouteArgs extends TokenArgs {
  readonly route: ThriftRoute;
  /** Also with versions that do not exist. */
  readonly force: boolean;
}

interface UndoArgs extends TokenArgs {
  readonly serviceName: string;
  /** The first change to undo; 0 for the last one. */
  readonly index: number;
  readonly force: boolean;
}

/** Struct ImaginedCall. */
interface ImaginedCall {
  readonly serviceName: string;
  readonly method: string;
  readonly version: string;
  readonly caller: string;
  readonly roles: readonly string[];
  readonly headers: ReadonlyMap<string, string>;
  readonly tags: readonly string[];
  readonly key: string;
}

/** @param known returns what a service has in the mesh */
export function routeMethods(
  { routes, explainRoute, observe, setRoute, routeHistory }: RouteActions,
  known: (service: string) => Promise<KnownVersions>,
): Readonly<Record<string, AdminMethod>> {
  return {
    getRoutes: {
      scope: 'read',
      act: () => [...routes()].map(([serviceName, route]) => ({ serviceName, ...route })),
    },
    explainRoute: {
      scope: 'read',
      act: ({ imagined }: TokenArgs & { imagined: ImaginedCall }) => {
        const found = explainRoute(queryOf(imagined));
        if (found === undefined) throw refused('unknown_name', `No service ${imagined.serviceName} is deployed`);
        return found;
      },
    },
    getMirrors: {
      // Differences hold data of calls, which the scope `read` does not show.
      scope: 'operate',
      act: async ({ serviceName }: TokenArgs & { serviceName: string }) => (await observe(serviceName)).mirrors,
    },
    setRoute: {
      scope: 'operate',
      subject: ({ route }: RouteArgs) => route.serviceName,
      act: async ({ route, force }: RouteArgs, { caller, note }) => {
        const { serviceName } = route;
        const given = routeOf(route);
        const routeNow = (): unknown => routes().get(serviceName) ?? null;
        const before = routeNow();
        note(before, given);
        checkRoute(serviceName, given);
        if (!force) {
          const has = await known(serviceName);
          checkRouteVersions(serviceName, given, has);
          checkRouteArgument(serviceName, given, has);
          checkRouteCopies(serviceName, given, has);
        }
        await setRoute(serviceName, isReset(given) ? undefined : given, caller.name, route.index);
        note(before, routeNow());
      },
    },
    getRouteHistory: {
      scope: 'read',
      act: async ({ serviceName }: TokenArgs & { serviceName: string }) =>
        (await routeHistory(serviceName)).map(({ route, ...change }) =>
          route === null ? change : { ...change, route: { serviceName, ...route } },
        ),
    },
    undoRoute: {
      scope: 'operate',
      subject: ({ serviceName }: UndoArgs) => serviceName,
      act: async ({ serviceName, index, force }: UndoArgs, { caller, note }) => {
        const changes = await routeHistory(serviceName);
        const route = routeBefore(serviceName, changes, index);
        const [last] = changes;
        const before = last?.route ?? null;
        note(before, route);
        if (route !== null && !force) checkRouteVersions(serviceName, route, await known(serviceName));
        const now = before === null ? 0 : last?.index;
        await setRoute(serviceName, route === null ? undefined : wholeRoute(route), caller.name, now);
      },
    },
  };
}

/**
 * The route that a change has replaced; null for that of the configuration.
 * @param index of the change; 0 for the last one @throws ThriftException AdminRefused
 */
function routeBefore(service: string, changes: readonly RouteChange[], index: number): Route | null {
  const [last] = changes;
  if (last === undefined) throw refused('unknown_name', `the route of ${service} was never changed`);
  const at = index === 0 ? 0 : changes.findIndex((change) => change.index === index);
  const before = changes[at + 1];
  if (at !== -1 && before !== undefined) return before.route;
  if (at !== -1 && changes[at]?.index === 1) return null;
  const [oldest, first] = [changes.at(-1), changes.at(-2) ?? last];
  const from = oldest?.index === 1 ? 1 : first.index;
  throw refused(
    'unknown_name',
    `change ${index || last.index} of the route of ${service} cannot be undone: the history has changes ${from} to ${last.index}`,
  );
}

function queryOf({ serviceName, method, version, caller, roles, headers, tags, key }: ImaginedCall): PoolQuery {
  const identity = caller === '' ? ANONYMOUS : identityOf(caller, 'token', roles);
  const plain = { roles: NONE, details: NO_DETAILS, headers: Object.fromEntries(headers) };
  return { ...plain, service: serviceName, method, version, tags, key, identity };
}
