// What a caller gets for an answer: the plain value, the declared exception thrown, or the error of the mesh with its
// code and facts.

import { decodeStruct } from '../core/idl/mod.ts';
import { asKatamariError, ERROR_TABLE, KatamariError, type ErrorCode, type ErrorFacts } from '../core/mod.ts';
import {
  ThriftException,
  APPLICATION_EXCEPTION,
  readApplicationException,
  type HeadersIn,
} from '../core/thrift/mod.ts';
import type { PreparedMethod } from './prepared-method.ts';

/** @throws ThriftException for a declared exception, KatamariError internal for what the interface does not explain */
export function valueOf({ method, title, i64 }: PreparedMethod, body: Uint8Array): unknown {
  let result: Record<string, unknown>;
  try {
    result = decodeStruct(method.result, body, { i64 });
  } catch (error) {
    throw unexplained(title, asKatamariError(error).message);
  }
  for (const { name, type } of method.throws) {
    const fields = result[name];
    if (fields !== undefined && type.kind === 'struct') {
      throw new ThriftException(type.struct.name.split('.').at(-1) as string, fields as Record<string, unknown>);
    }
  }
  const value = result['success'];
  if (value === undefined && method.returns.kind !== 'void') throw unexplained(title, 'it has no result');
  return value;
}

/** An answer that is an exception which the interface does not declare: of the mesh, or of the handler. */
export function errorOf(body: Uint8Array, headers: HeadersIn = {}): KatamariError {
  let message = 'The mesh sent an error that cannot be read';
  let type = 0;
  try {
    ({ message, type } = readApplicationException(body));
  } catch {
    // What the headers say is left.
  }
  const said = headers['katamari-error'];
  const isOfMesh = typeof said === 'string' && Object.hasOwn(ERROR_TABLE, said);
  return new KatamariError(isOfMesh ? (said as ErrorCode) : codeOfType(type), message, factsOf(headers));
}

function factsOf(headers: HeadersIn): ErrorFacts {
  const stage = headers['katamari-stage'];
  const retryAfterMs = Number(headers['katamari-retry-after-ms'] ?? Number.NaN);
  return {
    ...(headers['katamari-not-run'] === '1' ? { notRun: true } : {}),
    ...(retryAfterMs >= 0 ? { retryAfterMs } : {}),
    ...(stage === 'queue' || stage === 'service' ? { stage } : {}),
  };
}

/** A Thrift server's own words, where no mesh has said more. */
function codeOfType(type: number): ErrorCode {
  if (type === APPLICATION_EXCEPTION.unknownMethod) return 'no_pool';
  return type === APPLICATION_EXCEPTION.protocolError ? 'bad_request' : 'internal';
}

function unexplained(title: string, why: string): KatamariError {
  return new KatamariError(
    'internal',
    `The answer to ${title} does not fit the interface that this client has (${why}); name the version that the interface is of`,
  );
}
