// The callers' signals: one listener on each, however many calls it is for, and none when the last of them has ended. (Runtimes warn of many listeners
// on one signal, and callers do share theirs.)

import type { PendingCall } from './pending-call.ts';

export class Signals {
  readonly #watches = new Map<AbortSignal, Watch>();
  readonly #onAbort: (call: PendingCall) => void;

  constructor(onAbort: (call: PendingCall) => void) {
    this.#onAbort = onAbort;
  }

  watch(signal: AbortSignal, call: PendingCall): void {
    let watch = this.#watches.get(signal);
    if (watch === undefined) {
      watch = new Watch(this.#onAbort);
      this.#watches.set(signal, watch);
      signal.addEventListener('abort', watch);
    }
    watch.calls.add(call);
  }

  /** Fine when it is not watched for this call. */
  forget(signal: AbortSignal, call: PendingCall): void {
    const watch = this.#watches.get(signal);
    if (watch === undefined || !watch.calls.delete(call) || watch.calls.size > 0) return;
    this.#watches.delete(signal);
    signal.removeEventListener('abort', watch);
  }
}

class Watch {
  readonly calls = new Set<PendingCall>();
  readonly #onAbort: (call: PendingCall) => void;

  constructor(onAbort: (call: PendingCall) => void) {
    this.#onAbort = onAbort;
  }

  handleEvent(): void {
    for (const call of this.calls) this.#onAbort(call);
  }
}
