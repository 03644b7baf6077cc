// How the calls to a version have ended, and what callers have reported about them. Each process counts by itself. The
// counts of all are added up to compare two versions.

import { LogHistogram } from '../../core/rpc/mod.ts';
import { mergeMirrorReports, type MirrorReport } from './mirror-report.ts';

/** The calls of one method that the weights of a route have led to one version. */
export interface VersionCount {
  readonly serviceName: string;
  readonly version: string;
  readonly method: string;
  /** Number of the change of the route since which it counts; see Route.splitIndex. */
  readonly splitIndex: number;
  /** When the count began, in ms since 1970. */
  readonly sinceMs: number;
  /** All that have ended. */
  calls: number;
  /** Those of them that were answered with a declared exception. */
  exceptions: number;
  /** Answered with an undeclared exception, or failed while they ran. */
  failures: number;
  timeouts: number;
  /** Refused: the queue was full, or the copies were about to stop. */
  refusals: number;
  /** The caller has gone. */
  cancelled: number;
  /** Durations of the calls that were answered or timed out, as the router saw them. */
  readonly durations: LogHistogram;
  /** Time that the answered calls waited for a copy. */
  readonly queueing: LogHistogram;
}

/** The values of one metric that callers have reported for one version (`katamari.Mesh.outcome`). */
export interface OutcomeCount {
  readonly serviceName: string;
  readonly version: string;
  readonly metric: string;
  readonly splitIndex: number;
  readonly sinceMs: number;
  count: number;
  sum: number;
  sumOfSquares: number;
  /** Values that were neither 0 nor 1. Without any, the sum is a number of hits. */
  others: number;
}

/** What one process has counted of one service. */
export interface VersionReport {
  readonly serviceName: string;
  /** Name of the process, and a random text that differs for each of its starts. */
  readonly process: string;
  readonly start: string;
  /** Rises with each report of a process. */
  readonly seq: number;
  readonly counts: readonly Readonly<VersionCount>[];
  readonly outcomes: readonly Readonly<OutcomeCount>[];
  readonly mirrors: MirrorReport;
}

/** The sums over all processes. */
export interface ObservedVersions {
  readonly counts: readonly Readonly<VersionCount>[];
  readonly outcomes: readonly Readonly<OutcomeCount>[];
  readonly mirrors: MirrorReport;
  /** Managers that could not be asked. */
  readonly missing: readonly string[];
}

/** Adds up the reports of all processes. Of each process, the newest report counts. */
export function mergeVersionReports(reports: readonly VersionReport[], missing: readonly string[]): ObservedVersions {
  const newest = new Map<string, VersionReport>();
  for (const report of reports) {
    const key = sourceOf(report);
    if (report.seq >= (newest.get(key)?.seq ?? 0)) newest.set(key, report);
  }
  const counts = new Map<string, VersionCount>();
  const outcomes = new Map<string, OutcomeCount>();
  for (const report of newest.values()) {
    for (const one of report.counts) addCount(counts, one);
    for (const one of report.outcomes) addOutcome(outcomes, one);
  }
  const { missing: _, ...mirrors } = mergeMirrorReports([...newest.values()].map((report) => report.mirrors));
  return {
    counts: [...counts.values()],
    outcomes: [...outcomes.values()],
    mirrors: { ...mirrors, missing },
    missing,
  };
}

/** What a report is about, and whose it is. */
export function sourceOf({ serviceName, process, start }: VersionReport): string {
  return JSON.stringify([serviceName, process, start]);
}

/** Adds up the counts of all methods of one version since one change of its route. */
export function sumOfMethods(
  counts: readonly Readonly<VersionCount>[],
  { serviceName, version, splitIndex }: Pick<VersionCount, 'serviceName' | 'version' | 'splitIndex'>,
): VersionCount {
  const sum = emptyCount({ serviceName, version, method: '', splitIndex, sinceMs: Number.POSITIVE_INFINITY });
  const sums = new Map([[keyOf(sum, ''), sum]]);
  for (const one of counts) {
    if (one.serviceName !== serviceName || one.version !== version || one.splitIndex !== splitIndex) continue;
    addCount(sums, { ...one, method: '' });
  }
  return sums.get(keyOf(sum, '')) as VersionCount;
}

export function emptyCount(
  key: Pick<VersionCount, 'serviceName' | 'version' | 'method' | 'splitIndex' | 'sinceMs'>,
): VersionCount {
  const none = { calls: 0, exceptions: 0, failures: 0, timeouts: 0, refusals: 0, cancelled: 0 };
  return { ...key, ...none, durations: new LogHistogram(), queueing: new LogHistogram() };
}

function addCount(sums: Map<string, VersionCount>, one: Readonly<VersionCount>): void {
  const key = keyOf(one, one.method);
  const known = sums.get(key) ?? emptyCount(one);
  const sum = { ...known, sinceMs: Math.min(known.sinceMs, one.sinceMs) };
  for (const name of NUMBERS) sum[name] += one[name];
  sum.durations.add(one.durations);
  sum.queueing.add(one.queueing);
  sums.set(key, sum);
}

function addOutcome(sums: Map<string, OutcomeCount>, one: Readonly<OutcomeCount>): void {
  const key = keyOf(one, one.metric);
  const { serviceName, version, metric, splitIndex } = one;
  const none = { count: 0, sum: 0, sumOfSquares: 0, others: 0, sinceMs: one.sinceMs };
  const known = sums.get(key) ?? { serviceName, version, metric, splitIndex, ...none };
  sums.set(key, {
    ...known,
    sinceMs: Math.min(known.sinceMs, one.sinceMs),
    count: known.count + one.count,
    sum: known.sum + one.sum,
    sumOfSquares: known.sumOfSquares + one.sumOfSquares,
    others: known.others + one.others,
  });
}

function keyOf(
  { serviceName, version, splitIndex }: Pick<VersionCount, 'serviceName' | 'version' | 'splitIndex'>,
  name: string,
): string {
  return JSON.stringify([serviceName, version, splitIndex, name]);
}

const NUMBERS = ['calls', 'exceptions', 'failures', 'timeouts', 'refusals', 'cancelled'] as const;

/** Struct VersionReport of idl/manager.thrift. */
export interface ThriftVersionReport extends Omit<VersionReport, 'counts'> {
  readonly counts: readonly (Omit<VersionCount, 'durations' | 'queueing'> & {
    readonly durations: readonly number[];
    readonly queueing: readonly number[];
  })[];
}

export function thriftVersionReport(report: VersionReport): ThriftVersionReport {
  const counts = report.counts.map((one) => ({
    ...one,
    durations: one.durations.toSparse(),
    queueing: one.queueing.toSparse(),
  }));
  return { ...report, counts };
}

/** @throws RangeError when a histogram cannot be read */
export function versionReportOfThrift(report: ThriftVersionReport): VersionReport {
  const counts = report.counts.map((one) => ({
    ...one,
    durations: LogHistogram.fromSparse(one.durations),
    queueing: LogHistogram.fromSparse(one.queueing),
  }));
  return { ...report, counts };
}
