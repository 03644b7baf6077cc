// A shutdown with a delay: /readyz and Consul say so at once, the ports serve on, then the process drains.

import { afterEach, expect, test } from 'vitest';
import { startTestMesh, work, type TestMesh } from '../../kit/mesh/mesh.ts';
import { until } from '../../kit/tools/wait.ts';

let mesh: TestMesh | undefined;
afterEach(async () => {
  await mesh?.end();
  mesh = undefined;
});

test('RunningMesh.drain(delayMs) fails /readyz and leaves Consul at once, and the ports serve on until the delay', async () => {
  mesh = await startTestMesh([work()]);
  const { addresses } = mesh.mesh;
  await mesh.mesh.whenReady;
  const health = async (path: string): Promise<number> => (await fetch(`${addresses.stats}${path}`)).status;
  const registered = async (): Promise<string[]> => Object.keys((await mesh?.readConsul('catalog/services')) as object);
  await until('the services in Consul', async () => (await registered()).includes('katamari-thrift'));
  expect([await health('/readyz'), await health('/status/Work/1')]).toEqual([200, 200]);
  let hasEnded = false;
  // Ended by close(), below.
  const drained = mesh.mesh.drain(600_000).then(() => (hasEnded = true));
  expect([await health('/readyz'), await health('/status/Work/1'), await health('/livez')]).toEqual([503, 503, 200]);
  await until('the faceplates to leave Consul', async () => {
    const services = await registered();
    return !services.some((name) => ['katamari-thrift', 'katamari-json-rpc'].includes(name));
  });
  // Prometheus and other processes still find it.
  expect(await registered()).toEqual(expect.arrayContaining(['katamari-stats', 'katamari-manager']));
  // New connections and calls are served.
  expect((await mesh.call('Work.say', { text: 'served' }, { connection: 'close' })).result).toBe('served');
  expect(hasEnded).toBe(false);
  await mesh.mesh.close();
  await drained;
});

test('RunningMesh.drain(delayMs) drains after the delay, and finishes the calls in progress', async () => {
  mesh = await startTestMesh([work()]);
  await mesh.mesh.whenReady;
  const drained = mesh.mesh.drain(300);
  const running = mesh.call('Work.take', { ms: 1_000 });
  await until('the call', () => mesh?.ledger().length === 1);
  await drained;
  expect((await running).result).toBeGreaterThan(0);
  await expect(mesh.call('Work.say', { text: 'too late' })).rejects.toThrow();
});
