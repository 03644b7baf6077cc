import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { work } from '../../kit/mesh/mesh.ts';
import { startMeshProcess, type MeshProcess } from '../../kit/mesh/mesh-process.ts';
import { until } from '../../kit/tools/wait.ts';
import { aDeployment } from './a-deployment.ts';
import { consulClient, type ConsulClient } from '../../../services/consul/mod.ts';
import { documentSigner, keysOf } from '../../../services/mesh/mod.ts';

/** Starting a mesh is slow while all tests run. */
const BUSY_MS = 60_000;

let mesh: MeshProcess;
let consul: ConsulClient;
beforeAll(async () => {
  mesh = await startMeshProcess({ deployments: [work()], settings: { timeout: '7s' } });
  const secret = readFileSync(path.join(mesh.directory, 'data', 'link-secret'), 'utf8').trim();
  const signer = documentSigner('test', () => [secret]);
  consul = consulClient({ address: mesh.addresses.consul, token: mesh.consulToken, signer });
}, BUSY_MS);
afterAll(() => mesh?.end());

const keys = keysOf('test');

const ask = async (method: string, params: Record<string, unknown> = {}): Promise<unknown> => {
  const { result, error } = await mesh.call(`Katamari.${method}`, { token: mesh.adminToken, ...params });
  if (error === undefined) return result;
  // A declared exception; anything else fails the test that did not expect it.
  if (error.data?.['exception'] === 'AdminRefused') return `refused: ${String(error.data['why'])}`;
  return `${error.code}: ${error.message}`;
};

/** As JSON clients write it: no null, and `serviceName` because `service` is reserved. */
const wanted = (change: Record<string, unknown> = {}): Record<string, unknown> => {
  const { service, idl: _, concurrency: __, isolation: ___, ...rest } = aDeployment();
  return { ...rest, serviceName: service, version: '9.0.0', ...change };
};

describe('The admin service', () => {
  test("writes a deployment to Consul in the leader's format, changes it, and removes it", async () => {
    const key = `${keys.deployments}Later/9.0.0`;
    // No copies: this test does not start any.
    const none = wanted({ serviceName: 'Later', count: 0 });
    expect(await ask('deploy', { deployment: none })).toBe('CREATED');
    expect(await ask('deploy', { deployment: none })).toBe('UNCHANGED');
    const idl = { main: 'a.thrift', files: { 'a.thrift': 'service Later {}' } };
    const plain = { idl, concurrency: 3, transport: 'header', protocol: 'compact', healthCheck: 'isWell' } as const;
    expect(await ask('deploy', { deployment: { ...none, ...plain } })).toBe('CHANGED');
    const written = JSON.parse((await consul.get(key))?.value ?? 'null') as unknown;
    const asItIs = aDeployment({ service: 'Later', version: '9.0.0', count: 0, ...plain });
    expect(written).toEqual(asItIs);
    expect(await ask('getDeployments')).toEqual([{ ...none, ...plain }]);
    expect(await ask('undeploy', { serviceName: 'Later', version: '9.0.0' })).toBe(null);
    expect(await consul.get(key)).toBe(undefined);
    expect(await ask('undeploy', { serviceName: 'Later', version: '9.0.0' })).toBe(
      'refused: Later@9.0.0 is not a deployment of the mesh; deployments are none',
    );
  });

  test('scales a deployment', async () => {
    await ask('deploy', { deployment: wanted({ serviceName: 'Sized', count: 0 }) });
    expect(await ask('scale', { serviceName: 'Sized', version: '9.0.0', count: 0 })).toMatchObject({ count: 0 });
    expect(await ask('scale', { serviceName: 'Sized', version: '9.0.0', count: -1 })).toContain(
      'refused: The count is -1, expected a whole number',
    );
    expect(await ask('scale', { serviceName: 'Sized', version: '8.0.0', count: 1 })).toContain(
      'refused: Sized@8.0.0 is not a deployment of the mesh; deployments are ',
    );
    await ask('undeploy', { serviceName: 'Sized', version: '9.0.0' });
  });

  test("refuses to scale or remove a deployment from a manager's file, and says where it is", async () => {
    const asked = { serviceName: 'Work', version: '1.0.0' };
    for (const answer of [await ask('scale', { ...asked, count: 5 }), await ask('undeploy', asked)]) {
      expect(answer).toContain(
        'refused: Work@1.0.0 is not a deployment of the mesh: manager one runs it from a configuration file. Change it there',
      );
      expect(answer).toContain('katamari deploy');
    }
    expect((await mesh.status()).pools[0]?.wanted).toBe(1);
  });

  test('refuses an invalid deployment and names the field', async () => {
    for (const [change, text] of [
      [{ version: 'latest' }, 'version'],
      [{ serviceName: '../x' }, 'service'],
      [{ command: [] }, 'command'],
      [{ listen: 'http' }, 'listen'],
      [{ transport: 'pigeon' }, 'transport'],
      [{ transport: 'header', protocol: 'json' }, 'protocol'],
      [{ healthCheck: 'is well' }, 'healthCheck'],
      [{ count: 10_001 }, 'count'],
      [{ queueMax: -1 }, 'queueMax'],
    ] as const) {
      const answer = await ask('deploy', { deployment: wanted(change) });
      expect(answer).toContain('refused: the deployment is invalid: ');
      expect(answer).toContain(`at ${text}`);
    }
    expect(await ask('getDeployments')).toEqual([]);
  });

  test('refuses every method with a wrong token', async () => {
    const token = 'x'.repeat(mesh.adminToken.length);
    for (const [method, params] of [
      ['deploy', { deployment: wanted() }],
      ['scale', { serviceName: 'A', version: '1', count: 1 }],
      ['undeploy', { serviceName: 'A', version: '1' }],
      ['getDeployments', {}],
      ['drain', { manager: 'one' }],
      ['undrain', { manager: 'one' }],
      ['getDrained', {}],
      ['status', {}],
    ] as const)
      expect([method, await ask(method, { ...params, token })]).toEqual([
        method,
        expect.stringContaining('the token is wrong'),
      ]);
    expect((await consul.list(keys.deployments)).entries).toEqual([]);
    expect((await consul.list(keys.drained)).entries).toEqual([]);
  });

  test('drains the known managers until they are undrained', async () => {
    await until('the manager to be known', async () => (await consul.list(keys.managers)).entries.length === 1);
    expect(await ask('drain', { manager: 'tow' })).toBe(
      'refused: No manager of this mesh is called "tow"; there are one',
    );
    // The record of a manager that has no process here, so nothing ends.
    await consul.put(`${keys.managers}two`, '{}');
    expect(await ask('drain', { manager: 'two' })).toBe(null);
    expect(await ask('getDrained')).toEqual(['two']);
    expect(await ask('undrain', { manager: 'two' })).toBe(null);
    expect(await ask('getDrained')).toEqual([]);
    await consul.delete(`${keys.managers}two`);
  });

  test('resets the timeout to that of the file', async () => {
    expect(await ask('setSettings', { settings: { timeoutMs: 1_234 } })).toEqual({ timeoutMs: 1_234 });
    expect(JSON.parse((await consul.get(keys.settings))?.value ?? 'null')).toEqual({ timeoutMs: 1_234 });
    expect(await ask('setSettings', { settings: {} })).toEqual({ timeoutMs: 7_000 });
    expect(await consul.get(keys.settings)).toBe(undefined);
    expect(await ask('getSettings')).toEqual({ timeoutMs: 7_000 });
    expect(await ask('setSettings', { settings: { timeoutMs: 0 } })).toBe(
      'refused: timeoutMs is 0, expected 1 to 3600000',
    );
  });

  /** The routes, without which changes have made them. */
  async function routesNow(): Promise<unknown> {
    const routes = (await ask('getRoutes')) as Record<string, unknown>[];
    return routes.map((one) => {
      const { index: _, by: _by, atMs: _atMs, splitIndex: _split, ...route } = one;
      return route;
    });
  }

  test('refuses empty routes and unknown services', async () => {
    const route = (serviceName: string, weights: object): Promise<unknown> =>
      ask('setRoute', { route: { serviceName, weights } });
    expect(await route('Work', { '1.0.0': 0 })).toContain(
      'refused: weights of the route of Work: found only weights of 0',
    );
    expect(await route('Work', { '1.0.0': -1 })).toContain('refused: the weight of version 1.0.0 is -1');
    expect(await route('../settings', { '1.0.0': 1 })).toContain('refused: "../settings" cannot be the name');
    expect(await route('Work', { '1.0.0': 3 })).toBe(null);
    expect(await routesNow()).toEqual([{ serviceName: 'Work', weights: { '1.0.0': 3 } }]);
    expect(await route('Work', {})).toBe(null);
    expect(await ask('getRoutes')).toEqual([]);
  });

  test('sets the rules of a route, keeps what a call leaves out, and says what is wrong', async () => {
    const rule = { name: 'testers', to: '1.0.0', callers: ['ada'], headers: { 'x-beta': 'yes' }, share: 2.5 };
    const route = (change: object): Promise<unknown> =>
      ask('setRoute', { route: { serviceName: 'Work', weights: { '1.0.0': 1 }, ...change } });
    const routes = routesNow;
    const whole = { rules: [rule], experiment: 'colours', fallback: 'fail', callersChoose: false };
    expect(await route(whole)).toBe(null);
    expect(await routes()).toEqual([{ serviceName: 'Work', weights: { '1.0.0': 1 }, ...whole }]);
    expect(await route({ weights: { '1.0.0': 7 }, fallback: 'others' })).toBe(null);
    const { fallback: _, ...rest } = whole;
    expect(await routes()).toEqual([{ serviceName: 'Work', weights: { '1.0.0': 7 }, ...rest }]);
    expect(await route({ rules: [{ name: 'x', to: '1.0.0' }] })).toBe(
      'refused: rules[0] of the route of Work: found no condition, expected one: for all calls, set a weight',
    );
    expect(await route({ rules: [rule, rule] })).toContain(
      'refused: rules[1].name of the route of Work: found "testers"',
    );
    expect(await route({ rules: [{ ...rule, name: 'a b' }] })).toContain(
      'refused: rules[0].name of the route of Work:',
    );
    expect(await route({ rules: [{ ...rule, share: -1 }] })).toContain('refused: rules[0].share of the route of Work:');
    expect(await route({ rules: [{ ...rule, to: '3.0.0' }] })).toContain(
      'refused: 3.0.0 is no version of the service Work',
    );
    expect(await route({ fallback: '4.0.0' })).toContain('refused: 4.0.0 is no version of the service Work');
    expect(await routes()).toEqual([{ serviceName: 'Work', weights: { '1.0.0': 7 }, ...rest }]);
    expect(await route({ weights: {} })).toBe(null);
    expect(await routes()).toEqual([]);
  });

  test('sets, keeps and removes the mirror of a route, and says what is wrong', async () => {
    const route = (change: object): Promise<unknown> =>
      ask('setRoute', { route: { serviceName: 'Work', weights: { '1.0.0': 1 }, ...change } });
    const mirror = { to: '1.0.0', share: 2.5, methods: ['say'], force: true, ignore: ['a[].b'], tolerance: 0.5 };
    expect(await route({ mirror })).toBe(null);
    expect(await route({})).toBe(null);
    expect(await routesNow()).toEqual([{ serviceName: 'Work', weights: { '1.0.0': 1 }, mirror }]);
    expect(await route({ mirror: { to: '7.0.0' } })).toContain('refused: 7.0.0 is no version of the service Work');
    expect(await route({ mirror: { to: '1.0.0', force: true } })).toBe(
      'refused: mirror.force of the route of Work: found force without methods, expected the methods to force',
    );
    expect(await route({ mirror: { to: '1.0.0', share: 101 } })).toContain(
      'refused: mirror.share of the route of Work:',
    );
    expect(await ask('getMirrors', { serviceName: '' })).toEqual({
      counts: [],
      paths: [],
      differences: [],
      missing: [],
    });
    expect(await route({ mirror: { to: '' } })).toBe(null);
    expect(await routesNow()).toEqual([{ serviceName: 'Work', weights: { '1.0.0': 1 } }]);
    expect(await route({ weights: {} })).toBe(null);
    expect(await routesNow()).toEqual([]);
  });

  test('undoes changes of a route, by number too, and says which ones it can', async () => {
    const set = (weights: object, more: object = {}): Promise<unknown> =>
      ask('setRoute', { route: { serviceName: 'Undone', weights, ...more }, force: true });
    const undo = (index = 0, more: object = {}): Promise<unknown> =>
      ask('undoRoute', { serviceName: 'Undone', index, ...more });
    expect(await undo()).toBe('refused: the route of Undone was never changed');
    expect(await set({ '1.0.0': 1 })).toBe(null);
    expect(await set({ '1.0.0': 2 }, { fallback: 'fail' })).toBe(null);
    expect(await set({ '1.0.0': 3 }, { callersChoose: false })).toBe(null);
    expect(await set({ '1.0.0': 4 }, { index: 2 })).toContain('refused: The route of Undone is not that of change 2');
    expect(await undo()).toBe(null);
    const second = { serviceName: 'Undone', weights: { '1.0.0': 2 }, fallback: 'fail' };
    expect(await routesNow()).toEqual([second]);
    // The undo is a change too.
    expect(await undo()).toBe(null);
    expect(await routesNow()).toEqual([{ ...second, weights: { '1.0.0': 3 }, callersChoose: false }]);
    expect(await undo(2)).toBe(null);
    expect(await routesNow()).toEqual([{ serviceName: 'Undone', weights: { '1.0.0': 1 } }]);
    expect(await undo(1)).toBe(null);
    expect(await routesNow()).toEqual([]);
    expect(await undo()).toBe(null);
    expect(await routesNow()).toEqual([{ serviceName: 'Undone', weights: { '1.0.0': 1 } }]);
    expect(await undo(99)).toBe(
      'refused: change 99 of the route of Undone cannot be undone: the history has changes 1 to 8',
    );
    const changes = (await ask('getRouteHistory', { serviceName: 'Undone' })) as { index: number; by: string }[];
    expect(changes.map(({ index }) => index)).toEqual([8, 7, 6, 5, 4, 3, 2, 1]);
    expect(changes[1]).toEqual({ index: 7, by: 'admin', atMs: expect.any(Number) as number });
    expect(await set({})).toBe(null);
  });

  test('refuses routes with versions that do not exist, unless they are forced', async () => {
    const route = (serviceName: string, weights: object, force?: boolean): Promise<unknown> =>
      ask('setRoute', { route: { serviceName, weights }, ...(force === undefined ? {} : { force }) });
    const routes = async (): Promise<unknown> => JSON.stringify(await routesNow());
    expect(await route('Work', { '1.0.0': 9, '2.0.0': 1 })).toBe(
      'refused: 2.0.0 is no version of the service Work, which has 1.0.0; deploy it first, ' +
        'or force the route (--force) to write it before',
    );
    expect(await route('Work', { '1.0.0': 9, '1.0': 0, '3.0.0': 1 }, false)).toContain(
      'refused: 1.0, 3.0.0 are no versions of the service Work',
    );
    expect(await routes()).toBe('[]');
    expect(await route('Work', { '1.0.0': 9, '2.0.0': 1 }, true)).toBe(null);
    expect(await routes()).toBe('[{"serviceName":"Work","weights":{"1.0.0":9,"2.0.0":1}}]');
    expect(await route('Work', {})).toBe(null);
    // A deployment of the mesh counts before it has a copy.
    const later = { serviceName: 'Work', version: '2.0.0' };
    expect(await ask('deploy', { deployment: wanted({ ...later, count: 0 }) })).toBe('CREATED');
    expect(await route('Work', { '1.0.0': 9, '2.0.0': 1 })).toBe(null);
    expect(await ask('undeploy', later)).toBe(null);
    expect(await route('Work', {})).toBe(null);
    // Nothing of this name is there yet.
    expect(await route('Later', { '7.0.0': 1 })).toBe(null);
    expect(await route('Later', {})).toBe(null);
  });

  test("restarts one resource, also with its manager's name", async () => {
    const pid = async (): Promise<number> => (await mesh.status()).pools[0]?.resources[0]?.pid ?? 0;
    const subject = { serviceName: '', version: '' };
    expect(await ask('restart', { ...subject, resource: 'Work@1.0.0/7' })).toContain(
      'refused: No resource is called "Work@1.0.0/7"; names look like Service@1.0.0/1',
    );
    expect(await ask('restart', { ...subject, resource: 'two:Work@1.0.0/1' })).toBe(
      'refused: No resource is called "two:Work@1.0.0/1"; managers with a Work@1.0.0/1 are one',
    );
    for (const resource of ['Work@1.0.0/1', 'one:Work@1.0.0/1']) {
      const before = await pid();
      expect(await ask('restart', { ...subject, resource })).toBe(1);
      await until('another process', async () => (await pid()) !== before);
    }
  });
});
