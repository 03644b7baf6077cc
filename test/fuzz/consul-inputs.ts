// Hostile requests to the embedded Consul: every route of its API with odd keys, queries and bodies, transactions, and
// blocking queries that are abandoned. The keys, sessions and services are few and are those of the fuzzer: who has
// the token may delete the documents of the mesh, so that would prove nothing.

import type { Random } from '../kit/tools/random.ts';
import { httpInput, type HttpRequest } from './http-inputs.ts';
import type { Input } from './target.ts';

/** @param token '' for none @param mesh name of the mesh, for documents that no receiver accepts */
export function consulInput(random: Random, token: string, mesh: string): Input {
  const request = random.pick(REQUESTS)(random, mesh);
  const given =
    token === '' ? random.pick(['', '', 'x-consul-token: x', 'authorization: Bearer x']) : `x-consul-token: ${token}`;
  return httpInput(random, { ...request, headers: given === '' ? [] : [given] });
}

type Maker = (random: Random, mesh: string) => HttpRequest;

const REQUESTS: readonly Maker[] = [
  (random, mesh) => ({ method: 'GET', target: `/v1/kv/${keyOf(random, mesh)}${queryOf(random)}` }),
  (random, mesh) => ({ method: 'GET', target: `/v1/kv/${keyOf(random, mesh)}${blockingOf(random)}` }),
  (random, mesh) => ({
    method: 'GET',
    target: `/v1/kv/katamari/${mesh}/${random.pick(['?recurse', '?keys', '?recurse&index=1&wait=1ms'])}`,
  }),
  (random, mesh) => ({
    method: 'PUT',
    target: `/v1/kv/${keyOf(random, mesh)}${queryOf(random)}`,
    body: valueOf(random),
  }),
  (random, mesh) => ({ method: 'PUT', target: `/v1/kv/${keyOf(random, mesh)}`, body: valueOf(random) }),
  (random) => ({
    method: 'DELETE',
    target: `/v1/kv/fuzz/${random.below(KEYS)}${random.pick(['', '?recurse', '?cas=1', '?cas=x'])}`,
  }),
  (random) => ({
    method: 'PUT',
    target: '/v1/txn',
    body: json(Array.from({ length: random.pick([0, 1, 2, 5, 64, 65, 200]) }, () => operation(random))),
  }),
  (random) => ({ method: 'PUT', target: '/v1/txn', body: json(nonsense(random)) }),
  (random) => ({
    method: 'PUT',
    target: '/v1/session/create',
    body: json(
      spoilt(random, {
        Name: 'fuzz',
        TTL: random.pick(['10s', '', '1ns', '24h', '-1s', '1e9s', 5]),
        Behavior: random.pick(['delete', 'release', 'x']),
        LockDelay: random.pick(['0s', '15s', 15, 1e300, -1]),
        NodeChecks: random.pick([[], ['serfHealth'], ['nothing'], [1]]),
      }),
    ),
  }),
  (random) => ({
    method: 'PUT',
    target: `/v1/session/${random.pick(['destroy', 'renew', 'info'])}/${sessionOf(random)}`,
  }),
  (random) => ({
    method: 'GET',
    target: `/v1/session/${random.pick(['list', 'info/', 'node/', `info/${sessionOf(random)}`, 'node/nobody'])}${blockingOf(random)}`,
  }),
  (random) => ({
    method: 'GET',
    target: `/v1/catalog/${random.pick(['nodes', 'services', 'datacenters', 'service/fuzz-1', 'service/', 'node/', 'node/fuzz-1', 'service/__proto__'])}${blockingOf(random)}`,
  }),
  (random) => ({
    method: 'GET',
    target: `/v1/health/${random.pick(['service/fuzz-1', 'service/consul', 'state/any', 'state/x', 'node/fuzz-1', 'checks/fuzz-1'])}${random.pick(['', '?passing', '?passing=x', '?tag=a&tag=b', '?filter=x', '?near=_agent'])}`,
  }),
  (random) => ({
    method: 'PUT',
    target: `/v1/catalog/${random.pick(['register', 'deregister'])}`,
    body: json(
      spoilt(random, {
        Node: `fuzz-${random.below(NAMES)}`,
        Address: random.pick(['127.0.0.1', '', 'x'.repeat(3_000)]),
        Service: service(random),
        Check: { CheckID: 'c', Name: 'c', Status: random.pick(['passing', 'critical', 'x']) },
      }),
    ),
  }),
  (random) => ({
    method: 'PUT',
    target: '/v1/agent/service/register',
    body: json(
      spoilt(random, {
        ...service(random),
        Check: check(random),
        Checks: random.pick([[], [check(random), check(random)], 'x', [null], [1]]),
      }),
    ),
  }),
  (random) => ({
    method: 'PUT',
    target: '/v1/agent/check/register',
    body: json(spoilt(random, { ...check(random), Name: `fuzz-${random.below(NAMES)}` })),
  }),
  (random) => ({ method: 'PUT', target: `/v1/agent/service/deregister/fuzz-${random.below(NAMES)}` }),
  (random) => ({ method: 'PUT', target: `/v1/agent/check/deregister/fuzz-${random.below(NAMES)}` }),
  (random) => ({
    method: 'PUT',
    target: `/v1/agent/check/${random.pick(['pass', 'warn', 'fail', 'update'])}/fuzz-${random.below(NAMES)}?note=${random.pick(['', 'x', '%ff', 'y'.repeat(2_000)])}`,
    body: json(nonsense(random)),
  }),
  (random) => ({
    method: 'PUT',
    target: `/v1/agent/service/maintenance/fuzz-${random.below(NAMES)}?enable=${random.pick(['true', 'false', 'x', ''])}`,
  }),
  (random) => ({
    method: 'GET',
    target: `/v1/agent/${random.pick(['self', 'members', 'metrics', 'services', 'checks', 'service/fuzz-1', 'service/__proto__'])}`,
  }),
  (random) => ({
    method: 'GET',
    target: random.pick([
      '/',
      '/v1/status/leader',
      '/v1/status/peers',
      '/v1/acl/tokens',
      '/ui/',
      '/v1/',
      '/v1/event/list',
      '/v1/kv',
    ]),
  }),
];

/** Few, so that the store stays small. */
const KEYS = 60;
const NAMES = 24;

function keyOf(random: Random, mesh: string): string {
  if (random.chance(0.6)) return `fuzz/${random.below(KEYS)}`;
  if (random.chance(0.4)) {
    const folder = random.pick([
      'deployments',
      'routes',
      'managers',
      'assignments',
      'idl',
      'tokens',
      'policies',
      'drained',
      'faceplates',
      'masters',
    ]);
    return `katamari/${mesh}/${folder}/${random.pick(['Fuzz@1.0.0', 'fuzz', '__proto__', 'a/b/c', '%20'])}`;
  }
  return random.pick([
    '',
    'fuzz/',
    'fuzz//x',
    'fuzz/../x',
    'fuzz/%2e%2e/x',
    'fuzz/%00',
    'fuzz/%ff',
    'fuzz/%',
    'fuzz/__proto__',
    'constructor',
    'fuzz/%F0%9F%A6%86',
    `fuzz/${'k'.repeat(700)}`,
    'fuzz/a?b',
    'fuzz/a%3Fb',
  ]);
}

function queryOf(random: Random): string {
  const parts = Array.from({ length: random.below(3) }, () =>
    random.pick([
      'recurse',
      'keys',
      'raw',
      'pretty',
      'separator=/',
      'separator=',
      'cas=0',
      'cas=1',
      'cas=x',
      'cas=-1',
      'cas=99999999999999999999',
      'flags=1',
      'flags=x',
      'flags=18446744073709551615',
      `acquire=${sessionOf(random)}`,
      `release=${sessionOf(random)}`,
      'stale',
      'consistent',
      'dc=dc1',
      'dc=x',
      'filter=x',
      'token=x',
      'ns=x',
      '%',
      '__proto__=1',
    ]),
  );
  return parts.length === 0 ? '' : `?${parts.join('&')}`;
}

/** A blocking query; most are abandoned before they are answered. */
function blockingOf(random: Random): string {
  const index = random.pick(['0', '1', '2', '1000', '99999999', '-1', 'x', '18446744073709551616', '1e3']);
  const wait = random.pick(['1ms', '10ms', '1s', '10m', '1h', '99999h', '-1s', 'x', '0', '1ns', '1e9s']);
  return `?index=${index}&wait=${wait}${random.pick(['', '&recurse', '&keys', '&stale'])}`;
}

function sessionOf(random: Random): string {
  return random.pick([
    '',
    'x',
    '00000000-0000-0000-0000-000000000000',
    '01234567-89ab-cdef-0123-456789abcdef',
    '%00',
    '../list',
  ]);
}

function valueOf(random: Random): Buffer {
  if (random.chance(0.2)) return json(nonsense(random));
  if (random.chance(0.3))
    return Buffer.from(
      random.pick([
        '',
        'null',
        '{}',
        '[]',
        '{"service":"Work","version":"1.0.0","command":["false"],"count":1}',
        '{"signature":"x"}',
        '<html>',
      ]),
    );
  return random.bytes(random.pick([1, 30, 300, random.chance(0.02) ? 600_000 : 2_000]));
}

function operation(random: Random): unknown {
  if (random.chance(0.15)) return nonsense(random);
  const verb = random.pick([
    'set',
    'cas',
    'lock',
    'unlock',
    'get',
    'get-tree',
    'check-index',
    'check-session',
    'check-not-exists',
    'delete',
    'delete-tree',
    'delete-cas',
    'x',
    '',
  ]);
  const kv = {
    Verb: verb,
    Key: `fuzz/${random.below(KEYS)}`,
    Value: random.pick(['eA==', '', '!', null, 7]),
    Index: random.pick([0, 1, -1, 1.5, 1e300, 'x']),
    Session: sessionOf(random),
    Flags: random.pick([0, 1, -1, 'x']),
  };
  return random.chance(0.9)
    ? { KV: spoilt(random, kv) }
    : { [random.pick(['Node', 'Service', 'Check', 'Session', 'KV'])]: nonsense(random) };
}

function service(random: Random): Record<string, unknown> {
  const name = `fuzz-${random.below(NAMES)}`;
  return {
    ID: name,
    Service: name,
    Name: name,
    Port: random.pick([0, 1, 80, 65_536, -1, 1.5]),
    Address: random.pick(['', '127.0.0.1', '\0']),
    Tags: random.pick([[], ['a', 'A'], ['x'.repeat(2_000)], null]),
    Meta: random.pick([null, {}, { a: 'b' }, { ['__proto__']: 'x' }]),
    Weights: random.pick([null, { Passing: 1, Warning: -1 }, 7]),
  };
}

/** Checks of this machine alone: a port where nobody listens, and the agent's own health. */
function check(random: Random): Record<string, unknown> {
  const kind = random.pick<Record<string, unknown>>([
    { TTL: durationOf(random) },
    {
      TCP: random.pick(['127.0.0.1:1', '127.0.0.1:65536', ':', 'x', '[::1]:1', '127.0.0.1:0']),
      Interval: durationOf(random),
    },
    {
      HTTP: random.pick([
        'http://127.0.0.1:1/',
        'http://127.0.0.1:0/',
        'http://[/',
        'ftp://127.0.0.1/',
        '',
        'http://127.0.0.1:1/\n',
      ]),
      Interval: durationOf(random),
      Method: random.pick(['', 'GET', 'CONNECT', 'a b']),
      Header: random.pick([{}, { a: ['b'] }, { ['__proto__']: ['x'] }, { 'a\n': ['b'] }, { a: ['\0'] }, { a: 1 }]),
      Body: random.pick(['', 'x']),
    },
    { Args: ['true'], Interval: '1s' },
    { GRPC: 'x' },
  ]);
  return {
    ...kind,
    CheckID: `fuzz-${random.below(NAMES)}`,
    Timeout: durationOf(random),
    DeregisterCriticalServiceAfter: durationOf(random),
    Status: random.pick(['', 'passing', 'x']),
    ServiceID: random.pick(['', `fuzz-${random.below(NAMES)}`]),
  };
}

function durationOf(random: Random): unknown {
  return random.pick([
    '',
    '0s',
    '1s',
    '10s',
    '1.5ms',
    '1ns',
    '99999h',
    '9999999999999h',
    '-1s',
    'x',
    1,
    1e18,
    1e300,
    -1,
    null,
  ]);
}

/** The object, sometimes with one of its fields replaced or in another spelling. */
function spoilt(random: Random, object: Record<string, unknown>): Record<string, unknown> {
  if (random.chance(0.6)) return object;
  const name = random.pick(Object.keys(object));
  const given = random.chance(0.2) ? name.toLowerCase() : random.chance(0.1) ? `X${name}` : name;
  return { ...object, [given]: nonsense(random) };
}

function nonsense(random: Random, depth = 3): unknown {
  if (depth > 0 && random.chance(0.3)) {
    const inner = Array.from({ length: random.below(4) }, () => nonsense(random, depth - 1));
    return random.chance(0.5)
      ? inner
      : Object.fromEntries(
          inner.map((value, n) => [random.pick(['KV', 'Status', 'Output', '__proto__', `k${n}`]), value]),
        );
  }
  return random.pick<unknown>([
    null,
    true,
    0,
    -1,
    1.5,
    1e300,
    '',
    'x',
    '\ud800',
    'x'.repeat(5_000),
    [],
    {},
    [null],
    [[[]]],
  ]);
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
