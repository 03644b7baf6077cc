// Which calls come from the same caller, for fair queues and quotas.

import type { Call } from './call.ts';

/** Equal for the calls of one proved name, of one address for callers that proved none, and of one chassis. */
export function callerKeyOf({ identity: { how, name }, caller }: Pick<Call, 'identity' | 'caller'>): string {
  if (how === 'mtls' || how === 'token' || how === 'jwt') return `${how} ${name}`;
  // `thrift 10.0.0.7:50312` and `json-rpc 10.0.0.7` are one caller.
  return callerWithoutPort(caller.slice(caller.indexOf(' ') + 1));
}

/**
 * Returns a caller without the port after its IPv4 address or its IPv6 address in brackets. Looks at the end alone: a
 * peer may send a caller of any length.
 */
export function callerWithoutPort(caller: string): string {
  const port = PORT.exec(caller.slice(-ADDRESS_CHARS_MAX))?.[0] ?? '';
  return port === '' ? caller : caller.slice(0, -port.length);
}

/** A port after an IPv4 address or an IPv6 address in brackets. */
const PORT = /(?<=(?:\d{1,3}\.){3}\d{1,3}|\]):\d{1,5}$/;
/** Characters of `255.255.255.255:65535`. */
const ADDRESS_CHARS_MAX = 21;
