// Detects transport and protocol of a client from its first bytes: six at most, eight for HTTP. Other protocols get a
// name, for the error message.

import type { FaceplateLimits } from '../../core/mod.ts';
import {
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
  /** `seen` names it for people: `a TLS handshake`. */
  | { readonly kind: 'unknown'; readonly seen: string };

/** Returns the encoding of a connection that begins with these bytes. */
export function detectProtocol(bytes: Buffer, limits: FaceplateLimits, schemaOf: SchemaOf): DetectedProtocol {
  const first = bytes[0];
  if (first === undefined) return MORE;
  if (isCapital(first)) {
    const line = bytes.toString('latin1', 0, 8);
    const method = HTTP_METHODS.find((name) => line.startsWith(name) || name.startsWith(line));
    if (method !== undefined) {
      return line.length < method.length ? MORE : { kind: 'encoding', encoding: new HttpEncoding(limits, schemaOf) };
    }
  }
  if (first === 0x16 && bytes[1] === 0x03) return { kind: 'tls' };
  if (first === OPENING_BRACE) return { kind: 'unknown', seen: 'JSON that is no Thrift message' };
  // Most transports begin with a length; the others are known by one or two bytes.
  const wanted = first === 0x80 ? 2 : first !== 0 && protocolOf(bytes) !== undefined ? 1 : 6;
  if (bytes.length < wanted) return MORE;
  const manner = wireFormatOf(bytes);
  if (manner !== undefined) return { kind: 'encoding', encoding: encodingOf(manner, limits, schemaOf) };
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
