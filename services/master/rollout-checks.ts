// Checks a rollout before it begins: its steps and times, that its versions exist, that callers of the old version can
// call the new one, and that there is something for its guards to see.

import { changesBetween } from '../../core/idl/mod.ts';
import { describeDuration } from '../../core/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import { bestVersion, type RolloutPlan, type Route } from '../mesh/mod.ts';
import type { ThriftException } from '../../core/thrift/mod.ts';
import { refused } from './admin-guard.ts';
import type { KnownVersions } from './route-check.ts';

/** @throws ThriftException AdminRefused that says which step or time is wrong */
export function checkSteps({ steps, holdMs, keepMs, startMs, guards }: RolloutPlan): void {
  if (steps.length === 0 || steps.length > STEPS_MAX)
    throw bad(`the rollout has ${steps.length} steps, expected 1 to ${STEPS_MAX}, such as 1,5,25,50,100`);
  for (const [at, share] of steps.entries()) {
    const before = steps[at - 1] ?? 0;
    if (!(share > 0 && share <= 100)) throw bad(`step ${at + 1} is ${share} %, expected above 0 and at most 100`);
    if (Math.round(share * 100) / 100 !== share)
      throw bad(`step ${at + 1} is ${share} %, expected at most two digits after the point`);
    if (share <= before)
      throw bad(`step ${at + 1} is ${share} %, which is not above the ${before} % before it; expected rising shares`);
  }
  const last = steps.at(-1);
  if (last !== 100)
    throw bad(`the last step is ${last} %, expected 100: a rollout ends with all calls; --pause stops it at a share`);
  for (const [name, value] of Object.entries({ hold: holdMs, keep: keepMs, 'start-within': startMs }))
    if (!Number.isInteger(value) || value < 0 || value > TIME_MS_MAX)
      throw bad(`${name} is ${value} ms, expected 0 to ${describeDuration(TIME_MS_MAX)}`);
  if (startMs < START_MS_MIN) throw bad(`start-within is ${startMs} ms, expected at least ${START_MS_MIN} ms`);
  const twice = guards.find(({ metric }, at) => guards.findIndex((one) => one.metric === metric) < at);
  if (twice !== undefined) throw bad(`there are two guards on ${twice.metric}, expected one`);
  if (guards.length > 0 && holdMs < HOLD_MS_MIN)
    throw bad(`hold is ${holdMs} ms, in which no guard can see anything, expected at least ${HOLD_MS_MIN} ms`);
}

/**
 * The version that a rollout takes the calls from, if nobody names it: the one with the highest weight, else the
 * highest one that exists.
 * @throws ThriftException AdminRefused if there is no other version
 */
export function versionBefore(
  service: string,
  to: string,
  route: Route | undefined,
  { versions }: KnownVersions,
): string {
  if (versions.length === 0) throw refused('unknown_name', `no service ${service} is deployed`);
  const weights = Object.entries(route?.weights ?? {}).filter(([version, weight]) => version !== to && weight > 0);
  const [heaviest] = weights.sort(([, a], [, b]) => b - a);
  if (heaviest !== undefined) return heaviest[0];
  const others = versions.filter((version) => version !== to).map((version) => ({ details: { version } }));
  const best = bestVersion(others, '');
  if (best === undefined) throw bad(`${service} has no version but ${to}, so ${to} has all calls already`);
  return best.details.version;
}

/** @throws ThriftException AdminRefused that names the versions that exist */
export function checkVersions({ service, from, to }: RolloutPlan, { versions, isIndex }: KnownVersions): void {
  if (isIndex) throw bad(`${service} is an index; give a version its calls with katamari index promote`);
  if (from === to) throw bad(`the rollout is from ${from} to itself, expected two versions`);
  const known = [...new Set(versions)].sort();
  for (const version of [to, from]) {
    if (known.includes(version)) continue;
    const has = known.length === 0 ? 'no version' : known.join(', ');
    throw refused(
      'unknown_name',
      `${version} is no version of ${service}, which has ${has}; deploy it first: katamari deploy`,
    );
  }
}

/**
 * @returns '' or what could not be checked, for people
 * @throws ThriftException AdminRefused with the changes that break callers
 */
export function checkCallers(
  { service, from, to }: RolloutPlan,
  older: Interface | undefined,
  newer: Interface | undefined,
): string {
  if (older === undefined || newer === undefined) {
    const unknown = newer === undefined ? to : from;
    return `no copy of ${unknown} is up, so the interfaces of ${from} and ${to} were not compared`;
  }
  const breaking = changesBetween(older, newer).filter(({ oldCallers }) => oldCallers === 'breaks');
  if (breaking.length === 0) return '';
  const lines = breaking.slice(0, CHANGES_MAX).map(({ where, what, why }) => `  ${where} ${what}: ${why}`);
  const more = breaking.length > CHANGES_MAX ? [`  and ${breaking.length - CHANGES_MAX} more`] : [];
  throw bad(
    `callers of ${service}@${from} cannot call ${to}:\n${[...lines, ...more].join('\n')}\n` +
      'Give it another name or keep the old methods, or force the rollout (--force)',
  );
}

/** A guard that can never see anything would let every version pass. @throws ThriftException AdminRefused */
export function checkGuards({ guards, to, service }: RolloutPlan, route: Route | undefined): void {
  const isMirrored = route?.mirror?.to === to && (route.mirror.share ?? 100) > 0;
  if (guards.some(({ metric }) => metric === 'diff') && !isMirrored)
    throw bad(
      `the guard diff compares mirrored answers, and the route of ${service} has no mirror to ${to}; ` +
        `add one first: katamari route ${service} --mirror ${to}=10`,
    );
}

function bad(why: string): ThriftException {
  return refused('invalid', why);
}

const STEPS_MAX = 100;
const HOLD_MS_MIN = 1_000;
const START_MS_MIN = 1_000;
/** 24 days. */
const TIME_MS_MAX = 2_147_483_647;
/** Changes in one message. */
const CHANGES_MAX = 10;
