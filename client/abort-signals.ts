// The callers' signals: one listener on each, however many calls it is for, and none when the last of them has ended.
// (Runtimes warn of many listeners on one signal, and callers do share theirs.)

import type { ClientCall } from './pending-call.ts';

export class AbortSignals {
  readonly #watches = new Map<AbortSignal, AbortSubscription>();
  readonly #onAbort: (call: ClientCall) => void;

  constructor(onAbort: (call: ClientCall) => void) {
    this.#onAbort = onAbort;
  }

  watch(signal: AbortSignal, call: ClientCall): void {
    let watch = this.#watches.get(signal);
    if (watch === undefined) {
      watch = new AbortSubscription(this.#onAbort);
      this.#watches.set(signal, watch);
      signal.addEventListener('abort', watch);
    }
    watch.calls.add(call);
  }

  /** Fine when it is not watched for this call. */
  forget(signal: AbortSignal, call: ClientCall): void {
    const watch = this.#watches.get(signal);
    if (watch === undefined || !watch.calls.delete(call) || watch.calls.size > 0) return;
    this.#watches.delete(signal);
    signal.removeEventListener('abort', watch);
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
