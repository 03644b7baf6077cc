// Checks a route before it is written: its form, and that its versions exist, so that a misspelled one takes no calls
// from the others.

import {
  isNoRoute,
  mergeRoute,
  problemsOfRoute,
  ROUTE,
  versionsOfRoute,
  type Route,
  type RouteRule,
} from '../mesh/mod.ts';
import { refused } from './admin-guard.ts';

/** Struct Route of idl/katamari.thrift. */
export interface ThriftRoute {
  readonly serviceName: string;
  readonly weights: ReadonlyMap<string, number>;
  readonly rules?: readonly ThriftRouteRule[] | undefined;
  readonly experiment?: string | undefined;
  readonly fallback?: string | undefined;
  readonly callersChoose?: boolean | undefined;
  /** The change that it is made from. */
  readonly index?: number | undefined;
}

type ThriftRouteRule = Omit<RouteRule, 'headers'> & {
  readonly headers?: ReadonlyMap<string, string> | undefined;
};

/** The route in a call of setRoute. What the caller left out is missing. */
export function routeOf({ weights, rules, experiment, fallback, callersChoose }: ThriftRoute): Route {
  const readRule = ({ headers, ...rule }: ThriftRouteRule): RouteRule =>
    headers === undefined ? rule : { ...rule, headers: Object.fromEntries(headers) };
  const route = { weights: Object.fromEntries(weights), experiment, fallback, callersChoose };
  return rules === undefined ? route : { ...route, rules: rules.map(readRule) };
}

/** Whether a route asks for that of the configuration: it has no weights, and nothing else is set. */
export function isReset(route: Route): boolean {
  return route.rules === undefined && isNoRoute(route);
}

/** @throws ThriftException AdminRefused for a route that no service can have */
export function checkRoute(service: string, route: Route): void {
  // The name becomes part of a Consul key.
  if (!/^[A-Za-z_][\w.]{0,199}$/.test(service))
    throw refused('invalid', `"${service}" cannot be the name of a service, expected one such as Calculator`);
  const shares = Object.entries(route.weights);
  if (shares.length > VERSIONS_MAX)
    throw refused('invalid', `the route has ${shares.length} versions, limit is ${VERSIONS_MAX}`);
  const wrong = shares.find(([, share]) => share < 0);
  if (wrong !== undefined)
    throw refused('invalid', `the weight of version ${wrong[0]} is ${wrong[1]}, expected 0 or more`);
  const parsed = ROUTE.safeParse(mergeRoute({ weights: {} }, route));
  const [form] = parsed.error?.issues ?? [];
  if (form !== undefined) throw refused('invalid', `${placeOf(service, form.path)}: ${form.message}`);
  const [problem] = problemsOfRoute(route);
  if (problem !== undefined) throw refused('invalid', `${placeOf(service, problem.path)}: ${problem.text}`);
}

/** `rules[0].name of the route of Shop` */
function placeOf(service: string, path: readonly PropertyKey[]): string {
  const place = path.map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`)).join('');
  return `${place.replace(/^\./, '')} of the route of ${service}`;
}

/** What a service has in the mesh. */
export interface KnownVersions {
  readonly versions: readonly string[];
  readonly isIndex: boolean;
}

/**
 * Checks that the versions of a route exist. A name that has none yet may have any route, because it may be written
 * before the first deployment.
 * @throws ThriftException AdminRefused that names the versions
 */
export function checkRouteVersions(service: string, route: Route, { versions, isIndex }: KnownVersions): void {
  const known = [...new Set(versions)].sort();
  const unknown = versionsOfRoute(route).filter((version) => !known.includes(version));
  if (unknown.length === 0 || known.length === 0) return;
  const [are, they] = unknown.length === 1 ? ['is', 'it'] : ['are', 'them'];
  const shown = known.length > NAMES_MAX ? [...known.slice(0, NAMES_MAX), '...'] : known;
  const [what, remedy] = isIndex ? ['index', `add ${they}`] : ['service', `deploy ${they}`];
  throw refused(
    'unknown_name',
    `${unknown.slice(0, NAMES_MAX).join(', ')} ${are} no ${unknown.length === 1 ? 'version' : 'versions'} of the ${what} ${service}, ` +
      `which has ${shown.join(', ')}; ${remedy} first, or force the route (--force) to write it before`,
  );
}

/** Limit of versions in one route. */
const VERSIONS_MAX = 1_000;
/** Versions in one message. */
const NAMES_MAX = 20;
