// The error table of core/errors.ts as JSON-RPC sees it.

import { ERROR_TABLE, type KatamariError } from '../../core/mod.ts';

/** The `error` member of an answer. */
export interface RpcError {
  readonly code: number;
  readonly message: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** JSON-RPC code for a method that exists nowhere in the mesh. */
export const METHOD_NOT_FOUND = -32_601;
/** JSON-RPC code of an exception that the method declares. */
export const DECLARED_EXCEPTION = -32_050;

/** An error of the mesh for the caller: code, what to do next, and the facts a program can act on. */
export function rpcErrorOf({ code, message, facts }: KatamariError): RpcError {
  const data: Record<string, unknown> = { code };
  if (facts.stage !== undefined) data['stage'] = facts.stage;
  if (facts.retryAfterMs !== undefined) data['retryAfterMs'] = facts.retryAfterMs;
  return {
    code: facts.jsonRpcCode ?? (facts.unknownMethod === true ? METHOD_NOT_FOUND : ERROR_TABLE[code].jsonRpc),
    message,
    data,
  };
}

/** HTTP status of a single call that the mesh refused, or of a request that holds no call. */
export function httpStatusOf({ code, facts }: KatamariError): number {
  return facts.httpStatus ?? ERROR_TABLE[code].http;
}

/** `Retry-After` in whole seconds, rounded up; '' when nobody knows. */
export function retryAfterOf({ facts }: KatamariError): string {
  return facts.retryAfterMs === undefined ? '' : String(Math.max(1, Math.ceil(facts.retryAfterMs / 1_000)));
}

/** A whole answer that carries nothing but an error. */
export function errorAnswer(error: KatamariError, id: unknown = null): string {
  return JSON.stringify({ jsonrpc: '2.0', id, error: rpcErrorOf(error) });
}
