// Decides the next move of a rollout. Pure: the document of the rollout and what is known of the mesh go in; what is to
// be written comes out. Each move is one transaction that also writes or checks the document, so a leader that dies
// before, during or after it leaves a state from which the next one goes on.
//
//   scaling ── copies are up ──► holding ── held, no guard violated ──► next step, or done
//      │                            │
//      └── copies do not come up ───┴── guard violated, copies gone ──► reverted

import { describeDuration } from '../../core/mod.ts';
import { copiesFor, isActive, shareOfStep, weightsBefore, weightsFor, type Rollout, type Route } from '../mesh/mod.ts';
import { violationText, type RolloutVerdict } from './rollout-judge.ts';
import { isDeepStrictEqual } from 'node:util';

export interface RolloutFacts {
  /** Wall clock. */
  readonly nowMs: number;
  /** The route in Consul. */
  readonly route: Route | undefined;
  readonly from: VersionCopies;
  readonly to: VersionCopies;
  /** For how long the new version has had the copies of this step, or not had any; as this leader has seen it. */
  readonly upForMs: number;
  readonly goneForMs: number;
  /** What the guards see; undefined if the calls could not be counted. */
  readonly verdict: RolloutVerdict | undefined;
}

export interface VersionCopies {
  /** Copies that the deployment of the mesh has; undefined if it has none, or a number for each manager. */
  readonly desired: number | undefined;
  readonly alive: number;
  /** Why no copy can start until something changes; '' while one may come up. */
  readonly failure: string;
}

/**
 * - wait: nothing is due; `why` is for people.
 * - scale: the deployment of a version gets another number of copies. `next` is undefined if the document stays.
 * - route: the route gets other weights, and its split becomes that of the document.
 * - record: only the document changes.
 */
export type RolloutMove =
  | { readonly kind: 'wait'; readonly why: string }
  | {
      readonly kind: 'scale';
      readonly version: string;
      readonly copies: number;
      readonly next: Rollout | undefined;
      readonly text: string;
    }
  | {
      readonly kind: 'route';
      readonly weights: Readonly<Record<string, number>>;
      readonly next: Rollout;
      readonly text: string;
    }
  | { readonly kind: 'record'; readonly next: Rollout; readonly text: string };

export function nextMove(rollout: Rollout, facts: RolloutFacts): RolloutMove {
  if (!isActive(rollout)) return settle(rollout, facts);
  // The operator who changed the route decides how to go on.
  if (!hasOwnRoute(rollout, facts.route)) return pauseFor(rollout, facts);
  const failure = whyRevert(rollout, facts);
  if (failure !== '') return endRollout(rollout, facts, 'reverted', failure);
  if (rollout.state === 'paused') return wait('it is paused');
  return rollout.phase === 'scaling' ? scale(rollout, facts) : hold(rollout, facts);
}

/** Ends a rollout before its last step: one change of the route takes all calls from the new version. */
export function endRollout(
  rollout: Rollout,
  { nowMs, route, verdict, to }: Pick<RolloutFacts, 'nowMs' | 'route' | 'verdict' | 'to'>,
  state: 'reverted' | 'aborted',
  reason: string,
): RolloutMove {
  const weights = weightsBefore(rollout);
  const isScaled = rollout.copies === 'follow' && to.desired !== undefined;
  const ended: Rollout = {
    ...rollout,
    state,
    reason,
    sinceMs: nowMs,
    share: 0,
    ...callsSoFar(rollout, verdict),
    isSettled: !isScaled,
  };
  const { service, to: version } = rollout;
  const text = `${service} ${version} ${state}: ${reason}; ${badCallsText(ended)}`;
  // Before the first step, and when an operator has set the route, there is nothing to take back.
  const isOwn = rollout.share > 0 && hasOwnRoute(rollout, route);
  const isSame = isDeepStrictEqual(route?.weights, weights);
  return isOwn && !isSame ? { kind: 'route', weights, next: ended, text } : { kind: 'record', next: ended, text };
}

/** `2 of 310 calls of 2.0.0 went wrong` */
export function badCallsText({ to, calls, badCalls }: Pick<Rollout, 'to' | 'calls' | 'badCalls'>): string {
  return `${badCalls.toLocaleString('en-US')} of ${calls.toLocaleString('en-US')} calls of ${to} went wrong`;
}

/** The split of a route in Consul. Routes of earlier versions have none. */
export function splitOf(route: Route | undefined): number {
  return route?.splitIndex ?? 0;
}

/** Whether the split is still that of the rollout; before the first step, that of its start. */
export function hasOwnRoute({ share, splitIndex, routeBefore }: Rollout, route: Route | undefined): boolean {
  if (share > 0) return route !== undefined && splitOf(route) === splitIndex;
  return route === undefined || isDeepStrictEqual(route.weights, routeBefore.weights);
}

/** The calls of the new version so far, with those since the split last changed. */
function callsSoFar(
  { share, calls, badCalls }: Rollout,
  verdict: RolloutVerdict | undefined,
): Pick<Rollout, 'calls' | 'badCalls'> {
  if (share === 0 || verdict === undefined) return { calls, badCalls };
  return { calls: calls + verdict.calls, badCalls: badCalls + verdict.badCalls };
}

function pauseFor(rollout: Rollout, { nowMs, route }: RolloutFacts): RolloutMove {
  if (rollout.state === 'paused') return wait('it is paused');
  const who =
    route === undefined ? 'its route was reset' : `${route.by ?? ''} changed the route (change ${route.index})`;
  const reason = `${who}; resume sets the share of this step again, abort leaves the route as it is`;
  const next: Rollout = { ...rollout, state: 'paused', reason, sinceMs: nowMs };
  return { kind: 'record', next, text: `${rollout.service} ${rollout.to} paused: ${reason}` };
}

/** Why the new version must not have calls; '' if it may. */
function whyRevert(rollout: Rollout, { nowMs, to, verdict, goneForMs }: RolloutFacts): string {
  const { phase, startMs, sinceMs, to: version, state } = rollout;
  const violation = rollout.share > 0 && verdict !== undefined ? violationText(verdict) : undefined;
  if (violation !== undefined) return violation;
  if (to.failure !== '' && to.alive === 0) return `no copy of ${version} can start: ${to.failure}`;
  const limit = describeDuration(startMs);
  if (phase === 'scaling' && state === 'running') {
    const needed = neededCopies(rollout, to);
    const isLate = nowMs - sinceMs >= startMs && to.alive < needed;
    return isLate
      ? `${to.alive} of ${needed} copies of ${version} came up within ${limit}; katamari events says why`
      : '';
  }
  return rollout.share > 0 && goneForMs >= startMs ? `no copy of ${version} has been alive for ${limit}` : '';
}

/** Copies without which a step does not get its share. */
export function neededCopies(rollout: Rollout, { desired }: VersionCopies): number {
  const isScaled = rollout.copies === 'follow' && desired !== undefined;
  return isScaled ? copiesFor(rollout, shareOfStep(rollout)) : 1;
}

function scale(rollout: Rollout, { nowMs, route, to, upForMs, verdict }: RolloutFacts): RolloutMove {
  const { service, to: version, copies } = rollout;
  const share = shareOfStep(rollout);
  const needed = neededCopies(rollout, to);
  if (copies === 'follow' && to.desired !== undefined && to.desired < needed) {
    const text = `${service} ${version} is scaled to ${needed} for ${share} %`;
    return { kind: 'scale', version, copies: needed, next: undefined, text };
  }
  if (to.alive < needed) return wait(`${to.alive} of ${needed} copies of ${version} are alive`);
  if (upForMs < WARM_MS) return wait(`the copies of ${version} are up and warming up`);
  const next: Rollout = { ...rollout, phase: 'holding', sinceMs: nowMs, share };
  const weights = weightsFor(rollout, share);
  const text = `${service} ${version} gets ${share} %`;
  // The route may have this share already, if it had the version before.
  if (isDeepStrictEqual(route?.weights, weights))
    return { kind: 'record', next: { ...next, splitIndex: splitOf(route) }, text };
  return { kind: 'route', weights, next: { ...next, ...callsSoFar(rollout, verdict) }, text };
}

function hold(rollout: Rollout, { nowMs, to, verdict }: RolloutFacts): RolloutMove {
  const { service, to: version, holdMs, sinceMs, steps, step, copies, from, keepMs } = rollout;
  if (to.alive === 0) return wait(`no copy of ${version} is alive`);
  const leftMs = sinceMs + holdMs - nowMs;
  if (leftMs > 0) return wait(`holds ${rollout.share} % for ${describeDuration(leftMs)} more`);
  if (verdict === undefined && rollout.guards.length > 0) return wait('its guards cannot be read');
  const verdicts = (verdict?.guards ?? []).map(({ guard, text }) => `${guard.metric}: ${text}`);
  const passed = [...rollout.passed, { share: rollout.share, atMs: nowMs, verdicts }];
  const common = { ...rollout, passed, sinceMs: nowMs };
  const why = verdicts.length === 0 ? '' : ` (${verdicts.join('; ')})`;
  if (step + 1 < steps.length) {
    const next: Rollout = { ...common, step: step + 1, phase: 'scaling' };
    return { kind: 'record', next, text: `${service} ${version} has held ${rollout.share} %${why}` };
  }
  const next: Rollout = {
    ...common,
    state: 'done',
    ...callsSoFar(rollout, verdict),
    isSettled: copies === 'fixed',
  };
  const kept = copies === 'fixed' ? '' : `; the copies of ${from} stay for ${describeDuration(keepMs)}`;
  return { kind: 'record', next, text: `${service} ${version} has all calls${why}${kept}` };
}

/** Scales the copies as they are to stay: those of the old version down after a rollout, those of the new one back. */
function settle(rollout: Rollout, { nowMs, route, from, to }: RolloutFacts): RolloutMove {
  if (rollout.isSettled) return wait('it has ended');
  const { service, state, sinceMs, keepMs, copiesBefore } = rollout;
  const settled: Rollout = { ...rollout, isSettled: true };
  const isDone = state === 'done';
  const [version, copies, now] = isDone
    ? [rollout.from, 0, from.desired ?? 0]
    : [rollout.to, copiesBefore.to, to.desired ?? 0];
  if (now <= copies) return { kind: 'record', next: settled, text: '' };
  // An operator who has changed the route since may have given the calls back to the old version.
  if (isDone && !hasOwnRoute(rollout, route)) {
    const text = `${service} ${version} keeps its copies: the route was changed since the rollout`;
    return { kind: 'record', next: settled, text };
  }
  const leftMs = sinceMs + (isDone ? keepMs : DRAIN_MS) - nowMs;
  if (leftMs > 0) return wait(`the copies of ${version} stay for ${describeDuration(leftMs)} more`);
  if (isDone && to.alive === 0) return wait(`no copy of ${rollout.to} is alive, so those of ${version} stay`);
  const text = `${service} ${version} is scaled to ${copies}: its rollout is ${state}`;
  return { kind: 'scale', version, copies, next: settled, text };
}

function wait(why: string): RolloutMove {
  return { kind: 'wait', why };
}

/** For so long, all copies of a step are alive before it gets its share: one that dies at once is not up. */
const WARM_MS = 1_000;
/** After a revert, every router has the route before the copies of the new version go. */
const DRAIN_MS = 5_000;
