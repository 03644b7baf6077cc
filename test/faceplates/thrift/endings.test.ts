// How connections end: the client disconnects, the faceplate drains or closes, a limit is reached. No call may stay
// in flight in the statistics.

import { afterEach, describe, expect, test } from 'vitest';
import { exchange } from '../../kit/wire/exchange.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import type { RawThrift } from '../../kit/wire/raw-thrift.ts';
import { until } from '../../kit/tools/wait.ts';
import type { FaceplateLimits } from '../../../core/mod.ts';
import { readApplicationException } from '../../../core/thrift/mod.ts';
import { startFixture, type Fixture } from './fixture.ts';
import { keepsHalfOpen } from '../../../core/mod.ts';

/** Counts reads of the input, which a connection makes when data arrived. */
class WatchedClock extends ManualClock {
  reads = 0;

  override nowMs(): number {
    this.reads++;
    return super.nowMs();
  }
}

const fixtures: Fixture[] = [];
async function start(options: Parameters<typeof startFixture>[0] = {}): Promise<Fixture> {
  const fixture = await startFixture(options);
  fixtures.push(fixture);
  return fixture;
}
/** With a manual clock; deadlines of calls are far off on it. */
async function startWithClock(limits: Partial<FaceplateLimits>): Promise<{ fixture: Fixture; clock: WatchedClock }> {
  const clock = new WatchedClock();
  const behind = exchange();
  behind.setTimeoutMs(performance.now() + 1_000_000);
  return { fixture: await start({ limits, clock, behind }), clock };
}
afterEach(async () => {
  for (const fixture of fixtures.splice(0)) await fixture.end();
});

describe('A client that disconnects while its calls wait', () => {
  for (const [how, leave] of [
    ['closes', (client: RawThrift) => client.destroy()],
    ['breaks off', (client: RawThrift) => void client.socket.resetAndDestroy()],
  ] as const) {
    test(`and ${how} has them cancelled at once`, async () => {
      const fixture = await start();
      const client = await fixture.connect();
      client.send(Buffer.concat(['a', 'b', 'c'].map((key) => fixture.bytes('hold', { key }))));
      await until('the calls to begin', () => fixture.behind.calls.length === 3);
      leave(client);
      await until('the calls to be cancelled', () => fixture.callStats.sums().cancelled === 3);
      expect(fixture.behind.calls.every(({ signal }) => signal?.aborted)).toBe(true);
      expect(fixture.faceplate.connections()).toBe(0);
      for (const key of ['a', 'b', 'c']) fixture.behind.release(key);
      const other = await fixture.connect();
      other.send(fixture.bytes('add', { a: 1, b: 1 }));
      await other.count(1);
      expect(fixture.callStats.sums()).toMatchObject({ accepted: 4, cancelled: 3, replied: 1, inFlight: 0 });
    });
  }

  for (const framed of [true, false]) {
    test.skipIf(!keepsHalfOpen())(
      `gets the replies if it only closes its writing side (${framed ? 'framed' : 'buffered'})`,
      async () => {
        const fixture = await start({ limits: { pipelineMax: 2 } });
        const client = await fixture.connect(framed);
        const calls = ['a', 'b', 'c', 'd'].map((key) => fixture.bytes('hold', { key }, { framed }));
        client.socket.end(Buffer.concat([...calls, calls[0]?.subarray(0, 9) as Buffer]));
        for (const key of ['a', 'b', 'c', 'd']) {
          await until('the call to begin', () => fixture.behind.held().includes(key));
          fixture.behind.release(key);
        }
        expect((await client.count(4)).map(({ type }) => type)).toEqual([2, 2, 2, 2]);
        await until('the end', () => fixture.faceplate.connections() === 0);
        expect(fixture.callStats.sums()).toMatchObject({ accepted: 4, cancelled: 0, replied: 4, inFlight: 0 });
      },
    );
  }

  test('leaves its oneway calls running', async () => {
    const fixture = await start();
    const client = await fixture.connect();
    client.socket.end(Buffer.concat([fixture.bytes('note', { text: 'last words' }, { type: 4 })]));
    await until('the note', () => fixture.callStats.sums().replied === 1);
    expect(fixture.behind.handled).toEqual([{ method: 'note', args: { text: 'last words' } }]);
  });
});

describe('ThriftFaceplate.drain()', () => {
  test('closes idle connections, answers calls in progress, refuses later ones, and then stops', async () => {
    const fixture = await start();
    const [idle, busy, half] = [await fixture.connect(), await fixture.connect(), await fixture.connect(false)];
    idle.send(fixture.bytes('add', { a: 1, b: 1 }));
    await idle.count(1);
    busy.send(fixture.bytes('hold', { key: 'a' }, { seqId: 1 }));
    const late = fixture.bytes('echo', { text: 'half before, half after' }, { framed: false, seqId: 2 });
    half.send(late.subarray(0, 20));
    await until('the call to begin', () => fixture.behind.held().length === 1);
    const drained = fixture.faceplate.drain();
    await until('the idle one to end', () => idle.isClosed());
    busy.send(fixture.bytes('add', { a: 1, b: 1 }, { seqId: 5 }));
    half.send(late.subarray(20));
    await half.count(1);
    await until('the late call to be refused', () => fixture.callStats.sums().refused === 1);
    expect(busy.isClosed()).toBe(false);
    fixture.behind.release('a');
    const answers = await busy.count(2);
    expect(answers.map(({ seqId, type }) => [seqId, type])).toEqual([
      [1, 2],
      [5, 3],
    ]);
    expect(readApplicationException((answers[1] as (typeof answers)[0]).body).message).toMatch(
      /shutting down; connect again/,
    );
    expect(half.answers[0]).toMatchObject({ seqId: 2, type: 2 });
    await drained;
    expect(fixture.faceplate.connections()).toBe(0);
    await expect(fixture.connect()).rejects.toThrow();
    expect(fixture.callStats.sums()).toMatchObject({ accepted: 4, replied: 3, refused: 1, inFlight: 0 });
  });

  test('serves one more call of an idle connection, and closes it right after the reply', async () => {
    const fixture = await start();
    const [once, twice] = [await fixture.connect(), await fixture.connect()];
    for (const client of [once, twice]) {
      client.send(fixture.bytes('add', { a: 1, b: 1 }));
      await client.count(1);
    }
    const drained = fixture.faceplate.drain();
    once.send(fixture.bytes('add', { a: 2, b: 2 }, { seqId: 2 }));
    const two = fixture.bytes('add', { a: 3, b: 3 }, { seqId: 3 });
    twice.send(Buffer.concat([two, fixture.bytes('add', { a: 3, b: 3 }, { seqId: 4 })]));
    await until('them to end', () => once.isClosed() && twice.isClosed());
    expect([once, twice].map(({ answers }) => answers.slice(1).map(({ seqId, type }) => [seqId, type]))).toEqual([
      [[2, 2]],
      [
        [3, 2],
        [4, 2],
      ],
    ]);
    await drained;
    expect(fixture.callStats.sums()).toMatchObject({ accepted: 5, replied: 5, refused: 0, inFlight: 0 });
  });

  test('ends at the last deadline when a client never reads or a call never ends', async () => {
    const fixture = await start();
    fixture.behind.setTimeoutMs(50);
    const client = await fixture.connect();
    client.send(fixture.bytes('hold', { key: 'never' }));
    await until('the call to begin', () => fixture.behind.calls.length === 1);
    await fixture.faceplate.drain();
    expect(fixture.callStats.sums()).toMatchObject({ accepted: 1, timed_out: 1, inFlight: 0 });
  });

  test('may be called twice, and close() twice after it', async () => {
    const fixture = await start();
    await fixture.connect();
    await Promise.all([fixture.faceplate.drain(), fixture.faceplate.drain()]);
    await fixture.faceplate.close();
    await fixture.faceplate.close();
    await fixture.faceplate.drain();
  });
});

test('ThriftFaceplate.close() is immediate and cancels calls in flight', async () => {
  const fixture = await start();
  const client = await fixture.connect();
  client.send(fixture.bytes('hold', { key: 'a' }));
  await until('the call to begin', () => fixture.behind.calls.length === 1);
  await fixture.faceplate.close();
  await client.closed();
  expect(fixture.callStats.sums()).toMatchObject({ accepted: 1, cancelled: 1, inFlight: 0 });
});

describe('Limits', () => {
  test('allow 2,000 idle connections that cost little and still work, and refuse a further one with an error', async () => {
    const fixture = await start({ limits: { connectionsMax: 2_000 } });
    const clients: RawThrift[] = [];
    // In groups, because a kernel queues only some hundreds of connections that a process has not accepted yet.
    while (clients.length < 2_000) {
      clients.push(...(await Promise.all(Array.from({ length: 200 }, (_, i) => fixture.connect(i % 2 === 0)))));
      await until('all to be accepted', () => fixture.faceplate.connections() === clients.length);
    }
    const refused = await fixture.connect();
    const [answer] = await refused.count(1);
    expect(answer?.type).toBe(3);
    expect(readApplicationException((answer as NonNullable<typeof answer>).body)).toEqual({
      type: 6,
      message: 'Cannot take another connection: 2000 are open, limit is 2000; try again later or share connections',
    });
    refused.destroy();
    for (const [i, client] of clients.entries())
      client.send(fixture.bytes('add', { a: i, b: 1 }, { framed: i % 2 === 0, seqId: i }));
    await Promise.all(clients.map((client) => client.count(1)));
    expect(clients.map(({ answers }) => answers[0]?.seqId)).toEqual(clients.map((_, i) => i));
    clients.pop()?.destroy();
    await until('a place to be free', () => fixture.faceplate.connections() < 2_000);
    const next = await fixture.connect();
    next.send(fixture.bytes('add', { a: 1, b: 1 }));
    expect((await next.count(1))[0]?.type).toBe(2);
    expect(fixture.callStats.sums()).toMatchObject({ accepted: 2_001, replied: 2_001 });
  });

  test('close an idle connection after its time, but not one with a call in flight or with occasional calls', async () => {
    const { fixture, clock } = await startWithClock({ idleMs: 1_000 });
    const [idle, waiting, alive] = [await fixture.connect(), await fixture.connect(), await fixture.connect()];
    waiting.send(fixture.bytes('hold', { key: 'a' }));
    await until('the call to begin', () => fixture.behind.calls.length === 1);
    for (let i = 1; i <= 5; i++) {
      clock.advance(500);
      alive.send(fixture.bytes('add', { a: 1, b: 1 }));
      await alive.count(i);
    }
    await idle.closed();
    expect([waiting.isClosed(), alive.isClosed()]).toEqual([false, false]);
    fixture.behind.release('a');
    await waiting.count(1);
    clock.advance(2_000);
    await waiting.closed();
    await alive.closed();
  });

  for (const framed of [true, false]) {
    test(`answer a ${framed ? 'framed' : 'unframed'} message that stays incomplete with an error, however steadily its bytes arrive`, async () => {
      const { fixture, clock } = await startWithClock({ requestMs: 1_000 });
      const client = await fixture.connect(framed);
      const bytes = fixture.bytes('echo', { text: 'x'.repeat(100) }, { framed, seqId: 77 });
      let sent = 0;
      // The clock moves only when a piece has been read: time must pass for the faceplate between one piece and the
      // next.
      for (; sent < 60 && fixture.callStats.sums().refused === 0; sent += 5) {
        const { reads } = clock;
        client.send(bytes.subarray(sent, sent + 5));
        await until('the piece to be seen', () => clock.reads > reads);
        clock.advance(100);
      }
      const [answer] = await client.count(1);
      expect(sent).toBeLessThan(60);
      expect(answer).toMatchObject({ type: 3, seqId: 77, name: 'echo' });
      expect(readApplicationException((answer as NonNullable<typeof answer>).body).message).toMatch(
        /arrived in 1000 ms, which is the limit/,
      );
      expect(fixture.callStats.sums()).toMatchObject({ accepted: 1, refused: 1, inFlight: 0 });
      expect(fixture.behind.calls).toHaveLength(0);
    });
  }

  test('disconnect a client without recognizable input after the time for a message', async () => {
    const { fixture, clock } = await startWithClock({ requestMs: 1_000 });
    const client = await fixture.connect();
    client.send(Buffer.of(0, 0));
    await until('the bytes to be seen', () => {
      clock.advance(500);
      return client.answers.length === 1;
    });
    expect(readApplicationException((client.answers[0] as (typeof client.answers)[0]).body).message).toMatch(
      /Incomplete message: 2 bytes arrived/,
    );
  });

  test('stop reading from a client that calls and never reads, and disconnect it after a time', async () => {
    const { fixture, clock } = await startWithClock({ idleMs: 1_000 });
    const client = await fixture.connect();
    client.socket.pause();
    const call = fixture.bytes('echo', { text: 'x'.repeat(100_000) });
    // 200 MB, more than kernel buffers hold.
    for (let i = 0; i < 2_000; i++) client.send(call);
    let [seen, still] = [-1, 0];
    await until('the faceplate to stop reading', async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      const { accepted } = fixture.callStats.sums();
      still = accepted === seen && accepted > 0 ? still + 1 : 0;
      seen = accepted;
      return still > 10;
    });
    expect(seen).toBeLessThan(1_500);
    expect(seen).toBeGreaterThan(0);
    clock.advance(1_000);
    clock.advance(2_000);
    await until('the connection to be closed', () => fixture.faceplate.connections() === 0);
    expect(fixture.callStats.sums().inFlight).toBe(0);
  });
});
