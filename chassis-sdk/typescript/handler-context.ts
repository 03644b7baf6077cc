// What a handler knows of the call it works on, and what it may ask for. Costs nothing until it is used: the signal
// and its timer
import { systemClock } from '../../core/mod.ts';
import type { Call } from '../../core/rpc/mod.ts';
import type { MeshCaller } from './mesh-client.ts';

// exist only for handlers that look at it.

import type { Logger } from 'pino';

export class HandlerContext {
  readonly #call: Call;
  readonly #mesh: MeshCaller;
  readonly #log: () => Logger;
  #deadline: AbortController | undefined;
  #stopSignal: (() => void) | undefined;
  #isRetiring = false;

  constructor(call: Call, mesh: MeshCaller, log: () => Logger) {
    this.#call = call;
    this.#mesh = mesh;
    this.#log = log;
  }

  get method(): string {
    return this.#call.method;
  }

  /** Who calls, for people: `thrift 127.0.0.1:50312`. */
  get caller(): string {
    return this.#call.caller;
  }

  /** W3C trace context of the call; '' for none. */
  get traceparent(): string {
    return this.#call.traceparent;
  }

  get tracestate(): string {
    return this.#call.tracestate;
  }

  /** Sticky key of the call; '' for none. */
  get key(): string {
    return this.#call.key;
  }

  /**
   * What the client said in headers of its transport (THeader, `x-...` of HTTP) that mean nothing to the mesh; names
   * in lower case.
   */
  get headers(): Readonly<Record<string, string>> {
    return this.#call.headers;
  }

  /** 0 for the first try, more when the mesh sends an idempotent call again. */
  get attempt(): number {
    return this.#call.attempt;
  }

  get log(): Logger {
    return this.#log();
  }

  /** Until the caller gives up, in ms; 0 when it has. */
  timeLeftMs(): number {
    return Math.max(0, this.#call.deadlineMs - systemClock.nowMs());
  }

  /** Aborted when the call's deadline passes or the connection to the mesh ends. */
  get signal(): AbortSignal {
    if (this.#deadline === undefined) {
      const deadline = new AbortController();
      const abort = (): void => deadline.abort(new Error('The deadline of this call has passed'));
      const stopTimer = systemClock.after(this.timeLeftMs(), abort);
      this.#call.signal?.addEventListener('abort', abort, { once: true });
      this.#stopSignal = () => {
        stopTimer();
        this.#call.signal?.removeEventListener('abort', abort);
      };
      this.#deadline = deadline;
    }
    return this.#deadline.signal;
  }

  /**
   * Calls another service of the mesh within the time that is left; the trace is handed on.
   * @returns the plain value, i64 as bigint
   * @throws ThriftException for a declared exception, KatamariError for everything else
   */
  call(
    service: string,
    method: string,
    args: Readonly<Record<string, unknown>> = {},
    options: { readonly version?: string; readonly timeoutMs?: number } = {},
  ): Promise<unknown> {
    const { deadlineMs, traceparent, tracestate, signal } = this.#call;
    const ownDeadlineMs = systemClock.nowMs() + (options.timeoutMs ?? Number.POSITIVE_INFINITY);
    const inherited = { deadlineMs: Math.min(deadlineMs, ownDeadlineMs), traceparent, tracestate, signal };
    return this.#mesh.call(service, method, args, inherited, options.version);
  }

  /** Answer this call, then exit and be replaced: for code that must not be used again. */
  retireAfterReply(): void {
    this.#isRetiring = true;
  }

  get isRetiring(): boolean {
    return this.#isRetiring;
  }

  /** The call was answered: takes the signal's timer and listener along. */
  settled(): void {
    this.#stopSignal?.();
  }
}
