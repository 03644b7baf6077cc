// A real Consul with ACLs that deny by default. The rules in deploy/consul-policy.hcl are enough for everything the
// mesh does there, and an error names each rule that is removed.

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { startRealConsul, type RealTestConsul } from '../../kit/consul/consul.ts';
import { startMeshProcess, type MeshProcess } from '../../kit/mesh/mesh-process.ts';
import { work } from '../../kit/mesh/mesh.ts';
import {
  announceService,
  consulClient,
  ConsulError,
  type ConsulClient,
  ConsulSession,
  watchPrefix,
  type WatchedEntries,
} from '../../../services/consul/mod.ts';
import { REPOSITORY } from '../../kit/tools/repository.ts';
import { until } from '../../kit/tools/wait.ts';

const POLICY = readFileSync(path.join(REPOSITORY, 'deploy/consul-policy.hcl'), 'utf8');
const MASTER = randomUUID();
/** The resources that the policy has rules for. */
const RULES = [...POLICY.matchAll(/^(\w+) ".*" \{$/gm)].map(([, resource]) => resource as string);

let consul: RealTestConsul;
const clients: ConsulClient[] = [];
let policies = 0;
let mesh: MeshProcess | undefined;

beforeAll(async () => {
  consul = await startRealConsul({
    token: MASTER,
    config: { acl: { enabled: true, default_policy: 'deny', tokens: { master: MASTER, agent: MASTER } } },
  });
});
afterEach(async () => {
  await mesh?.end();
  mesh = undefined;
  for (const client of clients.splice(0)) client.close();
});
afterAll(() => consul.close());

/** A client whose token has the policy without the rules for one resource. */
async function clientWithout(resource?: string): Promise<ConsulClient> {
  return clientOf(await tokenWithout(resource));
}

function clientOf(token: string): ConsulClient {
  const client = consulClient({ address: consul.address, ...(token === '' ? {} : { token }) });
  clients.push(client);
  return client;
}

async function tokenWithout(resource?: string): Promise<string> {
  const rules =
    resource === undefined ? POLICY : POLICY.replace(new RegExp(`^${resource} ".*" \\{\n.*\n\\}$`, 'm'), '');
  if (resource !== undefined) expect(rules).not.toBe(POLICY);
  const name = `katamari-${++policies}`;
  await ask('acl/policy', { Name: name, Rules: rules });
  return (await ask('acl/token', { Policies: [{ Name: name }] }))['SecretID'] as string;
}

async function ask(what: string, body: object): Promise<Record<string, unknown>> {
  const url = `http://${consul.address}/v1/${what}`;
  const response = await fetch(url, {
    method: 'PUT',
    body: JSON.stringify(body),
    headers: { 'x-consul-token': MASTER },
  });
  expect([response.status, what]).toEqual([200, what]);
  return (await response.json()) as Record<string, unknown>;
}

/** Runs every operation of a process of the mesh `main` at Consul, and returns the errors. */
function runProcess(client: ConsulClient): {
  readonly session: ConsulSession;
  readonly seen: () => WatchedEntries;
  readonly errors: () => string[];
  readonly close: () => Promise<void>;
} {
  const end = new AbortController();
  const errors: string[] = [];
  const onError = ({ message }: ConsulError): void => void errors.push(message);
  let seen: WatchedEntries = new Map();
  const place = { host: '127.0.0.1', port: consul.port };
  const check = { kind: 'tcp', address: consul.address, intervalMs: 1_000, timeoutMs: 1_000 } as const;
  const session = new ConsulSession({
    client,
    name: 'one',
    service: { name: 'katamari-manager', ...place },
    check,
    onError,
  });
  void session.start();
  const watch = (entries: WatchedEntries): void => void (seen = entries);
  watchPrefix(client, 'katamari/main/', watch, { signal: end.signal, onError });
  const announcement = announceService(
    client,
    {
      id: 'katamari-stats-one',
      name: 'katamari-stats',
      ...place,
      tags: [],
      meta: {},
      check,
      deregisterAfterMs: 60_000,
    },
    { onError },
  );
  return {
    session,
    seen: () => seen,
    errors: () => errors,
    async close() {
      end.abort();
      await session.close();
      await announcement.withdraw();
    },
  };
}

describe('deploy/consul-policy.hcl', () => {
  test('allows sessions, keys, services and watches', async () => {
    const client = await clientWithout();
    const one = runProcess(client);
    expect(await one.session.announce('katamari/main/managers/one', '{}')).toBe(true);
    expect(await one.session.lock('katamari/main/leader', '{"name":"one"}')).toBe(true);
    await until('the watch to see both keys', () => one.seen().size === 2);
    await until('the stats service', async () => (await client.serviceIds()).includes('katamari-stats-one'));
    expect(await client.put('katamari/main/idl/abc', '[]', { cas: 0 })).toBe(true);
    expect(await client.delete('katamari/main/', { isTree: true })).toBe(true);
    // From an agent that restarted and has not synchronized yet.
    expect(await client.syncCheck('service:katamari-manager:one')).toBe(true);
    await one.close();
    expect(one.errors()).toEqual([]);
    expect(await client.serviceIds()).toEqual([]);
  });

  test('allows nothing of another mesh and no other service', async () => {
    const client = await clientWithout();
    await expect(client.put('katamari/other/leader', '{}')).rejects.toThrow('key_prefix "katamari/other/"');
    expect((await client.list('katamari/other/')).entries).toEqual([]);
    const check = { kind: 'ttl', ttlMs: 1_000 } as const;
    const other = { id: 'web', name: 'web', host: '127.0.0.1', port: 1, tags: [], meta: {}, check };
    await expect(client.registerService({ ...other, deregisterAfterMs: 60_000 })).rejects.toThrow('Permission denied');
  });

  test('lets Prometheus and people read the services and their nodes', async () => {
    const client = await clientWithout();
    const one = runProcess(client);
    const nodesSeenBy = async (seer: ConsulClient): Promise<unknown[]> =>
      (await seer.api.health.service({ service: 'katamari-stats' })) as unknown[];
    await until('the service in the catalog', async () => (await nodesSeenBy(client)).length === 1);
    expect(await nodesSeenBy(await clientWithout('node_prefix'))).toEqual([]);
    await one.close();
  });

  test('has only rules whose absence an error names', async () => {
    expect(RULES).toEqual(['key_prefix', 'session_prefix', 'service_prefix', 'agent_prefix', 'node_prefix']);
    const named: string[] = [];
    for (const rule of RULES.slice(0, 3)) {
      const one = runProcess(await clientWithout(rule));
      void one.session.announce('katamari/main/managers/one', '{}');
      const told = await until(`an error without ${rule}`, () =>
        one.errors().find((text) => text.includes('lacks the rule')),
      );
      expect(told).toMatch(/^Cannot .* at Consul 127\.0\.0\.1:\d+: .*Permission denied/);
      named.push(...(/lacks the rule (\w+) "/.exec(told)?.slice(1) ?? []));
      await one.close();
    }
    expect(named).toEqual(['key_prefix', 'session_prefix', 'service_prefix']);
  });

  test('is missed by a transaction in the same way as by a single write', async () => {
    const lacking = await clientWithout('key_prefix');
    const step = { verb: 'cas', key: 'katamari/main/assignments/one', value: '{}', index: 0 } as const;
    await expect(lacking.transact([step])).rejects.toThrow('lacks the rule key_prefix "katamari/main/"');
    expect(await (await clientWithout()).transact([step])).toMatchObject({ isDone: true });
  });

  test('needs agent_prefix for an agent that has not synchronized a check yet', async () => {
    const one = runProcess(await clientWithout());
    expect(await one.session.announce('katamari/main/managers/one', '{}')).toBe(true);
    const lacking = await clientWithout('agent_prefix');
    await expect(lacking.syncCheck('service:katamari-manager:one')).rejects.toThrow(
      'lacks the rule agent_prefix "" { policy = "read" }',
    );
    await one.close();
  });
});

describe('ConsulClient', () => {
  test('reports a missing token and an unknown token', async () => {
    await expect(clientOf('').put('katamari/main/leader', '{}')).rejects.toThrow(
      'No token is configured (consul.token or CONSUL_HTTP_TOKEN)',
    );
    const refused = await clientOf(randomUUID())
      .put('katamari/main/leader', '{}')
      .catch((error: unknown) => error as ConsulError);
    expect(refused).toBeInstanceOf(ConsulError);
    expect((refused as ConsulError).trouble).toBe('denied');
    expect((refused as ConsulError).message).toContain('Consul does not know this token: correct consul.token');
  });
});

describe('katamari up', () => {
  const settings = (token: string): Record<string, unknown> => ({
    mesh: 'main',
    consul: { address: `http://${consul.address}`, token },
  });

  test('runs with a token of that policy alone', async () => {
    const one = (mesh = await startMeshProcess({ settings: settings(await tokenWithout()), deployments: [work()] }));
    const client = clientOf(MASTER);
    await until('its pools in Consul', async () =>
      (await client.get('katamari/main/managers/one'))?.value.includes('Work'),
    );
    expect((await client.get('katamari/main/managers/one'))?.session).not.toBe('');
    expect((await one.call('Work.say', { text: 'x' })).result).toBeDefined();
    expect(one.output()).not.toMatch(/consul_lost|Permission denied/);
    expect(await one.stop()).toBe(0);
    expect(await client.get('katamari/main/managers/one')).toBeUndefined();
  });

  test('serves and names a missing rule', async () => {
    const one = (mesh = await startMeshProcess({
      settings: settings(await tokenWithout('session_prefix')),
      deployments: [work()],
    }));
    await until('the missing rule in its log', () =>
      /lacks the rule session_prefix .*calls continue with the last known state/.test(one.output()),
    );
    expect((await one.call('Work.say', { text: 'x' })).result).toBeDefined();
  });
});
