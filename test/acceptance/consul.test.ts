import { afterEach, describe, expect, test } from 'vitest';
import { startConsul, type TestConsul } from '../kit/consul/consul.ts';
import { isAlive, work } from '../kit/mesh/mesh.ts';
import { startMeshProcess, type MeshProcess, type MeshProcessOptions } from '../kit/mesh/mesh-process.ts';
import { until } from '../kit/tools/wait.ts';

const open: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function up(options: MeshProcessOptions = {}): Promise<MeshProcess> {
  const mesh = await startMeshProcess({ deployments: [work(), work({ version: '2.0.0' })], ...options });
  open.push(() => mesh.end());
  return mesh;
}

async function realConsul(): Promise<TestConsul> {
  const consul = await startConsul('real');
  open.push(() => consul.close());
  return consul;
}

interface Entries {
  readonly keys: readonly string[];
  readonly passing: readonly string[];
}

/** The mesh's data in Consul: keys, and services with passing checks. */
async function entries(address: string, token = ''): Promise<Entries> {
  const base = address.includes('://') ? address : `http://${address}`;
  const get = async (path: string): Promise<unknown> => {
    const answer = await fetch(base + path, { headers: { 'x-consul-token': token } });
    return answer.status === 404 ? [] : await answer.json();
  };
  const keys = (await get('/v1/kv/katamari/?keys')) as string[];
  const services = Object.keys((await get('/v1/catalog/services')) as object).filter((name) =>
    name.startsWith('katamari-'),
  );
  const healthy = await Promise.all(
    services.map(async (name) => ((await get(`/v1/health/service/${name}?passing`)) as unknown[]).length > 0),
  );
  return { keys, passing: services.filter((_, index) => healthy[index]).sort() };
}

const NOTHING: Entries = { keys: [], passing: [] };
const KEYS = ['faceplates/one', 'managers/one', 'masters/one'].map((key) => `katamari/test/${key}`);
const SERVICES = ['katamari-json-rpc', 'katamari-manager', 'katamari-master', 'katamari-stats', 'katamari-thrift'];

/** Waits until all entries of this mesh are in Consul and passing. */
async function expectEntered(address: string, token = ''): Promise<void> {
  await until('the entries of the mesh', async () => {
    const { keys, passing } = await entries(address, token).catch(() => NOTHING);
    const isIdlThere = keys.some((key) => /^katamari\/test\/idl\/[0-9a-f]{64}$/.test(key));
    return KEYS.every((key) => keys.includes(key)) && isIdlThere && passing.join() === SERVICES.join();
  });
}

async function change(mesh: MeshProcess): Promise<void> {
  const token = mesh.adminToken;
  const settings = await mesh.call('Katamari.setSettings', { token, settings: { timeoutMs: 7_654 } });
  expect(settings.result).toEqual({ timeoutMs: 7_654 });
  const route = await mesh.call('Katamari.setRoute', {
    token,
    route: { serviceName: 'Work', weights: { '2.0.0': 1 } },
  });
  expect(route.error).toBe(undefined);
  // The timeout applies to all processes of the mesh at once, and goes through Consul here too.
  await until('the route to hold', async () => {
    const { result } = await mesh.call('Katamari.getRoutes', { token });
    return (result as unknown[]).length === 1;
  });
}

async function version(mesh: MeshProcess): Promise<string | null> {
  return (await mesh.call('Work.say', { text: 'which' })).headers.get('katamari-version');
}

/** Checks that the changed settings apply to all calls. */
async function expectChanged(mesh: MeshProcess): Promise<void> {
  const token = mesh.adminToken;
  expect((await mesh.call('Katamari.getSettings', { token })).result).toEqual({ timeoutMs: 7_654 });
  expect((await mesh.status()).timeoutMs).toBe(7_654);
  expect((await mesh.call('Katamari.getRoutes', { token })).result).toMatchObject([
    { serviceName: 'Work', weights: { '2.0.0': 1 } },
  ]);
  for (let n = 0; n < 4; n++) expect(await version(mesh)).toBe('2.0.0');
}

describe('On the embedded Consul', () => {
  test('the mesh registers itself, its interfaces, and services with passing checks', async () => {
    const mesh = await up();
    await expectEntered(mesh.addresses.consul, mesh.consulToken);
    const headers = { 'x-consul-token': mesh.consulToken };
    const key = `${mesh.addresses.consul}/v1/kv/katamari/test/managers/one`;
    // Changes are written together after a short delay.
    await until('both pools to be entered', async () => {
      const { pools } = (await (await fetch(`${key}?raw`, { headers })).json()) as { pools: { id: string }[] };
      return (
        pools
          .map(({ id }) => id)
          .sort()
          .join() === 'Work@1.0.0,Work@2.0.0'
      );
    });
    const [{ Session = '' } = {}] = (await (await fetch(key, { headers })).json()) as { Session?: string }[];
    expect(Session).toMatch(/^[0-9a-f-]{36}$/);
  }, 90_000);

  for (const how of ['SIGTERM', 'SIGKILL'] as const) {
    test(`a changed timeout and route survive a mesh that ended by ${how}`, async () => {
      const first = await up();
      await change(first);
      if (how === 'SIGTERM') expect(await first.stop()).toBe(0);
      else await first.kill('process');
      const second = await up({ directory: first.directory });
      await expectChanged(second);
    }, 90_000);
  }
});

describe('On a Consul server', () => {
  test('the mesh registers itself, and its changed settings survive it', async () => {
    const consul = await realConsul();
    // Both processes have a data directory of their own, and so they need a secret from the configuration.
    const link = { secret: 'b7e23ec29af22b0b4e41da31e868d572' };
    const settings = { consul: { address: `http://${consul.address}` }, link };
    const first = await up({ settings });
    await expectEntered(consul.address);
    await change(first);
    expect(await first.stop()).toBe(0);
    const { keys, passing } = await entries(consul.address);
    expect(keys.filter((key) => KEYS.includes(key))).toEqual([]);
    expect(passing).toEqual([]);
    await expectChanged(await up({ settings }));
  }, 120_000);

  test('calls continue and chassis are replaced during an outage, and the entries return after it', async () => {
    const consul = await realConsul();
    const mesh = await up({ settings: { consul: { address: `http://${consul.address}` } } });
    await expectEntered(consul.address);
    await change(mesh);
    await consul.kill();
    await until('the mesh to notice', () => mesh.output().includes('"kind":"consul_lost"'));
    await expectStillServing(mesh);
    await consul.start();
    await expectEntered(consul.address);
    await until('the mesh to say so', () => mesh.output().includes('"kind":"consul_found"'));
    await expectChanged(mesh);
  }, 180_000);

  test('a mesh that starts during an outage serves, and registers itself when Consul comes up empty', async () => {
    const consul = await realConsul();
    await consul.kill();
    const mesh = await up({ settings: { consul: { address: `http://${consul.address}` } } });
    expect((await mesh.call('Work.say', { text: 'alone' })).result).toBe('alone');
    await consul.start({ isEmpty: true });
    await expectEntered(consul.address);
    await change(mesh);
    await expectChanged(mesh);
  }, 180_000);
});

/** Checks, without Consul, that changed settings still apply, no call fails, and a killed chassis is replaced. */
async function expectStillServing(mesh: MeshProcess): Promise<void> {
  for (let n = 0; n < 20; n++) {
    const { error, headers } = await mesh.call('Work.say', { text: String(n) });
    expect([error, headers.get('katamari-version')]).toEqual([undefined, '2.0.0']);
  }
  const pid = (await mesh.call('Work.pid')).result as number;
  process.kill(pid, 'SIGKILL');
  expect((await mesh.call('Work.pid')).result).not.toBe(pid);
  expect(isAlive(pid)).toBe(false);
}
