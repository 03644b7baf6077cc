// Decodes replies: returns the value, throws the declared exception, or returns the error of the mesh with its code
// and facts.

import { decodeStruct, valueOfResult } from '../core/idl/mod.ts';
import { asKatamariError, ERROR_TABLE, KatamariError, type ErrorCode, type ErrorFacts } from '../core/mod.ts';
import { coverageIn, replyInfoOf } from '../core/rpc/mod.ts';
import { APPLICATION_EXCEPTION, readApplicationException, type HeadersIn } from '../core/thrift/mod.ts';
import type { ClientReplyInfo } from './options.ts';
import type { PreparedMethod } from './prepared-method.ts';

/**
 * Returns the value of a reply.
 * @throws ThriftException for a declared exception, KatamariError internal for a reply that does not match the
 * interface
 */
export function valueOf({ method, title, i64 }: PreparedMethod, body: Uint8Array): unknown {
  let result: Record<string, unknown>;
  try {
    result = decodeStruct(method.result, body, { i64 });
  } catch (error) {
    throw mismatch(title, asKatamariError(error).message);
  }
  const value = valueOfResult(method, result);
  if (value === undefined && method.returns.kind !== 'void') throw mismatch(title, 'it has no result');
  return value;
}

/** Returns the facts about a reply for `onReply`. */
export function infoOf(tries: number, address: string, headers: HeadersIn = {}): ClientReplyInfo {
  const rule = headers['katamari-rule'];
  const version = String(headers['katamari-version'] ?? '');
  const info = replyInfoOf(version, rule === undefined ? undefined : String(rule), coverageIn(headers));
  return { ...info, tries, address };
}

/** Returns the error of a TApplicationException, which comes from the mesh or from a handler. */
export function errorOf(body: Uint8Array, headers: HeadersIn = {}): KatamariError {
  let message = 'The mesh sent an error that cannot be decoded';
  let type = 0;
  try {
    ({ message, type } = readApplicationException(body));
  } catch {
    // The headers may still carry the error code.
  }
  const code = headers['katamari-error'];
  const isOfMesh = typeof code === 'string' && Object.hasOwn(ERROR_TABLE, code);
  return new KatamariError(isOfMesh ? (code as ErrorCode) : codeOfType(type), message, factsOf(headers));
}

function factsOf(headers: HeadersIn): ErrorFacts {
  const stage = headers['katamari-stage'];
  const retryAfterMs = Number(headers['katamari-retry-after-ms'] ?? Number.NaN);
  return {
    ...(headers['katamari-not-run'] === '1' ? { notRun: true } : {}),
    ...(headers['katamari-suspect'] === '1' ? { isSuspect: true } : {}),
    ...(retryAfterMs >= 0 ? { retryAfterMs } : {}),
    ...(stage === 'queue' || stage === 'service' ? { stage } : {}),
  };
}

/** Maps the type of a TApplicationException to an error code, for replies without a `katamari-error` header. */
function codeOfType(type: number): ErrorCode {
  if (type === APPLICATION_EXCEPTION.unknownMethod) return 'no_pool';
  return type === APPLICATION_EXCEPTION.protocolError ? 'bad_request' : 'internal';
}

function mismatch(title: string, why: string): KatamariError {
  return new KatamariError(
    'internal',
    `The reply to ${title} does not match the interface that this client has (${why}); request the version that the interface belongs to`,
  );
}
