import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { Random } from '../../kit/tools/random.ts';
import { parseIdl } from '../../../core/idl/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import {
  createCall,
  EMPTY_STRUCT,
  NO_REPLY_CONTEXT,
  sendOf,
  type Call,
  type Reply,
  type Send,
} from '../../../core/rpc/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { Router, type Offer } from '../../../services/mesh/mod.ts';

const idl = `service Work { i32 plain(), i32 again() (katamari.idempotent = "true") }`;
const face = parseIdl({ main: 'work.thrift', files: { 'work.thrift': idl } }).services.get('Work') as Interface;

/** A scripted pool of a manager. */
class ScriptedOffer implements Offer {
  readonly id = 'Work@1.0.0';
  readonly details = { service: 'Work', version: '1.0.0', roles: [], tags: [], more: {} };
  readonly interface = face;
  readonly manager: string;
  isReachable = true;
  free = 1;
  alive = 2;
  queued = 0;
  readonly got: Call[] = [];
  answer: (call: Call) => Promise<Reply> = () => Promise.resolve(reply(this.manager));

  constructor(manager: string, change: Partial<ScriptedOffer> = {}) {
    this.manager = manager;
    Object.assign(this, change);
  }

  readonly send: Send = sendOf((call) => {
    this.got.push(call);
    return this.answer(call);
  });
}

function reply(resource: string): Reply {
  return { isException: false, body: EMPTY_STRUCT, context: { ...NO_REPLY_CONTEXT, resource } };
}

/** The error of a failed call. */
function failure(reply: Promise<unknown>): Promise<unknown> {
  return reply.then(
    () => undefined,
    (error: unknown) => error,
  );
}

function fails(code: KatamariError['code'], notRun = true): () => Promise<never> {
  return () => Promise.reject(new KatamariError(code, `scripted ${code}`, { notRun }));
}

function routerOf(offers: readonly Offer[], clock = new ManualClock()): { router: Router; clock: ManualClock } {
  const router = new Router({ clock });
  router.setOffers(offers);
  return { router, clock };
}

function call(clock: ManualClock, change: Partial<Call> = {}): Call {
  return createCall({
    service: 'Work',
    method: 'plain',
    args: EMPTY_STRUCT,
    deadlineMs: clock.nowMs() + 1_000,
    ...change,
  });
}

describe('A pool on several managers', () => {
  test('gets a call at the manager with most free resources first, with doNotQueue', async () => {
    const [a, b] = [new ScriptedOffer('a', { free: 1 }), new ScriptedOffer('b', { free: 2 })];
    const { router, clock } = routerOf([a, b]);
    expect((await router.dispatch(call(clock))).context.resource).toBe('b');
    expect(b.got[0]?.doNotQueue).toBe(true);
    expect(a.got).toHaveLength(0);
  });

  test('tries every manager after a refusal, and none of these tries counts as a retry', async () => {
    const busy = Array.from(
      { length: 6 },
      (_, n) => new ScriptedOffer(`m${n}`, { free: 9 - n, answer: fails('overloaded') }),
    );
    const last = new ScriptedOffer('last', { free: 1 });
    const { router, clock } = routerOf([...busy, last]);
    // More refusals than the retry budget allows.
    for (let n = 0; n < 20; n++) expect((await router.dispatch(call(clock))).context.resource).toBe('last');
    expect(busy.every(({ got }) => got.length === 20)).toBe(true);
    expect(last.got.every(({ attempt, doNotQueue }) => attempt === 0 && doNotQueue)).toBe(true);
  });

  test('queues the call once at the least loaded manager when none is free', async () => {
    const [a, b, c] = [
      new ScriptedOffer('a', { free: 0, queued: 3 }),
      new ScriptedOffer('b', { free: 0, queued: 1 }),
      new ScriptedOffer('c', { free: 1, queued: 0, alive: 1, answer: fails('overloaded') }),
    ];
    const { router, clock } = routerOf([a, b, c]);
    await router.dispatch(call(clock));
    expect([a.got.length, b.got.length, c.got.length]).toEqual([0, 1, 1]);
    expect(b.got[0]?.doNotQueue).toBe(false);
  });

  test('refuses a doNotQueue call when none is free, with the error of the last manager', async () => {
    const offers = ['a', 'b'].map((name) => new ScriptedOffer(name, { answer: fails('overloaded') }));
    const { router, clock } = routerOf(offers);
    await expect(router.dispatch(call(clock, { doNotQueue: true }))).rejects.toMatchObject({ code: 'overloaded' });
    expect(offers.flatMap(({ got }) => got).every(({ doNotQueue }) => doNotQueue)).toBe(true);
  });

  test('never queues a call at a busy manager while another seems free, however many estimates are wrong', async () => {
    const seed = Date.now() % 2 ** 31;
    const random = new Random(seed);
    for (let round = 0; round < 500; round++) {
      const truth = Array.from({ length: 4 }, () => random.below(3));
      const offers = truth.map((free, n) => {
        const offer = new ScriptedOffer(`m${n}`, {
          free: free === 0 ? random.below(3) : 1 + random.below(3),
          alive: 3,
        });
        offer.answer = (one) =>
          free === 0 && one.doNotQueue ? fails('overloaded')() : Promise.resolve(reply(`m${n}`));
        return offer;
      });
      const { router, clock } = routerOf(offers);
      const answered = Number((await router.dispatch(call(clock))).context.resource.slice(1));
      const isAnyFree = truth.some((free) => free > 0);
      if (isAnyFree) expect([seed, round, truth[answered]]).not.toEqual([seed, round, 0]);
    }
  });

  test('is one pool in router.pools()', () => {
    const { router } = routerOf([new ScriptedOffer('a', { free: 2 }), new ScriptedOffer('b', { free: 0, queued: 4 })]);
    expect(router.pools().map(({ id, free, alive, queued }) => ({ id, free, alive, queued }))).toEqual([
      { id: 'Work@1.0.0', free: 2, alive: 4, queued: 4 },
    ]);
  });
});

describe('A call that fails', () => {
  test('goes to another manager when it certainly did not run: draining, pool unknown there, link not up', async () => {
    for (const code of ['draining', 'no_pool', 'resource_failed'] as const) {
      const [a, b] = [new ScriptedOffer('a', { free: 5, answer: fails(code) }), new ScriptedOffer('b')];
      const { router, clock } = routerOf([a, b]);
      expect((await router.dispatch(call(clock))).context.resource).toBe('b');
      expect(b.got[0]?.attempt).toBe(1);
    }
  });

  test('is not retried when it may have run, unless its method is idempotent', async () => {
    const [a, b] = [
      new ScriptedOffer('a', { free: 5, answer: fails('resource_failed', false) }),
      new ScriptedOffer('b'),
    ];
    const { router, clock } = routerOf([a, b]);
    await expect(router.dispatch(call(clock))).rejects.toMatchObject({ code: 'resource_failed' });
    expect(b.got).toHaveLength(0);
    expect((await router.dispatch(call(clock, { method: 'again' }))).context.resource).toBe('b');
  });

  test('reports that there is no such pool when the only manager says so', async () => {
    const { router, clock } = routerOf([new ScriptedOffer('a', { answer: fails('no_pool') })]);
    await expect(router.dispatch(call(clock))).rejects.toMatchObject({ code: 'no_pool' });
  });
});

describe('While no manager is reachable', () => {
  test('calls wait, and continue as soon as one is reachable', async () => {
    const a = new ScriptedOffer('a', { isReachable: false });
    const { router, clock } = routerOf([a]);
    const waiting = [router.dispatch(call(clock)), router.dispatch(call(clock))];
    await Promise.resolve();
    expect(a.got).toHaveLength(0);
    a.isReachable = true;
    router.setOffers([a]);
    expect((await Promise.all(waiting)).map(({ context }) => context.resource)).toEqual(['a', 'a']);
  });

  test('a call waits until its deadline at the latest', async () => {
    const { router, clock } = routerOf([new ScriptedOffer('a', { isReachable: false })]);
    const waiting = router.dispatch(call(clock));
    const ended = failure(waiting);
    clock.advance(1_000);
    expect(await ended).toMatchObject({ code: 'timeout', facts: { stage: 'queue', notRun: true } });
  });

  test('a call whose caller disconnects stops waiting', async () => {
    const { router, clock } = routerOf([new ScriptedOffer('a', { isReachable: false })]);
    const gone = new AbortController();
    const ended = failure(router.dispatch(call(clock, { signal: gone.signal })));
    gone.abort();
    expect(await ended).toMatchObject({
      code: 'cancelled',
    });
  });

  test('a doNotQueue call is refused at once', async () => {
    const { router, clock } = routerOf([new ScriptedOffer('a', { isReachable: false })]);
    await expect(router.dispatch(call(clock, { doNotQueue: true }))).rejects.toMatchObject({ code: 'overloaded' });
  });

  test('calls wait in order, at most 5,000 per service, and continue in that order', async () => {
    const a = new ScriptedOffer('a', { isReachable: false });
    const { router, clock } = routerOf([a]);
    const waiting = Array.from({ length: 5_000 }, (_, n) => router.dispatch(call(clock, { caller: `${n}` })));
    expect(await failure(router.dispatch(call(clock)))).toMatchObject({
      code: 'overloaded',
      message: 'Cannot wait for a manager of Work: 5000 calls are waiting, limit is 5000; try again in 500 ms',
      facts: { notRun: true, retryAfterMs: 500 },
    });
    a.isReachable = true;
    router.setOffers([a]);
    await Promise.all(waiting);
    expect(a.got.map(({ caller }) => caller)).toEqual(waiting.map((_, n) => `${n}`));
  });

  test('waiting calls fail when the last manager is removed', async () => {
    const { router, clock } = routerOf([new ScriptedOffer('a', { isReachable: false })]);
    const ended = failure(router.dispatch(call(clock)));
    router.setOffers([]);
    expect(await ended).toMatchObject({ code: 'no_pool' });
  });
});

test('A requested detail that a pool does not have is no obstacle, whatever its name', async () => {
  const { router, clock } = routerOf([new ScriptedOffer('a')]);
  const details = { constructor: 'x', toString: 'y' } as unknown as Record<string, string>;
  expect((await router.dispatch(call(clock, { details }))).context.resource).toBe('a');
});

describe('A method that only some versions have', () => {
  const newer = parseIdl({ main: 'w.thrift', files: { 'w.thrift': 'service Work { i32 plain(), i32 added() }' } });
  const details = { service: 'Work', version: '2.0.0', roles: [], tags: [], more: {} };
  const two = new ScriptedOffer('two', { details, interface: newer.services.get('Work') as Interface });
  const one = new ScriptedOffer('one', { details: { ...details, version: '1.0.0', tags: ['fast'] } as never });
  const { router, clock } = routerOf([one, two]);

  test('is called on those, even where another version matches better', async () => {
    for (const change of [{ method: 'added' }, { method: 'added', tags: ['fast'] }]) {
      expect((await router.dispatch(call(clock, change))).context.resource).toBe('two');
    }
  });

  test('is refused where a version without it is requested, with the versions that have it', async () => {
    expect(await failure(router.dispatch(call(clock, { method: 'added', version: '1.0.0' })))).toMatchObject({
      code: 'no_pool',
      message: 'Work@1.0.0 has no method "added"; it is in 2.0.0',
    });
    expect(await failure(router.dispatch(call(clock, { method: 'added', version: '3.0.0' })))).toMatchObject({
      message: 'No pool offers Work@3.0.0: versions here are 1.0.0 (2 resources), 2.0.0 (2 resources)',
    });
  });
});

describe('A no_pool error', () => {
  const { router, clock } = routerOf([new ScriptedOffer('a')]);
  const factsOf = async (change: Partial<Call>): Promise<unknown> =>
    ((await failure(router.dispatch(call(clock, change)))) as KatamariError).facts;

  test('says that a method is unknown only when no service has it', async () => {
    const unknown = { notRun: true, unknownMethod: true };
    expect(await factsOf({ method: 'none' })).toEqual(unknown);
    expect(await factsOf({ method: 'none', service: '' })).toEqual(unknown);
    expect(await factsOf({ method: 'none', service: 'Other' })).toEqual(unknown);
    expect(await factsOf({ service: 'Other' })).toEqual({ notRun: true });
    expect(await factsOf({ version: '9.0.0' })).toEqual({ notRun: true });
  });
});

describe('A cached route', () => {
  const of = (version: string, manager = version): ScriptedOffer =>
    new ScriptedOffer(manager, { details: { service: 'Work', version, roles: [], tags: [], more: {} } } as never);
  const answering = async (router: Router, clock: ManualClock, change: Partial<Call>): Promise<string> =>
    (await router.dispatch(call(clock, change))).context.resource;

  test('is refreshed when the pools change', async () => {
    const { router, clock } = routerOf([of('1.0.0')]);
    expect(await answering(router, clock, {})).toBe('1.0.0');
    expect(await answering(router, clock, { version: '1.0.0' })).toBe('1.0.0');
    router.setOffers([of('2.0.0')]);
    expect(await answering(router, clock, {})).toBe('2.0.0');
    expect(await failure(router.dispatch(call(clock, { version: '1.0.0' })))).toMatchObject({ code: 'no_pool' });
    router.setOffers([of('1.0.0', 'again'), of('2.0.0')]);
    expect(await answering(router, clock, { version: '1.0.0' })).toBe('again');
  });

  test('goes to a requested version that SemVer does not know, beside a version in the range of that name', async () => {
    const { router, clock } = routerOf([of('1.0'), of('1.0.3'), of('1.0.7')]);
    expect(await answering(router, clock, { version: '1.0' })).toBe('1.0');
    expect(await answering(router, clock, { version: '~1.0.0' })).toBe('1.0.7');
  });

  test('is separate for each version and method, whatever names a client invents', async () => {
    const { router, clock } = routerOf([of('1.0.0'), of('1.5.0')]);
    expect(await answering(router, clock, { version: '1.0.0' })).toBe('1.0.0');
    expect(await answering(router, clock, { version: '^1.0.0' })).toBe('1.5.0');
    expect(await answering(router, clock, { version: '1.0.0' })).toBe('1.0.0');
    for (const method of ['plain@1.0.0', '1.0.0 plain', '', 'constructor']) {
      expect(await failure(router.dispatch(call(clock, { method })))).toMatchObject({ code: 'no_pool' });
    }
  });
});
