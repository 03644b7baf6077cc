// The pools that this process can route to, collected from its own manager, the fleet and the admin service. Gives
// them to the router on every change and then notifies the parts that publish or store them.

import type { Offer, Router } from '../mesh/mod.ts';

export class OfferTable {
  readonly #router: Router;
  readonly #sources: (() => readonly Offer[])[] = [];
  readonly #listeners: (() => void)[] = [];

  constructor(router: Router) {
    this.#router = router;
  }

  /** Adds a source, read on every change. Later sources come first, so own pools precede those of the fleet. */
  addSource(read: () => readonly Offer[]): void {
    this.#sources.unshift(read);
  }

  /** Calls `listener` after every change, once the router knows the offers. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Reads all sources again. */
  changed(): void {
    this.#router.setOffers(this.#sources.flatMap((read) => read()));
    for (const listener of this.#listeners) listener();
  }
}
