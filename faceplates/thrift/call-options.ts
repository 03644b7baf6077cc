// Call options from the headers of one message (THeader or HTTP): service, version, timeout, tags, roles, trace,
// order of the replies.

import { asKatamariError, type KatamariError } from '../../core/mod.ts';
import { withCall, type Call, foreignHeaders, parseCallHeaders, type CallHeaders } from '../../core/rpc/mod.ts';
import type { HeadersIn } from '../../core/thrift/mod.ts';

export class ThriftCallOptions {
  readonly #parsed: CallHeaders | undefined;
  readonly #headers: HeadersIn;
  readonly #givenName: string;
  #foreign: Readonly<Record<string, string>> | undefined;
  /** Name of the method; the service that a header names replaces that of the message. */
  readonly name: string;
  /** Set when the value of a header is invalid: the call is refused, and the connection goes on. */
  readonly refusal: KatamariError | undefined;

  private constructor(headers: HeadersIn, name: string) {
    this.#headers = headers;
    this.#givenName = name;
    try {
      this.#parsed = parseCallHeaders(headers);
    } catch (error) {
      this.refusal = asKatamariError(error);
    }
    const service = this.#parsed?.service ?? '';
    this.name = service === '' ? name : `${service}:${name.slice(name.lastIndexOf(':') + 1)}`;
  }

  /**
   * Returns undefined when the transport carried no headers.
   * @param before the options of the previous message; returned again when this message has the same headers
   */
  static read(headers: HeadersIn | undefined, name: string, before?: ThriftCallOptions): ThriftCallOptions | undefined {
    if (headers === undefined) return undefined;
    if (before !== undefined && before.#headers === headers && before.#givenName === name) return before;
    return new ThriftCallOptions(headers, name);
  }

  /** The reply need not wait for those before it. */
  get isAnyOrder(): boolean {
    return this.#parsed?.anyOrder ?? false;
  }

  /** Returns the call with these options. */
  of(call: Call, nowMs: number): Call {
    if (this.#parsed === undefined) return call;
    const { version, timeoutMs, key, tags, roles, traceparent, tracestate } = this.#parsed;
    return withCall(call, {
      version: version === '' ? call.version : version,
      deadlineMs: Math.min(call.deadlineMs, nowMs + timeoutMs),
      key,
      tags,
      roles,
      traceparent,
      tracestate,
      headers: (this.#foreign ??= foreignHeaders(this.#headers)),
    });
  }
}
