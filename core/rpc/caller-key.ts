// Which calls come from the same caller, for fair queues and quotas, and the source of a caller, for limits.

import type { Call } from './call.ts';
import { isProved } from './caller-identity.ts';
import { isIPv6 } from 'node:net';

/**
 * Equal for the calls of one proved name, of one source for callers that proved none, and of one chassis. A chassis
 * chooses its own name.
 */
export function callerKeyOf({ identity, caller }: Pick<Call, 'identity' | 'caller'>): string {
  if (isProved(identity)) return `${identity.how} ${identity.name}`;
  // The prefix keeps it apart from proved names, whatever a peer sends.
  return `from ${sourceOf(caller)}`;
}

/**
 * Returns `10.0.0.7` for `json-rpc 10.0.0.7` and `thrift 10.0.0.7:50312`; other text unchanged. Of an IPv6 address
 * returns the /64 network, which one machine can use as a whole.
 */
export function sourceOf(caller: string): string {
  if (caller === lastCaller) return lastSource;
  const address = caller.slice(caller.lastIndexOf(' ') + 1);
  // A peer may send a caller of any length.
  const source = address.length > ADDRESS_CHARS_MAX ? caller : (sourceOfAddress(address) ?? caller);
  [lastCaller, lastSource] = [caller, source];
  return source;
}

/** Callers send several calls in a row. */
let lastCaller = '';
let lastSource = '';

function sourceOfAddress(address: string): string | undefined {
  const host = /^\[(.+)\](?::\d+)?$/.exec(address)?.[1] ?? (isIPv6(address) ? address : address.replace(/:\d+$/, ''));
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host)?.[1];
  if (mapped !== undefined) return mapped;
  if (isIPv6(host)) return networkOf(host);
  return /^\d+\.\d+\.\d+\.\d+$/.test(host) ? host : undefined;
}

/** The first four groups of an IPv6 address. */
function networkOf(host: string): string {
  const [left = '', right] = host.split('::');
  const groups = left === '' ? [] : left.split(':');
  const after = right === undefined || right === '' ? [] : right.split(':');
  const zeros =
    right === undefined ? [] : Array.from({ length: Math.max(0, 8 - groups.length - after.length) }, () => '0');
  const network = [...groups, ...zeros, ...after].slice(0, 4).map((group) => group.toLowerCase());
  return `${network.join(':')}::/64`;
}

/**
 * Returns a caller without the port after its IPv4 address or its IPv6 address in brackets. Looks at the end alone: a
 * peer may send a caller of any length.
 */
export function callerWithoutPort(caller: string): string {
  const port = PORT.exec(caller.slice(-PORT_CHARS_MAX))?.[0] ?? '';
  return port === '' ? caller : caller.slice(0, -port.length);
}

/** A port after an IPv4 address or an IPv6 address in brackets. */
const PORT = /(?<=(?:\d{1,3}\.){3}\d{1,3}|\]):\d{1,5}$/;
/** Characters of `255.255.255.255:65535`. */
const PORT_CHARS_MAX = 21;
/** Characters of an IPv6 address with a zone, in brackets, with a port. */
const ADDRESS_CHARS_MAX = 80;
