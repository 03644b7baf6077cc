// Identities on the Thrift port while a token is being verified: replies keep their order, other connections do not
// wait, and nothing of a token reaches a chassis.

import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { ReceiveBuffer } from '../../../core/link/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import { ANONYMOUS, identityOf, type Authenticator, type VerifiedToken } from '../../../core/rpc/mod.ts';
import { encodeStruct } from '../../../core/idl/mod.ts';
import { HeaderEncoding } from '../../../core/thrift/encodings/mod.ts';
import type { Method } from '../../../core/thrift/mod.ts';
import { exchange } from '../../kit/wire/exchange.ts';
import { until } from '../../kit/tools/wait.ts';
import { startFixture, type Fixture } from './fixture.ts';

let fixture: Fixture;
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await fixture.end();
});

/** An authenticator whose verifications the test ends. */
class ManualAuthenticator implements Authenticator {
  readonly asked: string[] = [];
  readonly #verifying = new Map<string, Promise<VerifiedToken>>();
  readonly #waiting = new Map<string, { resolve: (found: VerifiedToken) => void; reject: (error: Error) => void }>();

  anonymous(): typeof ANONYMOUS {
    return ANONYMOUS;
  }

  /** Calls with one token share its verification, as in the real one. */
  verify(token: string): Promise<VerifiedToken> {
    const running = this.#verifying.get(token);
    if (running !== undefined) return running;
    this.asked.push(token);
    const verifying = new Promise<VerifiedToken>((resolve, reject) => this.#waiting.set(token, { resolve, reject }));
    this.#verifying.set(token, verifying);
    return verifying;
  }

  readonly refusals: string[] = [];

  refused(_address: string, why: string): void {
    this.refusals.push(why);
  }

  accept(token: string): void {
    const untilMs = Number.POSITIVE_INFINITY;
    this.#waiting.get(token)?.resolve({ identity: identityOf(`owner of ${token}`, 'jwt'), untilMs });
  }

  refuse(token: string): void {
    const error = new KatamariError('denied', 'The bearer token is not valid', { httpStatus: 401, notRun: true });
    this.#waiting.get(token)?.reject(error);
  }
}

interface Client {
  readonly answers: {
    readonly seqId: number;
    readonly type: number;
    readonly headers: Readonly<Record<string, unknown>>;
  }[];
  call(seqId: number, headers?: Readonly<Record<string, string>>): void;
}

async function start(): Promise<ManualAuthenticator> {
  const authenticator = new ManualAuthenticator();
  const behind = exchange();
  fixture = await startFixture({ behind: { ...behind, mesh: { ...behind.mesh, authenticator } } });
  return authenticator;
}

async function client(): Promise<Client> {
  const socket = connect({ port: fixture.faceplate.port, host: '127.0.0.1' });
  sockets.push(socket);
  const limits = { frameBytesMax: 1 << 24, nestingMax: 64 };
  const [reader, writer] = [new HeaderEncoding(limits), new HeaderEncoding(limits)];
  const input = new ReceiveBuffer();
  const answers: Client['answers'] = [];
  socket.on('data', (chunk: Buffer) => {
    const bytes = input.join(chunk);
    let at = 0;
    for (;;) {
      const next = at < bytes.length ? reader.next(bytes, at, bytes.length) : -1;
      if (next === -1) break;
      at = next;
      const { seqId = 0, type = 0 } = reader.head ?? {};
      answers.push({ seqId, type, headers: { ...reader.headers } });
    }
    input.keep(bytes, at);
  });
  await new Promise((resolve) => socket.once('connect', resolve));
  const add = fixture.behind.interface.methods.get('add') as Method;
  return {
    answers,
    call(seqId, headers = {}) {
      const pieces: Uint8Array[] = [];
      writer.write(1, 'add', seqId, encodeStruct(add.args, { a: seqId, b: 1 }), pieces, undefined, headers);
      socket.write(Buffer.concat(pieces));
    },
  };
}

const bearer = (token: string): Record<string, string> => ({ Authorization: `Bearer ${token}`, 'x-colour': 'blue' });

describe('While a token is verified', () => {
  test('replies keep their order, other connections are served, and later calls need no verification', async () => {
    const authenticator = await start();
    const [slow, other] = [await client(), await client()];
    slow.call(1);
    slow.call(2, bearer('t1'));
    slow.call(3);
    slow.call(4, bearer('t1'));
    await until('the token to be asked for', () => authenticator.asked.length === 1);
    for (let n = 1; n <= 20; n++) other.call(n);
    await until('the other connection to be served', () => other.answers.length === 20);
    await until('the first reply', () => slow.answers.length === 1);
    expect(slow.answers.map(({ seqId }) => seqId)).toEqual([1]);
    authenticator.accept('t1');
    await until('all replies', () => slow.answers.length === 4);
    expect(slow.answers.map(({ seqId, type }) => [seqId, type])).toEqual([1, 2, 3, 4].map((n) => [n, 2]));
    slow.call(5, bearer('t1'));
    await until('one more reply', () => slow.answers.length === 5);
    expect(authenticator.asked).toEqual(['t1']);
    const names = fixture.behind.calls
      .filter(({ headers }) => headers['x-colour'] === 'blue')
      .map(({ identity }) => identity.name);
    expect(new Set(names)).toEqual(new Set(['owner of t1']));
    expect(JSON.stringify(fixture.behind.calls.map(({ headers }) => headers))).not.toMatch(/bearer|authorization|t1/i);
  });

  test('a token that is refused fails its own call, with a challenge', async () => {
    const authenticator = await start();
    const one = await client();
    one.call(1, bearer('bad'));
    one.call(2);
    await until('the token to be asked for', () => authenticator.asked.length === 1);
    authenticator.refuse('bad');
    await until('both replies', () => one.answers.length === 2);
    expect(one.answers[0]).toMatchObject({
      seqId: 1,
      type: 3,
      headers: { 'katamari-error': 'denied', 'www-authenticate': 'Bearer realm="katamari"' },
    });
    expect(one.answers[1]).toMatchObject({ seqId: 2, type: 2 });
    expect(fixture.behind.calls).toHaveLength(1);
  });

  test('a client that leaves ends its call, which never runs', async () => {
    const authenticator = await start();
    const [leaving, staying] = [await client(), await client()];
    leaving.call(1, bearer('t2'));
    await until('the token to be asked for', () => authenticator.asked.length === 1);
    sockets[0]?.destroy();
    await until('the connection to be gone', () => fixture.faceplate.connections() === 1);
    authenticator.accept('t2');
    staying.call(2);
    await until('a reply', () => staying.answers.length === 1);
    expect(fixture.behind.calls.map(({ identity }) => identity)).toEqual([ANONYMOUS]);
  });
});
