// Rules of routes: which of them takes a call, what happens when its version has nobody alive, and what answers say.

import { describe, expect, test } from 'vitest';
import { parseIdl } from '../../../core/idl/mod.ts';
import type { KatamariError } from '../../../core/mod.ts';
import { createCall, EMPTY_STRUCT, identityOf, NO_REPLY_CONTEXT, sendOf, type Call } from '../../../core/rpc/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { Router, type Offer, type Route, type RouteRule } from '../../../services/mesh/mod.ts';
import { ruleApplies, whyRuleDiffers } from '../../../services/mesh/route-rules.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { Random } from '../../kit/tools/random.ts';

const SEED = Math.floor(Math.random() * 2 ** 31);

const text = 'service Shop { i32 price() i32 stock() }';
const face = parseIdl({ main: 'shop.thrift', files: { 'shop.thrift': text } }).services.get('Shop') as Interface;

function start(route: Route, alive: Readonly<Record<string, number>> = { '1.0.0': 2, '2.0.0': 1 }) {
  const clock = new ManualClock();
  const router = new Router({ clock });
  router.setRoutes(new Map([['Shop', route]]));
  const setAlive = (now: Readonly<Record<string, number>>): void =>
    router.setOffers(Object.entries(now).map(([version, count]) => offer(version, count)));
  setAlive(alive);
  /** `version rule`, or the code and message of the error. */
  const ask = (change: Partial<Call> = {}): Promise<string> => {
    const deadlineMs = clock.nowMs() + 1_000;
    const call = createCall({ service: 'Shop', method: 'price', args: EMPTY_STRUCT, deadlineMs, ...change });
    return router.dispatch(call).then(
      ({ context: { version, rule } }) => (rule === undefined ? version : `${version} ${rule}`),
      (error: KatamariError) => `${error.code}: ${error.message}`,
    );
  };
  return { router, ask, setAlive };
}

function offer(version: string, alive: number): Offer {
  return {
    id: `Shop@${version}`,
    details: { service: 'Shop', version, roles: [], tags: [], more: {} },
    interface: face,
    manager: 'one',
    isReachable: true,
    free: alive,
    alive,
    queued: 0,
    send: sendOf(() => {
      const context = { ...NO_REPLY_CONTEXT, version };
      return Promise.resolve({ isException: false, body: EMPTY_STRUCT, context });
    }),
  };
}

const ONE = { '1.0.0': 100 };

const MANY_KEYS = Array.from({ length: 10_000 }, (_, at) => `user-${at}`);

describe('A rule', () => {
  const cases: readonly (readonly [
    string,
    Omit<NonNullable<Route['rules']>[number], 'name' | 'to'>,
    Partial<Call>[],
    Partial<Call>[],
  ])[] = [
    [
      'by callers',
      { callers: ['ada', 'qa-*'] },
      [{ identity: identityOf('ada', 'token') }, { identity: identityOf('qa-7', 'token') }],
      [{}, { identity: identityOf('adam', 'token') }, { identity: identityOf('q', 'token') }],
    ],
    [
      'by roles of callers',
      { roles: ['tester', 'owner'] },
      [{ identity: identityOf('ada', 'token', ['x', 'owner']) }],
      [{}, { identity: identityOf('tester', 'token', ['x']) }],
    ],
    [
      'by headers',
      { headers: { 'x-beta': 'yes', 'x-any': '*' } },
      [{ headers: { 'x-beta': 'yes', 'x-any': '' } }, { headers: { 'X-Beta': 'yes', 'X-Any': '1' } }],
      [{}, { headers: { 'x-beta': 'yes' } }, { headers: { 'x-beta': 'Yes', 'x-any': '1' } }],
    ],
    ['by tags', { tags: ['gpu'] }, [{ tags: ['big', 'gpu'] }], [{}, { tags: ['big'] }]],
    ['by methods', { methods: ['stock'] }, [{ method: 'stock' }], [{ method: 'price' }]],
    ['by keys', { keys: ['user-1', 'user-2'] }, [{ key: 'user-2' }], [{}, { key: 'user-22' }]],
    ['by many keys', { keys: MANY_KEYS }, [{ key: 'user-9999' }], [{}, { key: 'user-10000' }]],
    ['by all keys', { share: 100 }, [{ key: 'a' }, { key: 'b' }], [{}]],
    ['by two conditions', { keys: ['a'], methods: ['stock'] }, [{ key: 'a', method: 'stock' }], [{ key: 'a' }]],
  ];
  for (const [name, conditions, some, others] of cases)
    test(`${name} takes these calls and no others`, async () => {
      const { ask } = start({ weights: ONE, rules: [{ name: 'testers', to: '2.0.0', ...conditions }] });
      for (const one of some) expect(await ask(one), JSON.stringify(one)).toBe('2.0.0 testers');
      for (const one of others) expect(await ask(one), JSON.stringify(one)).toBe('1.0.0');
    });

  test('by a share of keys takes that share of them, and the same keys each time', async () => {
    const { ask } = start({ weights: ONE, rules: [{ name: 'canary', to: '2.0.0', share: 5 }] });
    const keys = Array.from({ length: 4_000 }, (_, n) => `user-${n}`);
    const first = await Promise.all(keys.map((key) => ask({ key })));
    const count = first.filter((one) => one === '2.0.0 canary').length;
    expect(count).toBeGreaterThan(150);
    expect(count).toBeLessThan(250);
    expect(await Promise.all(keys.map((key) => ask({ key })))).toEqual(first);
  });

  test('comes before the later ones, and all before the weights', async () => {
    const rules = [
      { name: 'first', to: '1.0.0', methods: ['stock'] },
      { name: 'second', to: '2.0.0', tags: ['gpu'] },
    ];
    const { ask } = start({ weights: {}, rules });
    expect(await ask({ method: 'stock', tags: ['gpu'] })).toBe('1.0.0 first');
    expect(await ask({ tags: ['gpu'] })).toBe('2.0.0 second');
  });

  test('does not hold for a call that asks for a version', async () => {
    const { ask } = start({ weights: ONE, rules: [{ name: 'stock', to: '2.0.0', methods: ['stock'] }] });
    expect(await ask({ method: 'stock', version: '1.0.0' })).toBe('1.0.0');
    expect(await ask({ method: 'stock', version: '^1' })).toBe('1.0.0');
  });

  test('tells a faceplate that chooses first, whose call says so', async () => {
    const { ask, router } = start({ weights: ONE, rules: [{ name: 'stock', to: '2.0.0', methods: ['stock'] }] });
    const query = { service: 'Shop', method: 'stock', version: '', roles: [], tags: [], details: {}, key: '' };
    const { details, rule } = router.choose(query);
    expect([details.version, rule]).toEqual(['2.0.0', 'stock']);
    expect(await ask({ method: 'stock', version: details.version, rule })).toBe('2.0.0 stock');
  });
});

describe('A version that nobody serves', () => {
  const dead = { '1.0.0': 2, '2.0.0': 0 };
  const rules = [{ name: 'stock', to: '2.0.0', methods: ['stock'] }];

  test('leaves the calls of its rule to the weights, and the answer says so', async () => {
    const { ask, setAlive } = start({ weights: ONE, rules }, dead);
    expect(await ask({ method: 'stock' })).toBe('1.0.0 fallback');
    setAlive({ '1.0.0': 2, '2.0.0': 1 });
    expect(await ask({ method: 'stock' })).toBe('2.0.0 stock');
    setAlive({ '1.0.0': 2 });
    expect(await ask({ method: 'stock' })).toBe('1.0.0 fallback');
  });

  test('fails its calls at once if the route says so', async () => {
    const { ask } = start({ weights: { '1.0.0': 50, '2.0.0': 50 }, rules, fallback: 'fail' }, dead);
    expect(await ask({ method: 'stock' })).toBe(
      'overloaded: No copy of Shop@2.0.0 is alive, which the rule stock of its route chooses for this call; the route has fallback: fail',
    );
    const answers = await Promise.all(Array.from({ length: 100 }, () => ask()));
    expect(answers.filter((one) => one === '1.0.0').length).toBe(50);
    expect(answers.filter((one) => one.startsWith('overloaded: No copy of Shop@2.0.0 is alive')).length).toBe(50);
  });

  test('gives its calls to the version that the route names', async () => {
    const alive = { '1.0.0': 2, '2.0.0': 0, '3.0.0': 1 };
    const { ask } = start({ weights: { '1.0.0': 50, '2.0.0': 50 }, fallback: '3.0.0' }, alive);
    const answers = await Promise.all(Array.from({ length: 100 }, () => ask()));
    expect(answers.filter((one) => one === '1.0.0').length).toBe(50);
    expect(answers.filter((one) => one === '3.0.0 fallback').length).toBe(50);
  });
});

describe('A route whose callers may not choose', () => {
  test('refuses calls that ask for a version, and no others', async () => {
    const { ask, router } = start({ weights: ONE, callersChoose: false });
    const refusal =
      'denied: This call asks for version 2.0.0, and the route of Shop does not let callers choose one; leave it out';
    expect(await ask({ version: '2.0.0' })).toBe(refusal);
    // Also for a call that names no service.
    expect(await ask({ service: '', version: '2.0.0' })).toBe(refusal);
    expect(await ask()).toBe('1.0.0');
    const query = { service: 'Shop', method: 'stock', roles: [], tags: [], details: {}, key: '' };
    expect(() => router.choose({ ...query, version: '2.0.0' })).toThrow('does not let callers choose');
    const { details, rule = '' } = router.choose({ ...query, version: '' });
    expect(await ask({ version: details.version, rule })).toBe('1.0.0');
  });
});

test('Another experiment gives other keys to a version', async () => {
  const keys = Array.from({ length: 200 }, (_, n) => `user-${n}`);
  const versionsOf = async (experiment: string): Promise<string> => {
    const { ask } = start({ weights: { '1.0.0': 50, '2.0.0': 50 }, experiment });
    return (await Promise.all(keys.map((key) => ask({ key })))).join(' ');
  };
  expect(await versionsOf('colours')).toBe(await versionsOf('colours'));
  expect(await versionsOf('colours')).not.toBe(await versionsOf('prices'));
});

test('The reason why a rule does not apply is empty exactly when it applies', () => {
  const random = new Random(SEED);
  const pickSome = (items: readonly string[]): readonly string[] | undefined =>
    random.chance(0.5) ? undefined : [random.pick(items), random.pick(items)];
  for (let round = 0; round < 3_000; round++) {
    const rule: RouteRule = {
      name: 'r',
      to: '1.0.0',
      callers: pickSome(['ada', 'bob', 'a*']),
      roles: pickSome(['x', 'y']),
      methods: pickSome(['price', 'stock']),
      tags: pickSome(['gpu', 'big']),
      keys: pickSome(['a', 'b']),
      share: random.chance(0.5) ? undefined : random.between(0, 100),
      headers: random.chance(0.5) ? undefined : { [random.pick(['h', 'k'])]: random.pick(['*', '1']) },
    };
    const query = {
      service: 'Shop',
      method: random.pick(['price', 'stock']),
      version: '',
      roles: [],
      details: {},
      tags: pickSome(['gpu', 'big']) ?? [],
      key: random.pick(['', 'a', 'b', 'c']),
      identity: identityOf(random.pick(['ada', 'bob', 'eve']), 'token', pickSome(['x', 'y']) ?? []),
      headers: { [random.pick(['h', 'H', 'k'])]: random.pick(['1', '2']) },
    };
    const why = whyRuleDiffers(rule, query, 'Shop');
    expect(why === '', `${JSON.stringify({ rule, query, why })} (seed ${SEED})`).toBe(ruleApplies(rule, query, 'Shop'));
  }
});
