// Links over real sockets: against the link server, and against peers that misbehave byte by byte.

import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { FrameReader, startLinkServer, type LinkServer, Link } from '../../../core/link/mod.ts';
import type { LinkServerOptions } from '../../../core/link/server-options.ts';
import { systemClock, KatamariError, DEFAULT_LIMITS, type FaceplateLimits } from '../../../core/mod.ts';
import {
  createCall,
  EMPTY_STRUCT,
  NO_REPLY_CONTEXT,
  sendOf,
  type Call,
  type Dispatch,
  type Reply,
} from '../../../core/rpc/mod.ts';
import {
  writeApplicationException,
  frameMessage,
  NOTHING,
  readHead,
  type MessageHead,
} from '../../../core/thrift/mod.ts';
import { until } from '../../kit/tools/wait.ts';
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** Field 1 as i32, and the stop byte. */
const ARGS = Buffer.from('0800010000002a00', 'hex');

describe('Link and link server', () => {
  test('carry a call with its context, and its reply with its context', async () => {
    const seen: Call[] = [];
    const context = {
      version: '1.2.3',
      queueUs: 12,
      serviceUs: 2 ** 40,
      freeNow: 0,
      queuedNow: 7,
      resource: 'Calculator@1.2.3/0',
    };
    const link = await linkTo(async (call) => {
      seen.push(call);
      return { isException: false, body: ARGS, context };
    });
    const call = createCall({
      service: 'Calculator',
      method: 'add',
      args: ARGS,
      deadlineMs: performance.now() + 5_000,
      version: '^1',
      roles: ['staging'],
      tags: ['a', 'b'],
      details: { region: 'eu', größe: 'ß' },
      key: 'k',
      traceparent: 't',
      tracestate: 's',
      caller: 'test',
      attempt: 2,
      doNotQueue: true,
      group: 'copies 17',
    });
    const reply = await link.dispatch(systemClock)(call);
    expect(reply.context).toEqual(expect.objectContaining(context));
    expect(Buffer.from(reply.body)).toEqual(ARGS);
    const { deadlineMs, signal, args, ...rest } = seen[0] as Call;
    expect(rest).toEqual((({ deadlineMs: _d, signal: _s, args: _a, ...same }) => same)(call));
    expect(Buffer.from(args)).toEqual(ARGS);
    expect(signal?.aborted).toBe(false);
    expect(deadlineMs - performance.now()).toBeGreaterThan(0);
  });

  test('carry every error with its code, message and facts', async () => {
    const facts = { stage: 'queue', retryAfterMs: 250, notRun: true } as const;
    const link = await linkTo(async () => {
      throw new KatamariError('overloaded', 'Cannot wait: 64 wait already', facts);
    });
    await expect(link.dispatch(systemClock)(aCall())).rejects.toMatchObject({
      code: 'overloaded',
      message: 'Cannot wait: 64 wait already',
      facts,
    });
  });

  test('answer 5,000 concurrent calls, each with its own reply, in whatever order they end', async () => {
    const link = await linkTo(async (call) => {
      if (call.args[6] !== undefined && call.args[6] % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
      return { isException: false, body: call.args, context: NO_REPLY_CONTEXT };
    });
    const dispatch = link.dispatch(systemClock);
    const replies = await Promise.all(
      Array.from({ length: 5_000 }, (_, i) => {
        const args = Buffer.from(ARGS);
        args.writeInt32BE(i, 3);
        return dispatch(aCall({ args }));
      }),
    );
    expect(replies.map(({ body }) => Buffer.from(body).readInt32BE(3))).toEqual(
      Array.from({ length: 5_000 }, (_, i) => i),
    );
    expect(link.inFlight).toBe(0);
  });

  test('fail a call or a reply beyond the limits alone, while others are in flight', async () => {
    const limits = { ...DEFAULT_LIMITS, frameBytesMax: 1_000, nestingMax: 8 };
    const deep = (levels: number): Buffer =>
      Buffer.concat([Buffer.from('0c0001'.repeat(levels), 'hex'), Buffer.alloc(levels + 1)]);
    const text = (bytes: number): Buffer =>
      Buffer.concat([
        Buffer.from('0b0001', 'hex'),
        Buffer.from([bytes >> 24, bytes >> 16, bytes >> 8, bytes]),
        Buffer.alloc(bytes + 1),
      ]);
    let release = (): void => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    const answers: Readonly<Record<string, Buffer>> = { large: text(2_000_000), deep: deep(20), ok: ARGS };
    const answer: Dispatch = async ({ method }) => {
      if (method === 'held') await held;
      return { isException: false, body: answers[method] ?? ARGS, context: NO_REPLY_CONTEXT };
    };
    const ended = async (link: Link, method: string, args: Buffer = ARGS): Promise<string> =>
      await link
        .dispatch(systemClock)(aCall({ method, args }))
        .then(
          () => 'ok',
          ({ code, facts }: KatamariError) => `${code}${facts.notRun === true ? ' not run' : ''}`,
        );
    // The server refuses calls, the server refuses its own replies, and the client refuses replies.
    const [strict, lax] = [await linkTo(answer, limits), await linkTo(answer, DEFAULT_LIMITS, limits)];
    const both = [strict, lax].map((link) => ended(link, 'held'));
    expect(await Promise.all([ended(strict, 'any', text(3_000_000)), ended(strict, 'any', deep(20))])).toEqual([
      'too_large not run',
      'bad_request not run',
    ]);
    for (const link of [strict, lax])
      expect([await ended(link, 'large'), await ended(link, 'deep'), await ended(link, 'ok')]).toEqual([
        'too_large',
        link === lax ? 'too_large' : 'ok',
        'ok',
      ]);
    expect(await ended(lax, 'any', text(2_000_000))).toBe('too_large not run');
    release();
    expect(await Promise.all(both)).toEqual(['ok', 'ok']);
  });

  test('have room for the context beside a message of exactly the limit', async () => {
    const limits = { ...DEFAULT_LIMITS, frameBytesMax: 10_000 };
    const link = await linkTo(
      async ({ args }) => ({ isException: false, body: args, context: NO_REPLY_CONTEXT }),
      limits,
      limits,
    );
    const bytes = 10_000 - 12 - 'echo'.length - 8;
    const args = Buffer.concat([
      Buffer.from('0b0001', 'hex'),
      Buffer.from([0, 0, bytes >> 8, bytes]),
      Buffer.alloc(bytes + 1),
    ]);
    const headers = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`x-${n}`, 'y'.repeat(1_000)]));
    const { body } = await link.dispatch(systemClock)(aCall({ method: 'echo', args, headers }));
    expect(body.length).toBe(args.length);
  });

  test('answer a oneway call like any other, so that the caller knows when it ended', async () => {
    const seen: Call[] = [];
    const link = await linkTo(async (call) => {
      seen.push(call);
      return { isException: false, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT };
    });
    const reply = await link.dispatch(systemClock)(aCall({ oneway: true }));
    expect([...reply.body]).toEqual([0]);
    expect(seen).toHaveLength(1);
    expect(link.inFlight).toBe(0);
  });

  test('notify calls waiting at the server that their caller has disconnected', async () => {
    let aborted = 0;
    let begun = 0;
    const link = await linkTo(
      (call) =>
        new Promise<Reply>((_, reject) => {
          begun++;
          call.signal?.addEventListener('abort', () => {
            aborted++;
            reject(new KatamariError('cancelled', 'gone'));
          });
        }),
    );
    const ends = Array.from({ length: 3 }, () =>
      link
        .dispatch(systemClock)(aCall())
        .catch((error: KatamariError) => error.code),
    );
    await until('the calls to begin', () => begun === 3);
    link.close();
    expect(await Promise.all(ends)).toEqual(['resource_failed', 'resource_failed', 'resource_failed']);
    await until('the calls to be given up', () => aborted === 3);
  });

  test('drain() of the server answers calls in flight and then closes', async () => {
    let release: (() => void) | undefined;
    const { server, link } = await linkAndServer(
      () =>
        new Promise<Reply>((resolve) => {
          release = () => resolve({ isException: false, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT });
        }),
    );
    const answer = link.dispatch(systemClock)(aCall());
    await until('the call to begin', () => release !== undefined);
    const drained = server.drain();
    release?.();
    expect([...(await answer).body]).toEqual([0]);
    await drained;
    await until('the link to close', () => !link.isOpen);
    expect(() => link.send(aCall(), { reply: () => {}, fail: () => {} }, 0)).toThrow(
      expect.objectContaining({ facts: { notRun: true } }) as Error,
    );
  });
});

describe('Link, when its peer', () => {
  test('dies with calls in flight, fails them all at once and reports it once', async () => {
    const closes: string[] = [];
    const link = await linkToPeer(
      (_head, _frame, socket) => void socket.resetAndDestroy(),
      (error) => closes.push(error.message),
    );
    const ends = Array.from({ length: 10 }, () =>
      link
        .dispatch(systemClock)(aCall())
        .catch((error: KatamariError) => error.code),
    );
    expect(new Set(await Promise.all(ends))).toEqual(new Set(['resource_failed']));
    expect(closes).toHaveLength(1);
    expect(link.isOpen).toBe(false);
  });

  test('dies, is marked closed before its calls fail, so that they can be retried elsewhere at once', async () => {
    const told: string[] = [];
    const link = await linkToPeer(
      (_head, _frame, socket) => void socket.destroy(),
      () => told.push('closed'),
    );
    await new Promise<void>((resolve) => {
      const fail = (): void => {
        told.push(`failed, open: ${link.isOpen}`);
        resolve();
      };
      link.send(aCall(), { reply: () => told.push('reply'), fail }, performance.now());
    });
    expect(told).toEqual(['closed', 'failed, open: false']);
  });

  test('answers twice or answers unknown calls, takes the first answer and continues', async () => {
    const link = await linkToPeer((head, _frame, socket) => {
      const answer = frameMessage(2, head.name, head.seqId, NOTHING, EMPTY_STRUCT);
      socket.write(Buffer.concat([frameMessage(2, 'x', 123_456, NOTHING, EMPTY_STRUCT), answer, answer]));
    });
    for (let i = 0; i < 3; i++) expect([...(await link.dispatch(systemClock)(aCall())).body]).toEqual([0]);
    expect(link.isOpen).toBe(true);
  });

  const garbage: readonly [what: string, answer: (head: MessageHead) => Uint8Array, message: RegExp][] = [
    [
      'answers with bytes that are no frame',
      () => Buffer.from('HTTP/1.1 200 OK\r\n\r\n'),
      /broke the protocol: A frame of/,
    ],
    [
      'answers with a frame that is no message',
      () => Buffer.from('00000004deadbeef', 'hex'),
      /broke the protocol: Not a strict-binary/,
    ],
    ['answers with a head cut short', () => Buffer.from('0000000680010002ffff', 'hex'), /ends inside its head/],
    [
      'answers with a call',
      (head) => frameMessage(1, head.name, head.seqId, NOTHING, EMPTY_STRUCT),
      /message type 1 where a reply/,
    ],
    [
      'answers with no body',
      (head) => frameMessage(2, head.name, head.seqId, NOTHING, NOTHING),
      /not one whole struct/,
    ],
    [
      'answers with half a struct',
      (head) => frameMessage(2, head.name, head.seqId, NOTHING, ARGS.subarray(0, 5)),
      /not one whole struct/,
    ],
    [
      'answers with bytes behind the struct',
      (head) => frameMessage(2, head.name, head.seqId, ARGS, ARGS),
      /not one whole struct/,
    ],
    [
      'answers with types that do not exist',
      (head) => frameMessage(2, head.name, head.seqId, NOTHING, Buffer.from('050001', 'hex')),
      /Type 5 is not a Thrift type/,
    ],
    [
      'answers with a context that is none',
      (head) => frameMessage(2, head.name, head.seqId, Buffer.from('0c7fff0b0002000000017800', 'hex'), EMPTY_STRUCT),
      /context in field 32767/,
    ],
  ];
  for (const [what, answer, message] of garbage) {
    test(`${what}, fails the call and closes`, async () => {
      const link = await linkToPeer((head, _frame, socket) => void socket.write(answer(head)));
      await expect(link.dispatch(systemClock)(aCall())).rejects.toThrow(message);
      await until('the link to end', () => !link.isOpen);
    });
  }

  test('answers with an exception and no context, takes it as the reply', async () => {
    const body = writeApplicationException('no such method', 1);
    const link = await linkToPeer(
      (head, _frame, socket) => void socket.write(frameMessage(3, head.name, head.seqId, NOTHING, body)),
    );
    const reply = await link.dispatch(systemClock)(aCall());
    expect(reply.isException).toBe(true);
    expect(Buffer.from(reply.body)).toEqual(body);
  });
});

describe('Link server, when its peer', () => {
  const hostile: readonly [what: string, bytes: Buffer][] = [
    ['speaks HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['declares a frame over the limit', Buffer.from('7fffffff80010001', 'hex')],
    ['sends a reply', frameMessage(2, 'add', 1, NOTHING, ARGS)],
    ['sends half a struct', frameMessage(1, 'add', 1, NOTHING, ARGS.subarray(0, 5))],
    ['sends bytes behind the struct', frameMessage(1, 'add', 1, ARGS, ARGS)],
    ['sends a context that is none', frameMessage(1, 'add', 1, Buffer.from('0c7fff08000100000000', 'hex'), ARGS)],
  ];
  for (const [what, bytes] of hostile) {
    test(`${what}, closes that connection only and dispatches nothing`, async () => {
      let calls = 0;
      const { server, link } = await linkAndServer(async () => {
        calls++;
        return { isException: false, body: EMPTY_STRUCT, context: NO_REPLY_CONTEXT };
      });
      const socket = await socketTo(server.address);
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.write(bytes);
      await closed;
      expect(calls).toBe(0);
      expect([...(await link.dispatch(systemClock)(aCall())).body]).toEqual([0]);
      await until('the connection to be removed', () => server.connections() === 1);
    });
  }

  test('leaves a frame incomplete for too long, closes; slow frames that are in time are served', async () => {
    let act: (() => void) | undefined;
    let nowMs = 0;
    const clock = {
      nowMs: () => nowMs,
      after: (_ms: number, run: () => void) => {
        act = run;
        return () => {
          act = undefined;
        };
      },
    };
    const frame = frameMessage(1, 'add', 1, NOTHING, ARGS);
    const { server } = await linkAndServer(
      async (call) => ({ isException: false, body: call.args, context: NO_REPLY_CONTEXT }),
      { clock },
    );
    const socket = await socketTo(server.address);
    let answers = 0;
    const reader = new FrameReader(1_000, () => answers++);
    socket.on('data', (chunk) => reader.push(chunk));
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.write(frame.subarray(0, 10));
    // Each write ends one frame and begins the next: always inside a frame, never late.
    for (let i = 1; i <= 5; i++) {
      nowMs += 20_000;
      socket.write(Buffer.concat([frame.subarray(10), frame.subarray(0, 10)]));
      await until('an answer', () => answers === i);
      act?.();
    }
    expect(server.connections()).toBe(2);
    nowMs += 30_000;
    act?.();
    await closed;
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

async function linkTo(
  dispatch: Dispatch,
  serverLimits: FaceplateLimits = DEFAULT_LIMITS,
  linkLimits: FaceplateLimits = DEFAULT_LIMITS,
): Promise<Link> {
  return (await linkAndServer(dispatch, { serverLimits, linkLimits })).link;
}

async function linkAndServer(
  dispatch: Dispatch,
  options: {
    clock?: LinkServerOptions['clock'];
    serverLimits?: FaceplateLimits;
    linkLimits?: FaceplateLimits;
  } = {},
): Promise<{ server: LinkServer; link: Link }> {
  const { clock, serverLimits = DEFAULT_LIMITS, linkLimits = DEFAULT_LIMITS } = options;
  const server = await startLinkServer('tcp:127.0.0.1:0', {
    send: sendOf(dispatch),
    limits: serverLimits,
    timeoutMs: () => 10_000,
    caller: 'test',
    ...(clock === undefined ? {} : { clock }),
  });
  closers.push(() => server.close());
  const link = new Link(await socketTo(server.address), {
    peer: 'The server',
    limits: linkLimits,
  });
  closers.push(() => link.close());
  return { server, link };
}

/** A link to a peer that runs `onFrame` on everything it receives. */
async function linkToPeer(
  onFrame: (head: MessageHead, frame: Buffer, socket: Socket) => void,
  onClose?: (error: KatamariError) => void,
): Promise<Link> {
  const server: Server = createServer((socket) => {
    const reader = new FrameReader(1 << 20, (frame) =>
      onFrame(readHead(frame, 0, frame.length) as MessageHead, frame, socket),
    );
    socket.on('data', (chunk) => reader.push(chunk));
    socket.on('error', () => {});
    closers.push(() => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => new Promise((resolve) => server.close(resolve)));
  const socket = await socketTo(`tcp:127.0.0.1:${(server.address() as AddressInfo).port}`);
  const link = new Link(socket, {
    peer: 'The peer',
    limits: DEFAULT_LIMITS,
    ...(onClose === undefined ? {} : { onClose }),
  });
  closers.push(() => link.close());
  return link;
}

async function socketTo(address: string): Promise<Socket> {
  const socket = connect(Number(address.split(':').at(-1)), '127.0.0.1');
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('connect', resolve));
  closers.push(() => socket.destroy());
  return socket;
}
