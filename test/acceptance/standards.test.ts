import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { jsonRpcCaller, thriftCaller } from '../kit/mesh/callers.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { until } from '../kit/tools/wait.ts';
import { openRpcValidator } from '../kit/wire/open-rpc.ts';
import { promtool } from '../kit/tools/promtool.ts';
import { parseIdl, readIdlFile } from '../../core/idl/mod.ts';

const examples = new URL('../../examples/', import.meta.url);

let mesh: MeshProcess;
beforeAll(async () => {
  mesh = await startMeshProcess({ config: fileURLToPath(new URL('katamari.yaml', examples)) });
});
afterAll(() => mesh.end());

/** A few calls of every kind over both faceplates. */
async function makeTraffic(): Promise<void> {
  const files = ['calculator', 'troublemaker', 'reformulate'].map((name) => new URL(`${name}.thrift`, examples));
  const interfaces = new Map(files.flatMap((file) => [...parseIdl(readIdlFile(file)).services]));
  const port = Number(mesh.addresses.thrift.split(':').at(-1));
  const callers = [
    jsonRpcCaller(mesh.addresses.jsonRpc),
    thriftCaller(port, true, interfaces),
    thriftCaller(port, false, interfaces),
  ];
  for (const caller of callers) {
    const call = (service: string, method: string, params = {}): Promise<unknown> =>
      caller.call(service, method, params, 15_000);
    for (let n = 0; n < 20; n++) await call('Calculator', 'add', { num1: n, num2: 1 });
    await call('Reformulate', 'analyze', { query: 'runing shoes' });
    await call('Calculator', 'calculate', { logid: 1, w: { num1: 1, num2: 0, op: 'DIVIDE' } });
    await call('Troublemaker', 'throwUndeclared', { message: 'with "quotes" and \\ and\nlines' });
    await call('Troublemaker', 'crash');
    caller.close();
  }
  await mesh.call('No"such\\Service.method');
  await mesh.call('Calculator.add', { num1: 'two' });
}

describe('A mesh with traffic on it', () => {
  test('has metrics that promtool accepts without a warning, and that match the traffic', async () => {
    await makeTraffic();
    // The second call over Thrift is refused, because the first has crashed a copy. The caller gets its error when the
    // link closes, shortly before the exit of the process is noticed and counted.
    await until('the crashes to be counted', async () => {
      const pools = (await mesh.status()).pools;
      return pools.find(({ service }) => service === 'Troublemaker')?.restartsByReason.crashed === 2;
    });
    const metrics = await (await fetch(`${mesh.addresses.stats}/metrics`)).text();
    expect(await promtool(metrics)).toEqual({ code: 0, said: '' });
    for (const faceplate of ['thrift', 'json-rpc']) {
      const line = metrics
        .split('\n')
        .find(
          (one) =>
            one.startsWith('katamari_calls_accepted_total{') &&
            one.includes(`faceplate="${faceplate}"`) &&
            one.includes('method="add"'),
        );
      expect(Number(line?.split(' ').at(-1))).toBe(faceplate === 'thrift' ? 40 : 21);
    }
    expect(metrics).toMatch(/katamari_\w+\{[^}]*reason="crashed"[^}]*\} 2$/m);
  });

  test('publishes a document at rpc.discover and /openrpc.json that the OpenRPC meta-schema accepts', async () => {
    const validate = openRpcValidator();
    const { result } = await mesh.call('rpc.discover');
    expect([validate(result), validate.errors]).toEqual([true, null]);
    const served: unknown = await (await fetch(`${mesh.addresses.jsonRpc}/openrpc.json`)).json();
    expect(served).toEqual(result);
    const names = (result as { methods: { name: string }[] }).methods.map(({ name }) => name);
    for (const name of ['Calculator.add', 'Calculator.getStruct', 'Reformulate@1.0.0.analyze', 'Troublemaker.hang'])
      expect(names).toContain(name);
  });

  test('publishes the IDL of each service, equal to the file of its chassis', async () => {
    const text = await (await fetch(`${mesh.addresses.jsonRpc}/idl/Calculator.thrift`)).text();
    const served = parseIdl({ main: 'served.thrift', files: { 'served.thrift': text } }).services.get('Calculator');
    const own = parseIdl(readIdlFile(new URL('calculator.thrift', examples))).services.get('Calculator');
    expect([...(served?.methods.keys() ?? [])].sort()).toEqual([...(own?.methods.keys() ?? [])].sort());
    expect(own?.methods.size).toBe(5);
  });
});
