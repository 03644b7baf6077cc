import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { until } from '../../kit/tools/wait.ts';
import { encodeResult } from '../../../core/idl/json.ts';
import { encodeParams, parseIdl } from '../../../core/idl/mod.ts';
import { PlainLink } from '../../../core/link/mod.ts';
import type { KatamariError } from '../../../core/mod.ts';
import { createCall, EMPTY_STRUCT, foreignHeaders, type Call, type Reply } from '../../../core/rpc/mod.ts';
import {
  type MessageFacts,
  encodingOf,
  isWireFormat,
  PROTOCOLS,
  TRANSPORTS,
  type WireFormat,
} from '../../../core/thrift/encodings/mod.ts';
import {
  type Interface,
  writeApplicationException,
  frameMessage,
  MESSAGE_TYPE,
  NOTHING,
  textOfBytes,
  type MessageType,
} from '../../../core/thrift/mod.ts';

const shop = parseIdl({
  main: 'shop.thrift',
  files: {
    'shop.thrift': `
      service Shop {
        binary pack(1: binary goods, 2: string label)
        i32 price(1: string item)
        oneway void seen(1: string item)
      }`,
  },
}).services.get('Shop') as Interface;

const LIMITS = { frameBytesMax: 4_096, nestingMax: 8 };
const STRICT: WireFormat = { transport: 'framed', protocol: 'binary' };
const MANNERS = TRANSPORTS.flatMap((transport) => PROTOCOLS.map((protocol) => ({ transport, protocol }))).filter(
  isWireFormat,
);
const PACKED = encodeResult(method('pack'), { ok: true, value: Buffer.from([0, 0xff, 1]).toString('base64') });
const GOODS = { goods: Buffer.from([0x80, 0, 0xfe]).toString('base64'), label: 'ein "Wort"' };

const opened: { close(): void }[] = [];
afterEach(() => {
  for (const one of opened.splice(0).reverse()) one.close();
});

describe('PlainLink', () => {
  test.each(MANNERS)('calls a server that speaks $transport and $protocol, and reads its replies', async (manner) => {
    const { link, server } = await linkTo(manner);
    const encoding = encodingOf(manner, LIMITS, () => shop.methods.get('pack')?.args);
    const seen: { head: MessageFacts; body: Buffer }[] = [];
    server.on('data', (bytes: Buffer) => {
      for (let at = 0; at < bytes.length;) {
        at = encoding.next(bytes, at, bytes.length);
        const head = encoding.head as MessageFacts;
        seen.push({ head, body: Buffer.from(encoding.body) });
        const pieces: Uint8Array[] = [];
        const isLast = seen.length === 2;
        const [type, body] = isLast
          ? [MESSAGE_TYPE.exception, writeApplicationException('sold out', 6)]
          : [MESSAGE_TYPE.reply, PACKED];
        encoding.write(type, head.name, head.seqId, body, pieces, isLast ? undefined : method('pack').result);
        // One byte at a time: nothing may depend on where the stream is cut.
        for (const byte of Buffer.concat(pieces)) server.write(Buffer.of(byte));
      }
    });
    const first = await send(link, callOf('pack', GOODS));
    expect(first).toMatchObject({ isException: false, body: PACKED });
    expect(await send(link, callOf('pack', GOODS))).toMatchObject({ isException: true });
    expect(seen.map(({ head }) => [head.type, head.name])).toEqual([1, 2].map(() => [MESSAGE_TYPE.call, 'pack']));
    // Only the arguments, without a context.
    expect(seen.map(({ body }) => body)).toEqual(Array(2).fill(encodeParams(method('pack'), GOODS)));
    expect(link.inFlight).toBe(0);
  });

  test('hands the headers of the client to a server that speaks THeader, and to no other', async () => {
    const headers = { 'X-Colour': 'ü', odd: textOfBytes(Buffer.from([0xff, 0])) };
    for (const manner of MANNERS) {
      const { link, server } = await linkTo(manner);
      const encoding = encodingOf(manner, LIMITS);
      const seen = new Promise<unknown>((resolve) =>
        server.once('data', (bytes: Buffer) => {
          encoding.next(bytes, 0, bytes.length);
          resolve(encoding.headers === undefined ? undefined : foreignHeaders(encoding.headers, false));
        }),
      );
      void send(link, { ...callOf('price', { item: 'tea' }), headers }).catch(() => {});
      expect(await seen).toEqual(manner.transport === 'header' ? headers : undefined);
    }
  });

  test('refuses text that is not UTF-8 for a server that speaks JSON, and from it', async () => {
    const manner = { transport: 'framed', protocol: 'json' } as const;
    const { link, server, ends } = await linkTo(manner);
    const args = Buffer.from('0b0001 00000001 ff 00'.replaceAll(' ', ''), 'hex');
    const refused = await failure(link, { ...callOf('price', { item: 'tea' }), args });
    expect([refused.code, refused.message]).toEqual(['bad_request', expect.stringMatching(/^A string is not UTF-8/)]);
    expect([link.isOpen, link.inFlight]).toEqual([true, 0]);
    server.once('data', () => server.write(frame(Buffer.from('[1,"price",2,1,{"9":{"str":"\xff"}}]', 'latin1'))));
    const failed = await failure(link, callOf('price', { item: 'tea' }));
    expect([failed.code, failed.message]).toEqual(['resource_failed', expect.stringContaining('is not UTF-8')]);
    expect(ends).toHaveLength(1);
  });

  test('settles a oneway call when it is written, whatever message type the client used', async () => {
    const { link, calls } = await linkTo(STRICT);
    expect(await send(link, callOf('seen', { item: 'tea' }))).toMatchObject({ isException: false, body: EMPTY_STRUCT });
    const asked = send(link, { ...callOf('price', { item: 'tea' }), oneway: true });
    await until('both calls', () => calls.length === 2);
    expect(calls.map(({ type }) => type)).toEqual([MESSAGE_TYPE.oneway, MESSAGE_TYPE.call]);
    calls[1]?.answer(PACKED);
    expect(await asked).toMatchObject({ body: PACKED });
  });

  test('does not settle a oneway call while the server does not read', async () => {
    const { link, server } = await linkTo({ transport: 'buffered', protocol: 'binary' });
    let read = 0;
    server.on('data', (bytes: Buffer) => (read += bytes.length)).pause();
    // More than kernel buffers hold.
    const item = 'x'.repeat(32 * 2 ** 20);
    const sent = send(link, callOf('seen', { item }));
    let isDone = false;
    void sent.then(() => (isDone = true));
    for (let n = 0; n < 10; n++) await new Promise((resolve) => setImmediate(resolve));
    expect([isDone, link.inFlight]).toEqual([false, 1]);
    server.resume();
    await sent;
    expect(link.inFlight).toBe(0);
    await until('all of it', () => read > item.length);

    server.pause();
    const lost = failure(link, callOf('seen', { item }));
    server.destroy();
    expect((await lost).code).toBe('resource_failed');
  });

  test('gives each call its own reply, in whatever order a server sends them', async () => {
    const { link, calls } = await linkTo(STRICT);
    const answers = [1, 2, 3].map((n) => send(link, callOf('price', { item: String(n) })));
    await until('the calls', () => calls.length === 3);
    for (const n of [2, 0, 1]) calls[n]?.answer(price(n));
    expect((await Promise.all(answers)).map(({ body }) => body)).toEqual([price(0), price(1), price(2)]);
  });

  test.each([0, 1, -7])('relies on the order of replies when a server answers with sequence id %i', async (seqId) => {
    const { link, calls } = await linkTo(STRICT);
    for (let round = 0; round < 2; round++) {
      const answers = [1, 2].map((n) => send(link, callOf('price', { item: String(n) })));
      await until('the calls', () => calls.length === round * 2 + 2);
      calls.at(-2)?.answer(price(1), { seqId, name: round === 0 ? 'price' : '' });
      calls.at(-1)?.answer(price(2), { seqId });
      expect((await Promise.all(answers)).map(({ body }) => body)).toEqual([price(1), price(2)]);
    }
  });

  test('drops the reply to a oneway call, which some servers send when it failed', async () => {
    const { link, calls } = await linkTo(STRICT);
    await send(link, callOf('seen', { item: 'tea' }));
    const asked = send(link, callOf('price', { item: 'tea' }));
    await until('both calls', () => calls.length === 2);
    calls[0]?.answer(writeApplicationException('broken', 6), { type: MESSAGE_TYPE.exception });
    calls[1]?.answer(price(5));
    expect(await asked).toMatchObject({ isException: false, body: price(5) });
  });

  test.each([
    ['a frame that is too large', Buffer.of(0, 0, 0x10, 1), /4097 bytes is declared, limit is 4096/],
    [
      'nesting that is too deep',
      frameMessage(
        2,
        'price',
        0,
        Buffer.concat([...Array.from({ length: 9 }, () => Buffer.of(12, 0, 1)), Buffer.alloc(10)]),
        NOTHING,
      ),
      /deeper than 8/,
    ],
  ])('fails a call with too_large when it is answered with %s; no other call is to blame', async (_, answer, why) => {
    const { link, server, calls, ends } = await linkTo(STRICT);
    const failed = failure(link, callOf('price', { item: 'tea' }));
    const other = failure(link, callOf('price', { item: 'tea' }));
    await until('the calls', () => calls.length === 2);
    server.write(answer);
    expect(await failed).toMatchObject({ code: 'too_large' });
    expect((await failed).message).toMatch(/^The server answered price beyond the limits: /);
    expect((await failed).message).toMatch(why);
    expect([link.isOpen, ends]).toEqual([false, [await other]]);
    expect(await other).toMatchObject({ code: 'resource_failed', facts: { isSuspect: false } });
  });

  const BREACHES: readonly (readonly [what: string, answer: Buffer, why: RegExp])[] = [
    [
      'what is no Thrift',
      Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
      /Not a strict-binary.*transport framed and protocol binary; check/,
    ],
    ['another protocol', frame(Buffer.from('[1,"price",2,0,{}]')), /Not a strict-binary/],
    ['half a struct', frameMessage(2, 'price', 0, Buffer.of(8, 0, 0, 0, 0), NOTHING), /ends before its struct/],
    ['a call', frameMessage(1, 'price', 0, price(1), NOTHING), /message type 1 where a reply/],
    [
      'the answer to another method',
      frameMessage(2, 'pack', 0, PACKED, NOTHING),
      /replied to "pack", expected a reply to "price"/,
    ],
  ];
  test.each(BREACHES)(
    'closes the connection and fails the call when it is answered with %s',
    async (_, answer, why) => {
      const { link, server, calls, ends } = await linkTo(STRICT);
      const failed = failure(link, callOf('price', { item: 'tea' }));
      await until('the call', () => calls.length === 1);
      server.write(answer);
      const error = await failed;
      expect([error.code, link.isOpen, ends]).toEqual(['resource_failed', false, [error]]);
      expect(error.message).toMatch(/^The server broke the protocol: /);
      expect(error.message).toMatch(why);
      await until('the end', () => server.destroyed || server.readableEnded);
    },
  );

  test('closes the connection when a server that returns ids sends a wrong one, and when it sends an unexpected reply', async () => {
    const kept = await linkTo(STRICT);
    const first = send(kept.link, callOf('price', { item: 'tea' }));
    await until('the call', () => kept.calls.length === 1);
    kept.calls[0]?.answer(price(1));
    await first;
    const failed = failure(kept.link, callOf('price', { item: 'tea' }));
    await until('the call', () => kept.calls.length === 2);
    kept.calls[1]?.answer(price(1), { seqId: 2 });
    expect((await failed).message).toContain('replied with sequence id 2, expected that of the call');

    const unasked = await linkTo(STRICT);
    unasked.server.write(frameMessage(2, 'price', 0, price(1), NOTHING));
    await until('the end', () => unasked.ends.length === 1);
    expect(unasked.ends[0]?.message).toContain('replied to "price", which was not called');
  });

  test('fails calls in flight when the server disconnects, and accepts no more', async () => {
    const { link, server, calls, ends } = await linkTo({ transport: 'buffered', protocol: 'json' });
    const failed = failure(link, callOf('price', { item: 'tea' }));
    server.once('data', () => server.end());
    const { code, message } = await failed;
    expect([code, message]).toEqual([
      'resource_failed',
      'The server closed the connection before it answered anything: it crashed, or does not speak transport buffered and protocol json, as its deployment says',
    ]);
    expect([link.isOpen, link.inFlight, ends.length, calls.length]).toEqual([false, 0, 1, 0]);
    const late = { reply: () => {}, fail: () => {} };
    let thrown: unknown;
    try {
      link.send(callOf('price', { item: 'tea' }), late);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: 'resource_failed', facts: { notRun: true } });
  });

  test('refuses a call that its protocol cannot express, and continues', async () => {
    const { link, server } = await linkTo({ transport: 'buffered', protocol: 'compact' });
    const noType = Buffer.of(7, 0, 1, 0);
    expect((await failure(link, { ...callOf('price', { item: 'tea' }), args: noType })).code).toBe('bad_request');
    const heard: Buffer[] = [];
    server.on('data', (bytes: Buffer) => heard.push(bytes));
    void failure(link, callOf('price', { item: 'tea' }));
    await until('the next call', () => heard.length > 0);
    expect(Buffer.concat(heard).toString('latin1')).toContain('price');
    expect([link.isOpen, link.inFlight]).toEqual([true, 1]);
  });
});

interface Heard {
  readonly type: MessageType;
  answer(
    body: Uint8Array,
    change?: { readonly type?: MessageType; readonly seqId?: number; readonly name?: string },
  ): void;
}

/** A link, and its other end, which collects framed binary calls. */
async function linkTo(
  manner: WireFormat,
): Promise<{ link: PlainLink; server: Socket; calls: Heard[]; ends: KatamariError[] }> {
  const listener: Server = createServer();
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const accepted = new Promise<Socket>((resolve) => listener.once('connection', resolve));
  const socket = connect((listener.address() as AddressInfo).port, '127.0.0.1');
  await new Promise((resolve) => socket.once('connect', resolve));
  const server = await accepted;
  server.on('error', () => {});
  const ends: KatamariError[] = [];
  const link = new PlainLink(socket, {
    peer: 'The server',
    wireFormat: manner,
    limits: LIMITS,
    interface: shop,
    onClose: (error) => ends.push(error),
  });
  opened.push(listener, { close: () => server.destroy() }, link);
  return { link, server, calls: manner === STRICT ? heardOn(server) : [], ends };
}

function heardOn(server: Socket): Heard[] {
  const calls: Heard[] = [];
  const encoding = encodingOf(STRICT, LIMITS);
  let left: Buffer = Buffer.alloc(0);
  server.on('data', (bytes: Buffer) => {
    left = Buffer.concat([left, bytes]);
    for (let end = encoding.next(left, 0, left.length); end !== -1; end = encoding.next(left, 0, left.length)) {
      left = left.subarray(end);
      const { type, name, seqId } = encoding.head as MessageFacts;
      calls.push({
        type,
        answer: (body, change = {}) =>
          void server.write(
            frameMessage(change.type ?? MESSAGE_TYPE.reply, change.name ?? name, change.seqId ?? seqId, body, NOTHING),
          ),
      });
    }
  });
  return calls;
}

function callOf(name: string, params: Readonly<Record<string, unknown>>): Call {
  const args = encodeParams(method(name), params);
  return createCall({ service: 'Shop', method: name, args, deadlineMs: 0, oneway: method(name).oneway });
}

function method(name: string) {
  const found = shop.methods.get(name);
  if (found === undefined) throw new Error(`no method ${name}`);
  return found;
}

function price(value: number): Buffer {
  return encodeResult(method('price'), { ok: true, value });
}

function frame(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function send(link: PlainLink, call: Call): Promise<Reply> {
  return new Promise((resolve, reject) => link.send(call, { reply: resolve, fail: reject }));
}

function failure(link: PlainLink, call: Call): Promise<KatamariError> {
  return new Promise((resolve, reject) =>
    link.send(call, { reply: () => reject(new Error('it was answered')), fail: resolve }),
  );
}
