// How the calls to a version have ended, and what callers have reported about them. Each process counts by itself. The
// counts of all are added up to compare two versions.

import { LogHistogram } from '../../core/rpc/mod.ts';
import type { MirrorReport } from './mirror-report.ts';

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

/** The sums over all processes. */
export interface ObservedVersions {
  readonly counts: readonly Readonly<VersionCount>[];
  readonly mirrors: MirrorReport;
  /** Managers that could not be asked. */
  readonly missing: readonly string[];
}

/** Adds up the counts of all methods of one version since one change of its route. */
export function sumOfMethods(
  counts: readonly Readonly<VersionCount>[],
  { serviceName, version, splitIndex }: Pick<VersionCount, 'serviceName' | 'version' | 'splitIndex'>,
): VersionCount {
  const none = { calls: 0, exceptions: 0, failures: 0, timeouts: 0, refusals: 0, cancelled: 0, sinceMs: 0 };
  const histograms = { durations: new LogHistogram(), queueing: new LogHistogram() };
  const sum: VersionCount = { serviceName, version, method: '', splitIndex, ...none, ...histograms };
  for (const one of counts) {
    if (one.serviceName !== serviceName || one.version !== version || one.splitIndex !== splitIndex) continue;
    for (const name of NUMBERS) sum[name] += one[name];
    sum.durations.add(one.durations);
    sum.queueing.add(one.queueing);
  }
  return sum;
}

const NUMBERS = ['calls', 'exceptions', 'failures', 'timeouts', 'refusals', 'cancelled'] as const;
