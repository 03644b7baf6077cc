// A route that finds the sticky key in an argument: all calls about one user get one version, from every kind of
// caller, also when the versions have the field at different places.

import { tmpdir } from 'node:os';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../client/mod.ts';
import { parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import { thriftCaller } from '../kit/mesh/callers.ts';
import { fixture, startTestMesh, type DeploymentText, type TestMesh } from '../kit/mesh/mesh.ts';
import { runInside } from '../services/cli/run-inside.ts';
import { fileURLToPath } from 'node:url';

const PATIENCE_MS = 60_000;
const IDS = Array.from({ length: 24 }, (_, n) => 2 ** 35 + 11 * n);
const HALVES = { '1.0.0': 50, '2.0.0': 50 };

let mesh: TestMesh;
let client: ReturnType<typeof connect>;
beforeAll(async () => {
  const users = (version: string): DeploymentText => ({
    service: 'Users',
    version,
    command: fixture('users.ts'),
    count: 1,
    concurrency: 8,
    env: { USERS_VERSION: version },
  });
  const routes = { Users: { weights: HALVES, sticky: 'args.user.id' } };
  mesh = await startTestMesh([users('1.0.0'), users('2.0.0')], { routes });
  await mesh.mesh.whenReady;
  client = connect({ addresses: mesh.mesh.addresses.thrift });
}, PATIENCE_MS);
afterAll(async () => {
  client?.close();
  await mesh?.end();
});

async function route(...words: readonly string[]): Promise<string> {
  const { addresses, adminToken } = mesh.mesh;
  const args = ['route', 'Users', ...words, '--mesh', addresses.jsonRpc, '--token', adminToken];
  const { stdout, stderr } = await runInside(args, { cwd: tmpdir() });
  return stdout + stderr;
}

async function setWeights(weights: Readonly<Record<string, number>>): Promise<void> {
  const { adminToken: token } = mesh.mesh;
  const { error } = await mesh.call('Katamari.setRoute', { token, route: { serviceName: 'Users', weights } });
  expect(error).toBe(undefined);
}

/** What a caller in each protocol gets for a user. */
const CALLERS: Readonly<Record<string, (id: number) => Promise<unknown>>> = {
  'JSON-RPC': overJsonRpc,
  'a chassis': async (id) => (await mesh.call('Users.relayed', { user: { id } })).result,
  'the TypeScript client': (id) => client.service('Users')['version']?.({ user: { id } }) as Promise<unknown>,
  'Thrift, by the interface of 1.0.0': (id) => overThrift('users.thrift', id),
  'Thrift, by the interface of 2.0.0': (id) => overThrift('users_2.thrift', id),
};

async function overJsonRpc(id: number): Promise<unknown> {
  return (await mesh.call('Users.version', { user: { name: 'n', id } })).result;
}

async function overThrift(file: string, id: number): Promise<unknown> {
  const idl = parseIdl(readIdlFile(fileURLToPath(new URL(`../fixtures/chassis/${file}`, import.meta.url))));
  const interfaces = new Map([['Users', idl.services.get('Users') as Interface]]);
  const port = Number(mesh.mesh.addresses.thrift.split(':').at(-1));
  const caller = thriftCaller(port, true, interfaces);
  try {
    const end = await caller.call('Users', 'version', { user: { id } }, PATIENCE_MS);
    return end.ok ? end.value : end;
  } finally {
    caller.close();
  }
}

describe('A route with a sticky argument', { timeout: PATIENCE_MS }, () => {
  test('gives the calls about a user one version, which --explain --key names, from every kind of caller', async () => {
    const versions = new Set<string>();
    for (const id of IDS) {
      const [, version = ''] =
        /^([\d.]+): the weights choose it for this key/.exec(
          await route('--explain', '--key', String(id), '--method', 'version'),
        ) ?? [];
      versions.add(version);
      for (const [name, call] of Object.entries(CALLERS))
        expect([id, name, await call(id)]).toEqual([id, name, version]);
    }
    expect([...versions].sort()).toEqual(['1.0.0', '2.0.0']);
  });

  test('moves no user to a version that loses weight', async () => {
    const all = (): Promise<unknown[]> => Promise.all(IDS.map(overJsonRpc));
    const before = await all();
    await setWeights({ '1.0.0': 20, '2.0.0': 80 });
    try {
      const after = await all();
      expect(IDS.filter((_, n) => before[n] === '2.0.0' && after[n] === '1.0.0')).toEqual([]);
      expect(IDS.filter((_, n) => before[n] === '1.0.0' && after[n] === '2.0.0')).not.toEqual([]);
    } finally {
      await setWeights(HALVES);
    }
    expect(await all()).toEqual(before);
  });

  test('leaves calls without a user to the weights, and says so', async () => {
    const got = new Set<unknown>();
    for (let n = 0; n < 4; n++) got.add((await mesh.call('Users.unnamed', { users: [] })).result);
    expect([...got].sort()).toEqual(['1.0.0', '2.0.0']);
    expect(await route('--explain', '--method', 'unnamed')).toBe(
      'This call: it has no key (unnamed has no argument "user", did you mean "users"?), so versions take turns: ' +
        '50 % to 1.0.0, 50 % to 2.0.0.\n',
    );
  });

  test('is set and ended by the command, which refuses a path that no method has', async () => {
    expect(await route()).toContain('The sticky key of a call that brings none is args.user.id.\n');
    expect(await route('--sticky', '')).not.toContain('sticky');
    expect(await route('--yaml')).toBe('routes:\n  Users:\n    weights:\n      1.0.0: 50\n      2.0.0: 50\n');
    expect(await route('--sticky', 'args.user.idd')).toContain(
      'sticky of the route of Users: none of the methods version, relayed, unnamed has args.user.idd: ' +
        'args.user of version has no field "idd", did you mean "id"; correct it, or force the route (--force)',
    );
    expect(await route('--sticky', 'args.users')).toContain('args.users of unnamed is list<User>, expected string,');
    expect(await route('--sticky', 'user.id')).toContain(
      'sticky of the route of Users: expected the path of an argument such as args.user.id',
    );
    expect(await route()).not.toContain('sticky key');
    expect(await route('--sticky', 'args.customer', '--force')).toContain('is args.customer.\n');
    expect(await route('1.0.0=1', '2.0.0=1', '--sticky', 'args.user.name')).toContain('is args.user.name.\n');
    expect(await route('1.0.0=50', '2.0.0=50')).toContain('is args.user.name.\n');
    expect(await route('--sticky', 'args.user.id', '--reset')).toContain('Found both --sticky and --reset');
    expect(await route('--reset')).toContain('is args.user.id.\n');
  });
});
