// A process that drains does not wait for calls of operators that may take long: long polls and restarts.
import { afterEach, expect, test } from 'vitest';
import { EventLog } from '../../../services/mesh/mod.ts';
import { Components } from '../../../services/process/components.ts';
import { startTestMesh, type TestMesh } from '../../kit/mesh/mesh.ts';
import { until } from '../../kit/tools/wait.ts';

let mesh: TestMesh | undefined;
afterEach(async () => {
  await mesh?.end();
  mesh = undefined;
});

test('a drain ends long polls for events', async () => {
  mesh = await startTestMesh([], { timeout: '60s' });
  const { adminToken: token } = mesh.mesh;
  const polled = mesh.call('Katamari.events', { token, afterSeq: 1_000_000, waitMs: 30_000 });
  await until('the poll', () => mesh?.mesh.status().calls.inFlight === 1);
  await mesh.mesh.drain();
  expect(await polled).toMatchObject({ result: [] });
});

test('EventLog.endWaits() ends every wait, and later waits are short', async () => {
  const events = new EventLog('one');
  const waits = [events.next(0, 30_000), events.next(0, 30_000)];
  events.endWaits();
  expect(await Promise.all(waits)).toEqual([[], []]);
  expect(await events.next(0, 30_000)).toEqual([]);
});

test('Components.untilDraining() settles like its work before the drain, and rejects once it begins', async () => {
  const components = new Components();
  expect(await components.untilDraining(Promise.resolve(1), 'it')).toBe(1);
  await expect(components.untilDraining(Promise.reject(new Error('no')), 'it')).rejects.toThrow('no');
  const never = components.untilDraining(new Promise(() => undefined), 'a restart');
  components.beginDraining();
  const refusal = { code: 'draining', message: 'This process is shutting down and does not wait for a restart' };
  await expect(never).rejects.toMatchObject(refusal);
  await expect(components.untilDraining(Promise.resolve(1), 'a restart')).rejects.toMatchObject(refusal);
});
