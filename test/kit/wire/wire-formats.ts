// Every pair of transport and protocol that the Thrift port accepts on a plain connection.

import {
  HEADER_PROTOCOLS,
  isWireFormat,
  PROTOCOLS,
  TRANSPORTS,
  type WireFormat,
} from '../../../core/thrift/encodings/mod.ts';

export const MANNERS: readonly WireFormat[] = [
  ...TRANSPORTS.flatMap((transport) => PROTOCOLS.map((protocol) => ({ transport, protocol }))).filter(isWireFormat),
  ...HEADER_PROTOCOLS.map((protocol) => ({ transport: 'header', protocol, isFramedTwice: true }) as const),
];

/** Name of a wire format, for the names of tests. */
export function nameOfManner({ transport, protocol, isFramedTwice }: WireFormat): string {
  return `${transport}${isFramedTwice === true ? ' in frames,' : ''} ${protocol}`;
}
