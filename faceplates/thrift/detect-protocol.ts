// Detects the transport and protocol of a client from its first bytes: at most ten, and six are enough for most. A
// protocol that it cannot serve gets a name for the error message.

import type { FaceplateLimits } from '../../core/mod.ts';
import {
  type CheckHead,
  type Encoding,
  type SchemaOf,
  HttpEncoding,
  encodingOf,
  wireFormatOf,
  protocolOf,
} from '../../core/thrift/encodings/mod.ts';

export type DetectedProtocol =
  | { readonly kind: 'encoding'; readonly encoding: Encoding }
  /** More bytes are needed. */
  | { readonly kind: 'more' }
  | { readonly kind: 'tls' }
  /** `seen` describes the bytes for the error message: `a TLS handshake`. */
  | { readonly kind: 'unknown'; readonly seen: string };

/** Returns the encoding of a connection that begins with these bytes. */
export function detectProtocol(
  bytes: Buffer,
  limits: FaceplateLimits,
  schemaOf: SchemaOf,
  checkHead: CheckHead,
): DetectedProtocol {
  const first = bytes[0];
  if (first === undefined) return MORE;
  if (isCapital(first)) {
    const line = bytes.toString('latin1', 0, 8);
    const method = HTTP_METHODS.find((name) => line.startsWith(name) || name.startsWith(line));
    if (method !== undefined) {
      if (line.length < method.length) return MORE;
      return { kind: 'encoding', encoding: new HttpEncoding(limits, schemaOf, checkHead) };
    }
  }
  if (first === 0x16 && bytes[1] === 0x03) return { kind: 'tls' };
  if (first === OPENING_BRACE) return { kind: 'unknown', seen: 'JSON that is not a Thrift message' };
  // Most transports begin with a length. One or two bytes are enough to recognize the others.
  // In a frame, a zero byte begins the length of a name, or of a THeader frame.
  const required = first === 0x80 ? 2 : first !== 0 && protocolOf(bytes) !== undefined ? 1 : bytes[4] === 0 ? 10 : 6;
  if (bytes.length < required) return MORE;
  const format = wireFormatOf(bytes);
  if (format !== undefined) return { kind: 'encoding', encoding: encodingOf(format, limits, schemaOf) };
  return {
    kind: 'unknown',
    seen: `bytes that begin with ${bytes.toString('hex', 0, 6).replace(/../g, '$& ').trim()}`,
  };
}

function isCapital(byte: number): boolean {
  return byte >= 0x41 && byte <= 0x5a;
}

const MORE: DetectedProtocol = { kind: 'more' };
const OPENING_BRACE = 0x7b;
const HTTP_METHODS: readonly string[] = [
  'GET ',
  'POST ',
  'PUT ',
  'HEAD ',
  'OPTIONS ',
  'DELETE ',
  'PATCH ',
  'CONNECT ',
  'TRACE ',
  'PRI * ',
];
