// Whether Consul answers, as all of this process's uses of it find: one event when it is lost, one when it is back.

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

  /** Called each time Consul answers again after it did not: it may have come back empty, or with older data. */
  onBack(act: () => void): void {
    this.#onBack.add(act);
  }

  readonly failed = (error: ConsulError): void => {
    if (!this.#isReachable || error.isCancelled) return;
    this.#isReachable = false;
    this.#events.add('consul_lost', this.#address, `${error.message}; calls go on with what was last known`);
  };

  readonly answered = (): void => {
    if (this.#isReachable) return;
    this.#isReachable = true;
    this.#events.add('consul_found', this.#address, 'Consul answers again');
    for (const act of this.#onBack) act();
  };
}
