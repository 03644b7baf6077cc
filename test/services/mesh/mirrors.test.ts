// Copies of calls that the router sends for the mirror of a route: which calls, when, how, and what is counted.

import { describe, expect, test } from 'vitest';
import { encodeStruct, parseIdl } from '../../../core/idl/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import {
  createCall,
  EMPTY_STRUCT,
  identityOf,
  NO_REPLY_CONTEXT,
  type Call,
  type CallSink,
} from '../../../core/rpc/mod.ts';
import type { Interface, Method } from '../../../core/thrift/mod.ts';
import { mergeMirrorReports, Router, type Offer, type Route, type RouteMirror } from '../../../services/mesh/mod.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

const text = `service Shop {
  i32 price() (katamari.readonly = "true", katamari.timeout = "2s")
  i32 count() (katamari.idempotent = "true")
  i32 sell()
  oneway void note()
}`;
const face = parseIdl({ main: 'shop.thrift', files: { 'shop.thrift': text } }).services.get('Shop') as Interface;

/** Lets the copies of this turn of the event loop go. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

function bodyOf(method: string, success: unknown): Uint8Array {
  return encodeStruct((face.methods.get(method) as Method).result, { success });
}

function start(mirror: RouteMirror | undefined, free = 4) {
  const clock = new ManualClock();
  const router = new Router({ clock });
  const route: Route = { weights: { '1.0.0': 1 }, mirror };
  router.setRoutes(new Map([['Shop', route]]));
  /** Copies, whose end the test decides. */
  const copies: { readonly call: Call; readonly sink: CallSink }[] = [];
  const state = { free };
  const base = {
    interface: face,
    manager: 'one',
    isReachable: true,
    alive: 4,
    queued: 0,
  };
  const offer = (version: string, send: Offer['send']): Offer => ({
    ...base,
    id: `Shop@${version}`,
    details: { service: 'Shop', version, roles: [], tags: [], more: {} },
    get free() {
      return state.free;
    },
    send,
  });
  const live: Call[] = [];
  router.setOffers([
    offer('1.0.0', (call, sink) => {
      live.push(call);
      const context = { ...NO_REPLY_CONTEXT, version: '1.0.0' };
      const body = call.oneway ? EMPTY_STRUCT : bodyOf(call.method, 1);
      sink.reply({ isException: false, body, context });
    }),
    offer('2.0.0', (call, sink) => copies.push({ call, sink })),
  ]);
  const ask = async (change: Partial<Call> = {}): Promise<void> => {
    const deadlineMs = clock.nowMs() + 60_000;
    const call = createCall({ service: 'Shop', method: 'price', args: EMPTY_STRUCT, deadlineMs, ...change });
    await router.dispatch(call);
    await turn();
  };
  const answer = async (success: number): Promise<void> => {
    const { call, sink } = copies.shift() as { call: Call; sink: CallSink };
    sink.reply({ isException: false, body: bodyOf(call.method, success), context: NO_REPLY_CONTEXT });
    await turn();
  };
  const counts = (): Record<string, unknown> =>
    Object.fromEntries(
      router
        .mirrorReport('Shop')
        .counts.map(({ method, equal, different, failed, skipped }) => [method, { equal, different, failed, skipped }]),
    );
  return { clock, router, copies, live, state, ask, answer, counts };
}

const none = { equal: 0, different: 0, failed: 0, skipped: 0 };

describe('A mirror copies', () => {
  test('an answered call as it was, with a deadline of its own, and compares the answers', async () => {
    const { ask, copies, answer, counts, router, clock } = start({ to: '2.0.0' });
    const identity = identityOf('ada', 'token');
    await ask({ identity, key: 'k', headers: { 'x-a': 'b' }, caller: 'test', signal: AbortSignal.abort() });
    expect(copies.map(({ call }) => call)).toMatchObject([
      {
        service: 'Shop',
        method: 'price',
        version: '2.0.0',
        identity,
        key: 'k',
        caller: 'test',
        headers: { 'x-a': 'b', 'katamari-mirror': '1' },
        doNotQueue: true,
        deadlineMs: clock.nowMs() + 2_000,
        signal: undefined,
      },
    ]);
    await answer(1);
    await ask();
    await answer(2);
    expect(counts()).toEqual({ price: { ...none, equal: 1, different: 1 } });
    expect(router.mirrorReport().differences).toMatchObject([
      {
        serviceName: 'Shop',
        method: 'price',
        version: '1.0.0',
        answer: '1',
        mirrorVersion: '2.0.0',
        mirrorAnswer: '2',
      },
    ]);
    expect(router.mirrorReport().paths).toMatchObject([{ method: 'price', path: '(result)', calls: 1 }]);
  });

  test('only calls of methods that may run twice, unless they are forced', async () => {
    const ask = async (mirror: RouteMirror): Promise<string[]> => {
      const { ask, copies } = start(mirror);
      for (const method of ['price', 'count', 'sell', 'note']) await ask({ method, oneway: method === 'note' });
      return copies.map(({ call }) => call.method);
    };
    expect(await ask({ to: '2.0.0' })).toEqual(['price', 'count']);
    expect(await ask({ to: '2.0.0', methods: ['count', 'sell'] })).toEqual(['count']);
    expect(await ask({ to: '2.0.0', methods: ['count', 'sell', 'note'], force: true })).toEqual(['count', 'sell']);
  });

  test('its share of the calls, to one call', async () => {
    const { ask, copies, answer } = start({ to: '2.0.0', share: 12.5 });
    let copied = 0;
    for (let n = 0; n < 80; n++) {
      await ask();
      copied += copies.length;
      if (copies.length > 0) await answer(1);
    }
    expect(copied).toBe(10);
  });

  test('no call that the version itself has answered, and none without a mirror', async () => {
    const own = start({ to: '1.0.0' });
    await own.ask();
    expect(own.counts()).toEqual({});
    const without = start(undefined);
    await without.ask();
    expect([without.copies, without.router.activeMirrors]).toEqual([[], undefined]);
    expect(start({ to: '2.0.0', share: 0 }).router.activeMirrors).toBe(undefined);
  });
});

describe('A mirror skips', () => {
  test('calls while no place is free, and counts a refused copy as skipped', async () => {
    const { ask, copies, state, counts } = start({ to: '2.0.0' });
    await ask();
    copies.shift()?.sink.fail(new KatamariError('overloaded', 'busy', { notRun: true }));
    state.free = 0;
    await ask();
    expect(copies).toEqual([]);
    expect(counts()).toEqual({ price: { ...none, skipped: 2 } });
  });

  test('calls beyond 64 copies at once, and large ones', async () => {
    const { ask, copies, answer, counts } = start({ to: '2.0.0' });
    for (let n = 0; n < 70; n++) await ask();
    expect(copies).toHaveLength(64);
    await answer(1);
    await ask();
    expect(copies).toHaveLength(64);
    await answer(1);
    await ask({ args: Buffer.alloc(200_000) });
    expect(counts()).toEqual({ price: { ...none, equal: 2, skipped: 7 } });
  });

  test('for a growing while after several copies in a row had no answer', async () => {
    const { ask, copies, counts, clock } = start({ to: '2.0.0' });
    const fail = (): void => copies.shift()?.sink.fail(new KatamariError('timeout', 'no answer'));
    for (let n = 0; n < 5; n++) {
      await ask();
      fail();
    }
    await ask();
    expect([copies.length, counts()]).toEqual([0, { price: { ...none, failed: 5, skipped: 1 } }]);
    clock.advance(1_001);
    await ask();
    expect(copies).toHaveLength(1);
    fail();
    clock.advance(1_001);
    await ask();
    expect(copies).toHaveLength(0);
    clock.advance(1_001);
    await ask();
    expect(copies).toHaveLength(1);
  });
});

test('the figures of a mirror begin anew when it changes, and those of others stay', async () => {
  const { ask, answer, counts, router } = start({ to: '2.0.0' });
  await ask();
  await answer(2);
  const set = (mirror: RouteMirror | undefined): void =>
    router.setRoutes(new Map([['Shop', { weights: { '1.0.0': 2 }, mirror }]]));
  set({ to: '2.0.0' });
  expect(counts()).toEqual({ price: { ...none, different: 1 } });
  expect(router.mirrorReport().differences).toHaveLength(1);
  set({ to: '2.0.0', share: 50 });
  expect([counts(), router.mirrorReport().differences]).toEqual([{}, []]);
  set(undefined);
  expect(router.activeMirrors).toBe(undefined);
});

test('mergeMirrorReports() adds up the processes', async () => {
  const { ask, answer, router } = start({ to: '2.0.0' });
  await ask();
  await answer(2);
  const report = router.mirrorReport();
  const missing = { counts: [], paths: [], differences: [], missing: ['two'] };
  const merged = mergeMirrorReports([report, missing, report]);
  expect(merged.counts).toMatchObject([{ method: 'price', different: 2, equal: 0 }]);
  expect(merged.paths).toMatchObject([{ path: '(result)', calls: 2 }]);
  expect(merged.differences).toHaveLength(2);
  expect(merged.missing).toEqual(['two']);
});
