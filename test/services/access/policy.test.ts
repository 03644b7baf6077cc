import { describe, expect, test } from 'vitest';
import { parseIdl } from '../../../core/idl/mod.ts';
import {
  ANONYMOUS,
  CHASSIS_CALLER,
  createCall,
  EMPTY_STRUCT,
  identityOf,
  NO_REPLY_CONTEXT,
  UNAUTHENTICATED,
  type Call,
  type CallerIdentity,
} from '../../../core/rpc/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { compilePolicy, type CompiledPolicy } from '../../../services/access/mod.ts';
import { Router, type Offer } from '../../../services/mesh/mod.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

function compiled(text: string): CompiledPolicy {
  const policy = compilePolicy(text);
  if (policy instanceof Error) throw policy;
  return policy;
}

const alice = identityOf('alice', 'token');
const billing = identityOf('spiffe://example.org/billing', 'mtls');

/** Whether a policy lets a caller call `Service@version.method`. */
function may(policy: CompiledPolicy, who: CallerIdentity, target: string, poolRoles: readonly string[] = []): boolean {
  const [, service = '', version = '', method = ''] = /^(.+)@(.+)\.(\w+)$/.exec(target) ?? [];
  return policy.rightsOf(who).mayCall({ service, version, method, poolRoles });
}

describe('A policy', () => {
  test.each([
    // who, may, target, allowed
    ['alice', 'Orders.get', 'Orders@1.0.0.get', true],
    ['alice', 'Orders.get', 'Orders@1.0.0.getAll', false],
    ['alice', 'Orders.get*', 'Orders@1.0.0.getAll', true],
    ['alice', '"*"', 'Orders@1.0.0.get', true],
    ['alice', '"*.get"', 'shop.Orders@1.0.0.get', true],
    ['alice', 'shop.*.get', 'shop.Orders@1.0.0.get', true],
    ['alice', 'Order*.g*t', 'Orders@1.0.0.get', true],
    ['alice', 'Order*.g*t', 'Orders@1.0.0.gets', false],
    ['alice', 'Orders@^1.0.0.get', 'Orders@1.4.0.get', true],
    ['alice', 'Orders@^1.0.0.get', 'Orders@2.0.0.get', false],
    ['alice', 'Orders@1.x.*', 'Orders@1.4.2.get', true],
    ['alice', '"Orders@>=1.0.0 <2.0.0.*"', 'Orders@1.9.0.get', true],
    ['alice', 'Orders@1.0.*', 'Orders@1.0.get', true],
    ['alice', 'Orders.*', 'Order@1.0.0.get', false],
    ['alice', 'Orders.*', 'Orders2@1.0.0.get', false],
    ['alic*', 'Orders.*', 'Orders@1.0.0.get', true],
    ['"*"', 'Orders.*', 'Orders@1.0.0.get', true],
    ['token:alice', 'Orders.*', 'Orders@1.0.0.get', true],
    ['jwt:alice', 'Orders.*', 'Orders@1.0.0.get', false],
    ['bob', 'Orders.*', 'Orders@1.0.0.get', false],
    ['anonymous', 'Orders.*', 'Orders@1.0.0.get', false],
    ['role:alice', 'Orders.*', 'Orders@1.0.0.get', false],
  ])('with who: %s and may: %s decides about %s: %s', (who, what, target, allowed) => {
    const policy = compiled(`rules: [{ who: [${who}], may: [${what}] }]`);
    expect(may(policy, alice, target)).toBe(allowed);
  });

  test('names callers that proved nothing only by their own words, whatever a caller calls itself', () => {
    const policy = compiled(`
rules:
  - { who: "*", may: Any.* }
  - { who: anonymous, may: Open.* }
  - { who: chassis, may: Inner.* }
  - { who: "role:admin", may: Admin.* }`);
    expect(may(policy, ANONYMOUS, 'Any@1.0.0.x')).toBe(false);
    expect(may(policy, CHASSIS_CALLER, 'Any@1.0.0.x')).toBe(false);
    expect(may(policy, ANONYMOUS, 'Open@1.0.0.x')).toBe(true);
    expect(may(policy, CHASSIS_CALLER, 'Inner@1.0.0.x')).toBe(true);
    for (const name of ['anonymous', 'chassis', 'role:admin']) {
      const forged = identityOf(name, 'jwt');
      for (const target of ['Open@1.0.0.x', 'Inner@1.0.0.x', 'Admin@1.0.0.x']) {
        expect(may(policy, forged, target)).toBe(false);
      }
    }
    expect(may(policy, identityOf('anonymous', 'anonymous', ['admin']), 'Admin@1.0.0.x')).toBe(false);
    expect(may(policy, identityOf('eve', 'jwt', ['admin']), 'Admin@1.0.0.x')).toBe(true);
  });

  test('gives roles to callers, also by SPIFFE id and by roles of their tokens', () => {
    const policy = compiled(`
roles:
  payments: [spiffe://example.org/*, role:finance]
  __proto__: [alice]
rules:
  - { who: "role:payments", may: Pay.* }
  - { who: "role:__proto__", may: Odd.* }`);
    expect(may(policy, billing, 'Pay@1.0.0.x')).toBe(true);
    expect(may(policy, identityOf('bob', 'jwt', ['finance']), 'Pay@1.0.0.x')).toBe(true);
    expect(may(policy, alice, 'Pay@1.0.0.x')).toBe(false);
    expect(may(policy, alice, 'Odd@1.0.0.x')).toBe(true);
    expect(may(policy, billing, 'Odd@1.0.0.x')).toBe(false);
  });

  test('opens pools with roles only to callers for whom a rule names every role', () => {
    const policy = compiled(`
rules:
  - { who: alice, may: Orders.get }
  - { who: alice, may: Orders.put, poolRoles: [staging, "eu-*"] }`);
    expect(may(policy, alice, 'Orders@1.0.0.get', [])).toBe(true);
    expect(may(policy, alice, 'Orders@1.0.0.get', ['staging'])).toBe(false);
    expect(may(policy, alice, 'Orders@1.0.0.put', ['staging', 'eu-west'])).toBe(true);
    expect(may(policy, alice, 'Orders@1.0.0.put', ['staging', 'prod'])).toBe(false);
  });

  test('lists the readers of the stats port, or lets everybody read', () => {
    expect(compiled('rules: []').mayReadStats(ANONYMOUS)).toBe(true);
    const policy = compiled('rules: []\nstats: [role:ops]');
    expect(policy.mayReadStats(ANONYMOUS)).toBe(false);
    expect(policy.mayReadStats(identityOf('o', 'jwt', ['ops']))).toBe(true);
  });

  test.each([
    ['rules: 7', /^line 1: rules: expected a list of rules/],
    ['rules:\n  - { who: alice }', /^line 2: rules\[0\]\.may: /],
    ['rules:\n  - { who: alice, may: [Orders] }', /^line 2: rules\[0\]\.may: found "Orders", expected Service\.method/],
    ['rules:\n  - { who: alice, may: [A.b] }\n  - { who: bob, may: ["A@^^1.b"] }', /^line 3: .*SemVer range/],
    ['rules:\n  - { who: alice, may: [A.b], extra: 1 }', /^line 2: .*extra/],
    ['rule: []', /rules/],
    ['rules:\n  - { who: "role:", may: A.b }', /^line 2: rules\[0\]\.who: found "role:"/],
    ['rules: [', /^line 1: /],
    ['', /expected a map/],
    ['rules:\n  - { who: 5, may: A.b }', /^line 2: rules\[0\]\.who: expected/],
  ])('that is %j is refused with its line', (text, expected) => {
    const refused = compilePolicy(text);
    expect(refused).toBeInstanceOf(Error);
    expect((refused as Error).message).toMatch(expected);
  });

  test('with a hostile pattern takes no longer than its length', () => {
    const policy = compiled(`rules: [{ who: "${'a*'.repeat(400)}b", may: A.b }]`);
    expect(may(policy, identityOf('a'.repeat(50_000), 'jwt'), 'A@1.0.0.b')).toBe(false);
  });
});

const IDL = `service Work { i32 a(), i32 b(), oneway void tell() } `;
const work = parseIdl({ main: 'w.thrift', files: { 'w.thrift': IDL } }).services.get('Work') as Interface;

function offer(
  service: string,
  version: string,
  more: Partial<Offer> & { roles?: string[]; tags?: string[] } = {},
): Offer {
  const { roles = [], tags = [], ...rest } = more;
  return {
    id: `${service}@${version}`,
    details: { service, version, roles, tags, more: {} },
    interface: work,
    manager: 'm',
    isReachable: true,
    free: 1,
    alive: 1,
    queued: 0,
    send: (_call, sink) =>
      sink.reply({ isException: false, body: EMPTY_STRUCT, context: { ...NO_REPLY_CONTEXT, version } }),
    ...rest,
  };
}

function routerWith(policy: string | undefined, offers: readonly Offer[]): { router: Router; denied: string[] } {
  const denied: string[] = [];
  const router = new Router({
    clock: new ManualClock(),
    onDenied: ({ name }, target, reason) => denied.push(`${name} ${target} ${reason}`),
  });
  router.setOffers(offers);
  if (policy !== undefined) router.setPolicy(compiled(policy));
  return { router, denied };
}

/** The version that answers a call, or the error. */
function ask(router: Router, call: Partial<Call>): string | KatamariError {
  let result: string | KatamariError = 'nothing';
  router.send(createCall({ service: 'Work', method: 'a', args: EMPTY_STRUCT, deadlineMs: 1_000, ...call }), {
    reply: ({ context }) => (result = context.version),
    fail: (error) => (result = error),
  });
  return result;
}

function code(found: string | KatamariError): string {
  return found instanceof KatamariError ? found.code : found;
}

describe('The router', () => {
  const two = [offer('Work', '1.0.0'), offer('Work', '2.0.0')];

  test('allows everything without a policy, and nothing to callers that must authenticate', () => {
    const { router, denied } = routerWith(undefined, [offer('Work', '1.0.0')]);
    expect(ask(router, { identity: ANONYMOUS })).toBe('1.0.0');
    const refused = ask(router, { identity: UNAUTHENTICATED }) as KatamariError;
    expect(refused).toMatchObject({ code: 'denied', facts: { httpStatus: 401, notRun: true } });
    expect(denied).toEqual(['anonymous Work.a unauthenticated']);
  });

  test('takes versions that the caller may not call out of weights, ranges and tags', () => {
    const { router } = routerWith('rules: [{ who: alice, may: "Work@^1.0.0.*" }]', two);
    router.setRoutes(new Map([['Work', { weights: { '1.0.0': 1, '2.0.0': 99 } }]]));
    const versions = Array.from({ length: 50 }, () => ask(router, { identity: alice }));
    expect(new Set(versions)).toEqual(new Set(['1.0.0']));
    expect(ask(router, { identity: alice, version: '>=1.0.0' })).toBe('1.0.0');
    expect(code(ask(router, { identity: alice, version: '2.0.0' }))).toBe('denied');
    expect(code(ask(router, { identity: alice, version: '^2.0.0' }))).toBe('denied');
    const tagged = [offer('Work', '1.0.0'), offer('Work', '2.0.0', { tags: ['fast'] })];
    router.setOffers(tagged);
    expect(ask(router, { identity: alice, tags: ['fast'] })).toBe('1.0.0');
  });

  test('is not fooled by a name without a service, a role or a default', () => {
    const policy = 'rules: [{ who: alice, may: Work.a }]';
    const { router } = routerWith(policy, [offer('Work', '1.0.0'), offer('Other', '1.0.0', { roles: ['x'] })]);
    expect(ask(router, { identity: alice, service: '' })).toBe('1.0.0');
    expect(code(ask(router, { identity: alice, service: '', method: 'b' }))).toBe('denied');
    expect(code(ask(router, { identity: alice, service: 'Other', roles: ['x'] }))).toBe('denied');
    expect(code(ask(router, { identity: alice, roles: ['x'] }))).toBe('no_pool');
    expect(code(ask(router, { identity: alice, method: 'tell', oneway: true }))).toBe('denied');
  });

  test('answers alike whether a service that the caller may not call exists or not', () => {
    const { router } = routerWith('rules: [{ who: alice, may: Work.a }]', [
      offer('Work', '1.0.0'),
      offer('Secret', '1.0.0'),
    ]);
    const [real, invented] = ['Secret', 'Absent'].map(
      (service) => ask(router, { identity: alice, service }) as KatamariError,
    );
    expect(real?.message.replaceAll('Secret', 'X')).toBe(invented?.message.replaceAll('Absent', 'X'));
    expect(real?.code).toBe('denied');
    const absentVersion = ask(router, { identity: alice, version: '9.0.0' }) as KatamariError;
    expect(absentVersion.code).toBe('no_pool');
    expect(absentVersion.message).not.toContain('Secret');
  });

  test('says who may not call what, and how to find out why', () => {
    const { router } = routerWith('rules: []', two);
    const { message } = ask(router, { identity: identityOf('eve\n', 'jwt', ['x']), version: '1.0.0' }) as KatamariError;
    expect(message).toBe(
      "eve? may not call Work@1.0.0.a: the access policy does not allow it; katamari access explain 'eve?' Work@1.0.0.a --roles x says why",
    );
  });

  test('leaves the admin service to its own tokens', () => {
    const { router } = routerWith('rules: []', [offer('Katamari', '1.0.0', { isOpen: true })]);
    expect(ask(router, { identity: ANONYMOUS, service: 'Katamari' })).toBe('1.0.0');
    expect(ask(router, { identity: UNAUTHENTICATED, service: 'Katamari' })).toBe('1.0.0');
  });

  test('decides anew when the policy or the pools change', () => {
    const { router } = routerWith('rules: [{ who: alice, may: Work.a }]', two);
    expect(code(ask(router, { identity: alice, version: '2.0.0' }))).toBe('2.0.0');
    router.setPolicy(compiled('rules: [{ who: alice, may: "Work@1.0.0.a" }]'));
    expect(code(ask(router, { identity: alice, version: '2.0.0' }))).toBe('denied');
    router.setPolicy(undefined);
    expect(code(ask(router, { identity: alice, version: '2.0.0' }))).toBe('2.0.0');
    router.setPolicy(compiled('rules: [{ who: alice, may: "Work@3.0.0.a" }]'));
    expect(code(ask(router, { identity: alice }))).toBe('denied');
    router.setOffers([...two, offer('Work', '3.0.0')]);
    expect(ask(router, { identity: alice })).toBe('3.0.0');
  });
});

describe('1,000 callers and 500 methods', () => {
  const METHODS = 500;
  const CALLERS = 1_000;
  const idl = `service Big { ${Array.from({ length: METHODS }, (_, n) => `i32 m${n}()`).join(', ')} }`;
  const big = parseIdl({ main: 'b.thrift', files: { 'b.thrift': idl } }).services.get('Big') as Interface;
  // Caller n may call the methods whose number begins with n, by a rule of its own, and m0 by a role.
  const rules = Array.from({ length: CALLERS }, (_, n) => `  - { who: "caller-${n}", may: ["Big.m${n}*"] }`).join('\n');
  const policy = compiled(`roles: { all: ["caller-*"] }\nrules:\n${rules}\n  - { who: "role:all", may: Big.m0 }`);
  const callers = Array.from({ length: CALLERS }, (_, n) => identityOf(`caller-${n}`, 'jwt'));
  const allows = (n: number, method: number): boolean => method === 0 || String(method).startsWith(String(n));

  test('are decided right, first and from the cache, and drop out when the policy changes', () => {
    const router = new Router({ clock: new ManualClock() });
    const one = offer('Big', '1.0.0', { interface: big });
    router.setOffers([one]);
    router.setPolicy(policy);
    for (let round = 0; round < 2; round++) {
      let wrong = 0;
      callers.forEach((identity, n) => {
        for (let method = 0; method < METHODS; method++) {
          if (router.mayCall(identity, one, `m${method}`) !== allows(n, method)) wrong++;
        }
        // Calls decide the same. Ten for each caller: an error takes longer than a decision.
        for (const method of [0, n % METHODS, ...Array.from({ length: 8 }, (_, k) => (n * 7 + k * 61) % METHODS)]) {
          const found = ask(router, { service: 'Big', method: `m${method}`, identity });
          if ((found === '1.0.0') !== allows(n, method)) wrong++;
        }
      });
      expect(wrong).toBe(0);
    }
    router.setPolicy(compiled('rules: []'));
    expect(code(ask(router, { service: 'Big', method: 'm0', identity: callers[0] as CallerIdentity }))).toBe('denied');
  });

  test('asks the rules once for each caller and method', () => {
    const router = new Router({ clock: new ManualClock() });
    router.setOffers([offer('Big', '1.0.0', { interface: big })]);
    let [asked, resolved] = [0, 0];
    router.setPolicy({
      rightsOf: (identity) => {
        resolved++;
        const rights = policy.rightsOf(identity);
        return {
          mayCall: (target) => {
            asked++;
            return rights.mayCall(target);
          },
          mayName: (service, method) => rights.mayName(service, method),
        };
      },
    });
    const some = callers.slice(0, 20);
    for (let round = 0; round < 5; round++) {
      for (const identity of some) {
        for (let method = 0; method < METHODS; method++)
          router.mayCall(identity, router.pools()[0] as Offer, `m${method}`);
        for (let method = 0; method < METHODS; method++)
          ask(router, { service: 'Big', method: `m${method}`, identity });
      }
    }
    expect(resolved).toBe(some.length);
    expect(asked).toBe(some.length * METHODS);
  });
});
