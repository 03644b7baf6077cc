// The pools that this process can route to, and what should run, collected from its own manager, the fleet, the
// admin service and Consul. Gives them to the router on every change and then notifies the parts that publish or store
// them.

import { mergeDeployed, type DeployedService, type Offer, type Router } from '../mesh/mod.ts';

export class OfferTable {
  readonly #router: Router;
  readonly #sources: (() => readonly Offer[])[] = [];
  readonly #derived: ((offers: readonly Offer[]) => readonly Offer[])[] = [];
  readonly #running: (() => readonly DeployedService[])[] = [];
  readonly #desired: (() => readonly DeployedService[])[] = [];
  readonly #listeners: (() => void)[] = [];

  constructor(router: Router) {
    this.#router = router;
  }

  /** Adds a source, read on every change. Later sources come first, so own pools precede those of the fleet. */
  addSource(read: () => readonly Offer[]): void {
    this.#sources.unshift(read);
  }

  /** Adds offers that stand on others: those of index versions, which need the pools of their content services. */
  addDerived(read: (offers: readonly Offer[]) => readonly Offer[]): void {
    this.#derived.push(read);
  }

  /** Adds a source of what managers run, whether or not it has a pool. */
  addRunning(read: () => readonly DeployedService[]): void {
    this.#running.push(read);
  }

  /** Adds a source of what should run in the mesh. */
  addDesired(read: () => readonly DeployedService[]): void {
    this.#desired.push(read);
  }

  /** What should run in the mesh, whether or not it has a pool. */
  deployed(): readonly DeployedService[] {
    return mergeDeployed(
      this.#running.flatMap((read) => read()),
      this.#desired.flatMap((read) => read()),
    );
  }

  /** Calls `listener` after every change, once the router knows the offers. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Reads all sources again. */
  changed(): void {
    const offers = this.#sources.flatMap((read) => read());
    const derived = this.#derived.flatMap((read) => read(offers));
    this.#router.setOffers([...offers, ...derived], this.deployed());
    for (const listener of this.#listeners) listener();
  }
}
