// A union whose sender sets a field that the receiver's interface does not have: it holds nothing, wherever it is.

import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../client/mod.ts';
import { scriptCommand } from '../../core/mod.ts';
import { startTestMesh, type TestMesh } from '../kit/mesh/mesh.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { generate, python, type Generated } from '../kit/wire/thrift-client.ts';

const FIXTURES = path.join(REPOSITORY, 'test', 'fixtures', 'unions');
const OLDER = path.join(FIXTURES, 'older', 'routes.thrift');

const CLIENT = `
import sys
from thrift.protocol import TBinaryProtocol, TCompactProtocol, TJSONProtocol, TMultiplexedProtocol
from thrift.Thrift import TApplicationException
from thrift.transport import TSocket, TTransport
from routes import Routes
from routes.ttypes import Way, Ways
port, service, call = sys.argv[1:]
for protocol in TBinaryProtocol.TBinaryProtocol, TCompactProtocol.TCompactProtocol, TJSONProtocol.TJSONProtocol:
    transport = TTransport.TFramedTransport(TSocket.TSocket("127.0.0.1", int(port)))
    transport.open()
    client = Routes.Client(TMultiplexedProtocol.TMultiplexedProtocol(protocol(transport), service))
    try:
        print(eval(call))
    except TApplicationException as error:
        print(error.type, error.message)
`;

let newer: Generated;
let mesh: TestMesh;
beforeAll(async () => {
  newer = await generate(path.join(FIXTURES, 'newer', 'routes.thrift'));
  mesh = await startTestMesh([
    { service: 'Routes', version: '1.0.0', command: scriptCommand(path.join(FIXTURES, 'chassis.ts')) },
    {
      // A newer server, deployed with the older interface.
      service: 'Routes',
      version: '2.0.0',
      kit: 'none',
      idl: OLDER,
      listen: 'tcp',
      command: ['/usr/bin/python3', path.join(FIXTURES, 'plain.py'), '{port}'],
      env: { PYTHONPATH: path.join(newer.directory, 'gen-py') },
    },
  ]);
  await mesh.mesh.whenReady;
});
afterAll(async () => {
  await mesh.end();
  newer.remove();
});

/** Output of one call of a stock client with the newer interface, with the same result in each protocol. */
async function fromNewer(service: string, call: string): Promise<string> {
  const port = mesh.mesh.addresses.thrift.split(':').at(-1) ?? '';
  const lines = (await python(newer, CLIENT, port, service, call)).trim().split('\n');
  expect(lines).toHaveLength(3);
  expect(new Set(lines).size).toBe(1);
  return lines[0] ?? '';
}

describe('A union with a field that only the sender has', () => {
  test('holds nothing for the handler, also in structs, lists and maps', async () => {
    const ways = 'Ways(way=Way(air=1.5), all=[Way(road=1), Way(air=2), Way(rail="x")], named={"a": Way(air=3)})';
    expect(JSON.parse(await fromNewer('Routes@1.0.0', `client.seen(Way(air=0.5), ${ways})`))).toEqual({
      way: {},
      ways: { way: {}, all: [{ road: 1 }, {}, { rail: 'x' }], named: { a: {} } },
    });
    expect(JSON.parse(await fromNewer('Routes@1.0.0', 'client.seen(Way(), Ways())'))).toEqual({ way: {}, ways: {} });
  });

  test('is not sent on by the handler, because some libraries cannot read a union that holds nothing', async () => {
    expect(await fromNewer('Routes@1.0.0', 'client.same(Way(road=5)).road')).toBe('5');
    expect(await fromNewer('Routes@1.0.0', 'client.same(Way(air=5))')).toMatch(
      /success: expected exactly one field of union Way \(road, rail\), got 0$/,
    );
  });

  test('passes through the mesh unchanged between peers that know it', async () => {
    expect(await fromNewer('Routes@2.0.0', 'client.same(Way(air=5)).air')).toBe('5.0');
    expect(await fromNewer('Routes@2.0.0', 'client.plan(False).named["a"].air')).toBe('5.0');
  });

  test('is an empty object in a result of JSON-RPC and in its exception', async () => {
    expect((await mesh.call('Routes@2.0.0.plan', { closed: false })).result).toEqual({
      way: {},
      all: [{ road: 3 }, {}],
      named: { a: {} },
    });
    expect((await mesh.call('Routes@2.0.0.plan', { closed: true })).error).toMatchObject({
      code: -32050,
      data: { exception: 'Closed', way: {} },
    });
  });

  test('cannot be sent by JSON-RPC', async () => {
    for (const way of [{}, { air: 1 }, { road: null }]) {
      const { error } = await mesh.call('Routes@1.0.0.same', { way });
      expect(error).toMatchObject({ code: -32602, message: expect.stringMatching(/^params\.way/) });
    }
  });

  test('holds nothing for a caller with the client library', async () => {
    const client = connect({ addresses: mesh.mesh.addresses.thrift });
    try {
      const routes = client.service<{ plan: (args: object) => Promise<unknown> }>('Routes', {
        version: '2.0.0',
        idl: OLDER,
      });
      expect(await routes.plan({ closed: false })).toEqual({
        way: {},
        all: [{ road: 3 }, {}],
        named: new Map([['a', {}]]),
      });
      await expect(routes.plan({ closed: true })).rejects.toMatchObject({ fields: { way: {} } });
    } finally {
      client.close();
    }
  });
});
