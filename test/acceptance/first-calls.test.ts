import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { runKatamari } from '../kit/tools/run.ts';
import { generate, python, type Generated } from '../kit/wire/thrift-client.ts';

const examples = new URL('../../examples/', import.meta.url);

let mesh: MeshProcess;
let generated: Generated;
beforeAll(async () => {
  [mesh, generated] = await Promise.all([
    startMeshProcess({ config: fileURLToPath(new URL('katamari.yaml', examples)) }),
    generate(fileURLToPath(new URL('calculator.thrift', examples))),
  ]);
});
afterAll(async () => {
  await mesh.end();
  generated.remove();
});

/** The usual program with the stock Python library: argument 1 is the port, 2 the transport, 3 the service name. */
const PYTHON_CLIENT = `
import sys
from thrift.transport import TSocket, TTransport
from thrift.protocol import TBinaryProtocol, TMultiplexedProtocol
from tutorial import Calculator
from tutorial.ttypes import InvalidOperation, Operation, Work
socket = TSocket.TSocket('127.0.0.1', int(sys.argv[1]))
transport = TTransport.TFramedTransport(socket) if sys.argv[2] == 'framed' else TTransport.TBufferedTransport(socket)
protocol = TBinaryProtocol.TBinaryProtocol(transport)
if sys.argv[3] != 'plain':
    protocol = TMultiplexedProtocol.TMultiplexedProtocol(protocol, sys.argv[3])
client = Calculator.Client(protocol)
transport.open()
client.ping()
print(client.add(2, 40))
print(client.calculate(1, Work(num1=6, num2=7, op=Operation.MULTIPLY)))
try:
    client.calculate(2, Work(num1=1, num2=0, op=Operation.DIVIDE))
except InvalidOperation as refused:
    print(refused.whatOp)
client.zip()
print(client.add(20, 22))
transport.close()
`;

describe('The first calls of a user', () => {
  test('curl to /rpc with Calculator.add of 2 and 40 returns 42', async () => {
    const body = '{"jsonrpc":"2.0","id":1,"method":"Calculator.add","params":{"num1":2,"num2":40}}';
    const { stdout } = await promisify(execFile)('curl', [
      '-s',
      '-w',
      '\n%{http_code}',
      '-H',
      'content-type: application/json',
      '-d',
      body,
      `${mesh.addresses.jsonRpc}/rpc`,
    ]);
    expect(stdout).toBe('{"jsonrpc":"2.0","id":1,"result":42}\n200');
  });

  for (const transport of ['unframed', 'framed']) {
    for (const name of ['plain', 'Calculator', 'Calculator@1.0.0']) {
      test(`a stock Python client gets replies, ${transport}, ${name === 'plain' ? 'plain' : `multiplexed as ${name}`}`, async () => {
        const port = mesh.addresses.thrift.split(':').at(-1) ?? '';
        const said = await python(generated, PYTHON_CLIENT, port, transport, name);
        expect(said.split('\n')).toEqual(['42', '42', '4', '42', '']);
      });
    }
  }

  test('katamari call prints 42', async () => {
    const url = mesh.addresses.jsonRpc;
    for (const args of [['num1=2', 'num2=40'], ['2', '40'], ['{"num1":2,"num2":40}']]) {
      const { code, stdout, stderr } = await runKatamari(['call', 'Calculator.add', ...args, '--mesh', url]);
      expect([code, stdout, stderr]).toEqual([0, '42\n', '']);
    }
  });

  test('two versions of one service answer side by side, and each reply names its version', async () => {
    for (const version of ['1.0.0', '2.0.0']) {
      const { headers, error } = await mesh.call(`Reformulate@${version}.analyze`, { query: 'runing shoes' });
      expect([headers.get('katamari-version'), error]).toEqual([version, undefined]);
    }
  });
});
