// Interfaces whose includes are in folders of their own: what travels through the mesh is whole without these folders.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { connect } from '../../client/mod.ts';
import { scriptCommand } from '../../core/mod.ts';
import { startTestMesh } from '../kit/mesh/mesh.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { generate } from '../kit/wire/thrift-client.ts';

const FILES: Readonly<Record<string, string>> = {
  'idl/prices.thrift':
    'include "shop/goods.thrift"\nservice Prices extends goods.Base { i32 price(1: goods.Item item) throws (1: goods.Gone gone) }',
  'idl/names.thrift':
    'include "shop/goods.thrift"\nservice Names extends goods.Base { string name(1: goods.Item item) }',
  'folder/shop/goods.thrift':
    'include "kinds.thrift"\nstruct Item { 1: string name, 2: kinds.Kind kind = Kind.TEA }\nexception Gone { 1: string why }\nservice Base { bool ready() }',
  'folder/shop/kinds.thrift': 'enum Kind { NONE = 0, TEA = 5 }',
  'server.py': `
import sys
from thrift.protocol import TBinaryProtocol
from thrift.server import TServer
from thrift.transport import TSocket, TTransport
from goods.ttypes import Gone
from prices import Prices

class Handler:
    def ready(self):
        return True

    def price(self, item):
        if item.name == 'none':
            raise Gone(why='sold out')
        return item.kind * 2

TServer.TSimpleServer(
    Prices.Processor(Handler()),
    TSocket.TServerSocket('127.0.0.1', int(sys.argv[1])),
    TTransport.TFramedTransportFactory(),
    TBinaryProtocol.TBinaryProtocolFactory(),
).serve()
`,
};

test('A plain server and a chassis with include folders are called and described after these are gone', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'katamari-includes-'));
  const at = (name: string): string => path.join(folder, name);
  for (const [name, text] of Object.entries(FILES)) {
    mkdirSync(path.dirname(at(name)), { recursive: true });
    writeFileSync(at(name), text);
  }
  const generated = await generate(at('idl/prices.thrift'), [at('folder')]);
  const mesh = await startTestMesh([
    {
      service: 'Prices',
      version: '1.0.0',
      kit: 'none',
      idl: at('idl/prices.thrift'),
      includes: [at('folder')],
      healthCheck: 'ready',
      listen: 'tcp',
      command: ['/usr/bin/python3', at('server.py'), '{port}'],
      env: { PYTHONPATH: path.join(generated.directory, 'gen-py') },
    },
    {
      service: 'Names',
      version: '1.0.0',
      command: scriptCommand(path.join(REPOSITORY, 'test', 'fixtures', 'includes', 'chassis.ts')),
      env: { IDL: at('idl/names.thrift'), INCLUDES: at('folder') },
    },
  ]);
  const client = connect({ addresses: mesh.mesh.addresses.thrift });
  try {
    await mesh.mesh.whenReady;
    rmSync(at('folder'), { recursive: true });
    rmSync(at('idl'), { recursive: true });
    expect((await mesh.call('Prices.price', { item: { name: 'tea' } })).result).toBe(10);
    expect((await mesh.call('Prices.price', { item: { name: 'none' } })).error).toMatchObject({
      code: -32050,
      data: { exception: 'Gone', why: 'sold out' },
    });
    expect((await mesh.call('Names.name', { item: { name: 'a', kind: 'NONE' } })).result).toBe('a0');
    // The client gets the files from the mesh.
    for (const [service, method, result] of [
      ['Prices', 'price', 10],
      ['Names', 'name', 'b5'],
    ] as const) {
      const remote = client.service<Readonly<Record<string, (args: object) => Promise<unknown>>>>(service);
      expect(await remote[method]?.({ item: { name: 'b' } })).toBe(result);
      const text = await (await fetch(`${mesh.mesh.addresses.jsonRpc}/idl/${service}.thrift`)).text();
      expect(text).toContain('TEA = 5');
    }
  } finally {
    client.close();
    await mesh.end();
    generated.remove();
    rmSync(folder, { recursive: true });
  }
});
