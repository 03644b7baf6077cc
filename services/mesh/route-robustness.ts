// The part of a route that sends several copies of a call: a second one after a while (`hedge`), or several at once, of
// whose answers enough must be alike (`majority`). It precedes the annotations of the method.

import {
  HEDGE,
  HEDGE_EXPECTED,
  MAJORITY,
  MAJORITY_EXPECTED,
  readHedge,
  readMajority,
  whyNotCopied,
} from '../../core/idl/mod.ts';
import type { Majority, Method } from '../../core/thrift/mod.ts';
import { z } from 'zod';

export interface RouteRobustness {
  /** By method, or `*` for all others that may have copies: `p95`, or `off`. */
  readonly hedge?: Readonly<Record<string, string>> | undefined;
  /** By method, or `*`: `2 of 3`, `2 of 3 versions`, both also with ` or fewer`, or `off`. */
  readonly majority?: Readonly<Record<string, string>> | undefined;
}

/** How many copies of the calls of a method are sent. */
export type CopyRule =
  /** A second one when the first has taken longer than this percentile of the times of the method. */
  { readonly kind: 'hedge'; readonly percentile: number } | { readonly kind: 'majority'; readonly majority: Majority };

/** The rule for a method; undefined if it is called once. */
export function copyRuleOf({ hedge, majority }: RouteRobustness, method: Method): CopyRule | undefined {
  if (whyNotCopied(method) !== '') return undefined;
  const [ownHedge, ownMajority] = [valueOf(hedge, method.name), valueOf(majority, method.name)];
  // What names the method precedes what is for all, and that precedes the annotations.
  const isHedgedByName = ownHedge !== undefined && ownHedge !== OFF;
  const votes = ownMajority ?? (isHedgedByName ? OFF : valueOf(majority, ALL));
  const found = votes === undefined ? method.majority : readMajority(votes);
  if (found !== undefined) return { kind: 'majority', majority: found };
  const after = ownHedge ?? valueOf(hedge, ALL);
  const percentile = after === undefined ? method.hedge : (readHedge(after) ?? 0);
  return percentile === 0 ? undefined : { kind: 'hedge', percentile };
}

function valueOf(values: Readonly<Record<string, string>> | undefined, name: string): string | undefined {
  return values !== undefined && Object.hasOwn(values, name) ? values[name] : undefined;
}

/** Whether a route says something about copies. */
export function hasRobustness({ hedge = {}, majority = {} }: RouteRobustness): boolean {
  return Object.keys(hedge).length + Object.keys(majority).length > 0;
}

/** What is wrong beyond the form of the values: the name of the field, and the problem; undefined for nothing. */
export function problemOfRobustness({
  hedge = {},
  majority = {},
}: RouteRobustness): { readonly field: string; readonly text: string } | undefined {
  const both = Object.keys(hedge).find((name) => hedge[name] !== OFF && (valueOf(majority, name) ?? OFF) !== OFF);
  if (both === undefined) return undefined;
  return { field: 'majority', text: `found ${both}, which has a hedge, expected one of them for each method` };
}

/** What a change makes of a route. A method that it gives a majority loses its hedge, and the other way round. */
export function mergeRobustness(now: RouteRobustness, given: RouteRobustness): RouteRobustness {
  const hedge = given.hedge ?? without(now.hedge, given.majority);
  const majority = given.majority ?? without(now.majority, given.hedge);
  return { ...(hasRobustness({ hedge }) ? { hedge } : {}), ...(hasRobustness({ majority }) ? { majority } : {}) };
}

function without(
  values: RouteRobustness['hedge'],
  others: RouteRobustness['hedge'],
): Readonly<Record<string, string>> | undefined {
  if (values === undefined || others === undefined) return values;
  return Object.fromEntries(Object.entries(values).filter(([name]) => (valueOf(others, name) ?? OFF) === OFF));
}

/** The names of methods in a route. */
export function methodsOfRobustness({ hedge = {}, majority = {} }: RouteRobustness): readonly string[] {
  const named = [hedge, majority].flatMap((values) => Object.keys(values).filter((name) => values[name] !== OFF));
  return [...new Set(named)].filter((name) => name !== ALL);
}

/** Methods in a route: a name, or `*`. */
export const COPIED_METHOD: RegExp = /^(?:\*|[A-Za-z_]\w{0,199})$/;
export const HEDGE_OR_OFF: RegExp = new RegExp(`^off$|${HEDGE.source}`);
export const MAJORITY_OR_OFF: RegExp = new RegExp(`^off$|${MAJORITY.source}`);
export const HEDGE_VALUE: string = `${HEDGE_EXPECTED}, or "off"`;
export const MAJORITY_VALUE: string = `${MAJORITY_EXPECTED}, or "off"`;

/** Both in Consul. */
export const HEDGES: z.ZodType<Readonly<Record<string, string>>> = z.record(
  z.string().regex(COPIED_METHOD, 'expected the name of a method, or *'),
  z.string().regex(HEDGE_OR_OFF, `expected ${HEDGE_VALUE}`),
);
export const MAJORITIES: z.ZodType<Readonly<Record<string, string>>> = z.record(
  z.string().regex(COPIED_METHOD, 'expected the name of a method, or *'),
  z.string().regex(MAJORITY_OR_OFF, `expected ${MAJORITY_VALUE}`),
);

const ALL = '*';
const OFF = 'off';
