// What the headers of one message ask for, beside what the message says itself.

import { asKatamariError, type KatamariError } from '../../core/mod.ts';
import { withCall, type Call, foreignHeaders, parseCallHeaders, type CallHeaders } from '../../core/rpc/mod.ts';
import type { HeadersIn } from '../../core/thrift/mod.ts';

export class ThriftCallOptions {
  readonly #wishes: CallHeaders | undefined;
  readonly #headers: HeadersIn;
  readonly #givenName: string;
  #foreign: Readonly<Record<string, string>> | undefined;
  /** Of the method, with the service that a header names in place of the message's own. */
  readonly name: string;
  /** Set when a header's value makes no sense: then the call is refused, and the connection goes on. */
  readonly refusal: KatamariError | undefined;

  private constructor(headers: HeadersIn, name: string) {
    this.#headers = headers;
    this.#givenName = name;
    try {
      this.#wishes = parseCallHeaders(headers);
    } catch (error) {
      this.refusal = asKatamariError(error);
    }
    const service = this.#wishes?.service ?? '';
    this.name = service === '' ? name : `${service}:${name.slice(name.lastIndexOf(':') + 1)}`;
  }

  /**
   * undefined when the transport carried no headers.
   * @param before of the message before: when this one says the same, it is the answer
   */
  static read(headers: HeadersIn | undefined, name: string, before?: ThriftCallOptions): ThriftCallOptions | undefined {
    if (headers === undefined) return undefined;
    if (before !== undefined && before.#headers === headers && before.#givenName === name) return before;
    return new ThriftCallOptions(headers, name);
  }

  /** The answer need not wait for those before it. */
  get isAnyOrder(): boolean {
    return this.#wishes?.anyOrder ?? false;
  }

  /** The call as it is asked for. */
  of(call: Call, nowMs: number): Call {
    if (this.#wishes === undefined) return call;
    const { version, timeoutMs, key, tags, roles, traceparent, tracestate } = this.#wishes;
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
