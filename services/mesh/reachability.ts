// Tracks whether Consul responds, by the results of all requests of this process. Logs one event when Consul is lost
// and one when it is back.

import type { ConsulError } from '../consul/mod.ts';
import type { EventLog } from './event-log.ts';

export class Reachability {
  readonly #address: string;
  readonly #events: EventLog;
  readonly #onBack = new Set<() => void>();
  #isReachable = true;

  constructor(address: string, events: EventLog) {
    this.#address = address;
    this.#events = events;
  }

  get isReachable(): boolean {
    return this.#isReachable;
  }

  /** Calls `act` each time Consul responds again after a failure. Its data may then be older than before, or gone. */
  onBack(act: () => void): void {
    this.#onBack.add(act);
  }

  readonly failed = (error: ConsulError): void => {
    if (!this.#isReachable || error.isCancelled) return;
    this.#isReachable = false;
    this.#events.add('consul_lost', this.#address, `${error.message}; calls continue with the last known state`);
  };

  readonly answered = (): void => {
    if (this.#isReachable) return;
    this.#isReachable = true;
    this.#events.add('consul_found', this.#address, 'Consul answers again');
    for (const act of this.#onBack) act();
  };
}
