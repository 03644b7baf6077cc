// A rollout: the plan by which a version of a service gets the calls of another one in steps, and how far it is. The
// leader carries it out. All that a new leader needs to go on is in this document, `rollouts/<service>` in Consul.

import { deploymentId } from './deployment.ts';
import { ROLLOUT_GUARD, type RolloutGuard } from './rollout-guard.ts';
import { ROUTE, type Route } from './route.ts';
import { z } from 'zod';

/**
 * - running: the leader goes from step to step.
 * - paused: the share stays as it is, and the guards are still watched.
 * - done: the new version has all the calls.
 * - reverted: a guard was violated, or copies did not come up. The old version has its calls back.
 * - aborted: an operator has ended it. The old version has its calls back.
 */
export const ROLLOUT_STATES = ['running', 'paused', 'done', 'reverted', 'aborted'] as const;
export type RolloutState = (typeof ROLLOUT_STATES)[number];

/**
 * - scaling: copies for the step are started. The share is still that of the step before.
 * - holding: the new version has the share of the step, and the guards watch it.
 */
export type RolloutPhase = 'scaling' | 'holding';

export interface RolloutPlan {
  readonly service: string;
  /** The new version. */
  readonly to: string;
  /** The version that gives up its calls, and that the guards compare with. */
  readonly from: string;
  /** Percentages of the calls of both versions that the new one gets; rising, the last is 100. */
  readonly steps: readonly number[];
  /** How long a share is held before the next step. */
  readonly holdMs: number;
  /** How long the copies of the old version stay after the last step. */
  readonly keepMs: number;
  /** How long copies may take to come up. */
  readonly startMs: number;
  readonly guards: readonly RolloutGuard[];
  /** Whether the number of copies follows the share. */
  readonly copies: 'follow' | 'fixed';
}

export interface Rollout extends RolloutPlan {
  /** Name of the admin token. */
  readonly by: string;
  readonly startedAtMs: number;
  readonly state: RolloutState;
  /** Why it is paused or has ended, for people; '' while it runs. */
  readonly reason: string;
  readonly phase: RolloutPhase;
  /** Position in `steps`. */
  readonly step: number;
  /** When the phase began, or when the rollout ended: wall clock, since another leader may go on. */
  readonly sinceMs: number;
  /** The split of the route with the share below; see Route.splitIndex. */
  readonly splitIndex: number;
  /** The share of the new version, in percent; 0 before the first step. */
  readonly share: number;
  /** The route in force at the start. */
  readonly routeBefore: Route;
  /** Copies at the start. `follow` scales the new version as a share of the old one's, and back to its own. */
  readonly copiesBefore: { readonly from: number; readonly to: number };
  /** Answers that the mirror had compared at the start. */
  readonly mirrorBefore: { readonly equal: number; readonly different: number };
  /** The steps that were held to the end. */
  readonly passed: readonly PassedStep[];
  /** Calls of the new version that the weights led there, and those of them that went wrong. */
  readonly calls: number;
  readonly badCalls: number;
  /** Whether it has ended and its copies are scaled as they are to stay. */
  readonly isSettled: boolean;
}

export interface PassedStep {
  readonly share: number;
  readonly atMs: number;
  /** What each guard saw, for people. */
  readonly verdicts: readonly string[];
}

export function isActive({ state }: Pick<Rollout, 'state'>): boolean {
  return state === 'running' || state === 'paused';
}

/** The share of the present step, which the new version has while `holding`, and is to get while `scaling`. */
export function shareOfStep({ steps, step }: Pick<Rollout, 'steps' | 'step'>): number {
  return steps[Math.min(step, steps.length - 1)] ?? 100;
}

/**
 * The weights with which `to` has `share` percent of the calls of both versions. Other versions keep theirs.
 * Without weights at the start, there are no others.
 */
export function weightsFor({ routeBefore, from, to }: Rollout, share: number): Readonly<Record<string, number>> {
  const { [from]: ofFrom = 0, [to]: ofTo = 0, ...others } = routeBefore.weights;
  const own = ofFrom + ofTo;
  // Weights are whole numbers; a share has up to two digits after the point.
  const parts = 10_000;
  const ofShare = Math.round(share * 100);
  const sum = own === 0 ? 1 : own;
  const weights = new Map([
    ...Object.entries(others).map(([version, weight]): [string, number] => [version, weight * parts]),
    [from, sum * (parts - ofShare)],
    [to, sum * ofShare],
  ]);
  const divisor = [...weights.values()].reduce(greatestDivisor, 0);
  // Alone, the two add up to 100 if they can.
  const total = sum * parts;
  const hasOthers = Object.values(others).some((weight) => weight > 0);
  const unit = !hasOthers && (total / 100) % 1 === 0 && ofShare % 100 === 0 ? total / 100 : divisor;
  return Object.fromEntries([...weights].map(([version, weight]) => [version, weight / unit]));
}

/** The weights before the rollout, without the new version: a revert is to take all its calls. */
export function weightsBefore({ routeBefore, from, to }: Rollout): Readonly<Record<string, number>> {
  const weights = { ...routeBefore.weights, ...(Object.hasOwn(routeBefore.weights, to) ? { [to]: 0 } : {}) };
  return Object.values(weights).some((weight) => weight > 0) ? weights : { ...weights, [from]: 100, [to]: 0 };
}

/** Copies of the new version for a share, if they follow it. */
export function copiesFor({ copiesBefore }: Rollout, share: number): number {
  return Math.max(1, copiesBefore.to, Math.ceil((copiesBefore.from * share) / 100 - ROUNDING));
}

/** `Search 1.9.0 -> 2.0.0` */
export function rolloutName({ service, from, to }: RolloutPlan): string {
  return `${deploymentId({ service, version: from })} -> ${to}`;
}

function greatestDivisor(one: number, other: number): number {
  return other === 0 ? one : greatestDivisor(other, one % other);
}

const ROUNDING = 1e-9;
const version = () => z.string().min(1).max(100);
const ms = () => z.int().min(0);
const count = () => z.int().min(0);

/** A rollout in Consul. */
export const ROLLOUT: z.ZodType<Rollout> = z.object({
  service: z.string().min(1).max(200),
  to: version(),
  from: version(),
  steps: z.array(z.number().positive().max(100)).min(1).max(100),
  holdMs: ms(),
  keepMs: ms(),
  startMs: ms(),
  guards: z.array(ROLLOUT_GUARD).max(20),
  copies: z.enum(['follow', 'fixed']),
  by: z.string(),
  startedAtMs: z.number(),
  state: z.enum(ROLLOUT_STATES),
  reason: z.string().max(65_536),
  phase: z.enum(['scaling', 'holding']),
  step: count(),
  sinceMs: z.number(),
  splitIndex: count(),
  share: z.number().min(0).max(100),
  routeBefore: ROUTE,
  copiesBefore: z.object({ from: count(), to: count() }),
  mirrorBefore: z.object({ equal: count(), different: count() }),
  passed: z
    .array(z.object({ share: z.number(), atMs: z.number(), verdicts: z.array(z.string().max(4_096)).max(20) }))
    .max(100),
  calls: count(),
  badCalls: count(),
  isSettled: z.boolean(),
});
