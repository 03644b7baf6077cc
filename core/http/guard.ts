// Checks the head of an HTTP request before any work: whether it is addressed to this port (Host), whether a web page
// of another origin sent it (Origin, Sec-Fetch-Site), and whether it can be read in one way only (headers that occur
// twice, transfer and content codings, percent escapes). Every HTTP port has a guard, also the Thrift port.
//
// A browser sends requests to this machine for any page that it shows. Two attacks follow:
//
// - DNS rebinding: the page's own name resolves to this machine, so the browser takes the port for the page's origin.
//   The name is in Host. An IP address, a loopback name and the name of this machine cannot be the name of such a
//   page; every other name must be configured.
// - Cross-origin requests: a page may send GET and, with the content type of a form or of plain text, POST without
//   asking (no preflight). The browser names the origin in Origin, or its relation to the port in Sec-Fetch-Site.
//
// A program that is no browser sends neither header and is not restricted by the second check.
import { KatamariError } from '../mod.ts';

import { isIPv4 } from 'node:net';
import { hostname } from 'node:os';

/** What the configuration allows on HTTP ports. */
export interface HttpAccess {
  /**
   * Host names that clients may use beside IP addresses, loopback names and the name of this machine. `*.example.org`
   * stands for all names below example.org, `*` for every name.
   */
  readonly hosts: readonly string[];
  /** Origins of web pages that may send requests, such as `https://app.example`; `*` for all. */
  readonly origins: readonly string[];
  /** Called for each request that is refused because of its Host or Origin. */
  readonly onRefused?: (request: RefusedRequest) => void;
}

/** A request that is not addressed to this port, or that a web page of another origin has sent. */
export interface RefusedRequest {
  /** Address of the client. */
  readonly from: string;
  /** `POST /rpc`, without the query. */
  readonly request: string;
  readonly why: string;
}

/** How a port uses HTTP. */
export interface HttpPortRules {
  /** A POST is a call: its content type must be one that a page cannot send without a preflight. */
  readonly postsAreCalls?: boolean;
  /** A link on a page of another origin may open a GET of this port as a page of its own. */
  readonly hasPages?: boolean;
  /** The application behind the port decodes paths and bodies, and answers CORS requests of allowed origins. */
  readonly isApplication?: boolean;
  /** All clients are proxies of the operator. The host in X-Forwarded-Host is the one that browsers know. */
  readonly trustProxy?: boolean;
}

/** The head of a request. */
export interface HttpHead {
  readonly method: string;
  /** Target as sent: a path, an absolute URL or `*`. */
  readonly target: string;
  readonly isHttp10: boolean;
  /** By name in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Names and values in turn, as sent. */
  readonly rawHeaders: readonly string[];
}

/** A page of an allowed origin sent the request. */
export interface CorsGrant {
  /** Headers of the response. */
  readonly headers: Readonly<Record<string, string>>;
  /** Whether the request only asks for permission: the response is 204 with these headers. */
  readonly isPreflight: boolean;
}

export class HttpGuard {
  readonly #rules: HttpPortRules;
  readonly #names: ReadonlySet<string>;
  /** `.example.org` for `*.example.org`. */
  readonly #suffixes: readonly string[];
  readonly #origins: ReadonlySet<string>;
  readonly #onRefused: ((request: RefusedRequest) => void) | undefined;
  /** Most clients repeat these values, and comparing two equal strings costs less than parsing one. */
  #servedHost = '';
  #callType = '';

  constructor({ hosts, origins, onRefused }: HttpAccess = NO_ACCESS, rules: HttpPortRules = {}) {
    this.#rules = rules;
    this.#onRefused = onRefused;
    const names = [...hosts, hostname()].map((name) => name.toLowerCase().replace(/\.$/, ''));
    this.#names = new Set(names);
    this.#suffixes = names.filter((name) => name.startsWith('*.')).map((name) => name.slice(1));
    this.#origins = new Set(origins.map((origin) => (URL.canParse(origin) ? new URL(origin).origin : origin)));
  }

  /**
   * Checks a head. Returns the permission of a page of an allowed origin; undefined for other requests.
   * @param from address of the client
   * @throws KatamariError with `httpStatus`, whose message names the setting or the value to change
   */
  check(head: HttpHead, from: string): CorsGrant | undefined {
    const { method, headers } = head;
    refuseRepeated(head.rawHeaders);
    const grant = this.#checkSender(head, from);
    checkTransferCoding(head);
    if (head.target.includes('%')) checkPath(head.target, this.#rules.isApplication === true);
    if (this.#rules.postsAreCalls !== true) return grant;
    checkContentCoding(String(headers['content-encoding'] ?? ''));
    if (method === 'POST') this.#checkCallType(headers);
    return grant;
  }

  /** The part of `check` for a POST of the fast path, whose head has none of the headers that only browsers send. */
  admits({ host = '', 'content-type': type = '' }: Readonly<Record<string, string>>): boolean {
    return this.#serves(host) && (this.#rules.postsAreCalls !== true || type === '' || this.#isCallType(type));
  }

  #checkSender(head: HttpHead, from: string): CorsGrant | undefined {
    try {
      this.#checkHost(head);
      return this.#checkOrigin(head);
    } catch (thrown) {
      const { code, message } = thrown as KatamariError;
      // The query may have secrets of the caller.
      const request = `${head.method} ${head.target.split('?', 1)[0]}`;
      if (code === 'denied') this.#onRefused?.({ from, request, why: message });
      throw thrown;
    }
  }

  #checkHost({ target, isHttp10, headers }: HttpHead): void {
    const { host } = headers;
    // Health checks of some load balancers send no Host, and no browser speaks HTTP/1.0.
    if (host !== undefined || !isHttp10) this.#checkAuthority(String(host ?? ''), 'Host');
    // A server goes by the authority of an absolute URL and ignores Host (RFC 9112 section 3.2.2).
    const authority = ABSOLUTE.exec(target)?.[1];
    if (authority !== undefined) this.#checkAuthority(authority, 'The target names the host');
    const forwarded = this.#rules.trustProxy === true ? lastOf(headers['x-forwarded-host']) : '';
    if (forwarded !== '') this.#checkAuthority(forwarded, 'X-Forwarded-Host');
  }

  #checkAuthority(authority: string, what: string): void {
    if (this.#serves(authority)) return;
    const shown = JSON.stringify(authority.slice(0, SHOWN_CHARS));
    if (nameOf(authority) === undefined) {
      throw refused('bad_request', 400, `${what} ${shown} is not a host name or address with an optional port`);
    }
    throw refused(
      'denied',
      421,
      `${what} ${shown} is not a name of this port; use an IP address, localhost or ${hostname()}, or add the name to http.hosts in the configuration of the mesh`,
    );
  }

  #serves(authority: string): boolean {
    if (authority === this.#servedHost && authority !== '') return true;
    const name = nameOf(authority);
    if (name === undefined || !this.#isServed(name)) return false;
    this.#servedHost = authority;
    return true;
  }

  #isServed(name: string): boolean {
    if (isIPv4(name) || name.startsWith('[') || name === 'localhost' || name.endsWith('.localhost')) return true;
    if (this.#names.has(name) || this.#names.has('*')) return true;
    return this.#suffixes.some((suffix) => name.endsWith(suffix));
  }

  #checkOrigin({ method, headers }: HttpHead): CorsGrant | undefined {
    const { origin, 'sec-fetch-site': site } = headers;
    if (origin === undefined && site === undefined) return undefined;
    if (site === 'same-origin' || site === 'none') return undefined;
    const host = this.#rules.trustProxy === true ? lastOf(headers['x-forwarded-host']) || headers.host : headers.host;
    if (site === undefined && isSameOrigin(String(origin), String(host))) return undefined;
    // A browser sends no Origin with an image, a script or a link. It then names the origin in Referer.
    const sender = origin === undefined ? originOf(String(headers['referer'] ?? '')) : String(origin);
    if (this.#origins.has('*') || this.#origins.has(sender)) return this.#grant(method, origin);
    const isReading = method === 'GET' || method === 'HEAD';
    const isPage = headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document';
    if (this.#rules.hasPages === true && isReading && isPage) return undefined;
    const who = sender === '' ? 'of another site' : `of ${JSON.stringify(sender.slice(0, SHOWN_CHARS))}`;
    throw refused(
      'denied',
      403,
      `Web pages ${who} may not use this port; to allow it, add the origin to http.origins in the configuration of the mesh`,
    );
  }

  #grant(method: string, origin: string | string[] | undefined): CorsGrant | undefined {
    if (origin === undefined || this.#rules.isApplication === true) return undefined;
    const headers = {
      'access-control-allow-origin': String(origin),
      'access-control-expose-headers': EXPOSED_HEADERS,
      vary: 'Origin',
    };
    if (method !== 'OPTIONS') return { headers, isPreflight: false };
    return { headers: { ...headers, ...PREFLIGHT_HEADERS }, isPreflight: true };
  }

  #checkCallType(headers: HttpHead['headers']): void {
    const type = String(headers['content-type'] ?? '');
    if (type === '') {
      const isFromBrowser = BROWSER_HEADERS.some((name) => headers[name] !== undefined);
      if (isFromBrowser) throw wrongType('is missing');
    } else if (!this.#isCallType(type)) throw wrongType(JSON.stringify(type.slice(0, SHOWN_CHARS)));
  }

  #isCallType(type: string): boolean {
    if (type === this.#callType) return true;
    const essence = MEDIA_TYPE.exec(type)?.[1]?.toLowerCase();
    if (essence === undefined || TYPES_WITHOUT_PREFLIGHT.has(essence)) return false;
    this.#callType = type;
    return true;
  }
}

/** Two values of one of these headers give a request two meanings, and a proxy in front may have used the other one. */
function refuseRepeated(rawHeaders: readonly string[]): void {
  let seen = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] as string).toLowerCase();
    const bit = SINGLE_HEADERS.get(name);
    if (bit === undefined) continue;
    if ((seen & bit) !== 0) throw refused('bad_request', 400, `More than one ${name} header, expected one`);
    seen |= bit;
  }
}

function checkTransferCoding({ isHttp10, headers }: HttpHead): void {
  const coding = headers['transfer-encoding'];
  if (coding === undefined) return;
  const shown = JSON.stringify(String(coding).slice(0, SHOWN_CHARS));
  if (isHttp10) throw refused('bad_request', 400, `Transfer-Encoding ${shown} in HTTP/1.0, which has none`);
  if (String(coding).toLowerCase() === 'chunked') return;
  throw refused('bad_request', 501, `Transfer-Encoding ${shown} is not supported, expected chunked or none`);
}

function checkContentCoding(coding: string): void {
  const unknown = coding.split(',').find((one) => !['', 'identity'].includes(one.trim().toLowerCase()));
  if (unknown === undefined) return;
  const shown = JSON.stringify(unknown.trim().slice(0, SHOWN_CHARS));
  throw refused('bad_request', 415, `Content-Encoding ${shown} is not supported; send the body without compression`);
}

/**
 * Refuses a percent sign without two hexadecimal digits, and escapes that are not UTF-8 unless the application
 * decodes them.
 */
function checkPath(target: string, isApplication: boolean): void {
  const path = target.replace(ABSOLUTE, '').replace(/[?#][^]*$/, '');
  let isValid = !BAD_ESCAPE.test(path);
  if (isValid && !isApplication) {
    try {
      decodeURIComponent(path);
    } catch {
      isValid = false;
    }
  }
  if (isValid) return;
  const shown = JSON.stringify(path.slice(0, SHOWN_CHARS));
  throw refused('bad_request', 400, `The path ${shown} is not percent-encoded UTF-8; write "%" as "%25"`);
}

/**
 * Returns the host of `host:port` in lower case without the last dot; undefined if the text is no such thing, or if a
 * URL with it would name another host (`0x7f.1`).
 */
function nameOf(authority: string): string | undefined {
  const host = AUTHORITY.exec(authority)?.[1]?.toLowerCase();
  const url = `http://${authority}/`;
  if (host === undefined || !URL.canParse(url) || new URL(url).hostname !== host) return undefined;
  return host.replace(/\.$/, '');
}

/** Whether an origin has this host and port. A proxy may have removed TLS, so the scheme of this port is not known. */
function isSameOrigin(origin: string, host: string): boolean {
  const [, scheme = '', authority = ''] = /^(https?):\/\/([^/]+)$/i.exec(origin) ?? [];
  const standard = scheme.toLowerCase() === 'https' ? /:443$/ : /:80$/;
  return authority !== '' && authority.toLowerCase().replace(standard, '') === host.toLowerCase().replace(standard, '');
}

function originOf(url: string): string {
  return URL.canParse(url) ? new URL(url).origin : '';
}

/** Returns the last entry, which the trusted proxy wrote. */
function lastOf(value: string | string[] | undefined): string {
  return (
    String(value ?? '')
      .split(',')
      .at(-1) as string
  ).trim();
}

function wrongType(found: string): KatamariError {
  return refused(
    'bad_request',
    415,
    `Content-Type ${found}; a call needs a type that web pages cannot send without permission: application/json for JSON-RPC, application/x-thrift for Thrift`,
  );
}

function refused(code: 'bad_request' | 'denied', httpStatus: number, message: string): KatamariError {
  return new KatamariError(code, message, { httpStatus, notRun: true });
}

export const NO_ACCESS: HttpAccess = { hosts: [], origins: [] };
const AUTHORITY = /^(\[[\da-fA-F:]+\]|[\w-]+(?:\.[\w-]+)*\.?)(?::\d{1,5})?$/;
const ABSOLUTE = /^[A-Za-z][\w+.-]*:\/\/([^/?#]*)/;
const BAD_ESCAPE = /%(?![\da-fA-F]{2})/;
const MEDIA_TYPE = /^[ \t]*([!#$%&'*+.^`|~\w-]+\/[!#$%&'*+.^`|~\w-]+)[ \t]*(?:;[^]*)?$/;
/** The content types that a page may send to any origin (the Fetch standard, CORS-safelisted request headers). */
const TYPES_WITHOUT_PREFLIGHT: ReadonlySet<string> = new Set([
  'application/x-www-form-urlencoded',
  'multipart/form-data',
  'text/plain',
]);
/** Browsers send one of these. `fetch` of Node sends `Sec-Fetch-Mode`, so that one tells nothing. */
const BROWSER_HEADERS = ['origin', 'sec-fetch-site', 'sec-fetch-dest'] as const;
/** Headers that may occur once, each with a bit of its own. */
const SINGLE_HEADERS: ReadonlyMap<string, number> = new Map(
  [
    'authorization',
    'content-length',
    'content-type',
    'host',
    'origin',
    'sec-fetch-dest',
    'sec-fetch-mode',
    'sec-fetch-site',
    'transfer-encoding',
  ].map((name, index) => [name, 1 << index]),
);
const EXPOSED_HEADERS =
  'katamari-version, katamari-rule, katamari-coverage, katamari-missing, server-timing, retry-after, etag';
const PREFLIGHT_HEADERS = {
  'access-control-allow-methods': 'GET, HEAD, POST, OPTIONS',
  'access-control-allow-headers':
    'authorization, content-type, katamari-version, katamari-timeout-ms, katamari-key, katamari-tags, katamari-roles, katamari-min-coverage, katamari-error-status, traceparent, tracestate',
  'access-control-allow-private-network': 'true',
  'access-control-max-age': '600',
} as const;
const SHOWN_CHARS = 100;
