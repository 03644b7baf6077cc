// Checks a route before it is written: its form, and that its versions exist, so that a misspelled one takes no calls
// from the others.

import { argumentFinder, whyNotCopied, type PathProblem } from '../../core/idl/mod.ts';
import { FieldFinder, type Interface } from '../../core/thrift/mod.ts';
import {
  isNoRoute,
  mergeRoute,
  problemsOfRoute,
  methodsOfRobustness,
  ROUTE,
  versionsOfRoute,
  type Route,
  type RouteMirror,
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
  readonly mirror?: RouteMirror | undefined;
  readonly sticky?: string | undefined;
  readonly hedge?: ReadonlyMap<string, string> | undefined;
  readonly majority?: ReadonlyMap<string, string> | undefined;
  /** The change that it is made from. */
  readonly index?: number | undefined;
}

type ThriftRouteRule = Omit<RouteRule, 'headers'> & {
  readonly headers?: ReadonlyMap<string, string> | undefined;
};

/** The route in a call of setRoute. What the caller left out is missing. */
export function routeOf(given: ThriftRoute): Route {
  const { weights, rules, experiment, fallback, callersChoose, sticky, mirror, hedge, majority } = given;
  const readRule = ({ headers, ...rule }: ThriftRouteRule): RouteRule =>
    headers === undefined ? rule : { ...rule, headers: Object.fromEntries(headers) };
  const route = {
    weights: Object.fromEntries(weights),
    experiment,
    fallback,
    callersChoose,
    sticky,
    mirror,
    ...(hedge === undefined ? {} : { hedge: Object.fromEntries(hedge) }),
    ...(majority === undefined ? {} : { majority: Object.fromEntries(majority) }),
  };
  return rules === undefined ? route : { ...route, rules: rules.map(readRule) };
}

/** Whether a route asks for that of the configuration: it has no weights, and nothing else is set. */
export function isReset(route: Route): boolean {
  const { rules, hedge, majority } = route;
  return rules === undefined && hedge === undefined && majority === undefined && isNoRoute(route);
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
  /** Those of its pools. */
  readonly interfaces: readonly Interface[];
  readonly isIndex: boolean;
}

/**
 * Checks that the versions of a route exist. A name that has none yet may have any route, because it may be written
 * before the first deployment.
 * @throws ThriftException AdminRefused that names the versions
 */
export function checkRouteVersions(service: string, route: Route, { versions, isIndex }: KnownVersions): void {
  if (isIndex && route.mirror !== undefined && route.mirror.to !== '')
    throw refused('invalid', `${service} is an index, and only calls of services are mirrored; leave mirror out`);
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

/**
 * Checks that some method has the argument in which a route finds sticky keys. A service without pools may have any
 * route.
 * @throws ThriftException AdminRefused that names the methods and what is wrong with the nearest one
 */
export function checkRouteArgument(service: string, { sticky = '' }: Route, { interfaces }: KnownVersions): void {
  if (sticky === '' || interfaces.length === 0) return;
  const found = interfaces.flatMap(({ methods }) => [...methods.values()].map((one) => argumentFinder(one, sticky)));
  const problems = found.filter((one): one is PathProblem => !(one instanceof FieldFinder));
  if (problems.length < found.length) return;
  const farthest = Math.max(...problems.map(({ namesFound }) => namesFound));
  const nearest = problems.filter(({ namesFound }) => namesFound === farthest).map(({ text }) => text);
  const why = nearest.find((text) => text.includes(' did you mean ')) ?? nearest[0] ?? 'it has no methods';
  const methods = [...new Set(interfaces.flatMap((one) => [...one.methods.keys()]))];
  const shown = methods.length > NAMES_MAX ? [...methods.slice(0, NAMES_MAX), '...'] : methods;
  throw refused(
    'invalid',
    `sticky of the route of ${service}: none of the methods ${shown.join(', ')} has ${sticky}: ${why.replace(/\?$/, '')}; ` +
      'correct it, or force the route (--force) to write it before the version that has it',
  );
}

/**
 * Checks that the methods of which a route sends copies exist, and may run twice. A service without pools may have any
 * route.
 * @throws ThriftException AdminRefused that names the method
 */
export function checkRouteCopies(service: string, route: Route, { interfaces }: KnownVersions): void {
  for (const name of interfaces.length === 0 ? [] : methodsOfRobustness(route)) {
    const found = interfaces.flatMap(({ methods }) => methods.get(name) ?? []);
    const reasons = found.map(whyNotCopied);
    if (reasons.includes('')) continue;
    const why = reasons[0] ?? `is no method of ${service}`;
    throw refused(
      'invalid',
      `the route of ${service} sends copies of ${name}, which ${why}; correct it, or force the route (--force) to write it before the version that allows it`,
    );
  }
}

/** Limit of versions in one route. */
const VERSIONS_MAX = 1_000;
/** Versions in one message. */
const NAMES_MAX = 20;
