// Request and response of a route, and the query parameters that all routes share (index, wait, stale, consistent,
// dc).

import { parseDuration, Refusal } from './go-compat.ts';
import { atLeastOne } from './watchers.ts';

export interface AgentRequest {
  readonly method: string;
  /** Path after that of the route, percent-decoded. */
  readonly rest: string;
  readonly query: URLSearchParams;
  /** Aborted when the client disconnects. */
  readonly signal: AbortSignal;
  /** Reads the whole body; rejects with a Refusal if it exceeds the limit. */
  body(): Promise<Buffer>;
}

export interface AgentResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
}

/** A route: an exact path, or everything below a path that ends with a slash. */
export interface AgentRoute {
  readonly path: string;
  readonly methods: readonly string[];
  readonly run: (request: AgentRequest) => AgentResponse | Promise<AgentResponse>;
}

/** Creates a JSON response. `index` is sent in a header, for the client's next blocking query. */
export function json(value: unknown, request: AgentRequest, index?: number, status = 200): AgentResponse {
  const body = request.query.has('pretty') ? `${JSON.stringify(value, null, 4)}\n` : JSON.stringify(value);
  return { status, headers: { 'Content-Type': 'application/json', ...indexHeaders(index) }, body };
}

/** Creates a response without a body, as for most writes. */
export function empty(status = 200, index?: number): AgentResponse {
  return { status, headers: indexHeaders(index), body: '' };
}

export function indexHeaders(index: number | undefined): Record<string, string> {
  if (index === undefined) return {};
  return { 'X-Consul-Index': String(atLeastOne(index)), 'X-Consul-Knownleader': 'true', 'X-Consul-Lastcontact': '0' };
}

/** Parses index and wait of a blocking query. */
export function waitOf(request: AgentRequest): { above: number; waitMs: number } {
  const index = request.query.get('index') ?? '';
  const wait = request.query.get('wait') ?? '';
  const waitNs = wait === '' ? 0 : parseDuration(wait);
  if (waitNs === undefined || waitNs < 0) throw new Refusal(400, 'Invalid wait time');
  if (index !== '' && (!/^\d+$/.test(index) || BigInt(index) > 0xffff_ffff_ffff_ffffn))
    throw new Refusal(400, 'Invalid index');
  return { above: Number(index), waitMs: waitNs / 1e6 };
}

/** Refuses conflicting consistency modes, other datacenters and `?filter`. */
export function checkCommon(request: AgentRequest, datacenter: string): void {
  if (request.query.has('stale') && request.query.has('consistent')) {
    throw new Refusal(400, 'Cannot specify ?stale with ?consistent, conflicting semantics.');
  }
  const requested = request.query.get('dc') ?? '';
  if (requested !== '' && requested !== datacenter) throw new Refusal(500, 'No path to datacenter');
  if ((request.query.get('filter') ?? '') !== '') {
    throw new Refusal(400, 'The embedded agent has no ?filter. Filter in the client, or use a Consul server');
  }
}
