// Every pair of transport and protocol that the Thrift port speaks over a bare connection.

import { isManner, PROTOCOLS, TRANSPORTS, type Manner } from '../../../core/thrift/encodings/mod.ts';

export const MANNERS: readonly Manner[] = TRANSPORTS.flatMap((transport) =>
  PROTOCOLS.map((protocol) => ({ transport, protocol })),
).filter(isManner);
