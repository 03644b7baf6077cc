// Calls to a faceplate in a process of its own, while no copy of their service is up: a deployment that no manager
// runs yet, and the only manager, which is stopped, killed and started again. No call learns that the service does
// not exist, and every call is answered or may be sent again.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { startCluster, tally, type Cluster } from '../../kit/cluster/cluster.ts';
import { reportFailures } from '../../kit/cluster/failure-report.ts';
import { jsonRpc, type JsonRpcAnswer } from '../../kit/mesh/mesh.ts';
import { until } from '../../kit/tools/wait.ts';

let cluster: Cluster;
reportFailures(() => cluster);
let calls = 0;

beforeAll(async () => {
  cluster = await startCluster({
    consuls: 1,
    masters: 1,
    managers: 1,
    faceplates: 1,
    settings: { timeout: '30s' },
    deployments: [tally()],
  });
}, 120_000);
afterAll(() => cluster?.end(), 60_000);

test('A call to a service that was deployed a moment ago waits for its first copy', async () => {
  expect((await call('Tally@2.0.0')).error?.data).toMatchObject({ code: 'no_pool' });
  await cluster.deploy(tally({ version: '2.0.0' }));
  await until('the deployment to be known', async () => (await call('Tally@2.0.0', 100)).status !== 404);
  expect(await call('Tally@2.0.0')).toMatchObject({ status: 200 });
});

for (const how of ['stopped', 'killed'] as const) {
  test(`Calls wait while the only manager is ${how} and started again`, async () => {
    const [manager] = cluster.managers;
    let isOver = false;
    const answers: JsonRpcAnswer[] = [];
    const callers = Array.from({ length: 8 }, async () => {
      while (!isOver) answers.push(await call('Tally'));
    });
    const before = answers.length;
    await until('calls', () => answers.length > before + 50);
    if (how === 'stopped') await manager?.stop();
    else await manager?.kill();
    // Calls arrive while there is no manager.
    const late = call('Tally');
    manager?.start();
    await manager?.untilReady();
    expect(await late).toMatchObject({ status: 200 });
    const after = answers.length;
    await until('calls again', () => answers.length > after + 50);
    isOver = true;
    await Promise.all(callers);
    const failed = answers.filter(({ error }) => error !== undefined).map(({ error }) => error);
    console.log(`${answers.length} calls while the only manager was ${how}: ${failed.length} failed`);
    // A call that a killed manager worked on may have run. No other fails.
    const isExpected = (code: unknown): boolean => how === 'killed' && code === 'resource_failed';
    expect(failed.filter((error) => !isExpected(error?.data?.['code']))).toEqual([]);
  }, 120_000);
}

function call(service: string, timeoutMs = 25_000): Promise<JsonRpcAnswer> {
  const [faceplate] = cluster.faceplates;
  const params = { id: `call-${calls++}`, ms: 1 };
  const headers = { 'katamari-timeout-ms': String(timeoutMs) };
  return jsonRpc(`${faceplate?.addresses.jsonRpc}/rpc`, `${service}.once`, params, headers);
}
