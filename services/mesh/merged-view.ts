// The pools of the mesh as faceplates see them: one view per pool, even if several managers serve it.

import type { PoolDetails, PoolView } from '../../core/rpc/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import type { Offer } from './offer.ts';
import { poolKey } from './pool-key.ts';

/** Returns one view for each pool, in the order of its first offer. */
export function mergeViews(offers: readonly Offer[]): readonly PoolView[] {
  const byPool = new Map<string, Offer[]>();
  for (const offer of offers) {
    const key = poolKey(offer.details, offer.interface.id);
    const same = byPool.get(key);
    if (same === undefined) byPool.set(key, [offer]);
    else same.push(offer);
  }
  return [...byPool.values()].map((same) => (same.length === 1 ? (same[0] as Offer) : new MergedView(same)));
}

/** A pool that several managers serve. Load and size are summed at each read. */
class MergedView implements PoolView {
  readonly #offers: readonly Offer[];
  readonly id: string;
  readonly details: PoolDetails;
  readonly interface: Interface;

  constructor(offers: readonly Offer[]) {
    const [{ id, details, interface: iface }] = offers as [Offer];
    this.#offers = offers;
    this.id = id;
    this.details = details;
    this.interface = iface;
  }

  get free(): number {
    return this.#offers.reduce((sum, { free }) => sum + free, 0);
  }

  get alive(): number {
    return this.#offers.reduce((sum, { alive }) => sum + alive, 0);
  }

  get queued(): number {
    return this.#offers.reduce((sum, { queued }) => sum + queued, 0);
  }
}
