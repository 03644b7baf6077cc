// What a route gets and gives, and the queries that all of them know (index, wait, stale, consistent, dc).

import { parseDuration, Refusal } from './go-compat.ts';
import { atLeastOne } from './watchers.ts';

/** One request. */
export interface AgentRequest {
  readonly method: string;
  /** What follows the route's path, percent-decoded. */
  readonly rest: string;
  readonly query: URLSearchParams;
  /** Fires when the client has gone. */
  readonly signal: AbortSignal;
  /** The whole body; rejects with a Refusal when it is larger than the limit. */
  body(): Promise<Buffer>;
}

/** One answer. */
export interface AgentResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
}

/** A route: exact, or everything under a path that ends in a slash. */
export interface AgentRoute {
  readonly path: string;
  readonly methods: readonly string[];
  readonly run: (ask: AgentRequest) => AgentResponse | Promise<AgentResponse>;
}

/** A JSON answer; with an index it is one that can be watched. */
export function json(value: unknown, ask: AgentRequest, index?: number, status = 200): AgentResponse {
  const body = ask.query.has('pretty') ? `${JSON.stringify(value, null, 4)}\n` : JSON.stringify(value);
  return { status, headers: { 'Content-Type': 'application/json', ...indexHeaders(index) }, body };
}

/** 200 without a body, as most writes answer. */
export function empty(status = 200, index?: number): AgentResponse {
  return { status, headers: indexHeaders(index), body: '' };
}

export function indexHeaders(index: number | undefined): Record<string, string> {
  if (index === undefined) return {};
  return { 'X-Consul-Index': String(atLeastOne(index)), 'X-Consul-Knownleader': 'true', 'X-Consul-Lastcontact': '0' };
}

/** Index and wait of a blocking query. */
export function waitOf(ask: AgentRequest): { above: number; waitMs: number } {
  const index = ask.query.get('index') ?? '';
  const wait = ask.query.get('wait') ?? '';
  const waitNs = wait === '' ? 0 : parseDuration(wait);
  if (waitNs === undefined || waitNs < 0) throw new Refusal(400, 'Invalid wait time');
  if (index !== '' && (!/^\d+$/.test(index) || BigInt(index) > 0xffff_ffff_ffff_ffffn))
    throw new Refusal(400, 'Invalid index');
  return { above: Number(index), waitMs: waitNs / 1e6 };
}

/** Refuses what no agent can do: contradicting consistency, a datacenter that does not exist. */
export function checkCommon(ask: AgentRequest, datacenter: string): void {
  if (ask.query.has('stale') && ask.query.has('consistent')) {
    throw new Refusal(400, 'Cannot specify ?stale with ?consistent, conflicting semantics.');
  }
  const wanted = ask.query.get('dc') ?? '';
  if (wanted !== '' && wanted !== datacenter) throw new Refusal(500, 'No path to datacenter');
  if ((ask.query.get('filter') ?? '') !== '') {
    throw new Refusal(400, 'The embedded agent has no ?filter. Filter in the client, or use a Consul server');
  }
}
