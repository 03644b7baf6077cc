// Says what the route of a service does with a call, and why: for `katamari route --explain`.

import type { PoolQuery } from '../../core/rpc/mod.ts';
import { highestVersion, shareOf } from './choose-version.ts';
import type { ServiceEntry } from './match-pools.ts';
import type { Offer } from './offer.ts';
import { FALLBACK } from './route.ts';
import { whyRuleDiffers } from './route-rules.ts';
import { isVersionMatch } from './version-match.ts';

/** What one rule of a route does with a call. */
export interface RouteStep {
  readonly rule: string;
  readonly applies: boolean;
  /** The condition that does not hold; '' if it applies. */
  readonly why: string;
}

export interface RouteExplanation {
  /** The rules that were tried, the last of which may apply. */
  readonly steps: readonly RouteStep[];
  /** The version that gets the call; '' if several take turns, or none does. */
  readonly version: string;
  /** As in answers: the rule, or `fallback`; '' for the weights. */
  readonly rule: string;
  readonly why: string;
  /** Whether the call gets a version at all. */
  readonly isServed: boolean;
}

/**
 * @param choose returns the offers that the call would get now, and throws if it would be refused
 * @param query its method may be '' for any
 */
export function explainRoute(
  entry: ServiceEntry,
  query: PoolQuery,
  choose: (reason: { rule: string }) => readonly Offer[],
): RouteExplanation {
  const { route, splits } = entry;
  if (query.version !== '') return explainWish(entry, query);
  const steps: RouteStep[] = [];
  for (const rule of route?.rules ?? []) {
    const why = whyRuleDiffers(rule, query, splits.salt);
    steps.push({ rule: rule.name, applies: why === '', why });
    if (why === '') break;
  }
  const taken = steps.at(-1)?.applies === true ? (steps.at(-1) as RouteStep) : undefined;
  const versions = [...new Set(entry.offers.map(({ details }) => details.version))];
  const shares = versions
    .map((version) => [version, shareOf(entry, version)] as const)
    .filter(([, share]) => share > 0);
  if (taken === undefined && query.key === '' && shares.length > 1 && route?.fallback === undefined) {
    const turns = shares.map(([version, share]) => `${percentOf(share)} to ${version}`).join(', ');
    const why = `it has no key${whyNoKey(entry, query)}, so versions take turns: ${turns}`;
    return { steps, version: '', rule: '', why, isServed: true };
  }
  const reason = { rule: '' };
  try {
    const version = choose(reason)[0]?.details.version ?? '';
    const why = `${whyOf(taken, reason.rule, query.key)}${whyOwnKey(entry, query)}`;
    return { steps, version, rule: reason.rule, why, isServed: true };
  } catch (error) {
    return { steps, version: '', rule: reason.rule, why: (error as Error).message, isServed: false };
  }
}

/** What a route that finds keys in arguments says of a call without a key. */
function whyNoKey({ argumentKey }: ServiceEntry, { method }: PoolQuery): string {
  if (argumentKey === undefined) return '';
  return ` (${argumentKey.whyNone(method) || `its key is ${argumentKey.path}: give one with --key`})`;
}

/** Says that a call of this method has no key if it does not bring one. */
function whyOwnKey({ argumentKey }: ServiceEntry, { method, key }: PoolQuery): string {
  const why = key === '' ? '' : (argumentKey?.whyNone(method) ?? '');
  return why === '' ? '' : `; it must bring the key, because ${why}`;
}

function whyOf(taken: RouteStep | undefined, rule: string, key: string): string {
  const chosen = taken === undefined ? 'the weights choose' : `the rule ${taken.rule} chooses`;
  if (rule === FALLBACK) return `the version that ${chosen} has nobody alive`;
  if (taken !== undefined) return `${chosen} it`;
  return key === '' ? 'it is the only version that gets calls' : `${chosen} it for this key`;
}

function explainWish(entry: ServiceEntry, query: PoolQuery): RouteExplanation {
  const { version: wish } = query;
  const none = { steps: [], version: '', rule: '', isServed: false };
  if (entry.route?.callersChoose === false) return { ...none, why: 'the route does not let callers ask for a version' };
  const offers = entry.offers.filter(({ details }) => isVersionMatch(details.version, wish));
  if (offers.length === 0) return { ...none, why: `it asks for version ${wish}, which no pool has` };
  const version = highestVersion(offers, query)[0]?.details.version ?? '';
  return { ...none, version, isServed: true, why: `it asks for version ${wish}, so neither rules nor weights count` };
}

function percentOf(share: number): string {
  return `${Number((share * 100).toFixed(2))} %`;
}
