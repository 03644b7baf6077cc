// Addresses of links: `unix:PATH` or `tcp:HOST:PORT`, and which of them other machines cannot reach.

import { formatAddress, KatamariError, parseAddress, type Address } from '../mod.ts';
import { isIPv4, isIPv6 } from 'node:net';

/** What node:net connects to and listens on: a Unix socket or a TCP address. */
export type LinkAddress = { readonly path: string } | Address;

/** Parses `unix:PATH` or `tcp:HOST:PORT`. @throws KatamariError bad_request */
export function parseLinkAddress(text: string): LinkAddress {
  if (text.startsWith('unix:')) return { path: text.slice('unix:'.length) };
  const address = text.startsWith('tcp:') ? parseAddress(text.slice('tcp:'.length)) : undefined;
  if (address !== undefined) return address;
  throw new KatamariError('bad_request', `"${text}" is not a link address; expected unix:PATH or tcp:HOST:PORT`);
}

/** Writes `unix:PATH` or `tcp:HOST:PORT`; `parseLinkAddress` reads it back. */
export function formatLinkAddress(address: LinkAddress): string {
  return 'path' in address ? `unix:${address.path}` : `tcp:${formatAddress(address)}`;
}

/** Whether only this machine can reach a server on `address`: Unix sockets, 127.0.0.0/8, ::1 and localhost. */
export function isLoopback(address: LinkAddress): boolean {
  if ('path' in address) return true;
  const host = address.host.toLowerCase();
  if (host === 'localhost') return true;
  if (isIPv4(host)) return host.startsWith('127.');
  if (!isIPv6(host) || host.includes('%')) return false;
  // IPv6 has many spellings, and ::ffff:127.x.y.z is loopback, too. The URL parser reduces them to one form.
  const canonical = new URL(`http://[${host}]`).hostname;
  return canonical === '[::1]' || /^\[::ffff:7f[0-9a-f]{2}:[0-9a-f]{1,4}\]$/.test(canonical);
}
