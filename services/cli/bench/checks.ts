// `--max-errors` and `--p99`: thresholds for CI, each reported in one sentence. A failed call counts as slower than
// any limit; otherwise a mesh would look faster the more calls it rejects.

import { formatDuration } from '../../../core/mod.ts';
import { count, latency, percent } from './figures.ts';
import type { Checks } from './plan.ts';
import type { Tally } from './tally.ts';

export interface CheckResult {
  readonly name: 'max-errors' | 'p99';
  readonly version: string;
  readonly holds: boolean;
  readonly text: string;
}

/** @param version a version of a comparison, else '' */
export function checkTally({ errorsMax, p99Ms }: Checks, version: string, tally: Tally): readonly CheckResult[] {
  const { calls, failed, latencies } = tally;
  const of = version === '' ? '' : ` of ${version}`;
  const results: CheckResult[] = [];
  if (errorsMax !== undefined) {
    const share = calls === 0 ? 1 : failed / calls;
    const holds = share <= errorsMax;
    const text = `${percent(share)} of ${count(calls)} calls${of} failed, ${holds ? 'within the' : 'which is more than the'} ${percent(errorsMax)} of --max-errors`;
    results.push({ name: 'max-errors', version, holds, text });
  }
  if (p99Ms !== undefined) {
    const inTime = calls === 0 ? 0 : latencies.countUpTo(p99Ms) / calls;
    const holds = inTime >= P99_SHARE;
    const limit = formatDuration(p99Ms);
    const p99 = `p99 ${latency(latencies.percentileMs(99))} ms${failed > 0 ? `, ${count(failed)} failed` : ''}`;
    const text = `${percent(inTime)} of ${count(calls)} calls${of} were answered within ${limit} (${p99}), ${holds ? 'enough' : 'fewer than the 99 %'} for --p99`;
    results.push({ name: 'p99', version, holds, text });
  }
  return results;
}

const P99_SHARE = 0.99;
