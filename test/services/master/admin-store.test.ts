import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONSUL_KINDS, startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { aDeployment } from './a-deployment.ts';
import { consulClient, type ConsulClient } from '../../../services/consul/mod.ts';
import { changedFields, DeploymentStore, describeChange } from '../../../services/master/mod.ts';
import { EventLog, keysOf, type Deployment } from '../../../services/mesh/mod.ts';

/** A real Consul starts slowly on a busy machine. */
const BUSY_MS = 60_000;

for (const kind of CONSUL_KINDS) {
  describe(`DeploymentStore on the ${kind} Consul`, () => {
    let consul: TestConsul;
    let client: ConsulClient;
    let meshes = 0;
    beforeAll(async () => {
      consul = await startConsul(kind);
      client = consulClient({ address: consul.address });
    }, BUSY_MS);
    afterAll(() => consul.close());

    /** A separate mesh for each test. */
    const made = (): { store: DeploymentStore; events: EventLog; keys: ReturnType<typeof keysOf>; mesh: string } => {
      const mesh = `m${++meshes}`;
      const events = new EventLog('tests');
      return { mesh, events, keys: keysOf(mesh), store: new DeploymentStore({ client, mesh, events }) };
    };
    const told = (events: EventLog): string[] =>
      events.after(0).map(({ kind: what, subject, text }) => `${what} ${subject}: ${text}`);

    test('put() returns its result, keeps versions side by side, and reports each change once', async () => {
      const { store, events } = made();
      const [one, two] = [aDeployment(), aDeployment({ version: '2.0.0-rc.1+build.7' })];
      expect(await store.put(one)).toBe('created');
      expect(await store.put(two)).toBe('created');
      expect(await store.put(aDeployment())).toBe('unchanged');
      const changed = aDeployment({ count: 5, env: { MODEL: 'large' } });
      expect(await store.put(changed)).toBe('changed');
      expect(await store.list()).toEqual([changed, two]);
      expect(told(events)).toEqual([
        'deployment_changed Search@1.0.0: new, 2 copies',
        'deployment_changed Search@2.0.0-rc.1+build.7: new, 2 copies',
        'deployment_changed Search@1.0.0: count 2 -> 5, env',
      ]);
    });

    test('keeps everything a deployment has, including the text of an interface', async () => {
      const { store, mesh } = made();
      const full: Deployment = aDeployment({
        idl: { main: 'a.thrift', files: { 'a.thrift': 'include "b.thrift" // ü', 'b.thrift': 'struct B {}' } },
        concurrency: 4,
        listen: 'tcp',
        more: { model: 'small' },
        recycle: { afterCalls: 10, afterAgeMs: 0, memoryBytesMax: 2 ** 40 },
      });
      await store.put(full);
      expect(await new DeploymentStore({ client, mesh, events: new EventLog('other') }).list()).toEqual([full]);
    });

    test('put() of two admins at the same moment: one is told to retry, and no change is overwritten unseen', async () => {
      const { store, mesh } = made();
      const other = new DeploymentStore({ client, mesh, events: new EventLog('other') });
      await store.put(aDeployment());
      for (let round = 1; round <= 10; round++) {
        const [a, b] = [aDeployment({ count: 10 + round }), aDeployment({ count: 50 + round })];
        const results = await Promise.allSettled([store.put(a), other.put(b)]);
        const lost = results.find((one) => one.status === 'rejected');
        // Either they ran one after the other, or one was refused.
        if (lost !== undefined)
          expect(String(lost.reason)).toContain('Search@1.0.0 was changed by another client at the same time');
        const [now] = await store.list();
        expect([a, b]).toContainEqual(now);
        if (results[0].status === 'rejected') expect(now).toEqual(b);
        if (results[1].status === 'rejected') expect(now).toEqual(a);
      }
    });

    test('scale() changes only the count, despite concurrent changes of others', async () => {
      const { store, mesh, events } = made();
      const other = new DeploymentStore({ client, mesh, events: new EventLog('other') });
      await store.put(aDeployment());
      expect((await store.scale('Search', '1.0.0', 7)).count).toBe(7);
      expect((await store.scale('Search', '1.0.0', 7)).count).toBe(7);
      expect(told(events).slice(1)).toEqual(['deployment_changed Search@1.0.0: count 2 -> 7']);
      await Promise.all([
        store.scale('Search', '1.0.0', 8),
        store.scale('Search', '1.0.0', 9),
        other.scale('Search', '1.0.0', 10),
      ]);
      const [now] = await store.list();
      expect([8, 9, 10]).toContain(now?.count);
      expect(now).toEqual(aDeployment({ count: now?.count ?? 0 }));
    });

    test('scale() refuses unknown deployments and invalid counts', async () => {
      const { store } = made();
      await expect(store.scale('Search', '1.0.0', 1)).rejects.toThrow(
        'Search@1.0.0 is not a deployment of the mesh; deployments are none',
      );
      await store.put(aDeployment({ version: '2.0.0' }));
      await expect(store.scale('Search', '1.0.0', 1)).rejects.toThrow('deployments are Search@2.0.0');
      for (const count of [-1, 1.5, 10_001, Number.NaN])
        await expect(store.scale('Search', '2.0.0', count)).rejects.toThrow('expected a whole number, 0 to 10000');
      for (const [service, version] of [
        ['../secret', '1.0.0'],
        ['Search', '../../leader'],
        ['Search', '..'],
        ['', ''],
      ] as const)
        await expect(store.scale(service, version, 1)).rejects.toThrow('expected Service@version');
    });

    test('remove() removes one version, and says when there was none', async () => {
      const { store, events } = made();
      await store.put(aDeployment());
      await store.put(aDeployment({ version: '2.0.0' }));
      expect(await store.remove('Search', '1.0.0')).toBe(true);
      expect(await store.remove('Search', '1.0.0')).toBe(false);
      expect((await store.list()).map(({ version }) => version)).toEqual(['2.0.0']);
      expect(told(events).at(-1)).toBe('deployment_changed Search@1.0.0: removed');
    });

    test('refuses a document that is too large for Consul, and states its size', async () => {
      const { store } = made();
      const files = { 'a.thrift': `// ${'x'.repeat(600 * 1024)}` };
      await expect(store.put(aDeployment({ idl: { main: 'a.thrift', files } }))).rejects.toThrow(
        /The deployment Search@1\.0\.0 is 601 KiB, limit is 511 KiB/,
      );
      expect(await store.list()).toEqual([]);
      // A document just below the limit is accepted.
      const fitting = { 'a.thrift': 'x'.repeat(510 * 1024) };
      expect(await store.put(aDeployment({ idl: { main: 'a.thrift', files: fitting } }))).toBe('created');
    });

    test('skips invalid documents, and overwrites one that is deployed again', async () => {
      const { store, keys } = made();
      await client.put(`${keys.deployments}Search/1.0.0`, '{"service": "Search"');
      await client.put(`${keys.deployments}Other/1.0.0`, JSON.stringify(aDeployment()));
      expect(await store.list()).toEqual([]);
      await expect(store.scale('Search', '1.0.0', 3)).rejects.toThrow(/is invalid \(.*\)\. Deploy it again/s);
      expect(await store.put(aDeployment())).toBe('changed');
      expect(await store.list()).toEqual([aDeployment()]);
    });

    test('drain() knows managers by their keys and applies once, and undrain() ends it', async () => {
      const { store, events, keys } = made();
      await expect(store.drain('a')).rejects.toThrow('No manager of this mesh is called "a"; there are none');
      for (const name of ['a', 'b']) await client.put(`${keys.managers}${name}`, '{}');
      await expect(store.drain('c')).rejects.toThrow('there are a, b');
      await store.drain('b');
      const since = (await client.get(`${keys.drained}b`))?.value;
      expect(Number.isNaN(Date.parse((JSON.parse(since ?? '{}') as { since: string }).since))).toBe(false);
      await store.drain('b');
      expect((await client.get(`${keys.drained}b`))?.value).toBe(since);
      expect(await store.drained()).toEqual(['b']);
      // Its process is gone in the meantime.
      await client.delete(`${keys.managers}b`);
      await store.undrain('b');
      await store.undrain('b');
      expect(await store.drained()).toEqual([]);
      expect(told(events)).toEqual([
        'drained b: runs no copies until it is undrained',
        'drained b: undrained: can run copies again',
      ]);
    });
  });
}

describe('describeChange()', () => {
  test('names the fields that differ, and shows no values except the count', () => {
    const after = aDeployment({ count: 3, env: { PASSWORD: 'secret' }, command: ['other'] });
    expect(describeChange(aDeployment(), after)).toBe('count 2 -> 3, command, env');
    expect(changedFields(aDeployment(), aDeployment())).toEqual([]);
  });
});
