// Routes /v1/kv/ (key-value store) and /v1/txn (transactions).

import { decodeStruct, parseJson, parseUint, Refusal, type Fields } from './go-compat.ts';
import type { KvEntry, KvOperation, KvVerb } from './kv-table.ts';
import {
  checkCommon,
  empty,
  indexHeaders,
  json,
  waitOf,
  type AgentResponse,
  type AgentRequest,
  type AgentRoute,
} from './request.ts';
import type { AgentState } from './state.ts';
import type { Watchers } from './watchers.ts';

/** Limit of operations in one transaction. */
const OPERATIONS_MAX = 64;

export function kvRoutes(state: AgentState, watchers: Watchers, datacenter: string): AgentRoute[] {
  const run = (request: AgentRequest): AgentResponse | Promise<AgentResponse> => {
    checkCommon(request, datacenter);
    if (request.method === 'PUT') return put(state, request);
    if (request.method === 'DELETE') return remove(state, request);
    return request.query.has('keys') ? keys(state, watchers, request) : get(state, watchers, request);
  };
  return [
    { path: '/v1/kv/', methods: ['GET', 'PUT', 'DELETE'], run },
    { path: '/v1/txn', methods: ['PUT'], run: (request) => transact(state, request, datacenter) },
  ];
}

async function get(state: AgentState, watchers: Watchers, request: AgentRequest): Promise<AgentResponse> {
  const { above, waitMs } = waitOf(request);
  if (request.query.has('recurse')) {
    const topic = { kind: 'prefix', prefix: request.rest } as const;
    const { index, entries } = await watchers.query(topic, above, waitMs, request.signal, () =>
      state.kv.list(request.rest),
    );
    return entries.length === 0 ? empty(404, index) : json(entries, request, index);
  }
  if (request.rest === '') throw new Refusal(400, 'Missing key name');
  const topic = { kind: 'key', key: request.rest } as const;
  const { index, entry } = await watchers.query(topic, above, waitMs, request.signal, () => state.kv.get(request.rest));
  if (entry === undefined) return empty(404, index);
  if (!request.query.has('raw')) return json([entry], request, index);
  return {
    status: 200,
    // Prevent browsers from running a stored value as a page of the agent.
    headers: {
      'Content-Type': 'text/plain',
      'X-Content-Type-Options': 'nosniff',
      'Content-Security-Policy': 'sandbox',
      ...indexHeaders(index),
    },
    body: Buffer.from(entry.Value ?? '', 'base64'),
  };
}

async function keys(state: AgentState, watchers: Watchers, request: AgentRequest): Promise<AgentResponse> {
  const { above, waitMs } = waitOf(request);
  const topic = { kind: 'prefix', prefix: request.rest } as const;
  const { index, entries } = await watchers.query(topic, above, waitMs, request.signal, () =>
    state.kv.list(request.rest),
  );
  const separator = request.query.get('separator') ?? '';
  const names = new Set<string>();
  for (const { Key } of entries) {
    const at = separator === '' ? -1 : Key.indexOf(separator, request.rest.length);
    names.add(at < 0 ? Key : Key.slice(0, at + separator.length));
  }
  return names.size === 0 ? empty(404, index) : json([...names], request, index);
}

async function put(state: AgentState, request: AgentRequest): Promise<AgentResponse> {
  if (request.rest === '') throw new Refusal(400, 'Missing key name');
  const { query } = request;
  refuseTogether(query, ['cas', 'acquire', 'release']);
  let verb: KvVerb = 'set';
  let index = 0;
  if (query.has('cas')) {
    index = parseUint(query.get('cas')!);
    verb = 'cas';
  }
  if (query.has('acquire')) verb = 'lock';
  if (query.has('release')) verb = 'unlock';
  const flags = query.has('flags') ? parseUint(query.get('flags')!) : 0;
  const session = query.get('acquire') ?? query.get('release') ?? '';
  const body = await request.body();
  const value = body.length === 0 ? null : body.toString('base64');
  return json(state.write({ verb, key: request.rest, value, flags, session, index }).isDone, request);
}

function remove(state: AgentState, request: AgentRequest): AgentResponse {
  const { query } = request;
  refuseTogether(query, ['cas', 'recurse']);
  const isTree = query.has('recurse');
  if (request.rest === '' && !isTree) throw new Refusal(400, 'Missing key name');
  const verb = isTree ? 'delete-tree' : query.has('cas') ? 'delete-cas' : 'delete';
  const index = query.has('cas') ? parseUint(query.get('cas')!) : 0;
  return json(state.write({ verb, key: request.rest, value: null, flags: 0, session: '', index }).isDone, request);
}

function refuseTogether(query: URLSearchParams, names: readonly string[]): void {
  const given = names.filter((name) => query.has(name));
  if (given.length > 1)
    throw new Refusal(400, `Conflicting flags: ${given.map((name) => `${name}=${query.get(name)}`).join('&')}`);
}

const OPERATION_FIELDS: Fields = { KV: 'any', Node: 'any', Service: 'any', Check: 'any', Session: 'any' };
const KV_FIELDS: Fields = {
  Verb: 'string',
  Key: 'string',
  Value: 'string',
  Flags: 'uint',
  Index: 'uint',
  Session: 'string',
  Namespace: 'string',
};
const VERBS: readonly string[] = [
  'set',
  'cas',
  'lock',
  'unlock',
  'delete',
  'delete-cas',
  'delete-tree',
  'get',
  'get-tree',
  'check-session',
  'check-index',
  'check-not-exists',
];
const READS: readonly string[] = ['get', 'get-tree', 'check-session', 'check-index', 'check-not-exists'];

async function transact(state: AgentState, request: AgentRequest, datacenter: string): Promise<AgentResponse> {
  checkCommon(request, datacenter);
  const prefix = 'Failed to parse body';
  const given = parseJson(await request.body(), prefix);
  if (!Array.isArray(given))
    throw new Refusal(400, `${prefix}: json: cannot unmarshal ${typeof given} into Go value of type api.TxnOps`);
  if (given.length > OPERATIONS_MAX) {
    throw new Refusal(413, `Transaction contains too many operations (${given.length} > ${OPERATIONS_MAX})`);
  }
  const operations: KvOperation[] = [];
  const errors: { OpIndex: number; What: string }[] = [];
  for (const [at, item] of given.entries()) {
    const operation = decodeStruct(item, OPERATION_FIELDS, prefix, 'ignore');
    for (const other of ['Node', 'Service', 'Check', 'Session']) {
      if (operation.has(other))
        throw new Refusal(
          400,
          `The embedded agent supports only KV operations in a transaction; operation ${at} is ${other}`,
        );
    }
    if (!operation.has('KV')) continue;
    const kv = decodeStruct(operation.any('KV'), KV_FIELDS, prefix, 'ignore');
    const verb = kv.string('Verb');
    if (!VERBS.includes(verb)) errors.push({ OpIndex: at, What: `unknown KV verb ${JSON.stringify(verb)}` });
    else if (kv.string('Key') === '' && verb !== 'delete-tree' && verb !== 'get-tree')
      errors.push({ OpIndex: at, What: 'Must provide key' });
    const value = kv.string('Value');
    checkBase64(value, prefix);
    operations.push({
      verb: verb as KvVerb,
      key: kv.string('Key'),
      value: value === '' ? null : value,
      flags: kv.number('Flags'),
      session: kv.string('Session'),
      index: kv.number('Index'),
    });
  }
  // A read-only transaction gets the response headers of a query.
  const isRead = operations.every((operation) => READS.includes(operation.verb));
  const meta = isRead ? { Index: 0, LastContact: 0, KnownLeader: true, ConsistencyLevel: '' } : {};
  if (errors.length > 0) return json({ Results: null, Errors: errors, ...meta }, request, undefined, 409);
  const result = state.transact(operations);
  if (!result.isDone) return json({ Results: null, Errors: result.errors, ...meta }, request, undefined, 409);
  return json({ Results: result.entries.map((entry: KvEntry) => ({ KV: entry })), Errors: null, ...meta }, request);
}

function checkBase64(text: string, prefix: string): void {
  const bad = /[^A-Za-z0-9+/=]/.exec(text)?.index ?? (text.length % 4 === 0 ? -1 : text.length);
  if (bad >= 0) throw new Refusal(400, `${prefix}: illegal base64 data at input byte ${bad}`);
}
