// Parses the `katamari-*`, trace and authorization headers of a request (HTTP or THeader), which apply to every call in
// it. An invalid value is refused, not ignored: a client that asks for a timeout of 500 ms must not get the default of
// ten seconds. Invalid trace headers are ignored, as W3C Trace Context section 3.2 requires. Values are UTF-8 in every
// transport, so that a key means the same in all of them.

import { KatamariError } from '../mod.ts';
import { type HeadersIn, hasEscapes, isOwnHeader, textOfLatin1, trimSpaces } from '../thrift/mod.ts';
import { NO_DETAILS } from './call.ts';

/** The options that the headers of a request set for its calls. Absent headers give '' or an empty list. */
export interface CallHeaders {
  readonly service: string;
  readonly version: string;
  /** Infinity when the header is absent. */
  readonly timeoutMs: number;
  readonly key: string;
  readonly tags: readonly string[];
  readonly roles: readonly string[];
  /** Share of the shards of an index that must be in the answer; undefined when the header is absent. */
  readonly minCoverage: number | undefined;
  readonly traceparent: string;
  readonly tracestate: string;
  /** Whether the reply may be sent before the replies to earlier calls of the connection. Only THeader allows it. */
  readonly anyOrder: boolean;
  /** Value of `Authorization`, in any spelling of its name; '' for none. It never leaves the mesh, see PeerIdentity. */
  readonly authorization: string;
  /** Token of `Authorization: Bearer`; '' for none. */
  readonly token: string;
  /** All headers of the request, for the rules of routes. */
  readonly all: HeadersIn;
}

/** Parses the headers of a request. @throws KatamariError bad_request when the value of a header is invalid */
export function parseCallHeaders(headers: HeadersIn): CallHeaders {
  const traceparent = traceOf(plain(headers['traceparent']));
  const authorization = authorizationOf(headers);
  return {
    service: text(headers, 'katamari-service'),
    version: text(headers, 'katamari-version'),
    timeoutMs: timeoutOf(text(headers, 'katamari-timeout-ms')),
    key: text(headers, 'katamari-key'),
    tags: listOf(text(headers, 'katamari-tags')),
    roles: listOf(text(headers, 'katamari-roles')),
    minCoverage: shareOf(text(headers, 'katamari-min-coverage')),
    traceparent,
    tracestate: traceparent === '' ? '' : stateOf(plain(headers['tracestate'])),
    anyOrder: anyOrderOf(text(headers, 'katamari-any-order')),
    authorization,
    token: BEARER.exec(authorization)?.[1] ?? '',
    all: headers,
  };
}

/**
 * Returns the headers that have no meaning to the mesh. They are passed to the chassis unchanged: bytes that are no
 * UTF-8 are escaped (core/thrift/text.ts).
 * @param isAuthorized whether the mesh used the header Authorization, which is then left out
 */
export function foreignHeaders(headers: HeadersIn, isAuthorized: boolean): Readonly<Record<string, string>> {
  let found: Record<string, string> | undefined;
  for (const name in headers) {
    if (isOwnHeader(name) || (isAuthorized && AUTHORIZATION.test(name))) continue;
    found ??= Object.create(null) as Record<string, string>;
    found[textOfLatin1(name)] = textOfLatin1(joined(headers[name]));
  }
  return found ?? NO_DETAILS;
}

/** Returns the text of one of the mesh's own headers. @throws KatamariError bad_request if it is not UTF-8 */
function text(headers: HeadersIn, name: string): string {
  const value = headers[name];
  if (value === undefined) return '';
  const found = plain(value);
  if (!hasEscapes(found)) return found;
  throw new KatamariError(
    'bad_request',
    `Header ${name}: expected text in UTF-8, got ${JSON.stringify(joined(value).slice(0, SHOWN_CHARS))}`,
  );
}

/** Returns the text of a header without the spaces around it. */
function plain(value: string | string[] | undefined): string {
  // Not trim(), which also removes characters that are bytes of UTF-8 here.
  return value === undefined ? '' : textOfLatin1(trimSpaces(joined(value)));
}

function joined(value: string | string[] | undefined): string {
  return typeof value === 'string' ? value : (value ?? NONE).join(', ');
}

/** The header Authorization. Two of them are joined, so that neither is used. */
function authorizationOf(headers: HeadersIn): string {
  let found = '';
  for (const name in headers) {
    if (!AUTHORIZATION.test(name)) continue;
    const value = plain(headers[name]);
    found = found === '' ? value : `${found}, ${value}`;
  }
  return found;
}

function timeoutOf(value: string): number {
  if (value === '') return Number.POSITIVE_INFINITY;
  const timeoutMs = /^\d{1,15}$/.test(value) ? Number(value) : 0;
  if (timeoutMs > 0) return timeoutMs;
  throw new KatamariError(
    'bad_request',
    `Header katamari-timeout-ms: expected a whole number of milliseconds above 0, got "${value.slice(0, SHOWN_CHARS)}"`,
  );
}

function shareOf(value: string): number | undefined {
  if (value === '') return undefined;
  const share = SHARE.test(value) ? Number(value) : Number.NaN;
  if (share <= 1) return share;
  throw new KatamariError(
    'bad_request',
    `Header katamari-min-coverage: expected a share from 0 to 1, got "${value.slice(0, SHOWN_CHARS)}"`,
  );
}

function anyOrderOf(value: string): boolean {
  if (value === '' || value === '1') return value === '1';
  throw new KatamariError(
    'bad_request',
    `Header katamari-any-order: expected 1 or nothing, got "${value.slice(0, SHOWN_CHARS)}"`,
  );
}

/** Returns a valid traceparent; '' for an invalid one. */
function traceOf(value: string): string {
  return TRACEPARENT.test(value) && !ZERO_ID.test(value) ? value : '';
}

/** Returns a valid tracestate, which is ASCII; '' for an invalid one. */
function stateOf(value: string): string {
  return TRACESTATE.test(value) ? value : '';
}

function listOf(value: string): readonly string[] {
  if (value === '') return NONE;
  return value
    .split(',')
    .map(trimSpaces)
    .filter((item) => item !== '');
}

const NONE: readonly string[] = Object.freeze([]);
const SHOWN_CHARS = 40;
const AUTHORIZATION = /^authorization$/i;
const BEARER = /^bearer +(\S+)$/i;
const TRACEPARENT = /^(?!ff)[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}(?:-.*)?$/;
/** As any language prints a number from 0 to 1. */
const SHARE = /^\d+(?:\.\d*)?(?:[Ee]-\d{1,3})?$/;
const ZERO_ID = /^..-0{32}-|^..-.{32}-0{16}-/;
const TRACESTATE = /^[\t\x20-\x7e]*$/;
