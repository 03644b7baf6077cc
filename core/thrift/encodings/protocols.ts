// Creates encodings by the names of transport and protocol, and detects them from the first bytes of a connection.

import { BinaryEncoding } from './binary.ts';
import { COMPACT_ID, CompactEncoding } from './compact.ts';
import type { Encoding, EncodingLimits, SchemaOf } from './encoding.ts';
import { FramedBinary } from './framed-binary.ts';
import { FramedEncoding } from './framed.ts';
import { HeaderEncoding, isHeaderFrame } from './header.ts';
import { JsonEncoding } from './json.ts';

/** Names of protocols. `old-binary` is the binary protocol without a version, which very old clients use. */
export const PROTOCOLS = ['binary', 'old-binary', 'compact', 'json'] as const;
export type Protocol = (typeof PROTOCOLS)[number];

/** Names of transports. `header` is THeader; `buffered` has no frames. */
export const TRANSPORTS = ['framed', 'buffered', 'header'] as const;
export type Transport = (typeof TRANSPORTS)[number];

/** The wire format of a peer: a transport and a protocol. */
export interface WireFormat {
  readonly transport: Transport;
  /** With transport `header`, one of HEADER_PROTOCOLS. */
  readonly protocol: Protocol;
  /** Whether each frame of transport `header` is in another frame. */
  readonly isFramedTwice?: boolean;
}

/** Protocols that THeader supports. */
export const HEADER_PROTOCOLS = ['binary', 'compact'] as const;

/** Whether the transport supports the protocol. */
export function isWireFormat({ transport, protocol }: WireFormat): boolean {
  return transport !== 'header' || HEADER_PROTOCOLS.some((carried) => carried === protocol);
}

/** Creates an encoding. @throws Error if the transport does not support the protocol */
export function encodingOf(format: WireFormat, limits: EncodingLimits, schemaOf?: SchemaOf): Encoding {
  const { transport, protocol } = format;
  if (transport === 'header') {
    if (protocol !== 'binary' && protocol !== 'compact')
      throw new Error(`Transport "header" carries protocol ${HEADER_PROTOCOLS.join(' or ')}, not ${protocol}`);
    const header = new HeaderEncoding(limits, { protocol });
    return format.isFramedTwice === true ? new FramedEncoding(header, limits.frameBytesMax) : header;
  }
  if (transport === 'framed' && protocol === 'binary') return new FramedBinary(limits);
  const inner = bareEncoding(protocol, limits, schemaOf);
  return transport === 'framed' ? new FramedEncoding(inner, limits.frameBytesMax) : inner;
}

/** Creates an encoding without frames. */
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

/** Detects the protocol of an unframed message from its first five bytes; undefined if it is none. */
export function protocolOf(bytes: Uint8Array, at = 0): Protocol | undefined {
  const first = bytes[at];
  if (first === 0x80) return bytes[at + 1] === 0x01 ? 'binary' : undefined;
  if (first === COMPACT_ID) return 'compact';
  if (first === OPENING_BRACKET) return 'json';
  // Old binary: the length of the name, then the name.
  return first === 0 && isNameSign(bytes[at + 4]) ? 'old-binary' : undefined;
}

/**
 * Detects the transport and protocol of a connection from its first ten bytes; undefined if they are none. Every
 * message has as many.
 */
export function wireFormatOf(bytes: Uint8Array): WireFormat | undefined {
  const bare = protocolOf(bytes);
  if (bare !== undefined) return { transport: 'buffered', protocol: bare };
  if (isHeaderFrame(bytes, 0)) return { transport: 'header', protocol: 'binary' };
  // A frame: its length, then the first bytes of a message. A second length, or that of a name, begins with zero.
  if (bytes[4] === 0 && isHeaderFrame(bytes, 4))
    return { transport: 'header', protocol: 'binary', isFramedTwice: true };
  const framed = bytes[4] === 0 ? 'old-binary' : protocolOf(bytes, 4);
  return framed === undefined ? undefined : { transport: 'framed', protocol: framed };
}

function isNameSign(byte = 0): boolean {
  return (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a) || byte === 0x5f;
}

const OPENING_BRACKET = 0x5b;
