// Compares two versions of a service by what all processes have counted, in the shapes of idl/versions.thrift. Each
// verdict is wrong with a probability of at most 1 %, however often somebody looks. So the five on all methods together
// are wrong with at most 5 %.

import { judgeMeans, judgeQuantiles, judgeRates, type MetricVerdict, type Slices } from '../verdict/mod.ts';
import { sumOfMethods, type ObservedVersions, type OutcomeCount, type VersionCount } from '../mesh/mod.ts';

export interface ComparedVersions {
  readonly serviceName: string;
  readonly first: string;
  readonly second: string;
  /** Number of the change of the route since which calls are compared. */
  readonly splitIndex: number;
}

/** Struct Verdict. */
interface ThriftVerdict extends Partial<Record<'first' | 'second' | 'low' | 'high', number>> {
  readonly metric: string;
  readonly isDifferent: boolean;
  readonly text: string;
}

/** Returns a struct VersionComparison. */
export function* compareVersions(compared: ComparedVersions, observed: ObservedVersions): Slices<unknown> {
  const { serviceName, first, second, splitIndex } = compared;
  const isCompared = (one: VersionCount | OutcomeCount): boolean =>
    one.serviceName === serviceName && one.splitIndex === splitIndex && [first, second].includes(one.version);
  const counts = observed.counts.filter(isCompared);
  const [ofFirst, ofSecond] = [first, second].map((version) =>
    sumOfMethods(counts, { serviceName, version, splitIndex }),
  ) as [VersionCount, VersionCount];
  const methods: unknown[] = [yield* compareMethod(ofFirst, ofSecond)];
  const names = [...new Set(counts.map(({ method }) => method))];
  const ofMethod = names.map((method) => {
    const own = counts.filter((one) => one.method === method);
    return [first, second].map((version) => ({ ...sumOfMethods(own, { serviceName, version, splitIndex }), method }));
  }) as [VersionCount, VersionCount][];
  ofMethod.sort(([a, b], [c, d]) => c.calls + d.calls - a.calls - b.calls);
  for (const [at, [one, other]] of ofMethod.entries()) {
    methods.push(at < METHODS_JUDGED_MAX ? yield* compareMethod(one, other) : figuresOnly(one, other));
  }
  const outcomes: unknown[] = [];
  const reported = observed.outcomes.filter(isCompared);
  for (const metric of [...new Set(reported.map((one) => one.metric))].sort()) {
    const find = (version: string): OutcomeCount | undefined =>
      reported.find((one) => one.metric === metric && one.version === version);
    outcomes.push(yield* compareOutcome(compared, metric, find(first), find(second)));
  }
  const sinceMs = Math.min(...[...counts, ...reported].map((one) => one.sinceMs));
  return {
    ...compared,
    ...(Number.isFinite(sinceMs) ? { sinceMs } : {}),
    methods,
    outcomes,
    missing: observed.missing,
  };
}

function* compareMethod(first: VersionCount, second: VersionCount): Slices<unknown> {
  const wording = (higher: string, lower: string) => ({ first: first.version, second: second.version, higher, lower });
  const slower = (what: string) => wording(`has a longer ${what}`, `has a shorter ${what}`);
  const verdicts: ThriftVerdict[] = [
    verdictOf(
      'errors',
      yield* judgeRates(errorsOf(first), errorsOf(second), wording('fails more often', 'fails less often'), OPTIONS),
    ),
  ];
  if (first.exceptions + second.exceptions > 0) {
    const often = wording('throws declared exceptions more often', 'throws declared exceptions less often');
    verdicts.push(
      verdictOf('exceptions', yield* judgeRates(exceptionsOf(first), exceptionsOf(second), often, OPTIONS)),
    );
  }
  for (const [metric, q] of QUANTILES) {
    const judged = judgeQuantiles(first.durations, second.durations, q, slower(metric), OPTIONS);
    verdicts.push(verdictOf(metric, yield* judged));
  }
  // Calls that wait 0 ms say nothing of each other.
  if (Math.max(first.queueing.quantileMs(0.99), second.queueing.quantileMs(0.99)) >= QUEUE_MS_MIN) {
    const judged = judgeQuantiles(first.queueing, second.queueing, 0.99, slower('p99 of the wait for a copy'), OPTIONS);
    verdicts.push(verdictOf('queue p99', yield* judged));
  }
  return { ...figuresOnly(first, second), verdicts };
}

function figuresOnly(first: VersionCount, second: VersionCount): Record<string, unknown> {
  return { method: first.method, first: figuresOf(first), second: figuresOf(second), verdicts: [] };
}

/** Returns a struct VersionFigures. */
function figuresOf({ durations, queueing, ...count }: VersionCount): Record<string, unknown> {
  const { version, calls, exceptions, failures, timeouts, refusals, cancelled } = count;
  const numbers = { version, calls, exceptions, failures, timeouts, refusals, cancelled };
  const times =
    durations.count === 0
      ? {}
      : {
          p50Ms: durations.quantileMs(0.5),
          p90Ms: durations.quantileMs(0.9),
          p99Ms: durations.quantileMs(0.99),
        };
  const waits =
    queueing.count === 0 ? {} : { queueP50Ms: queueing.quantileMs(0.5), queueP99Ms: queueing.quantileMs(0.99) };
  return { ...numbers, ...times, ...waits, durations: durations.toSparse() };
}

function* compareOutcome(
  compared: ComparedVersions,
  metric: string,
  first: OutcomeCount | undefined,
  second: OutcomeCount | undefined,
): Slices<unknown> {
  const [one, other] = [first ?? NO_VALUES, second ?? NO_VALUES];
  const isRate = one.others + other.others === 0;
  const what = `${isRate ? 'rate' : 'mean'} of ${metric}`;
  const { first: firstVersion, second: secondVersion } = compared;
  const ends = { higher: `has a higher ${what}`, lower: `has a lower ${what}` };
  const wording = { first: firstVersion, second: secondVersion, ...ends };
  // Means of 0 and 1 are rates, which have exact intervals.
  const judged = isRate
    ? judgeRates({ calls: one.count, hits: one.sum }, { calls: other.count, hits: other.sum }, wording, OPTIONS)
    : judgeMeans(one, other, wording, OPTIONS);
  return { metric, firstCount: one.count, secondCount: other.count, verdict: verdictOf(metric, yield* judged) };
}

/** Errors among the calls whose caller has waited for the end. */
export function errorsOf({ calls, cancelled, failures, timeouts, refusals }: VersionCount): HitsOfCalls {
  return { calls: calls - cancelled, hits: failures + timeouts + refusals };
}

export function exceptionsOf({ calls, cancelled, exceptions }: VersionCount): HitsOfCalls {
  return { calls: calls - cancelled, hits: exceptions };
}

export interface HitsOfCalls {
  readonly calls: number;
  readonly hits: number;
}

/** Thrift has neither NaN nor infinity in JSON, so they are left out. */
function verdictOf(metric: string, { comparison, text }: MetricVerdict): ThriftVerdict {
  const { isDifferent, ...numbers } = comparison;
  const finite = Object.entries(numbers).filter(([, value]) => Number.isFinite(value));
  return { metric, isDifferent, text, ...Object.fromEntries(finite) };
}

const OPTIONS = { alpha: 0.01 };
const QUANTILES = [
  ['p50', 0.5],
  ['p99', 0.99],
] as const;
const NO_VALUES = { count: 0, sum: 0, sumOfSquares: 0, others: 0 };
const METHODS_JUDGED_MAX = 20;
const QUEUE_MS_MIN = 0.1;
