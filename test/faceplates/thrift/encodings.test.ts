// Each encoding on the Thrift port, end to end: calls, exceptions, errors, pipelines, headers. The clients here use
// our own encodings; the matrix covers other libraries.

import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { until } from '../../kit/tools/wait.ts';
import { decodeResult, encodeStruct } from '../../../core/idl/mod.ts';
import { readCallContext, writeCallContext } from '../../../core/link/context.ts';
import { DEFAULT_LIMITS } from '../../../core/mod.ts';
import { type Call, type MeshAccess, NO_REPLY_CONTEXT } from '../../../core/rpc/mod.ts';
import { type Encoding, encodingOf, PROTOCOLS, type WireFormat } from '../../../core/thrift/encodings/mod.ts';
import { bytesOfText, type Method, readApplicationException, textOfBytes } from '../../../core/thrift/mod.ts';
import { MANNERS, nameOfManner } from '../../kit/wire/wire-formats.ts';
import { startFixture, type Fixture } from './fixture.ts';

let fixture: Fixture;
let clients: Client[] = [];
beforeEach(async () => {
  fixture = await startFixture();
});
afterEach(async () => {
  for (const client of clients) client.socket.destroy();
  clients = [];
  await fixture.end();
});

interface Said {
  readonly type: number;
  readonly seqId: number;
  readonly body: Buffer;
  readonly headers: unknown;
}

/** A connection that writes calls and reads answers in one encoding. */
class Client {
  readonly socket: Socket;
  readonly answers: Said[] = [];
  bytes: Buffer = Buffer.alloc(0);
  isEnded = false;

  constructor(manner?: WireFormat, port: number = fixture.faceplate.port) {
    const schemaOf = ({ name }: { name: string }) => fixture.behind.interface.methods.get(name)?.result;
    const reader = manner === undefined ? undefined : encodingOf(manner, DEFAULT_LIMITS, schemaOf);
    this.socket = connect(port, '127.0.0.1');
    this.socket.on('data', (chunk: Buffer) => {
      this.bytes = Buffer.concat([this.bytes, chunk]);
      for (let end = 0; reader !== undefined && end !== -1;) {
        end = this.bytes.length === 0 ? -1 : reader.next(this.bytes, 0, this.bytes.length);
        if (end === -1) break;
        const { type, seqId } = reader.head as NonNullable<Encoding['head']>;
        this.answers.push({ type, seqId, body: Buffer.from(reader.body), headers: { ...reader.headers } });
        this.bytes = this.bytes.subarray(end);
      }
    });
    this.socket.on('error', () => {});
    this.socket.on('close', () => (this.isEnded = true));
    clients.push(this);
  }

  async count(count: number): Promise<readonly Said[]> {
    await until(`${count} answers`, () => this.answers.length >= count);
    return this.answers;
  }
}

function method(name: string): Method {
  return fixture.behind.interface.methods.get(name) as Method;
}

function callBytes(
  manner: WireFormat,
  name: string,
  args: Record<string, unknown>,
  more: { seqId?: number; type?: 1 | 4; headers?: Record<string, string>; as?: string } = {},
): Buffer {
  const out: Uint8Array[] = [];
  const { args: schema } = method(name);
  const { seqId = 1, type = 1, headers, as = name } = more;
  encodingOf(manner, DEFAULT_LIMITS).write(type, as, seqId, encodeStruct(schema, args), out, schema, headers);
  return Buffer.concat(out);
}

for (const manner of MANNERS) {
  describe(`A client that speaks ${nameOfManner(manner)}`, () => {
    test('gets replies in the same format: values, declared exceptions, errors of the mesh; multiplexed too', async () => {
      const client = new Client(manner);
      const item = {
        id: -7,
        text: 'ünïcödé',
        numbers: [1n, -(2n ** 63n)],
        children: new Map([['a', { id: 1, text: '' }]]),
      };
      client.socket.write(callBytes(manner, 'turn', { item }));
      client.socket.write(callBytes(manner, 'refuse', { why: 'because' }, { seqId: 2 }));
      client.socket.write(callBytes(manner, 'add', { a: 20, b: 22 }, { seqId: 3, as: 'Exchange:add' }));
      const [turned, refused, added] = await client.count(3);
      expect(decodeResult(method('turn'), turned?.body as Buffer)).toMatchObject({
        ok: true,
        value: { id: -7, text: 'ünïcödé', numbers: [1, '-9223372036854775808'] },
      });
      expect(decodeResult(method('refuse'), refused?.body as Buffer)).toMatchObject({
        ok: false,
        exception: 'Refused',
      });
      expect(decodeResult(method('add'), added?.body as Buffer)).toMatchObject({ ok: true, value: 42 });
      fixture.behind.setIsOffered(false);
      client.socket.write(callBytes(manner, 'add', { a: 1, b: 1 }, { seqId: 4 }));
      const error = (await client.count(4))[3];
      expect([error?.type, error?.seqId]).toEqual([3, 4]);
      expect(readApplicationException(error?.body as Buffer).message).toMatch(/No pool|nobody/i);
    });

    test('gets 300 pipelined replies in order, and none to oneway calls', async () => {
      const client = new Client(manner);
      const calls = Array.from({ length: 300 }, (_, n) =>
        n % 3 === 2
          ? callBytes(manner, 'note', { text: `${n}` }, { seqId: n, type: 4 })
          : callBytes(manner, 'add', { a: n, b: 1 }, { seqId: n }),
      );
      client.socket.write(Buffer.concat(calls));
      const answers = await client.count(200);
      expect(answers.map(({ seqId }) => seqId)).toEqual(calls.map((_, n) => n).filter((n) => n % 3 !== 2));
      await until('all to have run', () => fixture.behind.handled.length === 300);
      expect(answers).toHaveLength(200);
    });

    test('gets an error for an invalid message, after the replies to earlier calls, and is disconnected', async () => {
      const client = new Client(manner);
      const wrong = callBytes(manner, 'add', { a: 1, b: 2 }, { seqId: 9, type: 1 });
      // The message type becomes one that a client may not send.
      const reply: Uint8Array[] = [];
      encodingOf(manner, DEFAULT_LIMITS).write(2, 'add', 9, Buffer.of(0), reply);
      client.socket.write(Buffer.concat([wrong, ...reply, wrong]));
      const [, second] = await client.count(2);
      expect(readApplicationException(second?.body as Buffer).message).toContain('Message type is 2');
      await until('it to be let go', () => client.isEnded);
      expect(client.answers).toHaveLength(2);
    });
  });
}

describe('Headers of THeader', () => {
  const manner = { transport: 'header', protocol: 'binary' } as const;

  test('select service, version, tags, roles, key and timeout, carry the trace, and reach the chassis if they have no meaning here', async () => {
    const client = new Client(manner);
    const headers = {
      'katamari-service': 'Exchange',
      'katamari-version': '1.0.0',
      'katamari-tags': 'gpu, fast',
      'katamari-key': 'user-7',
      'katamari-timeout-ms': '500',
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      tracestate: 'a=b',
      'Client-Build': '42',
    };
    client.socket.write(callBytes(manner, 'add', { a: 1, b: 2 }, { headers, as: 'Other:add' }));
    expect((await client.count(1))[0]?.headers).toEqual({ 'katamari-version': '1.0.0' });
    const call = fixture.behind.calls.at(-1);
    expect(call).toMatchObject({
      service: 'Exchange',
      version: '1.0.0',
      tags: ['gpu', 'fast'],
      key: 'user-7',
      traceparent: headers.traceparent,
      tracestate: 'a=b',
      headers: { 'Client-Build': '42' },
    });
    expect((call?.deadlineMs ?? 0) - performance.now()).toBeLessThanOrEqual(500);
    // Headers of one call do not apply to the next.
    client.socket.write(callBytes(manner, 'add', { a: 1, b: 2 }));
    await client.count(2);
    expect(fixture.behind.calls.at(-1)).toMatchObject({ version: '', key: '', tags: [], headers: {} });
  });

  test.each([true, false])(
    'reach the chassis unchanged: names in capitals, and bytes of any kind and number (in frames: %s)',
    async (isFramedTwice) => {
      const headers = {
        'Client-Build': ' 42 ',
        'client-build': 'another',
        'X-Ünï': 'ü, 乳酪, 🧀',
        [textOfBytes(Buffer.from([0x58, 0xff]))]: textOfBytes(
          Buffer.from([0xff, 0x00, 0xc3, 0x28, 0xed, 0xa0, 0x80, 0xe9]),
        ),
        Empty: '',
        Nul: '\0',
        Long: textOfBytes(Buffer.alloc(65_536, Buffer.from([0x41, 0xc3, 0xbc, 0xfe]))),
        ['__proto__']: 'own',
        Authorization: 'Bearer abc',
      };
      // The mesh knows its own names in any case.
      const own = { 'KATAMARI-Key': 'jürgen', TraceParent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' };
      const client = new Client({ ...manner, isFramedTwice });
      client.socket.write(
        callBytes({ ...manner, isFramedTwice }, 'add', { a: 1, b: 2 }, { headers: { ...headers, ...own } }),
      );
      expect((await client.count(1))[0]?.type).toBe(2);
      const call = fixture.behind.calls.at(-1) as Call;
      expect(Object.entries(call.headers)).toEqual(Object.entries(headers));
      expect([call.key, call.traceparent]).toEqual(['jürgen', own.TraceParent]);
      // On its way to the chassis.
      const { context } = readCallContext(writeCallContext(call, 1), 0);
      expect(Object.entries(context.headers)).toEqual(Object.entries(headers));
      expect(bytesOfText(context.headers['Long'] as string)).toEqual(bytesOfText(headers.Long));
    },
  );

  test('with invalid values refuse their call, and the connection continues', async () => {
    const client = new Client(manner);
    client.socket.write(callBytes(manner, 'add', { a: 1, b: 2 }, { headers: { 'katamari-timeout-ms': 'soon' } }));
    const [answer] = await client.count(1);
    expect(readApplicationException(answer?.body as Buffer).message).toContain('Header katamari-timeout-ms: expected');
    client.socket.write(callBytes(manner, 'add', { a: 1, b: 2 }, { seqId: 2 }));
    expect((await client.count(2))[1]).toMatchObject({ type: 2, seqId: 2 });
  });
});

describe('A key, tags and a version with other letters than ASCII', () => {
  const bytes = (text: string): Buffer => Buffer.from(text);

  test.each([
    ['katamari-key', 'jürgen', { key: 'jürgen' }],
    ['katamari-key', 'voilà', { key: 'voilà' }],
    ['katamari-key', '乳酪 🧀', { key: '乳酪 🧀' }],
    ['katamari-tags', 'größe, à', { tags: ['größe', 'à'] }],
    ['katamari-roles', 'prüfung', { roles: ['prüfung'] }],
    ['katamari-version', '1.0.0', { version: '1.0.0' }],
    ['katamari-min-coverage', '0.75', { minCoverage: 0.75 }],
    ['katamari-min-coverage', '1e-07', { minCoverage: 1e-7 }],
  ])('%s: %s is the same by THeader and by HTTP', async (name, value, found) => {
    const manner = { transport: 'header', protocol: 'binary' } as const;
    const call = callBytes(manner, 'add', { a: 1, b: 2 }, { headers: { [name]: value } });
    const client = new Client(manner);
    client.socket.write(call);
    await client.count(1);
    expect(fixture.behind.calls.at(-1)).toMatchObject(found);
    const body = callBytes({ transport: 'buffered', protocol: 'binary' }, 'add', { a: 1, b: 2 });
    const web = new Client();
    web.socket.write(
      Buffer.concat([
        bytes(
          `POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-thrift\r\n` +
            `content-length: ${body.length}\r\n${name}: \t${value} \t\r\n\r\n`,
        ),
        body,
      ]),
    );
    await until('an answer', () => web.bytes.toString('latin1').includes('200 OK'));
    expect(fixture.behind.calls).toHaveLength(2);
    expect(fixture.behind.calls.at(-1)).toMatchObject(found);
  });

  test.each(['katamari-key', 'katamari-tags', 'katamari-roles', 'katamari-service', 'katamari-version'])(
    '%s that is not UTF-8 refuses the call',
    async (name) => {
      const manner = { transport: 'header', protocol: 'binary' } as const;
      const client = new Client(manner);
      const headers = { [name]: textOfBytes(Buffer.from([0x61, 0xff])) };
      client.socket.write(callBytes(manner, 'add', { a: 1, b: 2 }, { headers }));
      const [answer] = await client.count(1);
      expect(readApplicationException(answer?.body as Buffer).message).toContain(
        `Header ${name}: expected text in UTF-8, got "aÿ"`,
      );
      expect(fixture.behind.calls).toHaveLength(0);
    },
  );

  test('an invalid tracestate is ignored, as the W3C requires', async () => {
    const manner = { transport: 'header', protocol: 'binary' } as const;
    const client = new Client(manner);
    const headers = { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', tracestate: 'a=ü' };
    client.socket.write(callBytes(manner, 'add', { a: 1, b: 2 }, { headers }));
    await client.count(1);
    expect(fixture.behind.calls.at(-1)).toMatchObject({ traceparent: headers.traceparent, tracestate: '' });
  });
});

describe('Text that is not UTF-8', () => {
  const json = { transport: 'framed', protocol: 'json' } as const;
  const framed = (text: Buffer): Buffer => {
    const length = Buffer.alloc(4);
    length.writeInt32BE(text.length);
    return Buffer.concat([length, text]);
  };

  test.each([
    ['a value', '[1,"echo",1,5,{"1":{"str":"caf\xe9"}}]'],
    ['an escaped half of a character', '[1,"echo",1,5,{"1":{"str":"\\ud83d"}}]'],
    ['a value beside an escape', '[1,"echo",1,5,{"1":{"str":"\\n\xe9"}}]'],
    ['the name of the method', '[1,"ech\xf6",1,5,{"1":{"str":"x"}}]'],
  ])('is refused in the JSON protocol: %s', async (_what, text) => {
    const client = new Client(json);
    client.socket.write(framed(Buffer.from(text, 'latin1')));
    const [answer] = await client.count(1);
    expect(answer?.type).toBe(3);
    expect(readApplicationException(answer?.body as Buffer).message).toMatch(/is not UTF-8|half a surrogate pair/);
    expect(fixture.behind.calls).toHaveLength(0);
  });

  test('does not take a valid replacement character for an error', async () => {
    const client = new Client(json);
    client.socket.write(framed(Buffer.from('[1,"echo",1,5,{"1":{"str":"a\ufffdb"}}]')));
    const [answer] = await client.count(1);
    expect(decodeResult(method('echo'), answer?.body as Buffer)).toEqual({ ok: true, value: 'a\ufffdb' });
  });

  test('is an error of the call where a chassis returns it to a client of the JSON protocol', async () => {
    // A chassis that returns its argument without looking at it.
    const odd = Buffer.from('0b0001 00000002 c328 00'.replaceAll(' ', ''), 'hex');
    const mesh: MeshAccess = {
      ...fixture.behind.mesh,
      send: (call, sink) =>
        sink.reply({
          isException: false,
          body:
            call.method === 'echo' ? Buffer.from('0b0000 00000002 c328 00'.replaceAll(' ', ''), 'hex') : Buffer.of(0),
          context: NO_REPLY_CONTEXT,
        }),
    };
    const other = await startFixture({ behind: { ...fixture.behind, mesh } });
    try {
      for (const manner of MANNERS) {
        const out: Uint8Array[] = [];
        encodingOf(manner.protocol === 'json' ? { ...manner, protocol: 'binary' } : manner, DEFAULT_LIMITS).write(
          1,
          'echo',
          7,
          odd,
          out,
        );
        const client = new Client(manner, other.faceplate.port);
        client.socket.write(
          manner.protocol === 'json' ? callBytes(manner, 'echo', { text: 'x' }, { seqId: 7 }) : Buffer.concat(out),
        );
        const [answer] = await client.count(1);
        if (manner.protocol === 'json') {
          expect(answer).toMatchObject({ type: 3, seqId: 7 });
          expect(readApplicationException(answer?.body as Buffer).message).toMatch(/^A string is not UTF-8/);
        } else expect(answer?.body.toString('hex'), nameOfManner(manner)).toBe('0b000000000002c32800');
      }
    } finally {
      await other.end();
    }
  });
});

describe('HTTP on the Thrift port', () => {
  const post = (body: Buffer, headers = ''): Buffer =>
    Buffer.concat([
      Buffer.from(`POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: ${body.length}\r\n${headers}\r\n`),
      body,
    ]);
  const bare = (protocol: WireFormat['protocol']): WireFormat => ({ transport: 'buffered', protocol });

  test('keeps its connection, in whatever protocol the next call is, and accepts headers', async () => {
    const client = new Client();
    for (const protocol of PROTOCOLS) {
      const response = await fetch(`http://127.0.0.1:${fixture.faceplate.port}/any`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-thrift', 'katamari-version': '1.0.0', 'x-user': 'me' },
        body: new Uint8Array(callBytes(bare(protocol), 'add', { a: 40, b: 2 })),
      });
      expect([response.status, response.headers.get('katamari-version')]).toEqual([200, '1.0.0']);
      const reader = encodingOf(bare(protocol), DEFAULT_LIMITS);
      const body = Buffer.from(await response.arrayBuffer());
      expect(reader.next(body, 0, body.length)).toBe(body.length);
      expect(decodeResult(method('add'), reader.body)).toMatchObject({ ok: true, value: 42 });
      const [call] = fixture.behind.calls.filter(({ version }) => version === '1.0.0').slice(-1);
      expect(call).toMatchObject({ version: '1.0.0', headers: { 'x-user': 'me' } });
      client.socket.write(post(callBytes(bare(protocol), 'add', { a: 1, b: 2 })));
    }
    await until('four answers', () => client.bytes.toString('latin1').split('HTTP/1.1 200 OK').length === 5);
    expect(client.isEnded).toBe(false);
  });

  test('answers oneway calls with an empty response, in order, and closes after the last request', async () => {
    const client = new Client();
    client.socket.write(
      Buffer.concat([
        post(callBytes(bare('binary'), 'note', { text: 'x' }, { type: 4 })),
        post(callBytes(bare('binary'), 'add', { a: 1, b: 2 }), 'connection: close\r\n'),
        post(callBytes(bare('binary'), 'add', { a: 1, b: 2 })),
      ]),
    );
    await until('it to end', () => client.isEnded);
    const said = client.bytes.toString('latin1');
    expect(said.match(/content-length: (\d+)/g)).toEqual(['content-length: 0', expect.stringMatching(/: [1-9]/)]);
    expect(said).toContain('connection: close');
    expect(fixture.behind.handled.map(({ method: name }) => name)).toEqual(['note', 'add']);
  });

  test('answers Expect: 100-continue', async () => {
    const client = new Client();
    const body = callBytes(bare('compact'), 'add', { a: 1, b: 2 });
    client.socket.write(post(body, 'expect: 100-continue\r\n').subarray(0, -body.length));
    await until('a word', () => client.bytes.toString().startsWith('HTTP/1.1 100 Continue\r\n\r\n'));
    client.socket.write(body);
    await until('an answer', () => client.bytes.toString('latin1').includes('200 OK'));
  });
});
