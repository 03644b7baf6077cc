// The protocols by name, for those who know which one their peer speaks, and by their first bytes, for those who have
// to find out.

import { BinaryEncoding } from './binary.ts';
import { COMPACT_ID, CompactEncoding } from './compact.ts';
import type { Encoding, EncodingLimits, SchemaOf } from './encoding.ts';
import { FramedBinary } from './framed-binary.ts';
import { FramedEncoding } from './framed.ts';
import { HEADER_MAGIC, HeaderEncoding } from './header.ts';
import { JsonEncoding } from './json.ts';

/** `old-binary`: the binary protocol without a version, as very old clients write it. */
export const PROTOCOLS = ['binary', 'old-binary', 'compact', 'json'] as const;
export type Protocol = (typeof PROTOCOLS)[number];

/** `header`: THeader. `buffered`: no lengths, one message behind the other. */
export const TRANSPORTS = ['framed', 'buffered', 'header'] as const;
export type Transport = (typeof TRANSPORTS)[number];

/** How a peer writes: a transport and a protocol in it. */
export interface WireFormat {
  readonly transport: Transport;
  /** In a header: one of HEADER_PROTOCOLS. */
  readonly protocol: Protocol;
}

/** What a header can say that its message is written in. */
export const HEADER_PROTOCOLS = ['binary', 'compact'] as const;

/** Whether there is such a pair. */
export function isWireFormat({ transport, protocol }: WireFormat): boolean {
  return transport !== 'header' || HEADER_PROTOCOLS.some((carried) => carried === protocol);
}

/** @throws Error for a pair that does not exist */
export function encodingOf({ transport, protocol }: WireFormat, limits: EncodingLimits, schemaOf?: SchemaOf): Encoding {
  if (transport === 'header') {
    if (protocol !== 'binary' && protocol !== 'compact')
      throw new Error(`Transport "header" carries protocol ${HEADER_PROTOCOLS.join(' or ')}, not ${protocol}`);
    return new HeaderEncoding(limits, { protocol });
  }
  if (transport === 'framed' && protocol === 'binary') return new FramedBinary(limits);
  const inner = bareEncoding(protocol, limits, schemaOf);
  return transport === 'framed' ? new FramedEncoding(inner, limits.frameBytesMax) : inner;
}

/** A protocol without any transport around it. */
export function bareEncoding(protocol: Protocol, limits: EncodingLimits, schemaOf?: SchemaOf): Encoding {
  switch (protocol) {
    case 'binary':
      return new BinaryEncoding(limits);
    case 'old-binary':
      return new BinaryEncoding(limits, 'old');
    case 'compact':
      return new CompactEncoding(limits);
    case 'json':
      return new JsonEncoding(limits, schemaOf);
  }
}

/** The protocol of a message that begins with these bytes; undefined when it is none. Six bytes are enough. */
export function protocolOf(bytes: Uint8Array, at = 0): Protocol | undefined {
  const first = bytes[at];
  if (first === 0x80) return bytes[at + 1] === 0x01 ? 'binary' : undefined;
  if (first === COMPACT_ID) return 'compact';
  if (first === OPENING_BRACKET) return 'json';
  // The length of a name, and the name.
  return first === 0 && isNameSign(bytes[at + 4]) ? 'old-binary' : undefined;
}

/**
 * Transport and protocol of a connection that begins with these bytes; undefined when they are none. Six bytes are
 * enough.
 */
export function wireFormatOf(bytes: Uint8Array): WireFormat | undefined {
  const bare = protocolOf(bytes);
  if (bare !== undefined) return { transport: 'buffered', protocol: bare };
  if ((((bytes[4] ?? 0) << 8) | (bytes[5] ?? 0)) === HEADER_MAGIC) return { transport: 'header', protocol: 'binary' };
  // The length of a frame; behind it what a bare message begins with. A name's length begins with 0 bytes.
  const framed = bytes[4] === 0 ? 'old-binary' : protocolOf(bytes, 4);
  return framed === undefined ? undefined : { transport: 'framed', protocol: framed };
}

function isNameSign(byte = 0): boolean {
  return (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a) || byte === 0x5f;
}

const OPENING_BRACKET = 0x5b;
