// Routes below /v1/session/: create, destroy, renew, info, node, list.

import {
  decodeStruct,
  formatDuration,
  parseDuration,
  parseJson,
  Refusal,
  type Decoded,
  type Fields,
} from './go-compat.ts';
import { checkSessionId } from './kv-table.ts';
import { checkCommon, json, waitOf, type AgentResponse, type AgentRequest, type AgentRoute } from './request.ts';
import type { NewSession } from './session-table.ts';
import type { SessionTimers } from './session-timers.ts';
import type { AgentState } from './state.ts';
import type { Watchers } from './watchers.ts';
import { randomUUID } from 'node:crypto';

export interface SessionRoutesOptions {
  readonly state: AgentState;
  readonly watchers: Watchers;
  readonly timers: SessionTimers;
  readonly node: string;
  readonly datacenter: string;
  /** Minimum TTL. */
  readonly ttlMinMs: number;
  readonly sessionsMax: number;
}

const LOCK_DELAY_DEFAULT_NS = 15e9;
/** A lock delay given as a number below this is in seconds; any other number is in nanoseconds. */
const LOCK_DELAY_SECONDS_BELOW = 1000;
const TTL_MAX_NS = 24 * 3600e9;
const FIELDS: Fields = {
  ID: 'string',
  Name: 'string',
  Node: 'string',
  LockDelay: 'any',
  Behavior: 'string',
  TTL: 'string',
  Checks: 'strings',
  NodeChecks: 'strings',
  ServiceChecks: 'any',
};
const SERVICE_CHECK_FIELDS: Fields = { ID: 'string', Namespace: 'string' };

export function sessionRoutes(options: SessionRoutesOptions): AgentRoute[] {
  const { state, watchers, timers, datacenter } = options;
  const watch = async (request: AgentRequest, pick: () => unknown[]): Promise<AgentResponse> => {
    checkCommon(request, datacenter);
    const { above, waitMs } = waitOf(request);
    const look = (): { index: number; found: unknown[] } => ({ index: state.sessions.index(), found: pick() });
    const { index, found } = await watchers.query({ kind: 'sessions' }, above, waitMs, request.signal, look);
    return json(found, request, index);
  };
  return [
    { path: '/v1/session/create', methods: ['PUT'], run: (request) => create(options, request) },
    {
      path: '/v1/session/destroy/',
      methods: ['PUT'],
      run: (request) => {
        state.destroySession(idOf(request));
        return json(true, request);
      },
    },
    {
      path: '/v1/session/renew/',
      methods: ['PUT'],
      run: (request) => {
        const id = idOf(request);
        const session = state.sessions.get(id);
        if (session === undefined) throw new Refusal(404, `Session id '${id}' not found`);
        timers.renew(session);
        return json([session], request);
      },
    },
    {
      path: '/v1/session/info/',
      methods: ['GET'],
      run: (request) => {
        const id = idOf(request);
        return watch(request, () => [state.sessions.get(id)].filter((session) => session !== undefined));
      },
    },
    {
      path: '/v1/session/node/',
      methods: ['GET'],
      run: (request) => {
        if (request.rest === '') throw new Refusal(400, 'Missing node name');
        return watch(request, () => state.sessions.list().filter((session) => session.Node === request.rest));
      },
    },
    { path: '/v1/session/list', methods: ['GET'], run: (request) => watch(request, () => state.sessions.list()) },
  ];
}

function idOf(request: AgentRequest): string {
  if (request.rest === '') throw new Refusal(400, 'Missing session');
  return checkSessionId(request.rest);
}

async function create(options: SessionRoutesOptions, request: AgentRequest): Promise<AgentResponse> {
  checkCommon(request, options.datacenter);
  const body = await request.body();
  const prefix = 'Request decode failed';
  const given = decodeStruct(body.length === 0 ? {} : parseJson(body, prefix), FIELDS, prefix, 'ignore');
  const behavior = given.string('Behavior') || 'release';
  if (behavior !== 'release' && behavior !== 'delete') throw new Refusal(500, `Invalid Behavior setting '${behavior}'`);
  const ttl = given.string('TTL');
  checkTtl(ttl, options.ttlMinMs * 1e6);
  if (options.state.sessions.list().length >= options.sessionsMax) {
    throw new Refusal(
      429,
      `Cannot create a session: ${options.sessionsMax} sessions exist, limit is ${options.sessionsMax}; destroy some`,
    );
  }
  const checks = given.strings('Checks');
  const session: NewSession = {
    ID: randomUUID(),
    Name: given.string('Name'),
    Node: given.string('Node') || options.node,
    LockDelay: lockDelayOf(given, prefix),
    Behavior: behavior,
    TTL: ttl,
    NodeChecks: given.strings('NodeChecks') ?? ['serfHealth'],
    ServiceChecks: serviceChecksOf(given, prefix),
    ...(checks === undefined || checks.length === 0 ? {} : { Checks: checks }),
  };
  options.timers.renew(options.state.createSession(session));
  return json({ ID: session.ID }, request);
}

function checkTtl(ttl: string, minNs: number): void {
  if (ttl === '') return;
  const ns = parseDuration(ttl);
  if (ns === undefined)
    throw new Refusal(500, `Session TTL '${ttl}' invalid: time: invalid duration ${JSON.stringify(ttl)}`);
  if (ns !== 0 && (ns < minNs || ns > TTL_MAX_NS)) {
    throw new Refusal(
      500,
      `Invalid Session TTL '${ns}', must be between [${formatDuration(minNs)}=${formatDuration(TTL_MAX_NS)}]`,
    );
  }
}

function lockDelayOf(given: Decoded, prefix: string): number {
  const raw = given.any('LockDelay');
  if (raw === undefined) return LOCK_DELAY_DEFAULT_NS;
  if (typeof raw === 'string') {
    const ns = parseDuration(raw);
    if (ns === undefined) throw new Refusal(400, `${prefix}: time: invalid duration ${JSON.stringify(raw)}`);
    return ns;
  }
  if (typeof raw !== 'number') throw new Refusal(400, `${prefix}: invalid LockDelay`);
  return Math.trunc(raw < LOCK_DELAY_SECONDS_BELOW ? raw * 1e9 : raw);
}

function serviceChecksOf(given: Decoded, prefix: string): NewSession['ServiceChecks'] {
  const raw = given.any('ServiceChecks');
  if (raw === undefined) return null;
  if (!Array.isArray(raw))
    throw new Refusal(
      400,
      `${prefix}: json: cannot unmarshal into Go struct field .ServiceChecks of type []structs.ServiceCheck`,
    );
  return raw.map((item) => {
    const check = decodeStruct(item, SERVICE_CHECK_FIELDS, prefix, 'ignore');
    return { ID: check.string('ID'), Namespace: check.string('Namespace') };
  });
}
