// Every pair of transport and protocol that the Thrift port accepts on a plain connection.

import { isWireFormat, PROTOCOLS, TRANSPORTS, type WireFormat } from '../../../core/thrift/encodings/mod.ts';

export const MANNERS: readonly WireFormat[] = TRANSPORTS.flatMap((transport) =>
  PROTOCOLS.map((protocol) => ({ transport, protocol })),
).filter(isWireFormat);
