// Converts HTTP requests to the Request of `idl/web.thrift`, and checks a Response before any of it is written. If a
// chassis returns a status or a header that HTTP cannot carry, the call fails (`resource_failed`, 502); this prevents
// response splitting. Header values are UTF-8; one that is not is read as Latin-1, the encoding of old HTTP.

import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { KatamariError } from '../../core/mod.ts';
import { hasEscapes, textOfLatin1 } from '../../core/thrift/mod.ts';

/** The struct Header. */
export interface WebHeader {
  readonly name: string;
  readonly value: string;
}

/** The struct Request. */
export interface WebRequest {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: readonly WebHeader[];
  readonly body: Buffer;
  readonly remote_address: string;
  readonly scheme: string;
  readonly host: string;
  readonly prefix: string;
}

/** A validated struct Response. */
export interface WebResponse {
  readonly status: number;
  /** By name in lower case; a repeated header has several values, which have one character per byte. */
  readonly headers: ReadonlyMap<string, readonly string[]>;
  /** The chassis' own content length, for responses without a body; '' for none. */
  readonly contentLength: string;
  readonly body: Buffer;
}

export interface RequestParts {
  readonly incoming: IncomingMessage;
  readonly path: string;
  readonly query: string;
  readonly body: Buffer;
  /** Address of the peer of the connection. */
  readonly peer: string;
  readonly prefix: string;
  /** Whether the mesh used the header Authorization, which the application then does not get. */
  readonly isAuthorized: boolean;
  /** Whether the peer is a trusted proxy, whose X-Forwarded-* headers are used and passed on. */
  readonly trustProxy: boolean;
}

/** Converts an HTTP request to the struct Request. */
export function requestOf(parts: RequestParts): WebRequest {
  const { incoming, path, query, body, peer, prefix, isAuthorized, trustProxy } = parts;
  const given = (name: string): string => (trustProxy ? last(incoming.headers[name]) : '');
  const host = headerText(given('x-forwarded-host') || (incoming.headers.host ?? ''));
  const isSecure = (incoming.socket as Partial<TLSSocket>).encrypted === true;
  const scheme = (given('x-forwarded-proto') || (isSecure ? 'https' : '')) === 'https' ? 'https' : 'http';
  const remote = headerText(given('x-forwarded-for')) || peer;
  const through = trustProxy ? [incoming.headers['x-forwarded-for'] ?? ''].flat().join(', ') : '';
  const dropped = hopByHop(incoming.headers.connection);
  const headers = pairsOf(incoming.rawHeaders).filter(({ name }) => {
    const lower = name.toLowerCase();
    return !dropped.has(lower) && !FORWARDED.has(lower) && !(isAuthorized && lower === 'authorization');
  });
  headers.push(
    { name: 'X-Forwarded-For', value: through === '' ? peer : `${headerText(through)}, ${peer}` },
    { name: 'X-Forwarded-Proto', value: scheme },
    { name: 'X-Forwarded-Host', value: host },
  );
  return {
    method: incoming.method ?? 'GET',
    path,
    query,
    headers,
    body,
    remote_address: remote,
    scheme,
    host,
    prefix,
  };
}

/** Validates the Response of a chassis. @throws KatamariError resource_failed that names the problem */
export function responseOf(value: unknown, pool: string): WebResponse {
  const wrong = (what: string): KatamariError =>
    new KatamariError(
      'resource_failed',
      `${pool} answered with ${what}; idl/web.thrift describes what a Response may contain`,
    );
  const { status, headers, body } = (value ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof status !== 'number' || !Number.isInteger(status) || status < STATUS_MIN || status > STATUS_MAX) {
    throw wrong(`the status ${JSON.stringify(status)}, expected ${STATUS_MIN} to ${STATUS_MAX}`);
  }
  if (!Array.isArray(headers) || !(body instanceof Uint8Array)) throw wrong('no headers or no body');
  if (headers.length > HEADERS_MAX) throw wrong(`${headers.length} headers, limit is ${HEADERS_MAX}`);
  const given = headers as readonly Partial<WebHeader>[];
  const dropped = hopByHop(given.find(({ name }) => name?.toLowerCase() === 'connection')?.value);
  const byName = new Map<string, string[]>();
  let contentLength = '';
  let bytes = 0;
  for (const { name = '', value: text = '' } of given) {
    if (!TOKEN.test(name)) throw wrong(`a header named ${quoted(name)}`);
    if (!HEADER_TEXT.test(text)) throw wrong(`the header ${quoted(name)} with characters that HTTP does not allow`);
    const line = headerBytes(text);
    bytes += name.length + line.length;
    if (bytes > HEADER_BYTES_MAX) throw wrong(`headers of more than ${HEADER_BYTES_MAX} bytes`);
    const lower = name.toLowerCase();
    if (lower === 'content-length') contentLength = text;
    else if (!dropped.has(lower)) byName.set(lower, [...(byName.get(lower) ?? []), line]);
  }
  const isBare = status === 204 || status === 205 || status === 304;
  return {
    status,
    headers: byName,
    contentLength: /^\d{1,15}$/.test(contentLength) ? contentLength : '',
    body: isBare ? NO_BODY : Buffer.from(body.buffer, body.byteOffset, body.byteLength),
  };
}

/** Returns the value of a cookie; '' if it is absent. */
export function cookieOf(header: string | undefined, name: string): string {
  for (const pair of headerText(header ?? '').split(';')) {
    const equals = pair.indexOf('=');
    if (equals > 0 && pair.slice(0, equals).trim() === name) return pair.slice(equals + 1).trim();
  }
  return '';
}

function pairsOf(raw: readonly string[]): WebHeader[] {
  const pairs: WebHeader[] = [];
  for (let at = 0; at + 1 < raw.length; at += 2)
    pairs.push({ name: raw[at] as string, value: headerText(raw[at + 1] as string) });
  return pairs;
}

/** Returns the text of a header of `node:http`, which presents each byte as one character. */
function headerText(value: string): string {
  const text = textOfLatin1(value);
  return hasEscapes(text) ? value : text;
}

/** Returns a text as `node:http` takes it, so that it is written as UTF-8. */
function headerBytes(text: string): string {
  return BEYOND_ASCII.test(text) ? Buffer.from(text).toString('latin1') : text;
}

/** Returns the hop-by-hop headers (RFC 9110 section 7.6.1): the known ones, and those that `Connection` names. */
function hopByHop(connection: string | undefined): ReadonlySet<string> {
  const named = (connection ?? '').toLowerCase().split(',');
  return new Set([...HOP_BY_HOP, ...named.map((name) => name.trim())]);
}

/** Returns the last entry, which the trusted proxy wrote. Earlier entries may be forged by the client. */
function last(value: string | string[] | undefined): string {
  return ([value ?? ''].flat().join(',').split(',').at(-1) as string).trim();
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, SHOWN_CHARS));
}

const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'expect',
] as const;
const FORWARDED: ReadonlySet<string> = new Set(['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host']);
const TOKEN = /^[!#$%&'*+.^_`|~\dA-Za-z-]{1,256}$/;
/** Text without control characters. Line breaks are excluded, which prevents header injection. */
const HEADER_TEXT = /^[\t\x20-\x7e\x80-\uffff]*$/;
const BEYOND_ASCII = /[\x80-\uffff]/;
const STATUS_MIN = 200;
const STATUS_MAX = 599;
const HEADERS_MAX = 200;
const HEADER_BYTES_MAX = 65_536;
const SHOWN_CHARS = 60;
const NO_BODY = Buffer.alloc(0);
