// What the Thrift faceplate does for THeader clients that match replies by sequence id: replies in any order, errors
// with their facts, and a notice before the connection closes.

import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { exchange } from '../../kit/wire/exchange.ts';
import { rawClient } from '../../kit/wire/raw-http.ts';
import { until } from '../../kit/tools/wait.ts';
import { encodeStruct } from '../../../core/idl/mod.ts';
import { ReceiveBuffer } from '../../../core/link/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import type { Send } from '../../../core/rpc/mod.ts';
import { HeaderEncoding } from '../../../core/thrift/encodings/mod.ts';
import type { Method } from '../../../core/thrift/mod.ts';
import { startFixture, type Fixture } from './fixture.ts';

interface Seen {
  readonly seqId: number;
  readonly type: number;
  readonly name: string;
  readonly headers: Readonly<Record<string, unknown>>;
}

interface Client {
  readonly socket: Socket;
  readonly answers: readonly Seen[];
  call(seqId: number, method: string, args: Record<string, unknown>, headers?: Record<string, string>): void;
  isEnded(): boolean;
}

let fixture: Fixture;
beforeEach(async () => {
  fixture = await startFixture();
});
afterEach(() => fixture.end());

const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});

const LIMITS = { frameBytesMax: 1 << 24, nestingMax: 64 };
const ANY = { 'katamari-any-order': '1' };

async function headerClient(): Promise<Client> {
  const socket = connect({ port: fixture.faceplate.port, host: '127.0.0.1', allowHalfOpen: true });
  sockets.push(socket);
  const encoding = new HeaderEncoding(LIMITS);
  const inbox = new ReceiveBuffer();
  const answers: Seen[] = [];
  let isEnded = false;
  socket.on('data', (chunk: Buffer) => {
    const bytes = inbox.join(chunk);
    let at = 0;
    for (;;) {
      const next = at < bytes.length ? encoding.next(bytes, at, bytes.length) : -1;
      if (next === -1) break;
      at = next;
      const { seqId = 0, type = 0, name = '' } = encoding.head ?? {};
      answers.push({ seqId, type, name, headers: { ...encoding.headers } });
    }
    inbox.keep(bytes, at);
  });
  socket.on('end', () => {
    isEnded = true;
  });
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('connect', resolve));
  return {
    socket,
    answers,
    call(seqId, method, args, headers = {}) {
      const pieces: Uint8Array[] = [];
      const { args: struct } = fixture.behind.interface.methods.get(method) as Method;
      new HeaderEncoding(LIMITS).write(1, method, seqId, encodeStruct(struct, args), pieces, undefined, headers);
      socket.write(Buffer.concat(pieces));
    },
    isEnded: () => isEnded,
  };
}

const ids = ({ answers }: Client): number[] => answers.map(({ seqId }) => seqId);
const held = (count: number): Promise<unknown> => until(`${count} calls`, () => fixture.behind.held().length === count);

describe('katamari-any-order', () => {
  test('lets a reply overtake earlier ones', async () => {
    const client = await headerClient();
    client.call(1, 'hold', { key: 'a' }, ANY);
    client.call(2, 'hold', { key: 'b' }, ANY);
    client.call(3, 'add', { a: 1, b: 2 }, ANY);
    await held(2);
    await until('the sum', () => client.answers.length === 1);
    fixture.behind.release('b');
    await until('b', () => client.answers.length === 2);
    fixture.behind.release('a');
    await until('a', () => client.answers.length === 3);
    expect(ids(client)).toEqual([3, 2, 1]);
    expect(client.answers[0]).toEqual({ seqId: 3, type: 2, name: 'add', headers: { 'katamari-version': '1.0.0' } });
    expect(fixture.callStats.sums()).toMatchObject({ accepted: 3, replied: 3, inFlight: 0 });
  });

  test('keeps calls without it in order among themselves, and delays none of them', async () => {
    const client = await headerClient();
    client.call(1, 'hold', { key: 'loose' }, ANY);
    client.call(2, 'hold', { key: 'first' });
    client.call(3, 'add', { a: 1, b: 2 });
    client.call(4, 'add', { a: 1, b: 2 }, ANY);
    await held(2);
    await until('the one that may', () => client.answers.length === 1);
    fixture.behind.release('first');
    await until('those in line', () => client.answers.length === 3);
    fixture.behind.release('loose');
    await until('the last', () => client.answers.length === 4);
    expect(ids(client)).toEqual([4, 2, 3, 1]);
  });

  test('with an invalid value is refused', async () => {
    const client = await headerClient();
    client.call(1, 'add', { a: 1, b: 2 }, { 'katamari-any-order': 'yes' });
    client.call(2, 'add', { a: 1, b: 2 });
    await until('both', () => client.answers.length === 2);
    expect(client.answers.map(({ type, headers }) => [type, headers['katamari-error']])).toEqual([
      [3, 'bad_request'],
      [2, undefined],
    ]);
  });

  test('is ignored over HTTP, where replies have no ids', async () => {
    const bytes = fixture.bytes('add', { a: 1, b: 2 }, { framed: false });
    const head = `POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-thrift\r\nkatamari-any-order: 1\r\ncontent-length: ${bytes.length}\r\nconnection: close\r\n\r\n`;
    const client = await rawClient(fixture.faceplate.port, Buffer.concat([Buffer.from(head), bytes]));
    const answer = await client.closed();
    expect(answer).toContain('200 OK');
  });

  test('cancels and counts the calls of a client that disconnects', async () => {
    const client = await headerClient();
    client.call(1, 'hold', { key: 'a' }, ANY);
    client.call(2, 'hold', { key: 'b' });
    await held(2);
    client.socket.destroy();
    await until('the call statistics', () => fixture.callStats.sums().cancelled === 2);
    expect(fixture.callStats.sums()).toMatchObject({ accepted: 2, inFlight: 0 });
  });
});

describe('The headers of an error', () => {
  test('contain its code, its stage and the other facts', async () => {
    const client = await headerClient();
    client.call(1, 'hold', { key: 'x' }, { 'katamari-timeout-ms': '20' });
    client.call(2, 'add', { a: 1, b: 2 }, { 'katamari-version': '9' });
    client.call(3, 'fail', { why: 'x' });
    await until('all', () => client.answers.length === 3);
    expect(client.answers.map(({ type, headers }) => [type, headers])).toEqual([
      [3, { 'katamari-error': 'timeout', 'katamari-stage': 'service' }],
      [3, { 'katamari-error': 'no_pool' }],
      [3, { 'katamari-version': '1.0.0' }],
    ]);
  });

  test('say that a call has certainly not run, and when to retry', async () => {
    await fixture.end();
    const behind = exchange();
    const full = new KatamariError('overloaded', 'full', { retryAfterMs: 12.3, notRun: true });
    const send: Send = (_call, sink) => sink.fail(full);
    fixture = await startFixture({ behind: { ...behind, mesh: { ...behind.mesh, send } } });
    const client = await headerClient();
    client.call(1, 'add', { a: 1, b: 2 });
    await until('it', () => client.answers.length === 1);
    expect(client.answers[0]?.headers).toEqual({
      'katamari-error': 'overloaded',
      'katamari-retry-after-ms': '13',
      'katamari-not-run': '1',
    });
  });
});

describe('A drain', () => {
  const word = { seqId: 0, type: 3, name: '', headers: { 'katamari-error': 'draining' } };
  const lastWord = { ...word, headers: { 'katamari-error': 'draining', 'katamari-not-run': '1' } };

  test('is announced at once to an idle client that uses ids, and so is its end', async () => {
    const client = await headerClient();
    client.call(1, 'add', { a: 1, b: 2 }, ANY);
    await until('the sum', () => client.answers.length === 1);
    const drained = fixture.faceplate.drain();
    await until('the end', () => client.isEnded());
    expect(client.answers.slice(1)).toEqual([word, lastWord]);
    client.socket.end();
    await drained;
  });

  test('is announced before the replies to calls in flight, and its end after them', async () => {
    const client = await headerClient();
    client.call(1, 'hold', { key: 'x' }, ANY);
    await held(1);
    const drained = fixture.faceplate.drain();
    await until('the word', () => client.answers.length === 1);
    client.call(2, 'add', { a: 1, b: 2 }, ANY);
    await until('the refusal', () => client.answers.length === 2);
    fixture.behind.release('x');
    await until('the end', () => client.isEnded());
    expect(client.answers[0]).toEqual(word);
    expect(client.answers[1]).toMatchObject({
      seqId: 2,
      headers: { 'katamari-error': 'draining', 'katamari-not-run': '1' },
    });
    expect(client.answers[2]).toMatchObject({ seqId: 1, type: 2 });
    expect(client.answers[3]).toEqual(lastWord);
    client.socket.end();
    await drained;
    expect(fixture.behind.handled.map(({ method }) => method)).toEqual(['hold']);
  });

  test('of one connection that was idle for too long is announced in the same way', async () => {
    await fixture.end();
    fixture = await startFixture({ limits: { idleMs: 60 } });
    const client = await headerClient();
    client.call(1, 'add', { a: 1, b: 2 }, ANY);
    await until('the end', () => client.isEnded());
    expect(client.answers.slice(1)).toEqual([lastWord]);
  });

  test('is not announced to clients that rely on the order of replies', async () => {
    const client = await headerClient();
    client.call(1, 'add', { a: 1, b: 2 });
    await until('the sum', () => client.answers.length === 1);
    await fixture.faceplate.drain();
    await until('the end', () => client.isEnded());
    expect(client.answers.length).toBe(1);
  });
});
