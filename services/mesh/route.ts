// The route of a service: which version gets which of its calls. Rules come first, then the weights.

import { ARGUMENT_PATH } from '../../core/idl/mod.ts';
import { isDeepStrictEqual } from 'node:util';
import { MIRROR, problemOfMirror, type RouteMirror } from './route-mirror.ts';
import {
  HEDGES,
  hasRobustness,
  MAJORITIES,
  mergeRobustness,
  problemOfRobustness,
  type RouteRobustness,
} from './route-robustness.ts';
import { z } from 'zod';

export interface Route extends RouteRobustness {
  /**
   * Weights by version. A version without a weight gets no calls; without any weights, each version's weight is its
   * number of live resources.
   */
  readonly weights: Readonly<Record<string, number>>;
  /** Tried in order before the weights; the first that applies to a call decides. */
  readonly rules?: readonly RouteRule[] | undefined;
  /** Name by which sticky keys are spread over versions; the service by default. Another name spreads them anew. */
  readonly experiment?: string | undefined;
  /**
   * What happens to a call whose version has nobody alive: `others` (the default) share it, it fails at once with
   * `fail`, or it goes to the version named here.
   */
  readonly fallback?: string | undefined;
  /** Whether callers may ask for a version; default true. */
  readonly callersChoose?: boolean | undefined;
  /** Copies calls to another version, to compare the answers. */
  readonly mirror?: RouteMirror | undefined;
  /** The argument that is the sticky key of calls that bring none, as `args.user.id`. */
  readonly sticky?: string | undefined;
  /** Number of the change that made it, from 1. The mesh sets this and what follows; a configuration has none. */
  readonly index?: number | undefined;
  /** Name of the admin token, or `leader`. */
  readonly by?: string | undefined;
  readonly atMs?: number | undefined;
  /** Number of the change that last changed which calls a version gets: the versions are compared from there on. */
  readonly splitIndex?: number | undefined;
}

/** One change of the route of a service. */
export interface RouteChange {
  /** From 1; 0 for a route of a mesh that counted no changes yet. */
  readonly index: number;
  readonly by: string;
  readonly atMs: number;
  /** What it made; null if it restored the route of the configuration. */
  readonly route: Route | null;
}

/** All conditions must hold. Of the items of one condition, one is enough. */
export interface RouteRule {
  /** Shown in answers and metrics. */
  readonly name: string;
  /** The version that gets the calls. */
  readonly to: string;
  /** Names of callers; `*` at the end stands for any text. */
  readonly callers?: readonly string[] | undefined;
  /** Roles of callers. */
  readonly roles?: readonly string[] | undefined;
  /** Values of headers that are not of the mesh, by name in lower case; `*` for any value. All must be there. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Tags that the call prefers. */
  readonly tags?: readonly string[] | undefined;
  readonly methods?: readonly string[] | undefined;
  /** Sticky keys. */
  readonly keys?: readonly string[] | undefined;
  /** Percentage of all sticky keys, 0 to 100. A call without a key is none of them. */
  readonly share?: number | undefined;
}

/** Routes by service. A Map, because users choose the names of services, and one may be `constructor`. */
export type Routes = ReadonlyMap<string, Route>;

/** What is wrong with a route beyond the form of its values: the path to each problem in it, and what was expected. */
export function problemsOfRoute({ weights, rules = [], mirror, ...others }: Route): readonly RouteProblem[] {
  const problems: RouteProblem[] = [];
  const all = Object.values(weights);
  if (all.length > 0 && all.every((weight) => weight === 0))
    problems.push({ path: ['weights'], text: 'found only weights of 0, expected one above 0' });
  for (const [at, { name, to: _, ...conditions }] of rules.entries()) {
    const path = ['rules', at];
    if (name === FALLBACK || rules.findIndex((other) => other.name === name) < at)
      problems.push({ path: [...path, 'name'], text: `found "${name}", which is taken, expected another name` });
    if (Object.values(conditions).every((condition) => condition === undefined))
      problems.push({ path, text: 'found no condition, expected one: for all calls, set a weight' });
  }
  const ofMirror = mirror === undefined ? '' : problemOfMirror(mirror);
  if (ofMirror !== '') problems.push({ path: ['mirror', 'force'], text: ofMirror });
  const ofCopies = problemOfRobustness(others);
  if (ofCopies !== undefined) problems.push({ path: [ofCopies.field], text: ofCopies.text });
  return problems;
}

export interface RouteProblem {
  readonly path: readonly (string | number)[];
  readonly text: string;
}

/** In place of the name of a rule: the version of a call had nobody alive. */
export const FALLBACK = 'fallback';

/**
 * A route with other weights. What else `given` leaves out stays; `[]`, `{}`, `''`, `others`, true and a mirror to `''`
 * are the defaults.
 */
export function mergeRoute(now: Route, given: Route): Route {
  const { weights, rules = now.rules, experiment = now.experiment, fallback = now.fallback } = given;
  const { callersChoose = now.callersChoose, sticky = now.sticky, mirror = now.mirror } = given;
  return {
    weights,
    ...(rules === undefined || rules.length === 0 ? {} : { rules }),
    ...(experiment === undefined || experiment === '' ? {} : { experiment }),
    ...(fallback === undefined || fallback === '' || fallback === 'others' ? {} : { fallback }),
    ...(callersChoose === false ? { callersChoose } : {}),
    ...(mirror === undefined || mirror.to === '' ? {} : { mirror }),
    ...(sticky === undefined || sticky === '' ? {} : { sticky }),
    ...mergeRobustness(now, given),
  };
}

/** The same route, but merging it leaves nothing of the one before. */
export function wholeRoute(route: Route): Route {
  return {
    rules: [],
    experiment: '',
    fallback: 'others',
    callersChoose: true,
    sticky: '',
    mirror: { to: '' },
    hedge: {},
    majority: {},
    ...route,
  };
}

/** Whether two routes say the same, whichever changes made them. */
export function isSameRoute(one: Route, other: Route): boolean {
  return isDeepStrictEqual(mergeRoute({ weights: {} }, one), mergeRoute({ weights: {} }, other));
}

/** A route as the change `index` makes it from the route `now`. */
export function changedRoute(
  now: Route | undefined,
  route: Route,
  change: { readonly index: number; readonly by: string; readonly atMs: number },
): Route {
  const isSame = now !== undefined && isDeepStrictEqual(splitPartOf(now), splitPartOf(route));
  return { ...route, ...change, splitIndex: isSame ? (now.splitIndex ?? 0) : change.index };
}

/** The parts of a route that decide which calls a version gets. */
function splitPartOf(route: Route): Route {
  const { weights, rules, experiment, fallback, sticky } = mergeRoute({ weights: {} }, route);
  return { weights, rules, experiment, fallback, sticky };
}

/** Whether a route says nothing. */
export function isNoRoute(route: Route): boolean {
  const { weights, rules = [], experiment, fallback, callersChoose = true, sticky, mirror } = route;
  const hasWeight = Object.values(weights).some((weight) => weight > 0);
  const hasText = experiment !== undefined || fallback !== undefined || sticky !== undefined;
  const isPlain = mirror === undefined && callersChoose && !hasRobustness(route);
  return !hasWeight && rules.length === 0 && !hasText && isPlain;
}

/** The versions that a route names. */
export function versionsOfRoute({ weights, rules = [], fallback = '', mirror }: Route): readonly string[] {
  const named = [
    ...(isFallbackVersion(fallback) ? [fallback] : []),
    ...(mirror === undefined || mirror.to === '' ? [] : [mirror.to]),
  ];
  return [...new Set([...Object.keys(weights), ...rules.map(({ to }) => to), ...named])];
}

/** Whether a fallback is the name of a version. */
function isFallbackVersion(fallback: string): boolean {
  return fallback !== '' && fallback !== 'others' && fallback !== 'fail';
}

/** It goes into headers. */
export const RULE_NAME: RegExp = /^[\w.-]{1,64}$/;
/** Not of the mesh, and not a secret. */
export const RULE_HEADER: RegExp = /^(?!katamari-|authorization$|cookie$)[a-z0-9_-]{1,100}$/;
const texts = z.array(z.string().min(1).max(1_000)).min(1).max(10_000);

/** A rule in Consul. */
const RULE: z.ZodType<RouteRule> = z.object({
  name: z.string().regex(RULE_NAME),
  to: z.string().min(1),
  callers: texts.optional(),
  roles: texts.optional(),
  headers: z.record(z.string().regex(RULE_HEADER), z.string().max(1_000)).optional(),
  tags: texts.optional(),
  methods: texts.optional(),
  keys: texts.optional(),
  share: z.number().min(0).max(100).optional(),
});

/** A route in Consul and in files of this mesh. */
export const ROUTE: z.ZodType<Route> = z.object({
  weights: z.record(z.string(), z.int().min(0)),
  rules: z.array(RULE).max(100).optional(),
  experiment: z.string().max(100).optional(),
  fallback: z.string().max(100).optional(),
  callersChoose: z.boolean().optional(),
  mirror: MIRROR.optional(),
  hedge: HEDGES.optional(),
  majority: MAJORITIES.optional(),
  sticky: z.string().regex(ARGUMENT_PATH, 'expected the path of an argument such as args.user.id').optional(),
  index: z.int().min(0).optional(),
  by: z.string().optional(),
  atMs: z.number().optional(),
  splitIndex: z.int().min(0).optional(),
});

/** `route-history/<service>/<index>` in Consul. */
export const ROUTE_CHANGE: z.ZodType<RouteChange> = z.object({
  index: z.int().min(0),
  by: z.string(),
  atMs: z.number(),
  route: ROUTE.nullable(),
});
