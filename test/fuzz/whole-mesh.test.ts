// The same hostile input at the ports of a whole mesh with real chassis. No chassis is harmed, and the counters add
// up. KATAMARI_FUZZ_MESH_INPUTS sets the number of inputs (default 10,000), KATAMARI_FUZZ_SEED repeats a run.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestMesh, work, type TestMesh } from '../kit/mesh/mesh.ts';
import { until } from '../kit/tools/wait.ts';
import { encodeParams, parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import type { Method } from '../../core/thrift/mod.ts';
import { fuzz } from './fuzzer.ts';
import type { FuzzTarget, GoodCall } from './target.ts';

const INPUTS = Number(process.env['KATAMARI_FUZZ_MESH_INPUTS'] ?? 10_000);
const SEED = Number(process.env['KATAMARI_FUZZ_SEED'] ?? Date.now() % 2 ** 31);
const GOOD: readonly (readonly [string, Record<string, unknown>])[] = [
  ['say', { text: 'hello' }],
  ['big', { value: 41 }],
  ['sorry', { why: 'because' }],
  ['pid', {}],
  ['note', { line: 'x' }],
];

let mesh: TestMesh | undefined;
beforeAll(async () => {
  mesh = await startTestMesh([work({ count: 2 })], { timeout: '2s', limits: { frame: '4MiB' } });
  await mesh.mesh.whenReady;
});
afterAll(() => mesh?.end());

function goodCalls(): GoodCall[] {
  const idl = parseIdl(readIdlFile(new URL('../fixtures/chassis/work.thrift', import.meta.url)));
  const methods = idl.services.get('Work')?.methods;
  return GOOD.map(([method, params]) => ({
    service: 'Work',
    method,
    params,
    args: encodeParams(methods?.get(method) as Method, params),
  }));
}

function targetOf(own: TestMesh): FuzzTarget {
  const { addresses } = own.mesh;
  return {
    thriftPort: Number(addresses.thrift.split(':').at(-1)),
    jsonRpcPort: Number(new URL(addresses.jsonRpc).port),
    linkAddress: `tcp:${addresses.link}`,
    goodCalls: goodCalls(),
    memory: () => Promise.resolve(undefined),
    async check() {
      await until('every call to settle', () => own.mesh.status().calls.inFlight === 0);
      const said = await own.call('Work.say', { text: 'still here' });
      if (said.result !== 'still here') throw new Error(`A good call fails: ${JSON.stringify(said.error)}`);
    },
  };
}

test(`${INPUTS} hostile inputs (KATAMARI_FUZZ_SEED=${SEED}) harm no chassis of a whole mesh`, async () => {
  const own = mesh as TestMesh;
  const pids = [...own.mesh.pids()].sort();
  const target = targetOf(own);
  const report = await fuzz(target, { seed: SEED, inputs: INPUTS });
  await target.check();
  const { accepted, replied, failed, refused, timed_out, cancelled, inFlight } = own.mesh.status().calls;
  process.stdout.write(
    `fuzz of a whole mesh: ${JSON.stringify({ seed: SEED, inputs: report.inputs, accepted, replied, refused })}\n`,
  );
  expect(accepted).toBe(replied + failed + refused + timed_out + cancelled + inFlight);
  expect(replied).toBeGreaterThan(INPUTS / 50);
  expect(refused).toBeGreaterThan(INPUTS / 50);
  // A chassis that crashed would have been replaced.
  expect([...own.mesh.pids()].sort()).toEqual(pids);
  expect(own.pool('Work@1.0.0').restartsByReason).toEqual({});
  expect(failed).toBe(0);
}, 600_000);
