// Parses the call options in the headers of one message (THeader or HTTP): service, version, timeout, key, tags,
// roles, trace context, and whether the reply may leave in any order.

import { asKatamariError, type KatamariError } from '../../core/mod.ts';
import { withCall, type Call, foreignHeaders, parseCallHeaders, type CallHeaders } from '../../core/rpc/mod.ts';
import type { HeadersIn } from '../../core/thrift/mod.ts';

export class ThriftCallOptions {
  readonly #parsed: CallHeaders | undefined;
  readonly #headers: HeadersIn;
  readonly #givenName: string;
  #foreign: Readonly<Record<string, string>> | undefined;
  #isForeignAuthorized = false;
  /** Name of the method. A service in the headers replaces the one in the message. */
  readonly name: string;
  /** Set if the value of a header is invalid. The call is then refused, and the connection stays open. */
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
   * Returns undefined if the transport carried no headers.
   * @param before the options of the previous message, returned again if this message has the same headers and name
   */
  static read(headers: HeadersIn | undefined, name: string, before?: ThriftCallOptions): ThriftCallOptions | undefined {
    if (headers === undefined) return undefined;
    if (before !== undefined && before.#headers === headers && before.#givenName === name) return before;
    return new ThriftCallOptions(headers, name);
  }

  /** Whether the reply may leave before the replies to earlier calls. */
  get isAnyOrder(): boolean {
    return this.#parsed?.anyOrder ?? false;
  }

  /** Value of the header Authorization; '' for none. */
  get authorization(): string {
    return this.#parsed?.authorization ?? '';
  }

  /** Returns the call with these options. @param isAuthorized whether the mesh used the header Authorization */
  of(call: Call, nowMs: number, isAuthorized: boolean): Call {
    if (this.#parsed === undefined) return call;
    const { version, timeoutMs, key, tags, roles, minCoverage, traceparent, tracestate } = this.#parsed;
    return withCall(call, {
      version: version === '' ? call.version : version,
      deadlineMs: Math.min(call.deadlineMs, nowMs + timeoutMs),
      key,
      tags,
      roles,
      minCoverage,
      traceparent,
      tracestate,
      headers: this.#foreignHeaders(isAuthorized),
    });
  }

  #foreignHeaders(isAuthorized: boolean): Readonly<Record<string, string>> {
    if (this.#foreign === undefined || this.#isForeignAuthorized !== isAuthorized) {
      this.#foreign = foreignHeaders(this.#headers, isAuthorized);
      this.#isForeignAuthorized = isAuthorized;
    }
    return this.#foreign;
  }
}
