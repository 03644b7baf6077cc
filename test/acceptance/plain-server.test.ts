import path from 'node:path';
import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fileURLToPath } from 'node:url';
import { startTestMesh, type TestMesh } from '../kit/mesh/mesh.ts';
import { generate, python, type Generated } from '../kit/wire/thrift-client.ts';
import { until } from '../kit/tools/wait.ts';

const IDL = fileURLToPath(new URL('../fixtures/idl/plain.thrift', import.meta.url));

/** A server as in the library's tutorial, without any mesh code. */
const PYTHON_SERVER = `
import os, sys, time
from thrift.transport import TSocket, TTransport
from thrift.protocol import TBinaryProtocol
from thrift.server import TServer
from plain import Plain
from plain.ttypes import Refused

class Handler:
    def add(self, num1, num2):
        return num1 + num2
    def pid(self):
        return os.getpid()
    def refuse(self, why):
        raise Refused(why)
    def fail(self):
        raise ValueError('not declared')
    def nap(self, seconds):
        time.sleep(seconds)
        return os.getpid()

TServer.TSimpleServer(
    Plain.Processor(Handler()),
    TSocket.TServerSocket('127.0.0.1', int(sys.argv[1])),
    TTransport.TFramedTransportFactory(),
    TBinaryProtocol.TBinaryProtocolFactory(),
).serve()
`;

let generated: Generated;
let mesh: TestMesh;
beforeAll(async () => {
  generated = await generate(IDL);
  const server = path.join(generated.directory, 'server.py');
  writeFileSync(server, PYTHON_SERVER);
  mesh = await startTestMesh(
    [
      {
        service: 'Plain',
        version: '1.0.0',
        kit: 'none',
        idl: IDL,
        listen: 'tcp',
        command: ['/usr/bin/python3', server, '{port}'],
        env: { PYTHONPATH: path.join(generated.directory, 'gen-py') },
        count: 2,
        hangGrace: '200ms',
      },
    ],
    { timeout: '10s' },
  );
  await mesh.mesh.whenReady;
});
afterAll(async () => {
  await mesh.end();
  generated.remove();
});

describe('A plain Thrift server, without the SDK', () => {
  test('is an ordinary pool: over JSON-RPC, over Thrift, in the status and in rpc.discover', async () => {
    expect((await mesh.call('Plain.add', { num1: 2, num2: 40 })).result).toBe(42);
    expect(mesh.pool('Plain@1.0.0').alive).toBe(2);
    const { result } = await mesh.call('rpc.discover');
    expect((result as { methods: { name: string }[] }).methods.map(({ name }) => name)).toContain('Plain.add');
    const client = `
import sys
from thrift.transport import TSocket, TTransport
from thrift.protocol import TBinaryProtocol
from plain import Plain
from plain.ttypes import Refused
transport = TTransport.TFramedTransport(TSocket.TSocket('127.0.0.1', int(sys.argv[1])))
client = Plain.Client(TBinaryProtocol.TBinaryProtocol(transport))
transport.open()
print(client.add(2, 40))
try:
    client.refuse('because')
except Refused as refused:
    print(refused.why)
`;
    const port = mesh.mesh.addresses.thrift.split(':').at(-1) ?? '';
    expect(await python(generated, client, port)).toBe('42\nbecause\n');
  });

  test('returns its declared exceptions and its errors to callers, and survives', async () => {
    expect((await mesh.call('Plain.refuse', { why: 'because' })).error).toMatchObject({
      code: -32_050,
      data: { exception: 'Refused', why: 'because' },
    });
    const before = mesh.mesh.pids().length;
    const failed = await mesh.call('Plain.fail');
    expect(failed.error?.message).toContain('Internal error');
    expect((await mesh.call('Plain.add', { num1: 1, num2: 1 })).result).toBe(2);
    expect(mesh.mesh.pids().length).toBe(before);
  });

  test('is restarted when it is killed; the call inside fails unless it is idempotent', async () => {
    const napping = mesh.call('Plain.nap', { seconds: 5 });
    const victim = await until('it to nap', () =>
      mesh.pool('Plain@1.0.0').resources.find(({ state }) => state === 'busy'),
    );
    process.kill(victim.pid, 'SIGKILL');
    expect((await napping).error?.data).toMatchObject({ code: 'resource_failed' });
    await until('another one', () => {
      const { alive, resources } = mesh.pool('Plain@1.0.0');
      return alive === 2 && resources.every(({ pid }) => pid !== victim.pid);
    });
    const before = (await mesh.call('Plain.pid')).result as number;
    process.kill(before, 'SIGKILL');
    const after = await mesh.call('Plain.pid');
    expect([after.error, after.result === before]).toEqual([undefined, false]);
    await until('both', () => mesh.pool('Plain@1.0.0').alive === 2);
  });

  test('is killed and restarted when it does not answer in time', async () => {
    const late = await mesh.call('Plain.nap', { seconds: 60 }, { 'katamari-timeout-ms': '300' });
    expect(late.error?.data).toMatchObject({ code: 'timeout', stage: 'service' });
    await until('it to be replaced', () => mesh.pool('Plain@1.0.0').restartsByReason.hung === 1);
    await until('both', () => mesh.pool('Plain@1.0.0').alive === 2);
    expect((await mesh.call('Plain.add', { num1: 3, num2: 4 })).result).toBe(7);
  });
});
