// The context of a handler: facts about its call, and calls to other services. Unused features cost nothing: the
// signal and its timer are created when a handler first reads `signal`.

import type { Logger } from 'pino';
import { systemClock } from '../../core/mod.ts';
import type { Call, CallerIdentity } from '../../core/rpc/mod.ts';
import type { ContextCallOptions, MeshCaller } from './mesh-client.ts';

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

  /** Caller, for logs: `thrift 127.0.0.1:50312`. */
  get caller(): string {
    return this.#call.caller;
  }

  /**
   * Who makes the call, as proved to the mesh: name, roles, and how (`anonymous`, `mtls`, `token`, `jwt`, `chassis`).
   */
  get identity(): CallerIdentity {
    return this.#call.identity;
  }

  /** W3C trace context of the call; '' for none. */
  get traceparent(): string {
    return this.#call.traceparent;
  }

  get tracestate(): string {
    return this.#call.tracestate;
  }

  /** Affinity key of the call; '' for none. */
  get key(): string {
    return this.#call.key;
  }

  /**
   * Headers of the client (THeader, or `x-...` of HTTP) that the mesh does not use. Names of HTTP headers are in lower
   * case. A byte that is not part of UTF-8 is a lone surrogate, 0xDC00 more than the byte.
   */
  get headers(): Readonly<Record<string, string>> {
    return this.#call.headers;
  }

  /** 0 for the first try, more if the mesh retries an idempotent call. */
  get attempt(): number {
    return this.#call.attempt;
  }

  get log(): Logger {
    return this.#log();
  }

  /** Time until the deadline of the call, in ms; 0 after it. */
  timeLeftMs(): number {
    return Math.max(0, this.#call.deadlineMs - systemClock.nowMs());
  }

  /** Aborted when the call's deadline passes, the call is cancelled, or the connection to the mesh ends. */
  get signal(): AbortSignal {
    if (this.#deadline === undefined) {
      const deadline = new AbortController();
      const { signal: callSignal } = this.#call;
      const onAbort = (): void => deadline.abort(callSignal?.reason);
      const stopTimer = systemClock.after(this.timeLeftMs(), () => {
        deadline.abort(new Error('The deadline of this call has passed'));
      });
      if (callSignal?.aborted === true) onAbort();
      else callSignal?.addEventListener('abort', onAbort, { once: true });
      this.#stopSignal = () => {
        stopTimer();
        callSignal?.removeEventListener('abort', onAbort);
      };
      this.#deadline = deadline;
    }
    return this.#deadline.signal;
  }

  /**
   * Calls another service of the mesh. The call inherits the remaining time and the trace.
   * @returns the plain value, i64 as bigint
   * @throws ThriftException for a declared exception, KatamariError for other errors
   */
  call(
    service: string,
    method: string,
    args: Readonly<Record<string, unknown>> = {},
    options: ContextCallOptions = {},
  ): Promise<unknown> {
    const { deadlineMs, traceparent, tracestate, signal } = this.#call;
    const ownDeadlineMs = systemClock.nowMs() + (options.timeoutMs ?? Number.POSITIVE_INFINITY);
    const inherited = { deadlineMs: Math.min(deadlineMs, ownDeadlineMs), traceparent, tracestate, signal };
    return this.#mesh.call(service, method, args, inherited, options);
  }

  /** Makes the process exit after the reply to this call; the mesh replaces it. For code that must not run twice. */
  retireAfterReply(): void {
    this.#isRetiring = true;
  }

  get isRetiring(): boolean {
    return this.#isRetiring;
  }

  /** Releases the timer and listener of the signal when the call is answered. */
  settled(): void {
    this.#stopSignal?.();
  }
}
