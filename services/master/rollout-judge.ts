// Judges the guards of a rollout by the calls since the split of the route last changed. A guard is violated if the new
// version is seen to be worse than the old one at all, by a test that holds at any time, and its estimate is above what
// the guard allows. So a version that is no worse is reverted with a probability of at most ALPHA, over all guards,
// steps and looks together. The tolerance is not part of the test: proving that a difference of 0.8 points is above 0.5
// takes twenty times the calls of seeing it, and these calls fail. A guard on mirrored answers compares with its limit.
//
// Pure: counts go in, verdicts come out. It works in slices, since the leader may also serve calls.

import {
  formatGuard,
  quantileOf,
  sumOfMethods,
  type ObservedVersions,
  type Rollout,
  type RolloutGuard,
  type VersionCount,
} from '../mesh/mod.ts';
import {
  exceedsLimit,
  judgeQuantiles,
  judgeRates,
  quantilesDiffer,
  ratesDiffer,
  type EvidenceOptions,
  type HitCount,
  type Slices,
  type VerdictWording,
} from '../verdict/mod.ts';

/** The probability that a rollout of a version that is no worse is reverted. */
export const ROLLOUT_ALPHA = 0.05;

export interface GuardVerdict {
  readonly guard: RolloutGuard;
  readonly isViolated: boolean;
  /** For people. */
  readonly text: string;
}

export interface RolloutVerdict {
  /** Calls of the new version in this step, and those of them that went wrong. */
  readonly calls: number;
  readonly badCalls: number;
  readonly guards: readonly GuardVerdict[];
}

export function* judgeRollout(rollout: Rollout, observed: ObservedVersions): Slices<RolloutVerdict> {
  const { service, from, to, guards, steps, splitIndex } = rollout;
  const countOf = (version: string): VersionCount =>
    sumOfMethods(observed.counts, { serviceName: service, version, splitIndex });
  const versions: VersionPair = { from, to, first: countOf(from), second: countOf(to) };
  const alpha = ROLLOUT_ALPHA / (Math.max(1, guards.length) * steps.length);
  const share = rollout.share / 100;
  const options = share > 0 && share < 1 ? { alpha, share } : { alpha };
  const verdicts: GuardVerdict[] = [];
  for (const guard of guards) {
    yield;
    if (guard.metric === 'diff') verdicts.push(judgeDifferences(rollout, observed, guard, alpha));
    else if (guard.metric === 'errors') verdicts.push(yield* judgeErrors(versions, guard, options));
    else verdicts.push(yield* judgeLatency(versions, guard, options));
  }
  return { calls: versions.second.calls, badCalls: errorsOf(versions.second).hits, guards: verdicts };
}

interface VersionPair {
  readonly from: string;
  readonly to: string;
  readonly first: VersionCount;
  readonly second: VersionCount;
}

/**
 * The calls of which callers got no result: failures, timeouts, exceptions whether or not they are declared, and
 * refusals, because a version that has too few copies for its share must not get more. A call whose caller has gone
 * says nothing.
 */
function errorsOf({ calls, cancelled, exceptions, failures, timeouts, refusals }: VersionCount): HitCount {
  return { calls: calls - cancelled, hits: exceptions + failures + timeouts + refusals };
}

function* judgeErrors(pair: VersionPair, guard: RolloutGuard, options: EvidenceOptions): Slices<GuardVerdict> {
  const [first, second] = [errorsOf(pair.first), errorsOf(pair.second)];
  const missing = missingText(pair, first.calls, second.calls);
  if (missing !== '') return { guard, isViolated: false, text: missing };
  const [ofFirst, ofSecond] = [first.hits / first.calls, second.hits / second.calls];
  const isWorse = ofSecond > ofFirst && ratesDiffer(first, second, options);
  const isViolated = isWorse && (ofSecond - ofFirst) * 100 > guard.max;
  const values = `${percent(ofSecond)} against ${percent(ofFirst)}`;
  return {
    guard,
    isViolated,
    text: isViolated
      ? (yield* judgeRates(first, second, wordingOf(pair, 'fails more often'), options)).text
      : `${values} in ${calls(second.calls)} of ${pair.to}, ${isWorse ? 'worse, but allowed' : NOTHING_SEEN}`,
  };
}

function* judgeLatency(pair: VersionPair, guard: RolloutGuard, options: EvidenceOptions): Slices<GuardVerdict> {
  const { q, of } = quantileOf(guard.metric);
  const [first, second] = [pair.first[of], pair.second[of]];
  const missing = missingText(pair, first.count, second.count);
  if (missing !== '') return { guard, isViolated: false, text: missing };
  const [ofFirst, ofSecond] = [first.quantileMs(q), second.quantileMs(q)];
  const isWorse = ofSecond > ofFirst && quantilesDiffer(first, second, q, options);
  const isViolated = isWorse && ofSecond > guard.max * ofFirst;
  const values = `${ms(ofSecond)} against ${ms(ofFirst)}`;
  return {
    guard,
    isViolated,
    text: isViolated
      ? `${guard.metric}: ${(yield* judgeQuantiles(first, second, q, wordingOf(pair, 'is slower'), options)).text}`
      : `${values} in ${calls(second.count)} of ${pair.to}, ${isWorse ? 'slower, but allowed' : NOTHING_SEEN}`,
  };
}

function judgeDifferences(
  { service, to, mirrorBefore }: Rollout,
  { mirrors }: ObservedVersions,
  guard: RolloutGuard,
  alpha: number,
): GuardVerdict {
  const own = mirrors.counts.filter((count) => count.serviceName === service && count.version === to);
  const sum = (name: 'equal' | 'different'): number => {
    const all = own.reduce((total, count) => total + count[name], 0);
    // Fewer than before: the processes that counted them are gone.
    return all < mirrorBefore[name] ? all : all - mirrorBefore[name];
  };
  const hits = sum('different');
  const compared = { calls: sum('equal') + hits, hits };
  if (compared.calls === 0) return { guard, isViolated: false, text: 'no mirrored answers were compared' };
  const isViolated = exceedsLimit(compared, guard.max / 100, alpha);
  const values = `${percent(hits / compared.calls)} of ${compared.calls.toLocaleString('en-US')} mirrored answers differ`;
  return { guard, isViolated, text: isViolated ? `${to} answers differently: ${values}` : values };
}

/** What a violated guard says: `errors +0.5pt: 2.0.0 fails more often: 3.1 % against 0.2 % (...)` */
export function violationText({ guards }: RolloutVerdict): string | undefined {
  const violated = guards.filter(({ isViolated }) => isViolated);
  if (violated.length === 0) return undefined;
  return violated.map(({ guard, text }) => `${formatGuard(guard)}: ${text}`).join('; ');
}

function missingText({ from, to }: VersionPair, first: number, second: number): string {
  const without = [...(first === 0 ? [from] : []), ...(second === 0 ? [to] : [])];
  return without.length === 0 ? '' : `no calls of ${without.join(' and ')} to compare`;
}

function wordingOf({ from, to }: VersionPair, higher: string): VerdictWording {
  return { first: from, second: to, higher, lower: 'is better' };
}

function calls(count: number): string {
  return `${count.toLocaleString('en-US')} ${count === 1 ? 'call' : 'calls'}`;
}

function percent(rate: number): string {
  return `${(rate * 100).toLocaleString('en-US', { maximumFractionDigits: 2 })} %`;
}

function ms(value: number): string {
  return `${value.toLocaleString('en-US', { maximumSignificantDigits: 3 })} ms`;
}

const NOTHING_SEEN = 'no difference to be seen';
