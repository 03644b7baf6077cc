// TApplicationException: the error reply of a Thrift server, for calls that fail outside their declared exceptions. A
// struct {1: string message, 2: i32 type}; source: the Thrift RPC specification.

import { KatamariError, ERROR_TABLE } from '../mod.ts';
import { StructScanner, WIRE_TYPE } from './struct-scanner.ts';

export const APPLICATION_EXCEPTION = {
  unknown: 0,
  unknownMethod: 1,
  invalidMessageType: 2,
  wrongMethodName: 3,
  badSequenceId: 4,
  missingResult: 5,
  internalError: 6,
  protocolError: 7,
} as const;

/** Encodes the struct, including the stop byte. Messages longer than 8 KiB are truncated. */
export function writeApplicationException(message: string, type: number): Buffer {
  const text = Buffer.from(message.length > MESSAGE_CHARS_MAX ? `${message.slice(0, MESSAGE_CHARS_MAX)}…` : message);
  const out = Buffer.allocUnsafe(3 + 4 + text.length + 3 + 4 + 1);
  out[0] = WIRE_TYPE.string;
  out.writeInt16BE(1, 1);
  out.writeInt32BE(text.length, 3);
  text.copy(out, 7);
  let at = 7 + text.length;
  out[at] = WIRE_TYPE.i32;
  out.writeInt16BE(2, at + 1);
  at = out.writeInt32BE(type, at + 3);
  out[at] = WIRE_TYPE.stop;
  return out;
}

/**
 * Encodes an error of the mesh for a client of a Thrift faceplate. The bytes are cached per error, because a full
 * queue refuses many calls with the same error object.
 */
export function applicationExceptionOf(error: KatamariError): Buffer {
  if (error !== last.error) {
    last = { error, bytes: writeApplicationException(error.message, ERROR_TABLE[error.code].thrift) };
  }
  return last.bytes;
}

/**
 * Decodes the struct. Fields that are missing or have another type are read as '' and 0.
 * @throws KatamariError bad_request
 */
export function readApplicationException(body: Uint8Array): { message: string; type: number } {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const scanner = new StructScanner(DEPTH_MAX, bytes.length);
  let [at, message, type] = [0, '', 0];
  for (;;) {
    const fieldType = bytes[at];
    if (fieldType === WIRE_TYPE.stop) return { message, type };
    if (fieldType === undefined || bytes.length - at < 3) break;
    const id = bytes.readInt16BE(at + 1);
    scanner.reset(fieldType);
    const end = scanner.scan(bytes, at + 3, bytes.length);
    if (end === -1) break;
    if (id === 1 && fieldType === WIRE_TYPE.string) message = bytes.toString('utf8', at + 7, end);
    if (id === 2 && fieldType === WIRE_TYPE.i32) type = bytes.readInt32BE(at + 3);
    at = end;
  }
  throw new KatamariError('bad_request', 'The TApplicationException struct ends before its stop byte');
}

let last: { readonly error: KatamariError | undefined; readonly bytes: Buffer } = {
  error: undefined,
  bytes: Buffer.alloc(0),
};
const MESSAGE_CHARS_MAX = 8192;
const DEPTH_MAX = 64;
