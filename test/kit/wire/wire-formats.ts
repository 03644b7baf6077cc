// Every pair of transport and protocol that the Thrift port speaks over a bare connection.

import { isManner } from '../../../core/mod.ts';
import { PROTOCOLS, TRANSPORTS, type Manner } from '../../../core/thrift/encodings/protocols.ts';

export const MANNERS: readonly Manner[] = TRANSPORTS.flatMap((transport) =>
  PROTOCOLS.map((protocol) => ({ transport, protocol })),
).filter(isManner);
