// Quotas of the access policy: what they allow, what they refuse, and that every ended call gives back what it took.

import { describe, expect, test } from 'vitest';
import { parseIdl } from '../../../core/idl/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import {
  ANONYMOUS,
  CHASSIS_CALLER,
  createCall,
  EMPTY_STRUCT,
  identityOf,
  NO_REPLY_CONTEXT,
  type Call,
  type CallSink,
} from '../../../core/rpc/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { compilePolicy, Quotas, type CompiledPolicy } from '../../../services/access/mod.ts';
import { Router, type Offer } from '../../../services/mesh/mod.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { Random } from '../../kit/tools/random.ts';

const work = parseIdl({ main: 'w.thrift', files: { 'w.thrift': 'service Work { i32 a(), i32 b() }' } }).services.get(
  'Work',
) as Interface;
const SEED = Number(process.env['KATAMARI_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
console.log(`quotas: KATAMARI_SEED=${SEED}`);

const alice = identityOf('alice', 'token');
const bob = identityOf('bob', 'token');

function compiled(text: string): CompiledPolicy {
  const policy = compilePolicy(text);
  if (policy instanceof Error) throw policy;
  return policy;
}

/** A router whose one pool ends calls only when the test says so. */
function start(policy: string) {
  const clock = new ManualClock();
  const refused: string[] = [];
  const quotas = new Quotas({ clock, onRefused: (_call, { name }, limit) => refused.push(`${name} ${limit}`) });
  const router = new Router({ clock, quotas });
  const set = (text: string): void => {
    const next = compiled(text);
    router.setPolicy(next.rules === undefined ? undefined : next);
    quotas.set(next);
  };
  set(policy);
  const running: CallSink[] = [];
  router.setOffers(['Work', 'Other'].map((service) => offerOf(running, service)));
  /** Sends a call. Returns its end, which is undefined while it runs. */
  const send = (call: Partial<Call> = {}): { error: KatamariError | undefined; isEnded: boolean } => {
    const end: { error: KatamariError | undefined; isEnded: boolean } = { error: undefined, isEnded: false };
    const whole = { service: 'Work', method: 'a', args: EMPTY_STRUCT, deadlineMs: clock.nowMs() + 60_000 };
    router.send(createCall({ ...whole, identity: alice, ...call }), {
      reply: () => (end.isEnded = true),
      fail: (error) => {
        end.isEnded = true;
        end.error = error;
      },
    });
    return end;
  };
  const answer = (bytes = 1): void =>
    running.shift()?.reply({ isException: false, body: new Uint8Array(bytes), context: NO_REPLY_CONTEXT });
  const fail = (error: KatamariError): void => running.shift()?.fail(error);
  /** How many of `count` calls are taken; those that are taken are answered at once. */
  const taken = (count: number, call: Partial<Call> = {}): number => {
    let sum = 0;
    for (let i = 0; i < count; i++) {
      if (send(call).error === undefined) sum++;
      answer();
    }
    return sum;
  };
  return { clock, router, quotas, set, send, answer, fail, taken, running, refused };
}

function offerOf(running: CallSink[], service = 'Work', manager = 'm1'): Offer {
  return {
    id: `${service}@1.0.0`,
    details: { service, version: '1.0.0', roles: [], tags: [], more: {} },
    interface: work,
    manager,
    isReachable: true,
    free: 1,
    alive: 1,
    queued: 0,
    send: (_call, sink) => running.push(sink),
  };
}

describe('A rate', () => {
  test('allows its burst at once, then refills, and never holds more than its burst', () => {
    const { clock, taken } = start('quotas: [{ rate: 10/s }]');
    expect(taken(50)).toBe(10);
    clock.advance(100);
    expect(taken(50)).toBe(1);
    clock.advance(250);
    expect(taken(50)).toBe(2);
    clock.advance(60_000);
    expect(taken(50)).toBe(10);
  });

  test('of a minute or an hour allows its number at once; burst sets another', () => {
    expect(start('quotas: [{ rate: 30/min }]').taken(100)).toBe(30);
    expect(start('quotas: [{ rate: 30/h, burst: 3 }]').taken(100)).toBe(3);
    const { clock, taken } = start('quotas: [{ rate: 0.5/s }]');
    expect(taken(5)).toBe(1);
    clock.advance(1_999);
    expect(taken(5)).toBe(0);
    clock.advance(2);
    expect(taken(5)).toBe(1);
  });

  test('holds over any time: at most its burst and what has refilled', () => {
    const random = new Random(SEED);
    const { clock, taken } = start('quotas: [{ rate: 100/s, burst: 7 }]');
    let sum = 0;
    const startMs = clock.nowMs();
    for (let i = 0; i < 2_000; i++) {
      clock.advance(random.next() * 30);
      sum += taken(random.below(6));
      expect(sum).toBeLessThanOrEqual(7 + (clock.nowMs() - startMs) / 10 + 1e-6);
    }
    expect(sum).toBeGreaterThan(1_000);
  });

  test('is refused with the time until the next call, which is then allowed', () => {
    const { clock, send, answer } = start('quotas: [{ rate: 4/s, burst: 1 }]');
    send();
    answer();
    const { error } = send();
    expect(error).toMatchObject({ code: 'rate_limited', facts: { notRun: true, retryAfterMs: 250 } });
    expect(error?.message).toBe(
      'This caller has reached the rate of quotas[0] (line 1) of the access policy: 4/s (1 at once); try again in 250 ms',
    );
    clock.advance(error?.facts.retryAfterMs ?? 0);
    expect(send().error).toBeUndefined();
  });
});

describe('A concurrency', () => {
  test('counts running calls only, however they end', () => {
    const { send, answer, fail, running } = start('quotas: [{ concurrency: 2 }]');
    const ends = [
      () => answer(),
      () => fail(new KatamariError('timeout', 'too late')),
      () => fail(new KatamariError('cancelled', 'gone')),
      () => fail(new KatamariError('resource_failed', 'died', { isSuspect: true })),
      () => fail(new KatamariError('overloaded', 'full', { notRun: true })),
    ];
    for (const end of ends) {
      expect([send(), send()].map(({ error }) => error)).toEqual([undefined, undefined]);
      expect(send().error).toMatchObject({ code: 'rate_limited', facts: { notRun: true, retryAfterMs: 100 } });
      end();
      while (running.length > 0) end();
    }
  });

  test('counts a call once that is tried at several managers', () => {
    const { router, send, fail, answer, running, quotas } = start('quotas: [{ concurrency: 1, rate: 2/s, name: a }]');
    router.setOffers(['m1', 'm2'].map((manager) => offerOf(running, 'Work', manager)));
    const call = send();
    fail(new KatamariError('overloaded', 'none is free', { notRun: true }));
    expect([call.isEnded, running.length]).toEqual([false, 1]);
    expect(send().error?.message).toContain('concurrency');
    answer();
    expect([call.isEnded, call.error]).toEqual([true, undefined]);
    expect(quotas.counts.get('a')).toMatchObject({ allowed: 1 });
    expect(send().error).toBeUndefined();
  });
});

describe('Bytes', () => {
  test('of arguments and results leave a debt that time pays', () => {
    const { clock, send, answer } = start('quotas: [{ bytes: 1000B/s }]');
    send({ args: new Uint8Array(400) });
    answer(2_600);
    const { error } = send();
    expect(error?.code).toBe('rate_limited');
    // The debt of 2,000 is cut to what the bucket holds.
    expect(error?.facts.retryAfterMs).toBe(1_001);
    clock.advance(1_000);
    expect(send().error?.code).toBe('rate_limited');
    clock.advance(1);
    expect(send().error).toBeUndefined();
  });

  test('owe no more than they may hold, so that nobody is refused for years', () => {
    const { send, answer } = start('quotas: [{ bytes: 1KiB/h }]');
    send();
    answer(16 * 1024 * 1024);
    expect(send().error?.facts.retryAfterMs).toBeLessThan(3_610_000);
  });
});

describe('A quota', () => {
  test('is of each caller alone, unless it is shared', () => {
    const own = start('quotas: [{ rate: 5/s }]');
    expect([own.taken(9), own.taken(9, { identity: bob })]).toEqual([5, 5]);
    const shared = start('quotas: [{ rate: 5/s, shared: true }]');
    expect(shared.taken(3) + shared.taken(9, { identity: bob })).toBe(5);
    expect(shared.send().error?.message).toContain('The callers of this quota have');
  });

  test('counts anonymous callers by their address, not by their connection', () => {
    const { taken } = start('quotas: [{ rate: 5/s, who: anonymous }]');
    const from = (caller: string): Partial<Call> => ({ identity: ANONYMOUS, caller });
    expect(taken(3, from('thrift 10.0.0.7:50312'))).toBe(3);
    expect(taken(9, from('json-rpc 10.0.0.7'))).toBe(2);
    expect(taken(9, from('thrift 10.0.0.8:1'))).toBe(5);
    expect(taken(20, { identity: alice })).toBe(20);
  });

  test('applies to its callers and calls only; of several, all apply', () => {
    const { taken } = start(`
roles: { guests: [bob] }
quotas:
  - { who: "role:guests", calls: Work.a, rate: 3/s }
  - { calls: "Work@^1.0.0.*", rate: 5/s, name: all }
  - { calls: "Work@2.0.0.*", rate: 1/s }`);
    expect(taken(9, { identity: bob })).toBe(3);
    expect(taken(9, { identity: bob, method: 'b' })).toBe(2);
    expect(taken(9)).toBe(5);
    expect(taken(20, { service: 'Other' })).toBe(20);
  });

  test('that refuses a call takes nothing from the others', () => {
    const { taken, send, refused, quotas } = start(`
quotas:
  - { rate: 10/s, name: wide }
  - { calls: Work.a, rate: 2/s, name: narrow }`);
    expect(taken(50)).toBe(2);
    expect(taken(50, { method: 'b' })).toBe(8);
    expect(send({ method: 'b' }).error?.message).toContain('quotas[0] (line 3)');
    expect(new Set(refused)).toEqual(new Set(['narrow rate', 'wide rate']));
    expect(quotas.counts.get('narrow')).toEqual({ allowed: 2, rate: 48, concurrency: 0, bytes: 0 });
    expect(quotas.counts.get('wide')).toEqual({ allowed: 10, rate: 43, concurrency: 0, bytes: 0 });
  });

  test('keeps what was used when the policy changes around it, and starts anew when it changes itself', () => {
    const { set, taken, send, answer, quotas } = start('quotas: [{ rate: 5/s, name: a }]');
    expect(taken(9)).toBe(5);
    set('rules: [{ who: [alice], may: "*" }]\nquotas: [{ rate: 1/s, who: bob }, { rate: 5/s, name: a }]');
    expect(taken(9)).toBe(0);
    set('quotas: [{ rate: 6/s, name: a }]');
    expect(taken(9)).toBe(6);
    set('quotas: [{ concurrency: 1, name: b }]');
    expect([...quotas.counts.keys()]).toEqual([]);
    send();
    set('rules: [{ who: [alice], may: "*" }]\nquotas: [{ concurrency: 1, name: b }]');
    expect(send().error?.code).toBe('rate_limited');
    answer();
    expect(send().error).toBeUndefined();
  });

  test('never locks out an operator: the admin service is not counted', () => {
    const { router, running, taken } = start('quotas: [{ rate: 1/h, concurrency: 1 }]');
    router.setOffers([{ ...offerOf(running, 'Katamari'), isOpen: true }]);
    expect(taken(20, { service: 'Katamari' })).toBe(20);
  });

  test('holds for calls that wait for a manager, so that one caller does not fill the places of all', () => {
    const { router, running, send } = start('quotas: [{ concurrency: 3 }]');
    router.setOffers([{ ...offerOf(running), isReachable: false }]);
    const codes = Array.from({ length: 10 }, () => send()).map(({ error }) => error?.code);
    expect(codes.filter((code) => code === 'rate_limited')).toHaveLength(7);
    expect(send({ identity: bob }).error).toBeUndefined();
    router.setOffers([offerOf(running)]);
    expect(running).toHaveLength(4);
  });

  test('is asked once, also if the policy changes while a call is tried', () => {
    const { router, set, send, fail, running } = start('rules: [{ who: alice, may: "*" }]');
    router.setOffers(['m1', 'm2'].map((manager) => offerOf(running, 'Work', manager)));
    const call = send();
    set('quotas: [{ rate: 1/h }]');
    expect([send().error, send().error?.code]).toEqual([undefined, 'rate_limited']);
    fail(new KatamariError('overloaded', 'none is free', { notRun: true }));
    expect([call.isEnded, running.length]).toEqual([false, 2]);
  });

  test('of chassis counts all of them as one caller, whatever they call themselves', () => {
    const { taken } = start('quotas: [{ rate: 5/s }]');
    const from = (caller: string): Partial<Call> => ({ identity: CHASSIS_CALLER, caller });
    expect(taken(3, from('chassis A@1.0.0/1')) + taken(3, from('x token alice'))).toBe(5);
    expect(taken(9)).toBe(5);
  });

  test('of anonymous callers counts an IPv6 network as one, and an IPv4 address in every notation', () => {
    const { taken } = start('quotas: [{ rate: 5/s }]');
    const from = (caller: string): Partial<Call> => ({ identity: ANONYMOUS, caller });
    expect(taken(3, from('thrift [2001:db8::1]:5')) + taken(9, from('json-rpc 2001:db8::ffff'))).toBe(5);
    expect(taken(3, from('thrift [::ffff:10.0.0.7]:5')) + taken(9, from('json-rpc 10.0.0.7'))).toBe(5);
    expect(taken(9, from('json-rpc 10.0.0.8'))).toBe(5);
  });

  test('keeps what active callers have used, however many others come and go', () => {
    const { clock, send, taken } = start('quotas: [{ rate: 1/h }, { concurrency: 5, calls: Work.a }]');
    expect(taken(2)).toBe(1);
    for (let n = 0; n < 105_000; n++) {
      if (n % 1_000 === 0) {
        clock.advance(1_001);
        expect(send().error?.code).toBe('rate_limited');
      }
      send({ identity: ANONYMOUS, caller: `json-rpc 10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`, method: 'b' });
    }
    expect(send().error?.code).toBe('rate_limited');
  });

  test('tells the time until no quota is exceeded any more', () => {
    const { send, taken } = start('quotas: [{ rate: 2/s, burst: 1 }, { rate: 60/h, burst: 1 }]');
    expect(taken(1)).toBe(1);
    const { error } = send();
    expect(error?.facts.retryAfterMs).toBe(60_000);
    expect(error?.message).toContain('quotas[0]');
  });

  test('does not count calls that the policy denies', () => {
    const { taken, send } = start('rules: [{ who: [alice], may: Work.b }]\nquotas: [{ rate: 2/s }]');
    for (let i = 0; i < 5; i++) expect(send().error?.code).toBe('denied');
    expect(taken(9, { method: 'b' })).toBe(2);
  });

  test.each([
    ['quotas: [{ rate: 5 }]', /^line 1: quotas\[0\]\.rate: /],
    ['quotas:\n  - { rate: 5/day }', /^line 2: quotas\[0\]: rate: found "5\/day", expected a number of calls such as/],
    ['quotas: [{ rate: 0/s }]', /rate: found "0\/s"/],
    ['quotas: [{ bytes: 5/s }]', /bytes: found "5\/s", expected a size such as/],
    ['quotas: [{ who: bob }]', /expected at least one of rate, concurrency and bytes/],
    ['quotas: [{ burst: 5, bytes: 1MiB/s }]', /expected rate beside burst/],
    ['quotas: [{ concurrency: 0 }]', /quotas\[0\]\.concurrency/],
    ['quotas: [{ rate: 5/s, calls: Work }]', /quotas\[0\]\.calls: found "Work", expected Service\.method/],
    ['quotas: [{ rate: 5/s, name: a }, { rate: 6/s, name: a }]', /quotas\[1\]\.name: a is the name of another quota/],
    ['quotas: [{ rate: 5 }, { rate: 5/s }, { name: "quotas[1]x", rate: 5/s }]', /quotas\[2\]\.name/],
    [
      'quotas:\n  - { rate: 5/s }\n  - { rate: 6/s }\n  - { rate: 5/s }',
      /^line 4: quotas\[2\] is equal to another quota/,
    ],
    ['quotas: [{ rate: 5/x }, { rate: 5/s, name: a }, { rate: 6/s, name: a }]', /quotas\[2\]\.name: a is the name/],
    ['quotas: [{ rate: 5/s, per: caller }]', /unknown key per/],
    ['quotas: []', /expected rules, quotas or both/],
    ['{}', /expected rules, quotas or both/],
  ])('that is %j is refused with its line', (text, expected) => {
    const refused = compilePolicy(text);
    expect(refused).toBeInstanceOf(Error);
    expect((refused as Error).message).toMatch(expected);
  });
});
