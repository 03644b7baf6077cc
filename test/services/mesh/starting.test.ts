// Calls for a service that is deployed and has no copy yet, in the router: they wait within their deadline and a
// limit, and never learn that the service does not exist.

import { describe, expect, test } from 'vitest';
import { parseIdl } from '../../../core/idl/mod.ts';
import { KatamariError } from '../../../core/mod.ts';
import { createCall, EMPTY_STRUCT, NO_REPLY_CONTEXT, sendOf, type Call } from '../../../core/rpc/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { mergeDeployed, Router, type DeployedService, type Offer } from '../../../services/mesh/mod.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

const text = 'service Work { i32 plain() }';
const face = parseIdl({ main: 'work.thrift', files: { 'work.thrift': text } }).services.get('Work') as Interface;

function deployed(change: Partial<DeployedService> = {}): DeployedService {
  return { service: 'Work', version: '1.0.0', roles: [], queueMax: 10, failure: '', ...change };
}

function offer(version = '1.0.0', change: Partial<Offer> = {}): Offer {
  return {
    id: `Work@${version}`,
    details: { service: 'Work', version, roles: [], tags: [], more: {} },
    interface: face,
    manager: 'one',
    isReachable: true,
    free: 1,
    alive: 1,
    queued: 0,
    send: sendOf(() => {
      const context = { ...NO_REPLY_CONTEXT, version };
      return Promise.resolve({ isException: false, body: EMPTY_STRUCT, context });
    }),
    ...change,
  };
}

function start(deployments: readonly DeployedService[], offers: readonly Offer[] = []) {
  const clock = new ManualClock();
  const router = new Router({ clock });
  router.setOffers(offers, deployments);
  const ask = (change: Partial<Call> = {}): Promise<string> => {
    const deadlineMs = clock.nowMs() + 1_000;
    const call = createCall({ service: 'Work', method: 'plain', args: EMPTY_STRUCT, deadlineMs, ...change });
    return router.dispatch(call).then(
      ({ context }) => context.version,
      (error: KatamariError) => `${error.code} ${JSON.stringify(error.facts)} ${error.message}`,
    );
  };
  return { clock, router, ask };
}

const REFUSED = '{"notRun":true,"retryAfterMs":500}';
const NONE_UP = '{"stage":"queue","notRun":true,"retryAfterMs":500,"httpStatus":503}';

describe('A call for a deployed service without a copy', () => {
  test('waits, and is answered as soon as a copy is up', async () => {
    const { clock, router, ask } = start([deployed()]);
    const answers = Promise.all([ask(), ask({ version: '1.0.0' }), ask({ version: '^1' }), ask({ service: '' })]);
    clock.advance(900);
    router.setOffers([offer()], [deployed()]);
    expect(await answers).toEqual(['1.0.0', '1.0.0', '1.0.0', '1.0.0']);
  });

  test('times out at its deadline with a retry-after, as a call that did not run', async () => {
    const { clock, ask } = start([deployed()]);
    const answer = ask();
    clock.advance(1_010);
    expect(await answer).toBe(`timeout ${NONE_UP} Waited for a copy of Work@1.0.0 until the deadline: none is up`);
  });

  test('is refused with a retry-after when it must not wait, or when as many wait as its queue may hold', async () => {
    const { router, ask } = start([deployed({ queueMax: 2 })]);
    expect(await ask({ doNotQueue: true })).toMatch(`overloaded ${REFUSED} The call asked not to wait`);
    const waiting = [ask(), ask()];
    expect(await ask()).toBe(
      `overloaded ${REFUSED} Cannot wait for a copy of Work@1.0.0: 2 calls are waiting, limit is 2; try again in 500 ms`,
    );
    router.setOffers([offer()], [deployed()]);
    expect(await Promise.all(waiting)).toEqual(['1.0.0', '1.0.0']);
  });

  test('fails at once when no copy can start, on any manager', async () => {
    const failed = deployed({ failure: 'there is no program /bin/gone' });
    const { clock, router, ask } = start([failed]);
    expect(await ask()).toBe(
      'resource_failed {} No copy of Work@1.0.0 can start: there is no program /bin/gone. Correct it, then katamari restart Work',
    );
    // A call that waits learns it too.
    router.setOffers([], [deployed()]);
    const waiting = ask();
    router.setOffers([], [failed]);
    expect(await waiting).toMatch(/^resource_failed/);
    // On another manager it may come up.
    router.setOffers([], mergeDeployed([failed, deployed()], []));
    const other = ask();
    router.setOffers([offer()], [failed]);
    expect(await other).toBe('1.0.0');
    expect(clock.nowMs()).toBeLessThan(1_000_000);
  });

  test('fails at once when its deployment is removed meanwhile', async () => {
    const { router, ask } = start([deployed()]);
    const waiting = ask();
    router.setOffers([], []);
    expect(await waiting).toMatch(/^no_pool .*No pool offers Work/);
  });

  test('waits for the version that it asks for, beside one that is up', async () => {
    const both = [deployed(), deployed({ version: '2.0.0' })];
    const { router, ask } = start(both, [offer()]);
    expect(await ask()).toBe('1.0.0');
    const waiting = ask({ version: '2.0.0' });
    router.setOffers([offer(), offer('2.0.0')], both);
    expect(await waiting).toBe('2.0.0');
  });

  test('does not wait for what is not deployed: another service, version, role or method', async () => {
    const { ask } = start([deployed()], [offer()]);
    expect(await ask({ service: 'Wrok' })).toMatch(/^no_pool .*No pool offers Wrok/);
    expect(await ask({ version: '2.0.0' })).toMatch(/^no_pool .*No pool offers Work@2\.0\.0/);
    expect(await ask({ method: 'plian' })).toMatch(/^no_pool .*has no method "plian"/);
    expect(await ask({ service: '', method: 'plian' })).toMatch(/^no_pool .*No service here has a method "plian"/);
    const staging = start([deployed({ roles: ['staging'] })]);
    expect(await staging.ask()).toMatch(/^no_pool .*No pool offers Work: deployed are 1\.0\.0 for roles staging/);
    const waiting = staging.ask({ roles: ['staging'] });
    staging.clock.advance(1_010);
    expect(await waiting).toMatch(/^timeout/);
  });

  test('waits elsewhere when the only manager refuses it because it starts or stops', async () => {
    for (const code of ['no_pool', 'draining'] as const) {
      let isReachable = true;
      const refusing = {
        ...offer(),
        get isReachable() {
          return isReachable;
        },
        send: sendOf(() => {
          // As a RemotePool does after such a refusal.
          isReachable = false;
          return Promise.reject(new KatamariError(code, 'scripted', { notRun: true }));
        }),
      };
      const { router, ask } = start([deployed()], [refusing]);
      const waiting = ask();
      await Promise.resolve();
      router.setOffers([offer()], [deployed()]);
      expect(await waiting).toBe('1.0.0');
    }
  });
});
