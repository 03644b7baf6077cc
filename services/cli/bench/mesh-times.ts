// Mean time in the queue and in service, as the mesh measures it: the difference of the sums in the metrics of all
// managers before and after a round. Rejected calls are left out, because they would lower the means. The sums
// include all callers of the version, so other traffic on the mesh counts, too.

import type { MeshTimes } from './tally.ts';

/** Sums over all pools of a service, in seconds. */
export interface PoolSums {
  readonly calls: number;
  readonly totalS: number;
  readonly queueS: number;
}

/**
 * Returns undefined if any page cannot be fetched, because a partial sum is useless. `version` '' means all
 * versions.
 */
export async function readPoolSums(
  statsUrls: readonly string[],
  service: string,
  version: string,
): Promise<PoolSums | undefined> {
  if (statsUrls.length === 0) return undefined;
  try {
    const pages = await Promise.all(statsUrls.map(readMetrics));
    const labels = [`service="${service}"`, ...(version === '' ? [] : [`version="${version}"`])];
    const of = (name: string, ...more: readonly string[]): number =>
      pages.reduce((sum, page) => sum + sumOf(page, `katamari_pool_${name}`, [...labels, ...more]), 0);
    return {
      calls: of('calls_total') - of('calls_total', 'outcome="refused"'),
      totalS: of('call_duration_seconds_sum'),
      queueS: of('queue_duration_seconds_sum'),
    };
  } catch {
    return undefined;
  }
}

export function timesBetween(before: PoolSums | undefined, after: PoolSums | undefined): MeshTimes | undefined {
  const calls = (after?.calls ?? 0) - (before?.calls ?? 0);
  if (before === undefined || after === undefined || calls <= 0) return undefined;
  const queueMs = ((after.queueS - before.queueS) * 1_000) / calls;
  return { queueMs, serviceMs: ((after.totalS - before.totalS) * 1_000) / calls - queueMs };
}

async function readMetrics(url: string): Promise<string> {
  const answer = await fetch(new URL('/metrics', url), { signal: AbortSignal.timeout(ANSWER_MS) });
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  return await answer.text();
}

/** Lines look like `name{service="Calculator",version="1.0.0",pool="..."} 1.5`. */
function sumOf(page: string, name: string, labels: readonly string[]): number {
  let sum = 0;
  for (const line of page.split('\n')) {
    if (line.startsWith(`${name}{`) && labels.every((label) => line.includes(label)))
      sum += Number(line.slice(line.lastIndexOf(' ') + 1));
  }
  return sum;
}

const ANSWER_MS = 2_000;
