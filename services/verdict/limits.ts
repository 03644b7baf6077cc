// Whether the rate of one version is above a fixed limit, such as 1 % of different answers. Like the comparisons of two
// versions, it holds at any time: a rate at the limit or below it is ever called higher with a probability of at most
// alpha, over all looks together.

import { type HitCount, levelEvidence } from './contrast.ts';

/** @param limit a rate, 0 to 1 */
export function exceedsLimit(count: HitCount, limit: number, alpha: number): boolean {
  if (count.calls === 0 || count.hits / count.calls <= limit) return false;
  return levelEvidence(count, limit) >= -Math.log(alpha);
}
