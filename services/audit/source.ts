// The source of a caller, for limits: its address without port and faceplate. An IPv6 address counts with its /64
// network, which one machine can use as a whole.

import { isIPv6 } from 'node:net';

/** Returns `10.0.0.7` for `json-rpc 10.0.0.7` and `thrift 10.0.0.7:50312`; other text unchanged. */
export function sourceOf(caller: string): string {
  const address = caller.slice(caller.lastIndexOf(' ') + 1);
  const host = /^\[(.+)\](?::\d+)?$/.exec(address)?.[1] ?? (isIPv6(address) ? address : address.replace(/:\d+$/, ''));
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host)?.[1];
  if (mapped !== undefined) return mapped;
  if (isIPv6(host)) return networkOf(host);
  return /^\d+\.\d+\.\d+\.\d+$/.test(host) ? host : caller;
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
