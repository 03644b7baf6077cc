// Addresses of links: `unix:PATH` or `tcp:HOST:PORT`, and which of them only this machine can reach.
import { KatamariError } from '../mod.ts';
import { isIPv4, isIPv6 } from 'node:net';
export type LinkAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** Parses `unix:PATH` or `tcp:HOST:PORT` into what node:net takes. @throws KatamariError bad_request */
export function parseAddress(address: string): LinkAddress {
  if (address.startsWith('unix:')) return { path: address.slice(5) };
  const found = /^tcp:(.*):(\d+)$/.exec(address);
  if (found === null || Number(found[2]) > 65_535) {
    throw new KatamariError('bad_request', `"${address}" is no address; expected unix:PATH or tcp:HOST:PORT`);
  }
  return { host: (found[1] as string).replace(/^\[(.*)\]$/, '$1'), port: Number(found[2]) };
}

/** Whether a server that listens there is out of reach for other machines: Unix sockets, 127.0.0.0/8, ::1 and localhost. */
export function isLoopback(address: LinkAddress): boolean {
  if ('path' in address) return true;
  const host = address.host.toLowerCase();
  if (host === 'localhost') return true;
  if (isIPv4(host)) return host.startsWith('127.');
  if (!isIPv6(host) || host.includes('%')) return false;
  // The one spelling that the URL parser gives an IPv6 address; 127.x.y.z may be hidden in one.
  const canonical = new URL(`http://[${host}]`).hostname;
  return canonical === '[::1]' || /^\[::ffff:7f[0-9a-f]{2}:[0-9a-f]{1,4}\]$/.test(canonical);
}
