// The faceplate with common clients: the `thrift` package and Debian's Python library, framed and buffered,
// multiplexed or not.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { exchange, EXCHANGE_IDL, type Exchange } from '../../kit/wire/exchange.ts';
import { generate, python, thriftPackage, type Connection, type Generated } from '../../kit/wire/thrift-client.ts';
import { DEFAULT_LIMITS } from '../../../core/mod.ts';
import { StatsTable } from '../../../core/rpc/mod.ts';
import { startThriftFaceplate } from '../../../faceplates/thrift/mod.ts';
import type { ThriftFaceplate } from '../../../faceplates/thrift/server.ts';
import { until } from '../../kit/tools/wait.ts';

interface ExchangeClient {
  add(a: number, b: number): Promise<number>;
  echo(text: string): Promise<string>;
  turn(item: unknown): Promise<Record<string, unknown>>;
  refuse(why: string): Promise<void>;
  fail(why: string): Promise<void>;
  note(text: string): void;
}

let [generated, behind, callStats, faceplate]: [Generated?, Exchange?, StatsTable?, ThriftFaceplate?] = [];
beforeAll(async () => {
  generated = await generate(EXCHANGE_IDL);
  behind = exchange();
  callStats = new StatsTable();
  faceplate = await startThriftFaceplate({
    mesh: behind.mesh,
    callStats,
    limits: DEFAULT_LIMITS,
    host: '127.0.0.1',
    port: 0,
  });
});
afterAll(async () => {
  await faceplate?.close();
  generated?.remove();
});

const { TFramedTransport, TBufferedTransport, TBinaryProtocol, Multiplexer, createConnection, createClient } =
  thriftPackage;

for (const [how, transport] of [
  ['framed', TFramedTransport],
  ['buffered', TBufferedTransport],
] as const) {
  for (const name of [undefined, 'Exchange', 'Exchange@2.0.0']) {
    describe(`The thrift package, ${how}, ${name === undefined ? 'plain' : `multiplexed as ${name}`}`, () => {
      let [client, connection]: [ExchangeClient?, Connection?] = [];
      beforeAll(async () => {
        connection = createConnection('127.0.0.1', faceplate?.port as number, { transport, protocol: TBinaryProtocol });
        connection.on('error', () => {});
        await new Promise<void>((resolve) => connection?.on('connect', resolve));
        const service = generated?.load('Exchange');
        const made =
          name === undefined
            ? createClient(service, connection)
            : new Multiplexer().createClient(name, service, connection);
        client = made as ExchangeClient;
      });
      afterAll(() => connection?.end());

      test('calls with numbers, text and structs', async () => {
        expect(await client?.add(2, 40)).toBe(42);
        const text = 'Käse, 乳酪, 🧀 '.repeat(20_000);
        expect(await client?.echo(text)).toBe(text);
        const { Item } = (generated as Generated).load('exchange_types') as { Item: new (fields: unknown) => object };
        const item = new Item({ id: -1, text: 'x', children: { a: new Item({ id: 2, text: 'y' }) } });
        expect(JSON.stringify(await client?.turn(item))).toBe(JSON.stringify(item));
        expect(behind?.calls.at(-1)).toMatchObject({
          service: name === undefined ? '' : 'Exchange',
          version: name?.split('@')[1] ?? '',
          method: 'turn',
          oneway: false,
          caller: expect.stringMatching(/^thrift 127\.0\.0\.1:\d+$/) as string,
        });
      });

      test('has 200 calls in flight at once, each with its own reply', async () => {
        const sums = await Promise.all(Array.from({ length: 200 }, async (_, i) => client?.add(i, 1_000)));
        expect(sums).toEqual(sums.map((_, i) => i + 1_000));
      });

      test('gets declared exceptions, and a TApplicationException for others', async () => {
        await expect(client?.refuse('closed')).rejects.toMatchObject({ name: 'Refused', why: 'closed', code: 7 });
        await expect(client?.fail('out of paper')).rejects.toMatchObject({
          name: 'TApplicationException',
          type: 6,
          message: expect.stringContaining('out of paper') as string,
        });
        expect(await client?.add(1, 1)).toBe(2);
      });

      test('sends oneway calls without waiting', async () => {
        const text = `${how} ${name}`;
        client?.note(text);
        expect(await client?.add(1, 2)).toBe(3);
        await until('the note', () =>
          behind?.handled.some(({ method, args }) => method === 'note' && args['text'] === text),
        );
      });
    });
  }
}

describe('A stock Python client', () => {
  const program = `
import sys
from thrift.transport import TSocket, TTransport
from thrift.protocol import TBinaryProtocol, TMultiplexedProtocol
from thrift.Thrift import TApplicationException
from exchange import Exchange
from exchange.ttypes import Item, Refused
port, transport, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
socket = TSocket.TSocket('127.0.0.1', port)
wire = TTransport.TFramedTransport(socket) if transport == 'framed' else TTransport.TBufferedTransport(socket)
protocol = TBinaryProtocol.TBinaryProtocol(wire)
if name: protocol = TMultiplexedProtocol.TMultiplexedProtocol(protocol, name)
client = Exchange.Client(protocol)
wire.open()
assert client.add(2, 40) == 42
assert client.echo('Größe ' * 10000) == 'Größe ' * 10000
item = Item(id=1, text='a', numbers=[-2**63, 2**63 - 1], children={'b': Item(id=2, text='c')})
assert client.turn(item) == item
client.note('from python')
try: client.refuse('no'); assert False
except Refused as refused: assert (refused.why, refused.code) == ('no', 7)
try: client.fail('broken'); assert False
except TApplicationException as error: assert error.type == 6 and 'broken' in error.message
assert client.add(-1, -2) == -3
wire.close()
print('good')
`;
  for (const transport of ['framed', 'buffered']) {
    for (const name of ['', 'Exchange', 'Exchange@1.0.0']) {
      test(`calls ${transport}, ${name === '' ? 'plain' : `multiplexed as ${name}`}`, async () => {
        expect(await python(generated as Generated, program, String(faceplate?.port), transport, name)).toBe('good\n');
      });
    }
  }
});

describe("The Python library's THeader", () => {
  const program = `
import sys
from thrift.transport import THttpClient, TSocket, TTransport
from thrift.transport.THeaderTransport import THeaderClientType
from thrift.protocol.THeaderProtocol import THeaderProtocol
from thrift.protocol import TCompactProtocol
from exchange import Exchange
port, below = sys.argv[1:]
socket = TSocket.TSocket('127.0.0.1', int(port))
lower = {
    'socket': lambda: socket,
    'buffered': lambda: TTransport.TBufferedTransport(socket),
    'framed': lambda: TTransport.TFramedTransport(socket),
    'http': lambda: THttpClient.THttpClient(f'http://127.0.0.1:{port}/thrift'),
}[below]()
protocol = THeaderProtocol(lower, [THeaderClientType.HEADERS])
protocol.trans.open()
client = Exchange.Client(protocol)
for zlib in range(2):
    for number in range(3):
        protocol.set_header(b'Katamari-Key', 'jürgen'.encode())
        protocol.set_header(b'Client-Name', b'py\\xff' + bytes([number]))
        assert client.add(number, 40) == 40 + number
        assert protocol.get_headers()[b'katamari-version'] == b'1.0.0', protocol.get_headers()
    text = 'Größe ' * 10000
    protocol.set_header(b'Katamari-Key', 'jürgen'.encode())
    assert client.echo(text) == text
    if not zlib: protocol.trans.add_transform(1)
client.note('from ' + below)
print('good')
`;
  test.each(['socket', 'buffered', 'framed', 'http'])('is answered in kind over %s', async (below) => {
    const before = behind?.calls.length ?? 0;
    expect(await python(generated as Generated, program, String(faceplate?.port), below)).toBe('good\n');
    const calls = behind?.calls.slice(before) ?? [];
    const keyed = calls.filter(({ key }) => key === 'jürgen');
    expect(keyed).toHaveLength(8);
    const names = calls.flatMap(({ headers }) => headers['Client-Name'] ?? []);
    expect(names).toEqual(['py\udcff\0', 'py\udcff\x01', 'py\udcff\x02', 'py\udcff\0', 'py\udcff\x01', 'py\udcff\x02']);
  });
});

test('After all of this every call is counted and none is in flight', async () => {
  await until('the last oneway call', () => callStats?.sums().inFlight === 0);
  const { accepted, replied, ...others } = (callStats as StatsTable).sums();
  expect(accepted).toBe(behind?.calls.length);
  expect(replied).toBe(accepted);
  expect(others).toEqual({ failed: 0, refused: 0, timed_out: 0, cancelled: 0, inFlight: 0 });
  const pages = [...(callStats as StatsTable).entries()].filter(({ stats }) => stats.accepted > 0);
  expect(pages.map(({ faceplate: front, service }) => `${front} ${service}`)).toEqual(
    pages.map(() => 'thrift Exchange'),
  );
});
