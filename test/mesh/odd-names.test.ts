// Names that users choose are never looked up among the properties that every object has: services, methods, arguments,
// exceptions and details may be named `constructor` or `__proto__`.
import { afterEach, expect, test } from 'vitest';
import { connect } from '../../client/mod.ts';
import { fixture, startTestMesh, type TestMesh } from '../kit/mesh/mesh.ts';

let mesh: TestMesh | undefined;
afterEach(async () => {
  await mesh?.end();
  mesh = undefined;
});

test.each(['constructor', '__proto__', 'toString'])(
  'a service named %s is deployed, routed and called',
  async (name) => {
    mesh = await startTestMesh(
      [{ service: name, version: '1.0.0', command: fixture('odd-names.ts'), count: 1, env: { ODD_SERVICE: name } }],
      { name: 'constructor', routes: { valueOf: { weights: { '1.0.0': 1 } } } },
    );
    await mesh.mesh.whenReady;
    const { adminToken: token } = mesh.mesh;
    const call = async (word: string, headers = {}): Promise<unknown> =>
      (await (mesh as TestMesh).call(`${name}.toString`, [word], headers)).result;
    expect(await call('a')).toBe(`${name} a`);
    const weights = { '1.0.0': 7 };
    expect(await mesh.call('Katamari.setRoute', { token, route: { serviceName: name, weights } })).toMatchObject({
      status: 200,
    });
    expect(
      mesh.events.filter(({ kind }) => kind === 'routes_changed').map(({ subject, text }) => [subject, text]),
    ).toEqual([[name, '{"1.0.0":7}']]);
    expect(await call('b', { 'katamari-details': 'constructor=here' })).toBe(`${name} b`);
    expect(await call('c', { 'katamari-details': 'hasOwnProperty=there' })).toBe(`${name} c`);

    const client = connect({ addresses: mesh.mesh.addresses.thrift });
    try {
      const odd = client.service<Record<string, (args: object) => Promise<unknown>>>(name);
      expect(await odd['toString']?.({ constructor: 'd' })).toBe(`${name} d`);
      await expect(odd['toString']?.({ constructor: 'throw' })).rejects.toMatchObject({
        exception: 'Odd',
        fields: { valueOf: 'thrown' },
      });
    } finally {
      await client.drain();
    }
  },
);
