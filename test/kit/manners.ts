// Every pair of transport and protocol that the Thrift port speaks over a bare connection.

import { isManner } from '../../chassis-sdk/internal.ts';
import { PROTOCOLS, TRANSPORTS, type Manner } from '../../chassis-sdk/wire/encodings/protocols.ts';

export const MANNERS: readonly Manner[] = TRANSPORTS.flatMap((transport) =>
  PROTOCOLS.map((protocol) => ({ transport, protocol })),
).filter(isManner);
