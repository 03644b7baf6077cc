// Control messages of a link: cancellation, ping and drain.

import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { Random } from '../../kit/tools/random.ts';
import {
  CallSignal,
  FrameReader,
  cancelMessage,
  connectLink,
  startLinkServer,
  type LinkServer,
  Link,
  type ReplySink,
} from '../../../core/link/mod.ts';
import type { LinkServerOptions } from '../../../core/link/server-options.ts';
import { systemClock, type Clock, KatamariError, DEFAULT_LIMITS } from '../../../core/mod.ts';
import {
  createCall,
  EMPTY_STRUCT,
  NO_REPLY_CONTEXT,
  sendOf,
  type Call,
  type Dispatch,
  type Reply,
} from '../../../core/rpc/mod.ts';
import { frameMessage, NOTHING, readHead, type MessageHead } from '../../../core/thrift/mod.ts';
import { until } from '../../kit/tools/wait.ts';
/** Field 1 as i32, and the stop byte. */
const ARGS = Buffer.from('0800010000002a00', 'hex');
const seed = Number(process.env['KATAMARI_SEED'] ?? Date.now() % 2 ** 32);

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

describe('Link.cancel()', () => {
  test('cancels a call: its sink is not notified, and the server is told and sends no reply', async () => {
    const waiting = waitingCalls();
    const { server, link } = await linkAndServer({ send: sendOf(waiting.dispatch) });
    const sink = new Ends();
    const id = link.send(aCall(), sink, performance.now());
    const kept = link.dispatch(systemClock)(aCall());
    await until('both calls to wait', () => waiting.calls.length === 2);
    expect(link.cancel(id)).toBe(true);
    expect([link.cancel(id), link.inFlight]).toEqual([false, 1]);
    const signal = waiting.calls[0]?.signal as AbortSignal;
    await until('the server to be told', () => signal.aborted);
    expect((signal.reason as KatamariError).code).toBe('cancelled');
    expect(waiting.calls[1]?.signal?.aborted).toBe(false);
    await until('the call to end there', () => server.inFlight() === 1);
    waiting.answer();
    expect((await kept).isException).toBe(false);
    expect(sink.ends).toEqual([]);
    await until('the server to have none', () => server.inFlight() === 0);
    expect(link.inFlight).toBe(0);
  });

  test('does nothing for calls that were answered', async () => {
    const { link } = await linkAndServer({});
    const sink = new Ends();
    const id = link.send(aCall(), sink, performance.now());
    await until('the answer', () => sink.ends.length === 1);
    expect([link.cancel(id), link.cancel(0), link.cancel(99)]).toEqual([false, false, false]);
  });

  test('cancels only the first of two calls with one sequence id; both are told when their peer disconnects', async () => {
    const waiting = waitingCalls();
    const server = await serve({ send: sendOf(waiting.dispatch) });
    const socket = await socketTo(server.address);
    const received: Buffer[] = [];
    socket.on('data', (chunk) => received.push(chunk));
    const call = frameMessage(1, 'Calculator:add', 5, NOTHING, ARGS);
    socket.write(Buffer.concat([call, call, cancelMessage(5)]));
    const aborted = (): unknown[] => waiting.calls.map(({ signal }) => signal?.aborted);
    await until('the first to be cancelled', () => aborted().includes(true) && server.inFlight() === 1);
    expect(aborted()).toEqual([true, false]);
    waiting.answer();
    const answer = frameMessage(2, 'add', 5, NOTHING, ARGS);
    await until('the answer to the second', () => Buffer.concat(received).equals(answer));
    socket.write(Buffer.concat([call, call]));
    await until('two more to wait', () => server.inFlight() === 2);
    socket.destroy();
    await until('both to be told', () =>
      aborted()
        .slice(2)
        .every((is) => is === true),
    );
    expect(server.inFlight()).toBe(0);
  });

  test('of one of 5,000 concurrent calls, at any moment: each call settles once and none stays in flight', async () => {
    const random = new Random(seed);
    const dispatch: Dispatch = (call) =>
      new Promise((resolve, reject) => {
        const stop = systemClock.after(random.below(20), () => {
          call.signal?.removeEventListener('abort', onAbort);
          resolve({ isException: false, body: call.args, context: NO_REPLY_CONTEXT });
        });
        const onAbort = (): void => {
          stop();
          reject(new KatamariError('cancelled', 'by the test'));
        };
        call.signal?.addEventListener('abort', onAbort);
      });
    const { server, link } = await linkAndServer({
      send: sendOf(dispatch),
      limits: { ...DEFAULT_LIMITS, pipelineMax: 10_000 },
    });
    const settled = new Map<number, string[]>();
    const cancelled = new Set<number>();
    for (let i = 0; i < 5_000; i++) {
      const ends: string[] = [];
      settled.set(i, ends);
      const args = Buffer.from(ARGS);
      args.writeInt32BE(i, 3);
      const sink: ReplySink = {
        reply: ({ body }) =>
          void ends.push(Buffer.from(body).readInt32BE(3) === i ? 'replied' : 'got the reply of another'),
        fail: (error) => void ends.push(error.code),
      };
      const id = link.send(aCall({ args }), sink, performance.now());
      const takeBack = (): void => {
        if (!link.cancel(id)) return;
        cancelled.add(i);
        ends.push('cancelled');
      };
      if (random.chance(0.1)) takeBack();
      else if (random.chance(0.5)) systemClock.after(random.below(25), takeBack);
      if (random.chance(0.01)) await new Promise((resolve) => setImmediate(resolve));
    }
    await until('all to settle', () => [...settled.values()].every((ends) => ends.length > 0));
    await until('the server to have none', () => server.inFlight() === 0);
    expect(await link.ping(10_000)).toBeGreaterThanOrEqual(0);
    const wrong = [...settled].filter(([i, ends]) => ends.join() !== (cancelled.has(i) ? 'cancelled' : 'replied'));
    expect({ seed, wrong }).toEqual({ seed, wrong: [] });
    expect(cancelled.size).toBeGreaterThan(500);
    expect(link.inFlight).toBe(0);
  });
});

describe('Link.ping()', () => {
  test('is answered while the maximum number of calls is in flight; further calls are refused and may go elsewhere', async () => {
    const waiting = waitingCalls();
    const { server, link } = await linkAndServer({
      send: sendOf(waiting.dispatch),
      limits: { ...DEFAULT_LIMITS, pipelineMax: 3 },
    });
    const dispatch = link.dispatch(systemClock);
    const taken = [1, 2, 3].map(() => dispatch(aCall()));
    await until('three to be in flight', () => server.inFlight() === 3);
    await expect(dispatch(aCall())).rejects.toMatchObject({ code: 'overloaded', facts: { notRun: true } });
    expect(await link.ping(10_000)).toBeGreaterThanOrEqual(0);
    expect([link.inFlight, server.inFlight()]).toEqual([3, 3]);
    waiting.answer();
    await Promise.all(taken);
    expect((await answered(dispatch, waiting)).isException).toBe(false);
  });

  test("of a frozen peer fails in time; a late reply is not taken for the next ping's", async () => {
    const clock = new ManualClock();
    const pings: MessageHead[] = [];
    const { link, socket } = await linkToPeer((head) => void pings.push(head));
    const first = link.ping(2_000, clock);
    expect(link.ping(9_000, clock)).toBe(first);
    await until('the ping to come', () => pings.length === 1);
    clock.advance(2_000);
    await expect(first).rejects.toMatchObject({
      code: 'timeout',
      message: expect.stringMatching(/did not answer a ping within 2000 ms/) as string,
    });
    let isAnswered = false;
    const second = link.ping(2_000, clock).then((tookMs) => {
      isAnswered = true;
      return tookMs;
    });
    await until('the second ping to come', () => pings.length === 2);
    expect(pings.map(({ name }) => name)).toEqual(['katamari.Link:ping', 'katamari.Link:ping']);
    const answer = (ping: MessageHead | undefined): Buffer =>
      frameMessage(2, 'ping', ping?.seqId ?? 0, NOTHING, EMPTY_STRUCT);
    socket().write(answer(pings[0]));
    const call = new Ends();
    const id = link.send(aCall(), call, performance.now());
    await until('the call to come', () => pings.length === 3);
    socket().write(frameMessage(2, 'add', id, NOTHING, EMPTY_STRUCT));
    await until('the call to be answered', () => call.ends.length === 1);
    expect(isAnswered).toBe(false);
    clock.advance(700);
    socket().write(answer(pings[1]));
    expect(await second).toBe(700);
    expect([link.inFlight, clock.waiting, link.isOpen]).toEqual([0, 0, true]);
  });

  test('fails when the link closes, and at once on a closed link', async () => {
    const clock = new ManualClock();
    const { link } = await linkToPeer((_head, _frame, socket) => void socket.destroy());
    await expect(link.ping(2_000, clock)).rejects.toMatchObject({ code: 'resource_failed' });
    await expect(link.ping(2_000, clock)).rejects.toMatchObject({ code: 'resource_failed' });
    expect(clock.waiting).toBe(0);
  });
});

describe('drain() of a link server', () => {
  test('notifies its peers, answers calls in flight, and closes each link after its last reply', async () => {
    const waiting = waitingCalls();
    const { server, link: busy } = await linkAndServer({ send: sendOf(waiting.dispatch) });
    const told: string[] = [];
    const options = {
      onDrain: () => void told.push('drain'),
      onClose: (error: KatamariError) => void told.push(error.code),
    };
    const idle = await linkTo(server.address, options);
    const answer = busy.dispatch(systemClock)(aCall());
    await until('the call to begin', () => waiting.calls.length === 1);
    const drained = server.drain();
    await until('the idle link to close', () => told.length === 2);
    expect(told).toEqual(['drain', 'draining']);
    expect([idle.isOpen, idle.isDraining]).toEqual([false, true]);
    await until('the server to see it gone', () => server.connections() === 1);
    await until('the busy link to be told', () => busy.isDraining);
    expect(busy.isOpen).toBe(false);
    for (const link of [busy, idle]) {
      expect(() => link.send(aCall(), new Ends(), 0)).toThrow(
        expect.objectContaining({ code: 'draining', facts: { notRun: true } }) as Error,
      );
    }
    waiting.answer();
    expect((await answer).isException).toBe(false);
    await drained;
    expect(server.connections()).toBe(0);
  });

  test('refuses calls that still arrive, while calls in flight continue', async () => {
    const waiting = waitingCalls();
    const server = await serve({ send: sendOf(waiting.dispatch) });
    const socket = await socketTo(server.address);
    const frames: MessageHead[] = [];
    const texts: string[] = [];
    const reader = new FrameReader(1 << 20, (frame) => {
      frames.push(readHead(frame, 0, frame.length) as MessageHead);
      texts.push(frame.toString('latin1'));
    });
    socket.on('data', (chunk) => reader.push(chunk));
    const closed = new Promise((resolve) => socket.once('close', resolve));
    const call = (seqId: number): Buffer => frameMessage(1, 'Calculator:add', seqId, NOTHING, ARGS);
    socket.write(call(1));
    await until('the call to begin', () => waiting.calls.length === 1);
    const drained = server.drain();
    socket.write(Buffer.concat([call(2), frameMessage(4, 'Calculator:add', 3, NOTHING, ARGS), call(4)]));
    await until('the refusals', () => frames.length === 2);
    expect(frames.map(({ seqId, type }) => [seqId, type])).toEqual([
      [2, 3],
      [4, 3],
    ]);
    expect(texts[0]).toContain('Cannot take Calculator:add: this process drains, send it to another');
    waiting.answer();
    await drained;
    await closed;
    expect(frames.slice(2).map(({ seqId, type }) => [seqId, type])).toEqual([[1, 2]]);
    expect(waiting.calls.length).toBe(1);
  });

  test('loses no call of links that keep sending: each is answered or certainly did not run', async () => {
    for (let round = 0; round < 10; round++) {
      let ran = 0;
      const dispatch: Dispatch = async ({ args }) => {
        ran++;
        if (ran % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
        return { isException: false, body: args, context: NO_REPLY_CONTEXT };
      };
      const server = await serve({ send: sendOf(dispatch) });
      const links = await Promise.all([1, 2, 3].map(() => linkTo(server.address)));
      let [replied, refused] = [0, 0];
      const callers = links.map(async (link) => {
        for (;;) {
          try {
            await link.dispatch(systemClock)(aCall());
            replied++;
          } catch (error) {
            expect(error).toMatchObject({ facts: { notRun: true } });
            refused++;
            return;
          }
        }
      });
      await until('calls to flow', () => replied > 100);
      await server.drain();
      await Promise.all(callers);
      expect([replied, refused, server.inFlight()]).toEqual([ran, 3, 0]);
    }
  });

  test('ends although a peer neither reads nor disconnects, and although the last call of a link was cancelled', async () => {
    const clock = new ManualClock();
    const waiting = waitingCalls();
    const server = await serve({ send: sendOf(waiting.dispatch), clock });
    const frozen = await connectLink(server.address, { security: undefined, timeoutMs: 10_000 });
    closers.push(() => frozen.destroy());
    const link = await linkTo(server.address);
    const id = link.send(aCall(), new Ends(), performance.now());
    await until('the call to begin', () => waiting.calls.length === 1);
    const drained = server.drain();
    await until('the notice to come', () => link.isDraining);
    expect(link.cancel(id)).toBe(true);
    await until('the link to leave', () => server.connections() === 1);
    await until('the frozen one to be waited for', () => clock.waiting === 1);
    clock.advance(1_000);
    await until('its flush to be waited for', () => clock.waiting === 1 || server.connections() === 0);
    clock.advance(1_000);
    await drained;
    expect(server.connections()).toBe(0);
  });
});

describe('CallSignal', () => {
  test('notifies listeners once and in order, and not those removed', () => {
    const signal = new CallSignal();
    const heard: string[] = [];
    const stopped = (): void => void heard.push('stopped');
    const first = (event: Event): void => void heard.push(`first ${event.type}`);
    signal.addEventListener('abort', stopped);
    signal.addEventListener('abort', first);
    signal.addEventListener('abort', first);
    signal.addEventListener('other', stopped);
    signal.addEventListener('abort', { handleEvent: () => void heard.push(`object ${signal.aborted}`) });
    signal.removeEventListener('abort', stopped);
    // oxlint-disable-next-line unicorn/prefer-add-event-listener -- it is what is tested
    signal.onabort = () => void heard.push('onabort');
    signal.throwIfAborted();
    const reason = new KatamariError('cancelled', 'gone');
    signal.abort(reason);
    signal.abort(new KatamariError('cancelled', 'gone again'));
    signal.addEventListener('abort', () => heard.push('late'));
    expect(heard).toEqual(['onabort', 'first abort', 'object true']);
    expect([signal.aborted, signal.reason]).toEqual([true, reason]);
    expect(() => signal.throwIfAborted()).toThrow(reason);
  });
});

/** Records the notifications of a sink. */
class Ends implements ReplySink {
  readonly ends: string[] = [];

  reply(): void {
    this.ends.push('replied');
  }

  fail(error: KatamariError): void {
    this.ends.push(error.code);
  }
}

/** A dispatch whose calls wait until they are answered or cancelled. */
function waitingCalls(): { dispatch: Dispatch; calls: Call[]; answer: () => void } {
  const calls: Call[] = [];
  let waiting: (() => void)[] = [];
  return {
    calls,
    dispatch: (call) =>
      new Promise<Reply>((resolve, reject) => {
        calls.push(call);
        waiting.push(() => resolve({ isException: false, body: call.args, context: NO_REPLY_CONTEXT }));
        call.signal?.addEventListener('abort', () => reject(new KatamariError('cancelled', 'gone')));
      }),
    answer: () => {
      for (const act of waiting) act();
      waiting = [];
    },
  };
}

/** One more call, answered as soon as it has begun. */
async function answered(dispatch: Dispatch, waiting: ReturnType<typeof waitingCalls>): Promise<Reply> {
  const before = waiting.calls.length;
  const reply = dispatch(aCall());
  await until('the call to begin', () => waiting.calls.length > before);
  waiting.answer();
  return reply;
}

function aCall(change: Partial<Call> = {}): Call {
  return createCall({
    service: 'Calculator',
    method: 'add',
    args: ARGS,
    deadlineMs: performance.now() + 60_000,
    ...change,
  });
}

async function serve(options: Partial<LinkServerOptions> & { clock?: Clock }): Promise<LinkServer> {
  const server = await startLinkServer('tcp:127.0.0.1:0', {
    send: sendOf(async ({ args }) => ({ isException: false, body: args, context: NO_REPLY_CONTEXT })),
    limits: DEFAULT_LIMITS,
    timeoutMs: () => 10_000,
    caller: 'test',
    ...options,
  });
  closers.push(() => server.close());
  return server;
}

interface LinkParts {
  readonly onDrain?: () => void;
  readonly onClose?: (error: KatamariError) => void;
}

async function linkTo(address: string, hooks: LinkParts = {}): Promise<Link> {
  const socket = await connectLink(address, { security: undefined, timeoutMs: 10_000 });
  const link = new Link(socket, { peer: 'The server', limits: DEFAULT_LIMITS, ...hooks });
  closers.push(() => link.close());
  return link;
}

async function linkAndServer(
  options: Partial<LinkServerOptions>,
  parts: LinkParts = {},
): Promise<{ server: LinkServer; link: Link }> {
  const server = await serve(options);
  return { server, link: await linkTo(server.address, parts) };
}

/** A link without a handshake to a peer that runs `onFrame` on everything it receives. */
async function linkToPeer(
  onFrame: (head: MessageHead, frame: Buffer, socket: Socket) => void,
): Promise<{ link: Link; socket: () => Socket }> {
  let at: Socket | undefined;
  const server = createServer((socket) => {
    at = socket;
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
  const link = new Link(socket, { peer: 'The peer', limits: DEFAULT_LIMITS });
  closers.push(() => link.close());
  return { link, socket: () => at as Socket };
}

async function socketTo(address: string): Promise<Socket> {
  const socket = connect(Number(address.split(':').at(-1)), '127.0.0.1');
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('connect', resolve));
  closers.push(() => socket.destroy());
  return socket;
}
