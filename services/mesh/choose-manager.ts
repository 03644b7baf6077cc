// Chooses the manager that gets a call among those that serve its pool.

import type { Offer } from './offer.ts';

// Which manager of a pool takes a call.

/**
 * The manager to send to next: of those that can be reached the one with most free resources, but for those that were asked; when none is free
 * the least loaded. The one that just failed only when there is no other. undefined: none can be reached.
 */
export function pickManager(
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

function queueLoad({ queued, alive }: Offer): number {
  return alive === 0 ? Number.MAX_SAFE_INTEGER : (queued + 1) / alive;
}
