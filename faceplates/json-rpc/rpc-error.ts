// Maps the errors of the mesh (ERROR_TABLE in core/errors.ts) to JSON-RPC error objects and HTTP statuses.

import { ERROR_TABLE, type KatamariError } from '../../core/mod.ts';

/** The `error` member of a response. */
export interface RpcError {
  readonly code: number;
  readonly message: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** JSON-RPC code for a method that exists nowhere in the mesh. */
export const METHOD_NOT_FOUND = -32_601;
/** JSON-RPC code of an exception that the method declares. */
export const DECLARED_EXCEPTION = -32_050;

/** Returns the JSON-RPC error of an error of the mesh, with the facts that a program can act on. */
export function rpcErrorOf({ code, message, facts }: KatamariError): RpcError {
  const data: Record<string, unknown> = { code };
  if (facts.stage !== undefined) data['stage'] = facts.stage;
  if (facts.retryAfterMs !== undefined) data['retryAfterMs'] = facts.retryAfterMs;
  if (facts.isSuspect === true) data['isSuspect'] = true;
  return {
    code: facts.jsonRpcCode ?? (facts.unknownMethod === true ? METHOD_NOT_FOUND : ERROR_TABLE[code].jsonRpc),
    message,
    data,
  };
}

/** Returns the HTTP status for a single refused call, or for a request without a call. */
export function httpStatusOf({ code, facts }: KatamariError): number {
  return facts.httpStatus ?? ERROR_TABLE[code].http;
}

/** Returns the `Retry-After` header in whole seconds, rounded up; '' if the error has no delay. */
export function retryAfterOf({ facts }: KatamariError): string {
  return facts.retryAfterMs === undefined ? '' : String(Math.max(1, Math.ceil(facts.retryAfterMs / 1_000)));
}

/** Returns the text of a response with an error. */
export function errorAnswer(error: KatamariError, id: unknown = null): string {
  return JSON.stringify({ jsonrpc: '2.0', id, error: rpcErrorOf(error) });
}
