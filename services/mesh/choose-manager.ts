// Chooses the manager that gets a call, among the managers that serve its pool.

import type { Offer } from './offer.ts';

/**
 * Returns the reachable manager with the most free resources, apart from those in `busy`. If there is none, returns
 * the manager with the shortest queue per live resource. `failed` is used only when no other manager is reachable.
 * @param failed the manager of the last try, if that try failed
 * @param busy managers that refused this call because no resource was free
 * @returns undefined when no manager is reachable
 */
export function chooseManager(
  offers: readonly Offer[],
  failed: Offer | undefined,
  busy: readonly Offer[] | undefined,
): Offer | undefined {
  if (offers.length === 1) return offers[0]?.isReachable === true ? offers[0] : undefined;
  let best: Offer | undefined;
  let bestLoad = Number.POSITIVE_INFINITY;
  for (const offer of offers) {
    if (!offer.isReachable) continue;
    const isFree = offer.free > 0 && busy?.includes(offer) !== true;
    const load = offer === failed ? Number.MAX_VALUE : isFree ? -offer.free : queueLoad(offer);
    if (best !== undefined && load >= bestLoad) continue;
    best = offer;
    bestLoad = load;
  }
  return best;
}

/** Returns the queue length per live resource after one more call. */
function queueLoad({ queued, alive }: Offer): number {
  return alive === 0 ? Number.MAX_SAFE_INTEGER : (queued + 1) / alive;
}
