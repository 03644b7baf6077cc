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

/** A pool of a manager that does what the test says. */
class PlayedOffer implements Offer {
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

  constructor(manager: string, change: Partial<PlayedOffer> = {}) {
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

/** What a call failed with. */
function failure(reply: Promise<unknown>): Promise<unknown> {
  return reply.then(
    () => undefined,
    (error: unknown) => error,
  );
}

function fails(code: KatamariError['code'], notRun = true): () => Promise<never> {
  return () => Promise.reject(new KatamariError(code, `played ${code}`, { notRun }));
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

describe('A pool that several managers have', () => {
  test('is asked where most is free first, not to let the call wait', async () => {
    const [a, b] = [new PlayedOffer('a', { free: 1 }), new PlayedOffer('b', { free: 2 })];
    const { router, clock } = routerOf([a, b]);
    expect((await router.dispatch(call(clock))).context.resource).toBe('b');
    expect(b.got[0]?.doNotQueue).toBe(true);
    expect(a.got).toHaveLength(0);
  });

  test('is asked elsewhere after a refusal, as often as there are managers, and none of that counts as another try', async () => {
    const busy = Array.from(
      { length: 6 },
      (_, n) => new PlayedOffer(`m${n}`, { free: 9 - n, answer: fails('overloaded') }),
    );
    const last = new PlayedOffer('last', { free: 1 });
    const { router, clock } = routerOf([...busy, last]);
    // More refusals than the budget has retries.
    for (let n = 0; n < 20; n++) expect((await router.dispatch(call(clock))).context.resource).toBe('last');
    expect(busy.every(({ got }) => got.length === 20)).toBe(true);
    expect(last.got.every(({ attempt, doNotQueue }) => attempt === 0 && doNotQueue)).toBe(true);
  });

  test('lets the call wait at the least loaded, once, when none is free', async () => {
    const [a, b, c] = [
      new PlayedOffer('a', { free: 0, queued: 3 }),
      new PlayedOffer('b', { free: 0, queued: 1 }),
      new PlayedOffer('c', { free: 1, queued: 0, alive: 1, answer: fails('overloaded') }),
    ];
    const { router, clock } = routerOf([a, b, c]);
    await router.dispatch(call(clock));
    expect([a.got.length, b.got.length, c.got.length]).toEqual([0, 1, 1]);
    expect(b.got[0]?.doNotQueue).toBe(false);
  });

  test('refuses a call that is not to wait when none is free, with what the last one said', async () => {
    const offers = ['a', 'b'].map((name) => new PlayedOffer(name, { answer: fails('overloaded') }));
    const { router, clock } = routerOf(offers);
    await expect(router.dispatch(call(clock, { doNotQueue: true }))).rejects.toMatchObject({ code: 'overloaded' });
    expect(offers.flatMap(({ got }) => got).every(({ doNotQueue }) => doNotQueue)).toBe(true);
  });

  test('never makes a call wait for a busy manager while another is believed free, however many guesses are wrong', async () => {
    const seed = Date.now() % 2 ** 31;
    const random = new Random(seed);
    for (let round = 0; round < 500; round++) {
      const truth = Array.from({ length: 4 }, () => random.below(3));
      const offers = truth.map((free, n) => {
        const offer = new PlayedOffer(`m${n}`, { free: free === 0 ? random.below(3) : 1 + random.below(3), alive: 3 });
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

  test('is one pool for those who ask what there is', () => {
    const { router } = routerOf([new PlayedOffer('a', { free: 2 }), new PlayedOffer('b', { free: 0, queued: 4 })]);
    expect(router.pools().map(({ id, free, alive, queued }) => ({ id, free, alive, queued }))).toEqual([
      { id: 'Work@1.0.0', free: 2, alive: 4, queued: 4 },
    ]);
  });
});

describe('A call that fails', () => {
  test('goes to another manager when it certainly did not run: draining, not there yet, link not up', async () => {
    for (const code of ['draining', 'no_pool', 'resource_failed'] as const) {
      const [a, b] = [new PlayedOffer('a', { free: 5, answer: fails(code) }), new PlayedOffer('b')];
      const { router, clock } = routerOf([a, b]);
      expect((await router.dispatch(call(clock))).context.resource).toBe('b');
      expect(b.got[0]?.attempt).toBe(1);
    }
  });

  test('is not sent again when it may have run, unless its method is idempotent', async () => {
    const [a, b] = [new PlayedOffer('a', { free: 5, answer: fails('resource_failed', false) }), new PlayedOffer('b')];
    const { router, clock } = routerOf([a, b]);
    await expect(router.dispatch(call(clock))).rejects.toMatchObject({ code: 'resource_failed' });
    expect(b.got).toHaveLength(0);
    expect((await router.dispatch(call(clock, { method: 'again' }))).context.resource).toBe('b');
  });

  test('says that there is no such pool when the only manager says so', async () => {
    const { router, clock } = routerOf([new PlayedOffer('a', { answer: fails('no_pool') })]);
    await expect(router.dispatch(call(clock))).rejects.toMatchObject({ code: 'no_pool' });
  });
});

describe('While no manager can be reached', () => {
  test('calls wait, and go on as soon as one can', async () => {
    const a = new PlayedOffer('a', { isReachable: false });
    const { router, clock } = routerOf([a]);
    const waiting = [router.dispatch(call(clock)), router.dispatch(call(clock))];
    await Promise.resolve();
    expect(a.got).toHaveLength(0);
    a.isReachable = true;
    router.setOffers([a]);
    expect((await Promise.all(waiting)).map(({ context }) => context.resource)).toEqual(['a', 'a']);
  });

  test('a call waits no longer than its time', async () => {
    const { router, clock } = routerOf([new PlayedOffer('a', { isReachable: false })]);
    const waiting = router.dispatch(call(clock));
    const ended = failure(waiting);
    clock.advance(1_000);
    expect(await ended).toMatchObject({ code: 'timeout', facts: { stage: 'queue', notRun: true } });
  });

  test('a call whose caller goes away waits no more', async () => {
    const { router, clock } = routerOf([new PlayedOffer('a', { isReachable: false })]);
    const gone = new AbortController();
    const ended = failure(router.dispatch(call(clock, { signal: gone.signal })));
    gone.abort();
    expect(await ended).toMatchObject({
      code: 'cancelled',
    });
  });

  test('a call that is not to wait is refused at once', async () => {
    const { router, clock } = routerOf([new PlayedOffer('a', { isReachable: false })]);
    await expect(router.dispatch(call(clock, { doNotQueue: true }))).rejects.toMatchObject({ code: 'overloaded' });
  });

  test('calls wait in order, at most 5,000 for a service, and go on in that order', async () => {
    const a = new PlayedOffer('a', { isReachable: false });
    const { router, clock } = routerOf([a]);
    const waiting = Array.from({ length: 5_000 }, (_, n) => router.dispatch(call(clock, { caller: `${n}` })));
    expect(await failure(router.dispatch(call(clock)))).toMatchObject({
      code: 'overloaded',
      message: 'Cannot wait for a manager that has Work: 5000 calls are waiting, limit is 5000; try again in 500 ms',
      facts: { notRun: true, retryAfterMs: 500 },
    });
    a.isReachable = true;
    router.setOffers([a]);
    await Promise.all(waiting);
    expect(a.got.map(({ caller }) => caller)).toEqual(waiting.map((_, n) => `${n}`));
  });

  test('calls that wait are told when the last manager is gone for good', async () => {
    const { router, clock } = routerOf([new PlayedOffer('a', { isReachable: false })]);
    const ended = failure(router.dispatch(call(clock)));
    router.setOffers([]);
    expect(await ended).toMatchObject({ code: 'no_pool' });
  });
});

describe('A method that only some versions have', () => {
  const newer = parseIdl({ main: 'w.thrift', files: { 'w.thrift': 'service Work { i32 plain(), i32 added() }' } });
  const details = { service: 'Work', version: '2.0.0', roles: [], tags: [], more: {} };
  const two = new PlayedOffer('two', { details, interface: newer.services.get('Work') as Interface });
  const one = new PlayedOffer('one', { details: { ...details, version: '1.0.0', tags: ['fast'] } as never });
  const { router, clock } = routerOf([one, two]);

  test('is asked of those, even where another fits better', async () => {
    for (const change of [{ method: 'added' }, { method: 'added', tags: ['fast'] }]) {
      expect((await router.dispatch(call(clock, change))).context.resource).toBe('two');
    }
  });

  test('is refused where a version without it is named, saying where it is', async () => {
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
  const { router, clock } = routerOf([new PlayedOffer('a')]);
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

describe('What was found for a call', () => {
  const of = (version: string, manager = version): PlayedOffer =>
    new PlayedOffer(manager, { details: { service: 'Work', version, roles: [], tags: [], more: {} } } as never);
  const answering = async (router: Router, clock: ManualClock, change: Partial<Call>): Promise<string> =>
    (await router.dispatch(call(clock, change))).context.resource;

  test('is not held against what is there now', async () => {
    const { router, clock } = routerOf([of('1.0.0')]);
    expect(await answering(router, clock, {})).toBe('1.0.0');
    expect(await answering(router, clock, { version: '1.0.0' })).toBe('1.0.0');
    router.setOffers([of('2.0.0')]);
    expect(await answering(router, clock, {})).toBe('2.0.0');
    expect(await failure(router.dispatch(call(clock, { version: '1.0.0' })))).toMatchObject({ code: 'no_pool' });
    router.setOffers([of('1.0.0', 'again'), of('2.0.0')]);
    expect(await answering(router, clock, { version: '1.0.0' })).toBe('again');
  });

  test('is not taken for that of another version or method, whatever a stranger calls them', async () => {
    const { router, clock } = routerOf([of('1.0.0'), of('1.5.0')]);
    expect(await answering(router, clock, { version: '1.0.0' })).toBe('1.0.0');
    expect(await answering(router, clock, { version: '^1.0.0' })).toBe('1.5.0');
    expect(await answering(router, clock, { version: '1.0.0' })).toBe('1.0.0');
    for (const method of ['plain@1.0.0', '1.0.0 plain', '', 'constructor']) {
      expect(await failure(router.dispatch(call(clock, { method })))).toMatchObject({ code: 'no_pool' });
    }
  });
});
