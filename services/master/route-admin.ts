// The methods of the admin service about routes, in the shapes of idl/katamari.thrift.

import { ANONYMOUS, identityOf, NO_DETAILS, NONE, type PoolQuery } from '../../core/rpc/mod.ts';
import type { Route, RouteExplanation, Routes } from '../mesh/mod.ts';
import { refused, type AdminMethod, type TokenArgs } from './admin-guard.ts';
import {
  checkRoute,
  checkRouteArgument,
  checkRouteVersions,
  isReset,
  routeOf,
  type KnownVersions,
  type ThriftRoute,
} from './route-check.ts';

export interface RouteActions {
  readonly routes: () => Routes;
  readonly explainRoute: (call: PoolQuery) => RouteExplanation | undefined;
  /** Sets the weights, and what else the route has; undefined restores the route of the configuration. */
  readonly setRoute: (service: string, route: Route | undefined) => Promise<void>;
}

interface RouteArgs extends TokenArgs {
  readonly route: ThriftRoute;
  /** Also with versions that do not exist. */
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
  { routes, explainRoute, setRoute }: RouteActions,
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
    setRoute: {
      scope: 'operate',
      subject: ({ route }: RouteArgs) => route.serviceName,
      act: async ({ route, force }: RouteArgs, { note }) => {
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
        }
        await setRoute(serviceName, isReset(given) ? undefined : given);
        note(before, routeNow());
      },
    },
  };
}

function queryOf({ serviceName, method, version, caller, roles, headers, tags, key }: ImaginedCall): PoolQuery {
  const identity = caller === '' ? ANONYMOUS : identityOf(caller, 'token', roles);
  const plain = { roles: NONE, details: NO_DETAILS, headers: Object.fromEntries(headers) };
  return { ...plain, service: serviceName, method, version, tags, key, identity };
}
