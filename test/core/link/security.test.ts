// Authentication of links: TLS, shared secret, both and none, over real sockets, and the errors of peers that do not
// match.

import { readFileSync } from 'node:fs';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { makeAuthority, type TestAuthority } from '../../kit/tools/certificates.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { drainNotice } from '../../../core/link/control-messages.ts';
import { ClientHandshake, ServerHandshake } from '../../../core/link/handshake.ts';
import {
  connectLink,
  isLoopback,
  parseLinkAddress,
  type LinkSecurity,
  startLinkServer,
  type LinkServer,
  Link,
} from '../../../core/link/mod.ts';
import type { LinkServerOptions } from '../../../core/link/server-options.ts';
import { AUTHENTICATION_MS, UNAUTHENTICATED_MAX } from '../../../core/link/server.ts';
import { systemClock, type Clock, KatamariError, DEFAULT_LIMITS } from '../../../core/mod.ts';
import { createCall, EMPTY_STRUCT, NO_REPLY_CONTEXT, sendOf, type Call, type Dispatch } from '../../../core/rpc/mod.ts';
import { writeApplicationException, frameMessage, MESSAGE_TYPE, NOTHING } from '../../../core/thrift/mod.ts';
import { until } from '../../kit/tools/wait.ts';
/** Field 1 as i32, and the stop byte. */
const ARGS = Buffer.from('0800010000002a00', 'hex');
const PLAIN_CALL = frameMessage(MESSAGE_TYPE.call, 'Calculator:add', 7, NOTHING, ARGS);
const SECRET = 'a long and random secret of the mesh';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const authorities: TestAuthority[] = [];
type Tls = NonNullable<LinkSecurity['tls']>;
let [own, other, ownButTrustsOther, otherButTrustsOwn] = [] as unknown as [Tls, Tls, Tls, Tls];
beforeAll(() => {
  const [ours, theirs] = [makeAuthority('the mesh'), makeAuthority('somebody else')];
  authorities.push(ours, theirs);
  own = tlsOf(ours);
  other = tlsOf(theirs);
  ownButTrustsOther = { ...own, ca: other.ca };
  otherButTrustsOwn = { ...other, ca: own.ca };
});
afterAll(() => {
  for (const authority of authorities) authority.close();
});

/** A certificate for a name that no client connects to; names are not compared. */
function tlsOf(authority: TestAuthority): Tls {
  const { certFile, keyFile } = authority.sign('member', ['DNS:member.example']);
  return {
    ca: readFileSync(authority.caFile, 'utf8'),
    cert: readFileSync(certFile, 'utf8'),
    key: readFileSync(keyFile, 'utf8'),
  };
}

const kinds: readonly (readonly [name: string, security: () => LinkSecurity | undefined])[] = [
  ['no security', () => undefined],
  ['an empty security', () => ({ secrets: [], tls: undefined })],
  ['a secret', () => ({ secrets: [SECRET], tls: undefined })],
  ['TLS', () => ({ secrets: [], tls: own })],
  ['TLS and a secret', () => ({ secrets: [SECRET], tls: own })],
];

for (const [name, security] of kinds) {
  describe(`A link with ${name}`, () => {
    const listens = {
      'over IPv4': () => 'tcp:127.0.0.1:0',
      'over a host name': () => 'tcp:localhost:0',
      'over a Unix socket': () => {
        const folder = mkdtempSync(path.join(tmpdir(), 'katamari-link-'));
        closers.push(() => rmSync(folder, { recursive: true }));
        return `unix:${path.join(folder, 'link')}`;
      },
    };
    for (const [where, listen] of Object.entries(listens)) {
      test(`carries calls ${where}, long after the handshake`, async () => {
        const clock = new ManualClock();
        const server = await serve({ security: security(), clock }, listen());
        const link = await linkTo(server.address, security());
        const args = Buffer.concat([Buffer.from('0b000100100000', 'hex'), Buffer.alloc(1 << 20, 'x'), EMPTY_STRUCT]);
        for (let i = 0; i < 3; i++) {
          const replies = await Promise.all([
            link.dispatch(systemClock)(aCall({ args })),
            link.dispatch(systemClock)(aCall()),
          ]);
          expect(replies.map(({ body }) => body.length)).toEqual([args.length, ARGS.length]);
          expect([server.connections(), server.unauthenticated()]).toEqual([1, 0]);
          clock.advance(AUTHENTICATION_MS * 2);
        }
        expect(await link.ping(5_000)).toBeGreaterThanOrEqual(0);
        await server.drain();
        await until('the link to close', () => !link.isOpen);
        expect(server.connections()).toBe(0);
      });
    }

    test('closes with calls in flight when its peer does, at either end', async () => {
      let begun = 0;
      const aborted: string[] = [];
      const never: Dispatch = (call) =>
        new Promise((_, reject) => {
          begun++;
          const signal = call.signal as AbortSignal;
          signal.addEventListener('abort', () => {
            aborted.push((signal.reason as KatamariError).code);
            reject(new KatamariError('cancelled', 'gone'));
          });
        });
      const server = await serve({ security: security(), send: sendOf(never) });
      const [first, second] = [await linkTo(server.address, security()), await linkTo(server.address, security())];
      const ends = [first, second].map((link) => codeOf(link.dispatch(systemClock)(aCall())));
      await until('both calls to begin', () => begun === 2);
      first.close();
      await until('the first call to be given up', () => aborted.length === 1);
      await server.close();
      expect(await Promise.all(ends)).toEqual(['resource_failed', 'resource_failed']);
      expect(aborted).toEqual(['cancelled', 'cancelled']);
      expect([server.connections(), server.inFlight()]).toEqual([0, 0]);
    });
  });
}

describe('connectLink()', () => {
  type Case = readonly [
    what: string,
    server: () => LinkSecurity,
    client: () => LinkSecurity | undefined,
    message: RegExp,
  ];
  const misfits: readonly Case[] = [
    [
      'has another secret',
      () => ({ secrets: [SECRET], tls: undefined }),
      () => ({ secrets: ['some other secret'], tls: undefined }),
      /refused this side: The secrets differ: configure the same one/,
    ],
    [
      'has another secret, over TLS',
      () => ({ secrets: [SECRET], tls: own }),
      () => ({ secrets: ['some other secret'], tls: own }),
      /refused this side: The secrets differ: configure the same one/,
    ],
    [
      'has no secret where one is wanted',
      () => ({ secrets: [SECRET], tls: undefined }),
      () => undefined,
      /requires the secret of the mesh and this side has none: configure/,
    ],
    [
      'has certificates where the secret is wanted too',
      () => ({ secrets: [SECRET], tls: own }),
      () => ({ secrets: [], tls: own }),
      /requires the secret of the mesh and this side has none: configure/,
    ],
    [
      'has a secret where none is wanted',
      () => ({ secrets: [], tls: undefined }),
      () => ({ secrets: [SECRET], tls: undefined }),
      /requires no secret and this side has one: configure/,
    ],
    [
      'has no TLS where it is wanted',
      () => ({ secrets: [], tls: own }),
      () => undefined,
      /requires TLS and this side has none.*configure/s,
    ],
    [
      'has only the secret where TLS is wanted',
      () => ({ secrets: [SECRET], tls: own }),
      () => ({ secrets: [SECRET], tls: undefined }),
      /requires TLS and this side has none.*configure/s,
    ],
    [
      'has TLS where there is none',
      () => ({ secrets: [SECRET], tls: undefined }),
      () => ({ secrets: [SECRET], tls: own }),
      /failed at TLS.*it does not use TLS: configure/s,
    ],
    [
      'shows a certificate of another CA',
      () => ({ secrets: [], tls: own }),
      () => ({ secrets: [], tls: otherButTrustsOwn }),
      /certificate of this side.*not of its CA/s,
    ],
    [
      'is shown a certificate of another CA',
      () => ({ secrets: [], tls: own }),
      () => ({ secrets: [], tls: ownButTrustsOther }),
      /failed at TLS.*its certificate is not of the CA that is configured here/s,
    ],
  ];
  /** What the server reports of them. In the other cases the client leaves first. */
  const REFUSED_BY_THE_SERVER: ReadonlyMap<string, RegExp> = new Map([
    ['has another secret', /^127\.0\.0\.1 The secrets differ/],
    ['has another secret, over TLS', /^127\.0\.0\.1 The secrets differ/],
    ['has no TLS where it is wanted', /Its TLS handshake failed: \w/],
    ['has only the secret where TLS is wanted', /Its TLS handshake failed: \w/],
    ['has TLS where there is none', /^127\.0\.0\.1 \w/],
    ['shows a certificate of another CA', /Its TLS handshake failed: .*(certificate|CERT|ISSUER|SIGNATURE)/i],
  ]);
  for (const [what, serverSide, clientSide, message] of misfits) {
    test(`that ${what} is denied with an error that says what to do; no call is read`, async () => {
      let calls = 0;
      const dispatch: Dispatch = async () => {
        calls++;
        return { isException: false, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT };
      };
      const told: string[] = [];
      const onRefused = (from: string, why: string): void => void told.push(`${from} ${why}`);
      const server = await serve({ security: serverSide(), send: sendOf(dispatch), onRefused });
      const error = await failureOf(dial(server.address, clientSide()));
      expect(error.message).toMatch(message);
      expect(error.message).toContain(server.address);
      expect({ code: error.code, facts: error.facts }).toEqual({ code: 'denied', facts: { notRun: true } });
      await until('the peer to be removed', () => server.unauthenticated() + server.connections() === 0);
      expect(calls).toBe(0);
      const expected = REFUSED_BY_THE_SERVER.get(what);
      if (expected !== undefined) {
        await until('the report', () => told.length > 0);
        expect(told).toEqual([expect.stringMatching(expected)]);
        expect(told[0]).not.toMatch(/[\n\r]|\.c:/);
      }
    });
  }

  const strange: readonly (readonly [what: string, answer: (socket: Socket) => void, code: string, message: RegExp])[] =
    [
      [
        'closes at once',
        (socket) => socket.destroy(),
        'denied',
        /closed the connection before it answered: it requires TLS/,
      ],
      [
        'speaks HTTP',
        (socket) => void socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'),
        'denied',
        /did not speak the link protocol .*is this its link address/,
      ],
      [
        'is a plain Thrift server',
        (socket) =>
          void socket.write(frameMessage(3, 'hello', 1, NOTHING, writeApplicationException('no such method', 1))),
        'denied',
        /refused this side: no such method/,
      ],
      [
        'answers with a call',
        (socket) => void socket.write(frameMessage(1, 'hello', 1, NOTHING, EMPTY_STRUCT)),
        'denied',
        /did not speak the link protocol/,
      ],
      [
        'answers with too long a frame',
        (socket) => void socket.write(Buffer.from('00ffffff', 'hex')),
        'denied',
        /did not speak the link protocol \(a frame of 16777215 bytes, limit is/,
      ],
      [
        'says that it wants TLS',
        (socket) => void socket.write(Buffer.from('15030100020246', 'hex')),
        'denied',
        /requires TLS and this side has none: configure/,
      ],
      ['says nothing', () => {}, 'resource_failed', /accepted a connection and did not answer within 50 ms/],
    ];
  for (const [what, answer, code, message] of strange) {
    test(`to a peer that ${what} fails in time with a message`, async () => {
      const address = await peerThat((socket) => socket.once('data', () => answer(socket)));
      const error = await failureOf(
        dial(address, { secrets: [SECRET], tls: undefined }, 50 + (code === 'denied' ? 9_950 : 0)),
      );
      expect(error.message).toMatch(message);
      expect({ code: error.code, facts: error.facts }).toEqual({ code, facts: { notRun: true } });
    });
  }

  test('over TLS to a silent peer fails in time', async () => {
    const error = await failureOf(dial(await peerThat(() => {}), { secrets: [], tls: own }, 50));
    expect(error.message).toMatch(/did not answer within 50 ms/);
    expect(error.code).toBe('resource_failed');
  });

  test('names a port where nothing listens, and a socket that does not exist', async () => {
    const server = await serve({});
    await server.close();
    for (const tls of [undefined, own]) {
      const error = await failureOf(dial(server.address, { secrets: [], tls }));
      expect(error.message).toMatch(/cannot be reached .*nothing listens there. Is that process running/s);
      expect({ code: error.code, facts: error.facts }).toEqual({ code: 'resource_failed', facts: { notRun: true } });
    }
    const error = await failureOf(dial(`unix:${path.join(tmpdir(), 'katamari-link-nobody')}`, undefined));
    expect(error.message).toMatch(/there is no such socket/);
  });

  test('names an invalid address and unreadable certificates', async () => {
    await expect(dial('127.0.0.1:9070', undefined)).rejects.toMatchObject({ code: 'bad_request' });
    const server = await serve({ security: { secrets: [], tls: own } });
    const broken: readonly (readonly [Partial<Tls>, RegExp])[] = [
      [{ ca: 'no CA' }, /The CA of the link is not valid PEM text/],
      [{ cert: '' }, /The certificate of the link is not valid PEM text/],
      [{ key: own.cert }, /The key of the link is not valid PEM text/],
      [{ key: other.key }, /The key of the link does not belong to its certificate\. Expected the CA/],
    ];
    for (const [change, message] of broken) {
      const security = { secrets: [], tls: { ...own, ...change } };
      const errors = [await failureOf(dial(server.address, security)), await failureOf(serve({ security }))];
      for (const error of errors) expect(error.message).toMatch(message);
      expect(errors.map(({ code }) => code)).toEqual(['bad_request', 'bad_request']);
    }
  });

  test('is aborted by its signal, before and during the handshake', async () => {
    const address = await peerThat(() => {});
    const end = new AbortController();
    const dialled = failureOf(connectLink(address, { security: undefined, timeoutMs: 60_000, signal: end.signal }));
    end.abort();
    expect((await dialled).code).toBe('cancelled');
    const again = failureOf(connectLink(address, { security: undefined, timeoutMs: 60_000, signal: end.signal }));
    expect((await again).code).toBe('cancelled');
  });

  test('passes on the bytes after the handshake, however late the Link is created', async () => {
    const address = await peerThat((socket) => {
      const out: Buffer[] = [];
      const handshake = new ServerHandshake([SECRET], (bytes) => void out.push(bytes));
      socket.on('data', (chunk) => {
        if (handshake.push(chunk) !== undefined) out.push(drainNotice());
        socket.write(Buffer.concat(out.splice(0)));
      });
    });
    const socket = await dial(address, { secrets: [SECRET], tls: undefined });
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    const link = new Link(socket, { peer: 'The peer', limits: DEFAULT_LIMITS });
    await until('the notice to be read', () => link.isDraining);
  });

  test('leaves a socket whose end its Link still sees, and whose errors do not crash the process', async () => {
    let peer: Socket | undefined;
    const address = await peerThat((socket) => {
      peer = socket;
      const handshake = new ServerHandshake([SECRET], (bytes) => void socket.write(bytes));
      socket.on('data', (chunk) => void handshake.push(chunk));
    });
    const socket = await dial(address, { secrets: [SECRET], tls: undefined });
    peer?.resetAndDestroy();
    socket.write('x');
    await new Promise((resolve) => setTimeout(resolve, 20));
    const ends: string[] = [];
    const link = new Link(socket, {
      peer: 'The peer',
      limits: DEFAULT_LIMITS,
      onClose: (error) => ends.push(error.code),
    });
    await until('the link to learn of it', () => !link.isOpen && ends.length === 1);
  });
});

describe('A link server with a secret', () => {
  const secured = { secrets: [SECRET], tls: undefined };

  test('reads no call of an unauthenticated peer, says why and closes', async () => {
    let calls = 0;
    const dispatch: Dispatch = async () => {
      calls++;
      return { isException: false, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT };
    };
    const server = await serve({ security: secured, send: sendOf(dispatch) });
    const stranger = await raw(server.address);
    stranger.socket.write(Buffer.concat([PLAIN_CALL, PLAIN_CALL]));
    await stranger.closed;
    expect(stranger.received().toString('latin1')).toMatch(/This link requires the secret of the mesh/);
    await until('the peer to be removed', () => server.unauthenticated() === 0);
    expect([calls, server.connections()]).toEqual([0, 0]);
  });

  const early: readonly (readonly [what: string, bytes: Buffer])[] = [
    ['a proof without a hello', frameMessage(1, 'katamari.Link:prove', 1, binary(Buffer.alloc(32)), EMPTY_STRUCT)],
    ['a ping', frameMessage(1, 'katamari.Link:ping', -1, NOTHING, EMPTY_STRUCT)],
    ['a short nonce', frameMessage(1, 'katamari.Link:hello', 1, binary(Buffer.alloc(8)), EMPTY_STRUCT)],
    ['no nonce', frameMessage(1, 'katamari.Link:hello', 1, NOTHING, EMPTY_STRUCT)],
    ['a oneway call', frameMessage(4, 'Calculator:add', 1, NOTHING, ARGS)],
    ['an empty frame', Buffer.alloc(4)],
    ['a frame over the limit of a handshake', Buffer.from('00000101', 'hex')],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['TLS', Buffer.from('16030100c8010000c40303', 'hex')],
  ];
  for (const [what, bytes] of early) {
    test(`closes the connection of an unauthenticated peer that sends ${what}`, async () => {
      const server = await serve({ security: secured });
      const stranger = await raw(server.address);
      stranger.socket.write(bytes);
      await stranger.closed;
      await until('the peer to be removed', () => server.unauthenticated() === 0);
    });
  }

  test('closes in time the connection of a peer that sends nothing, sends slowly, or stays silent over TLS', async () => {
    for (const security of [secured, { secrets: [], tls: own }, { secrets: [SECRET], tls: own }]) {
      const clock = new ManualClock();
      const server = await serve({ security, clock });
      const [silent, dripping] = [await raw(server.address), await raw(server.address)];
      await until('both to be there', () => server.unauthenticated() === 2);
      for (let i = 0; i < 4; i++) {
        dripping.socket.write(Buffer.from([security.tls === undefined ? 0 : [0x16, 3, 1, 0][i]!]));
        clock.advance(AUTHENTICATION_MS / 4 - 1);
      }
      expect(server.unauthenticated()).toBe(2);
      clock.advance(4);
      await Promise.all([silent.closed, dripping.closed]);
      expect([server.unauthenticated(), clock.waiting]).toEqual([0, 0]);
    }
  });

  test('over TLS closes the connection of a peer that does not authenticate in time', async () => {
    const clock = new ManualClock();
    const server = await serve({ security: { secrets: [SECRET], tls: own }, clock });
    const { connect: connectTls } = await import('node:tls');
    const socket = connectTls({
      port: portOf(server.address),
      host: '127.0.0.1',
      ...own,
      checkServerIdentity: () => undefined,
    });
    socket.on('error', () => {});
    closers.push(() => socket.destroy());
    const closed = new Promise((resolve) => socket.once('close', resolve));
    await new Promise((resolve) => socket.once('secureConnect', resolve));
    socket.resume();
    await until('it to wait for the secret', () => server.unauthenticated() === 1 && clock.waiting === 1);
    clock.advance(AUTHENTICATION_MS * 2);
    await closed;
    expect([server.unauthenticated(), server.connections(), clock.waiting]).toEqual([0, 0, 0]);
  });

  test('limits unauthenticated connections: the oldest is closed, and peers with the secret still connect', async () => {
    const server = await serve({ security: secured });
    const oldest = await raw(server.address);
    await until('the oldest to be there', () => server.unauthenticated() === 1);
    const more = await Promise.all(Array.from({ length: UNAUTHENTICATED_MAX - 1 }, () => raw(server.address)));
    await until('all to be there', () => server.unauthenticated() === UNAUTHENTICATED_MAX);
    const link = await linkTo(server.address, secured);
    await oldest.closed;
    expect((await link.dispatch(systemClock)(aCall())).body.length).toBe(ARGS.length);
    expect([server.connections(), server.unauthenticated()]).toEqual([1, UNAUTHENTICATED_MAX - 1]);
    await server.drain();
    await Promise.all(more.map(({ closed }) => closed));
  });

  test('counts unauthenticated connections among its connections', async () => {
    const server = await serve({ security: secured, limits: { ...DEFAULT_LIMITS, connectionsMax: 2 } });
    await raw(server.address);
    await raw(server.address);
    await until('both to be there', () => server.unauthenticated() === 2);
    const third = await raw(server.address);
    await third.closed;
    expect(server.unauthenticated()).toBe(2);
  });

  test('takes a call that arrives together with the proof, wherever the bytes are cut', async () => {
    const server = await serve({ security: secured });
    for (let cut = 1; cut < 160; cut += 7) {
      const member = await raw(server.address);
      const out: Buffer[] = [];
      const handshake = new ClientHandshake(SECRET, 'the server', (bytes) => void out.push(bytes));
      handshake.begin();
      member.socket.write(Buffer.concat(out.splice(0)));
      const nonce = await until('the nonce', () => (member.received().length > 60 ? member.received() : undefined));
      handshake.push(nonce);
      const bytes = Buffer.concat([...out, PLAIN_CALL]);
      member.socket.write(bytes.subarray(0, cut));
      await new Promise((resolve) => setImmediate(resolve));
      member.socket.write(bytes.subarray(cut));
      await until('the answer', () => member.received().includes(frameMessage(2, 'add', 7, NOTHING, ARGS)));
      member.socket.destroy();
    }
  });

  test('refuses a replayed handshake', async () => {
    const server = await serve({ security: secured });
    const sent: Buffer[] = [];
    const wiretap = await peerThat((socket) => {
      const onward = connect(portOf(server.address), '127.0.0.1');
      closers.push(() => onward.destroy());
      onward.on('error', () => {});
      socket.on('data', (chunk) => {
        sent.push(chunk);
        onward.write(chunk);
      });
      onward.on('data', (chunk) => socket.write(chunk));
    });
    (await linkTo(wiretap, secured)).close();
    const again = await raw(server.address);
    for (const bytes of sent) again.socket.write(bytes);
    await again.closed;
    expect(again.received().toString('latin1')).toMatch(/The secrets differ/);
  });

  test('is rejected by a client whose own proof it sends back', async () => {
    let proof: Buffer | undefined;
    const address = await peerThat((socket) => {
      let nonce: Buffer | undefined;
      socket.on('data', (chunk) => {
        // Framed: 4 bytes length, head, field header of 7 bytes, 32 bytes, stop byte.
        const value = chunk.subarray(chunk.length - 33, chunk.length - 1);
        if (nonce === undefined) {
          nonce = value;
          socket.write(frameMessage(2, 'hello', 1, binary(nonce, 0), EMPTY_STRUCT));
        } else {
          proof = value;
          socket.write(frameMessage(2, 'prove', 2, binary(proof, 0), EMPTY_STRUCT));
        }
      });
    });
    const error = await failureOf(dial(address, secured));
    expect(error.message).toMatch(/it does not know the secret. Find out which program listens there/);
    expect([error.code, proof?.length]).toEqual(['denied', 32]);
  });

  test('never sends the secret over the wire', async () => {
    const server = await serve({ security: secured });
    const seen: Buffer[] = [];
    const wiretap = await peerThat((socket) => {
      const onward = connect(portOf(server.address), '127.0.0.1');
      closers.push(() => onward.destroy());
      socket.on('data', (chunk) => void (seen.push(chunk), onward.write(chunk)));
      onward.on('data', (chunk) => void (seen.push(chunk), socket.write(chunk)));
    });
    const link = await linkTo(wiretap, secured);
    await link.dispatch(systemClock)(aCall());
    const bytes = Buffer.concat(seen);
    expect(bytes.length).toBeGreaterThan(200);
    expect([bytes.includes(SECRET), bytes.includes(SECRET.slice(0, 8))]).toEqual([false, false]);
  });
});

describe('isLoopback()', () => {
  test('recognizes each spelling of an address that other machines cannot reach', () => {
    const near = [
      '127.0.0.1',
      '127.9.8.7',
      'localhost',
      'LOCALHOST',
      '[::1]',
      '[0:0:0:0:0:0:0:1]',
      '[::ffff:127.0.0.1]',
    ];
    for (const host of near) expect([host, isLoopback(parseLinkAddress(`tcp:${host}:9070`))]).toEqual([host, true]);
    expect(isLoopback(parseLinkAddress('unix:/run/link'))).toBe(true);
    const far = ['0.0.0.0', '10.0.0.1', '[::]', '::', '[fe80::1%lo]', '[::ffff:10.0.0.1]', '127.example', 'worker-1'];
    for (const host of far) expect([host, isLoopback(parseLinkAddress(`tcp:${host}:9070`))]).toEqual([host, false]);
    expect(() => parseLinkAddress('tcp::9070')).toThrow('is not a link address');
  });
});

function aCall(change: Partial<Call> = {}): Call {
  return createCall({
    service: 'Calculator',
    method: 'add',
    args: ARGS,
    deadlineMs: performance.now() + 10_000,
    ...change,
  });
}

/** A struct field of type binary. */
function binary(value: Buffer, id = 1): Buffer {
  const head = Buffer.from([11, 0, id, 0, 0, 0, value.length]);
  return Buffer.concat([head, value]);
}

async function serve(
  options: Partial<Omit<LinkServerOptions, 'clock'>> & { clock?: Clock },
  listen = 'tcp:127.0.0.1:0',
): Promise<LinkServer> {
  const server = await startLinkServer(listen, {
    send: sendOf(async ({ args }) => ({ isException: false, body: args, context: NO_REPLY_CONTEXT })),
    limits: DEFAULT_LIMITS,
    timeoutMs: () => 10_000,
    caller: 'test',
    ...options,
  });
  closers.push(() => server.close());
  return server;
}

async function dial(address: string, security: LinkSecurity | undefined, timeoutMs = 10_000): Promise<Socket> {
  const socket = await connectLink(address, { security, timeoutMs });
  closers.push(() => socket.destroy());
  return socket;
}

async function linkTo(address: string, security: LinkSecurity | undefined): Promise<Link> {
  const socket = await dial(address, security);
  const link = new Link(socket, { peer: 'The server', limits: DEFAULT_LIMITS });
  closers.push(() => link.close());
  return link;
}

/** A server that runs a function on each connection. */
async function peerThat(act: (socket: Socket) => void): Promise<string> {
  const server: Server = createServer((socket) => {
    socket.on('error', () => {});
    closers.push(() => socket.destroy());
    act(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => new Promise((resolve) => server.close(resolve)));
  return `tcp:127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A raw connection. */
async function raw(address: string): Promise<{ socket: Socket; closed: Promise<unknown>; received: () => Buffer }> {
  const socket = connect(portOf(address), '127.0.0.1');
  const chunks: Buffer[] = [];
  socket.on('error', () => {});
  socket.on('data', (chunk) => chunks.push(chunk));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  closers.push(() => socket.destroy());
  await new Promise((resolve) => socket.once('connect', resolve));
  return { socket, closed, received: () => Buffer.concat(chunks) };
}

function portOf(address: string): number {
  return Number(address.split(':').at(-1));
}

function codeOf(settles: Promise<unknown>): Promise<string> {
  return settles.then(
    () => 'ok',
    (error: unknown) => (error instanceof KatamariError ? error.code : String(error)),
  );
}

async function failureOf(settles: Promise<unknown>): Promise<KatamariError> {
  const error = await settles.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof KatamariError) return error;
  throw new Error(`Expected a KatamariError, got ${String(error)}`);
}
