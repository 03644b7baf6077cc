// Which calls come from the same caller, for fair queues and quotas.

import type { Call } from './call.ts';

/** Equal for the calls of one proved name, of one address for callers that proved none, and of one chassis. */
export function callerKeyOf({ identity: { how, name }, caller }: Pick<Call, 'identity' | 'caller'>): string {
  if (how === 'mtls' || how === 'token' || how === 'jwt') return `${how} ${name}`;
  // `thrift 10.0.0.7:50312` and `json-rpc 10.0.0.7` are one caller.
  return caller.slice(caller.indexOf(' ') + 1).replace(PORT, '$1');
}

/** A port after an IPv4 address or an IPv6 address in brackets. */
const PORT = /((?:\d+\.){3}\d+|\]):\d+$/;
