// Network addresses: `Address` inside the program, `host:port` text outside. IPv6 hosts have no brackets in an
// Address; `formatAddress` writes them and `parseAddress` removes them.

import { isIPv6 } from 'node:net';

/** A host name or IP address and a TCP port. Port 0 means any free port and is valid only for listening. */
export interface Address {
  /** IPv6 addresses have no brackets here. */
  readonly host: string;
  readonly port: number;
}

/**
 * Parses `name:port`, `1.2.3.4:port` or `[::1]:port`, with ports from 0 to 65535. Also accepts an IPv6 address
 * without brackets: the last colon then separates the port. Returns undefined for any other text.
 */
export function parseAddress(text: string): Address | undefined {
  const colon = text.lastIndexOf(':');
  const port = parsePort(text.slice(colon + 1));
  if (colon < 1 || port === undefined) return undefined;
  const host = text.slice(0, colon);
  const bracketed = /^\[(.+)\]$/.exec(host)?.[1];
  if (bracketed !== undefined) return isIPv6Host(bracketed) ? { host: bracketed, port } : undefined;
  return NAME.test(host) || isIPv6Host(host) ? { host, port } : undefined;
}

/** Writes `host:port`; brackets an IPv6 host. `parseAddress` reads it back. */
export function formatAddress({ host, port }: Address): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** Writes `http://host:port` or `https://host:port`. */
export function urlOf(address: Address, isSecure = false): string {
  return `${isSecure ? 'https' : 'http'}://${formatAddress(address)}`;
}

/** Whether a server on `host` listens on all addresses of its machine. */
export function isUnspecified(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

/**
 * Returns the address at which this machine reaches a server that listens on `address`: loopback for 0.0.0.0 and ::,
 * else the same.
 */
export function dialAddress({ host, port }: Address): Address {
  return { host: host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host, port };
}

/**
 * Returns the port in the printed address of a listener: `host:port`, a URL, or the text of a custom faceplate whose
 * last digits are a port after a colon. Returns undefined for `unix:PATH` and for text without a port.
 */
export function portOf(text: string): number | undefined {
  if (text.startsWith('unix:')) return undefined;
  return parsePort(/:(\d+)[^\d\]]*$/.exec(text)?.[1] ?? '');
}

function parsePort(text: string): number | undefined {
  return /^\d{1,5}$/.test(text) && Number(text) <= PORT_MAX ? Number(text) : undefined;
}

/** Ignores the zone (`%eth0`), because `isIPv6` of some runtimes refuses it. */
function isIPv6Host(host: string): boolean {
  return isIPv6(host.replace(/%[^%\s/[\]]+$/, ''));
}

/** Host names and IPv4 addresses. The resolver, not this pattern, decides which names exist. */
const NAME = /^[^\s:/@[\]]+$/;
const PORT_MAX = 65_535;
