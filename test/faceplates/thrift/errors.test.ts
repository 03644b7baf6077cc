// Errors that clients get, what the statistics count for them, and what never reaches the mesh.

import { createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Answer, RawThrift } from '../../kit/wire/raw-thrift.ts';
import { until } from '../../kit/tools/wait.ts';
import { decodeStruct } from '../../../core/idl/mod.ts';
import { readApplicationException, type Method, bareMessage, frameMessage, NOTHING } from '../../../core/thrift/mod.ts';
import { startThriftFaceplate } from '../../../faceplates/thrift/mod.ts';
import { startFixture, type Fixture } from './fixture.ts';

let fixture: Fixture;
beforeEach(async () => {
  fixture = await startFixture({ limits: { frameBytesMax: 100_000, nestingMax: 10 } });
});
afterEach(() => fixture.end());

describe('Errors of the mesh', () => {
  test("are TApplicationExceptions with the client's sequence id, and the connection continues", async () => {
    fixture.behind.setTimeoutMs(30);
    for (const framed of [true, false]) {
      const client = await fixture.connect(framed);
      client.send(fixture.bytes('add', { a: 1, b: 2 }, { framed, name: 'Nobody@9:add', seqId: -5 }));
      client.send(fixture.bytes('hold', { key: 'never' }, { framed, seqId: -6 }));
      client.send(fixture.bytes('add', { a: 1, b: 2 }, { framed, seqId: -7 }));
      const [first, second, third] = await client.count(3);
      expect(said(first)).toEqual({ seqId: -5, name: 'add', type: 1, message: 'No pool offers Nobody@9.add' });
      expect(said(second)).toEqual({ seqId: -6, name: 'hold', type: 6, message: 'hold took longer than it may' });
      expect(third).toMatchObject({ type: 2, seqId: -7 });
    }
    expect(fixture.callStats.sums()).toMatchObject({ accepted: 6, refused: 2, timed_out: 2, replied: 2, inFlight: 0 });
  });

  test("are counted under - for unknown services, and under the service's name for unknown methods", async () => {
    const client = await fixture.connect();
    for (const name of ['Nobody:add', 'nothing', 'Exchange:nothing', 'Exchange:add', 'add']) {
      client.send(fixture.bytes('add', { a: 1, b: 2 }, { name }));
    }
    await client.count(5);
    const pages = [...fixture.callStats.entries()].map(({ service, method, stats }) => [
      service,
      method,
      stats.accepted,
      stats.replied,
    ]);
    expect(pages.sort((a, b) => a.join().localeCompare(b.join()))).toEqual([
      ['-', '-', 2, 0],
      ['Exchange', '-', 1, 0],
      ['Exchange', 'add', 2, 2],
    ]);
  });

  test('and exceptions: declared and undeclared ones are replies, and counted as exceptions', async () => {
    const client = await fixture.connect();
    client.send(
      Buffer.concat([
        fixture.bytes('refuse', { why: 'no' }),
        fixture.bytes('fail', { why: 'broken' }),
        fixture.bytes('add', { a: 1, b: 1 }),
      ]),
    );
    const [refused, failed] = await client.count(3);
    expect(refused?.type).toBe(2);
    const { result } = fixture.behind.interface.methods.get('refuse') as Method;
    expect(decodeStruct(result, (refused as Answer).body)).toMatchObject({ refused: { why: 'no', code: 7 } });
    expect(said(failed)).toMatchObject({ type: 6, message: expect.stringContaining('broken') as string });
    expect(fixture.callStats.sums()).toMatchObject({ accepted: 3, replied: 3 });
    expect([...fixture.callStats.entries()].map(({ method, stats }) => `${method} ${stats.exceptions}`)).toEqual(
      expect.arrayContaining(['refuse 1', 'fail 1', 'add 0']) as string[],
    );
  });

  test('do not persist: a service that appears later is found and counted under its name', async () => {
    fixture.behind.setIsOffered(false);
    const client = await fixture.connect();
    client.send(fixture.bytes('add', { a: 1, b: 2 }));
    expect((await client.count(1))[0]?.type).toBe(3);
    fixture.behind.setIsOffered(true);
    client.send(fixture.bytes('add', { a: 1, b: 2 }));
    expect((await client.count(2))[1]?.type).toBe(2);
    expect(fixture.callStats.of('thrift', 'Exchange', 'add').accepted).toBe(1);
  });
});

describe('A default service', () => {
  test('is used where the client names none', async () => {
    const other = await startFixture({ defaultService: 'Exchange' });
    try {
      const client = await other.connect();
      client.send(other.bytes('add', { a: 1, b: 2 }));
      client.send(other.bytes('add', { a: 1, b: 2 }, { name: '@2.0.0:add' }));
      client.send(other.bytes('add', { a: 1, b: 2 }, { name: 'Other:add' }));
      expect((await client.count(3)).map(({ type }) => type)).toEqual([2, 2, 3]);
      expect(other.behind.calls.map(({ service, version }) => `${service}@${version}`)).toEqual([
        'Exchange@',
        'Exchange@2.0.0',
        'Other@',
      ]);
    } finally {
      await other.end();
    }
  });
});

describe("A client's own context in field 32767", () => {
  // Time left 10 us, caller "root".
  const context = Buffer.from('0c7fff0a0001000000000000000a0b000a00000004726f6f7400', 'hex');
  for (const [what, first] of [
    ['one', context],
    ['three of them', Buffer.concat([context, context, context])],
    ['an empty one', Buffer.from('0c7fff00', 'hex')],
  ] as const) {
    test(`is removed: ${what}`, async () => {
      for (const framed of [true, false]) {
        const client = await fixture.connect(framed);
        client.send(fixture.bytes('add', { a: 20, b: 22 }, { framed, first }));
        expect((await client.count(1))[0]?.type).toBe(2);
        const call = fixture.behind.calls.at(-1);
        expect(Buffer.from(call?.args ?? NOTHING)).toEqual(
          fixture.bytes('add', { a: 20, b: 22 }, { framed: false }).subarray(15),
        );
        expect(call?.caller).toMatch(/^thrift 127/);
        expect((call?.deadlineMs ?? 0) - performance.now()).toBeGreaterThan(5_000);
      }
    });
  }

  test('does not bypass the check of the arguments', async () => {
    const client = await fixture.connect();
    client.send(frameMessage(1, 'add', 1, context, NOTHING));
    expect(said((await client.count(1))[0])).toMatchObject({
      type: 7,
      message: expect.stringContaining('ends before its struct') as string,
    });
    expect(fixture.behind.calls).toHaveLength(0);
  });
});

describe('A client that breaks the protocol', () => {
  const struct = Buffer.from('0800010000000108000200000002', 'hex');
  const cases: readonly [what: string, bytes: Buffer, framed: boolean, seqId: number, type: number, message: RegExp][] =
    [
      [
        'a frame that ends inside the struct',
        frameMessage(1, 'add', 9, NOTHING, struct.subarray(0, 9)),
        true,
        9,
        7,
        /ends before its struct/,
      ],
      [
        'a frame with bytes behind the struct',
        frameMessage(1, 'add', 9, Buffer.of(0), Buffer.of(1, 2)),
        true,
        9,
        7,
        /2 bytes after its struct/,
      ],
      [
        'a type that does not exist',
        frameMessage(1, 'add', 9, NOTHING, Buffer.of(5, 0, 1, 0)),
        true,
        9,
        7,
        /Type 5 is not a Thrift type/,
      ],
      [
        'the same, unframed',
        bareMessage(1, 'add', 9, Buffer.of(5, 0, 1, 0)),
        false,
        9,
        7,
        /Type 5 is not a Thrift type/,
      ],
      ['a reply', frameMessage(2, 'add', 9, NOTHING, Buffer.of(0)), true, 9, 7, /Message type is 2/],
      [
        'a type of message that does not exist',
        Buffer.from('0000001080010009000000036164640000000900', 'hex'),
        true,
        0,
        7,
        /Message type is 9/,
      ],
      [
        'a frame without a message',
        Buffer.from('0000000080010001', 'hex'),
        true,
        0,
        7,
        /A frame of 0 bytes ends inside the head/,
      ],
      [
        'structs nested too deep',
        frameMessage(1, 'add', 9, NOTHING, Buffer.from('0c0001'.repeat(20), 'hex')),
        true,
        9,
        7,
        /nested deeper than 10/,
      ],
      [
        'a frame that is declared too large',
        Buffer.concat([Buffer.from('7fffffff', 'hex'), frameMessage(1, 'add', 9, NOTHING, Buffer.of(0)).subarray(4)]),
        true,
        9,
        6,
        /A frame of 2147483647 bytes is declared, limit is 100000/,
      ],
      [
        'a string that is declared too long',
        bareMessage(1, 'echo', 9, Buffer.from('0b00017fffffff', 'hex')),
        false,
        9,
        6,
        /limit is 100000/,
      ],
      [
        'a name without end',
        Buffer.from('800100017fffffff', 'hex'),
        false,
        0,
        7,
        /Method name is declared 2147483647 bytes long/,
      ],
    ];
  for (const [what, bytes, framed, seqId, type, message] of cases) {
    test(`with ${what} gets an error after the replies to earlier calls, and is disconnected`, async () => {
      const client = await fixture.connect(framed);
      client.send(
        Buffer.concat([
          fixture.bytes('add', { a: 1, b: 2 }, { framed, seqId: 8 }),
          bytes,
          fixture.bytes('add', { a: 5, b: 6 }, { framed, seqId: 10 }),
        ]),
      );
      const answers = await client.count(2);
      expect(answers[0]).toMatchObject({ type: 2, seqId: 8 });
      expect(said(answers[1])).toMatchObject({ seqId, type, message: expect.stringMatching(message) as string });
      await ended(client);
      expect(client.answers).toHaveLength(2);
      expect(fixture.behind.calls.map(({ method }) => method)).toEqual(['add']);
      expect(fixture.callStats.sums()).toMatchObject({ accepted: 2, replied: 1, refused: 1, inFlight: 0 });
    });
  }

  test('in a oneway call is disconnected without a reply, and counted', async () => {
    const client = await fixture.connect();
    client.send(frameMessage(4, 'note', 9, NOTHING, Buffer.of(5)));
    await ended(client);
    expect(client.answers).toHaveLength(0);
    expect(fixture.callStats.sums()).toMatchObject({ accepted: 1, refused: 1, inFlight: 0 });
  });

  const otherProtocols: readonly [what: string, bytes: Buffer, message: RegExp][] = [
    ['TLS', Buffer.from('1603010200010001fc0303', 'hex'), /a TLS handshake/],
    ['JSON of another kind', Buffer.from('{"jsonrpc":"2.0"}'), /JSON that is not a Thrift message/],
    ['nothing known', Buffer.from('deadbeef0102', 'hex'), /bytes that begin with de ad be ef 01 02/],
  ];
  for (const [what, bytes, message] of otherProtocols) {
    test(`by speaking ${what} gets an error with the supported protocols`, async () => {
      const client = await fixture.connect();
      client.send(bytes);
      const [answer] = await client.count(1);
      expect(said(answer)).toMatchObject({ seqId: 0, type: 7, message: expect.stringMatching(message) as string });
      expect(said(answer).message).toMatch(/This port speaks Thrift \(framed, buffered, THeader or HTTP POST/);
      await ended(client);
      expect(fixture.callStats.sums()).toMatchObject({ accepted: 1, refused: 1 });
    });
  }

  test('by speaking HTTP gets an HTTP answer that names the other port', async () => {
    for (const line of [
      'GET / HTTP/1.1\r\nhost: localhost\r\n\r\n',
      'POST /rpc HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}',
      'PRI * HTTP/2.0\r\n\r\n',
    ]) {
      const client = await fixture.connect();
      client.send(Buffer.from(line));
      await ended(client);
      expect(client.rest().toString()).toMatch(
        /^HTTP\/1\.1 400 Bad Request\r\n.*connection: close\r\n.*JSON-RPC 2\.0 \(POST \/rpc\) is served on the JSON-RPC port/s,
      );
    }
  });
});

test('startThriftFaceplate() rejects when the port is taken', async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const { port } = other.address() as { port: number };
  const start = startThriftFaceplate({
    mesh: fixture.behind.mesh,
    callStats: fixture.callStats,
    limits: {} as never,
    host: '127.0.0.1',
    port,
  });
  await expect(start).rejects.toMatchObject({ code: 'EADDRINUSE' });
  await new Promise((resolve) => other.close(resolve));
});

/** The server has ended the connection; then this side does, as clients do. */
async function ended(client: RawThrift): Promise<void> {
  await until('the end', () => client.socket.readableEnded || client.isClosed());
  client.destroy();
}

function said(answer: Answer | undefined): { seqId: number; name: string; type: number; message: string } {
  if (answer?.type !== 3) throw new Error(`No exception: ${JSON.stringify(answer)}`);
  return { seqId: answer.seqId, name: answer.name, ...readApplicationException(answer.body) };
}
