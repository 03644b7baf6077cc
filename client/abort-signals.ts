// Listens to the abort signals of callers, with one listener per signal while any of its calls is pending. Callers
// share signals among many calls, and runtimes warn about many listeners on one signal.

import type { ClientCall } from './pending-call.ts';

export class AbortSignals {
  readonly #subscriptions = new Map<AbortSignal, AbortSubscription>();
  readonly #onAbort: (call: ClientCall) => void;

  constructor(onAbort: (call: ClientCall) => void) {
    this.#onAbort = onAbort;
  }

  subscribe(signal: AbortSignal, call: ClientCall): void {
    let subscription = this.#subscriptions.get(signal);
    if (subscription === undefined) {
      subscription = new AbortSubscription(this.#onAbort);
      this.#subscriptions.set(signal, subscription);
      signal.addEventListener('abort', subscription);
    }
    subscription.calls.add(call);
  }

  /** Does nothing if the call is not subscribed. */
  unsubscribe(signal: AbortSignal, call: ClientCall): void {
    const subscription = this.#subscriptions.get(signal);
    if (subscription === undefined || !subscription.calls.delete(call) || subscription.calls.size > 0) return;
    this.#subscriptions.delete(signal);
    signal.removeEventListener('abort', subscription);
  }
}

class AbortSubscription {
  readonly calls = new Set<ClientCall>();
  readonly #onAbort: (call: ClientCall) => void;

  constructor(onAbort: (call: ClientCall) => void) {
    this.#onAbort = onAbort;
  }

  handleEvent(): void {
    for (const call of this.calls) this.#onAbort(call);
  }
}
