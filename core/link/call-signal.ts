// The `signal` of a call that a link server has read: aborted when the caller takes the call back or has gone. Every call has its own,
// and hardly any is ever listened to, so it is a few fields and no AbortController: with one of those per call a link of Node 20 spends
// ten times as long on the signal as on the call's other fields together (some 10 us against 0.1 us on a busy machine).
//
// It does what an AbortSignal does for code that asks `aborted` or listens for 'abort'. The runtime's own functions (fetch,
// AbortSignal.any) want a real one: give them that of an AbortController which a listener on this one aborts.

import type { KatamariError } from '../mod.ts';

type AbortListener = ((event: Event) => void) | { handleEvent(event: Event): void };

export class CallSignal implements AbortSignal {
  onabort: ((this: AbortSignal, event: Event) => void) | null = null;
  #reason: KatamariError | undefined;
  /** No Set, for the reason told in pending-table.ts. */
  #listeners: AbortListener[] | undefined;

  get aborted(): boolean {
    return this.#reason !== undefined;
  }

  get reason(): KatamariError | undefined {
    return this.#reason;
  }

  throwIfAborted(): void {
    if (this.#reason !== undefined) throw this.#reason;
  }

  /** Tells those who listen, once. A listener that throws keeps no other from being told. */
  abort(reason: KatamariError): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    if (this.#listeners !== undefined || this.onabort !== null) this.dispatchEvent(new Event('abort'));
    this.#listeners = undefined;
  }

  /** Only 'abort' is ever sent. It is sent once, so `once` needs no care. */
  addEventListener(type: string, listener: AbortListener | null): void {
    if (type !== 'abort' || listener === null || this.aborted) return;
    if (this.#listeners === undefined) this.#listeners = [listener];
    else if (!this.#listeners.includes(listener)) this.#listeners.push(listener);
  }

  removeEventListener(type: string, listener: AbortListener | null): void {
    if (type !== 'abort' || listener === null || this.#listeners === undefined) return;
    const place = this.#listeners.indexOf(listener);
    if (place === 0) this.#listeners.shift();
    else if (place > 0) this.#listeners.splice(place, 1);
  }

  dispatchEvent(event: Event): boolean {
    for (const listener of [this.onabort, ...(this.#listeners ?? [])]) {
      if (listener === null) continue;
      try {
        if (typeof listener === 'function') listener.call(this, event);
        else listener.handleEvent(event);
      } catch (error) {
        // As an EventTarget does: the error is nobody's here, and must not keep the others from being told.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
    return !event.defaultPrevented;
  }
}
