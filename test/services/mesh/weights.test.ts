// Weights on versions that do not run. The calls that get such a weight go to other versions, or wait if the version
// is to run; the shares that the router reports are those that calls get.

import { describe, expect, test } from 'vitest';
import { parseIdl } from '../../../core/idl/mod.ts';
import type { KatamariError } from '../../../core/mod.ts';
import { createCall, EMPTY_STRUCT, NO_REPLY_CONTEXT, sendOf, type Call } from '../../../core/rpc/mod.ts';
import type { Interface } from '../../../core/thrift/mod.ts';
import { Router, type DeployedService, type Offer } from '../../../services/mesh/mod.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

const text = 'service Work { i32 plain() }';
const face = parseIdl({ main: 'work.thrift', files: { 'work.thrift': text } }).services.get('Work') as Interface;

interface Setting {
  /** Live resources of each pool: `version` or `version manager`. */
  readonly pools: Readonly<Record<string, number>>;
  readonly weights: Readonly<Record<string, number>>;
  /** Versions that should run. */
  readonly deployed?: readonly string[];
  readonly failed?: readonly string[];
}

function start({ pools, weights, deployed = [], failed = [] }: Setting) {
  const clock = new ManualClock();
  const router = new Router({ clock });
  router.setRoutes(new Map([['Work', { weights }]]));
  const offers = Object.entries(pools).map(([name, alive]) => offer(name, alive));
  router.setOffers(
    offers,
    deployed.map((version) => deployment(version, failed.includes(version) ? 'broken' : '')),
  );
  const ask = (change: Partial<Call> = {}): Promise<string> => {
    const deadlineMs = clock.nowMs() + 1_000;
    const call = createCall({ service: 'Work', method: 'plain', args: EMPTY_STRUCT, deadlineMs, ...change });
    return router.dispatch(call).then(
      ({ context }) => context.version,
      (error: KatamariError) => error.code,
    );
  };
  /** Answers of 1,000 calls, by version, and the shares that the router reports. */
  const split = async (change: (n: number) => Partial<Call> = () => ({})) => {
    const counts: Record<string, number> = {};
    for (let n = 0; n < 1_000; n++) {
      const version = await ask(change(n));
      counts[version] = (counts[version] ?? 0) + 1;
    }
    const versions = [...new Set([...Object.keys(weights), ...offers.map(({ details }) => details.version)])].sort();
    return { counts, shares: versions.map((version) => router.weightOf('Work', version)) };
  };
  return { clock, router, ask, split };
}

function offer(name: string, alive: number): Offer {
  const [version = '', manager = 'one'] = name.split(' ');
  return {
    id: `Work@${version}`,
    details: { service: 'Work', version, roles: [], tags: [], more: {} },
    interface: face,
    manager,
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

function deployment(version: string, failure: string): DeployedService {
  return { service: 'Work', version, roles: [], queueMax: 10, failure };
}

/** Of any 1,000 calls a version gets its share, or one call more or less. */
function near(expected: number): unknown {
  // Allows 10 ** 0.5 / 2, which is 1.6.
  return expect.closeTo(expected, -0.5);
}

describe('A weight on a version that does not run', () => {
  test('goes to the other versions that have a weight, in proportion', async () => {
    const { split } = start({
      pools: { '1.0.0': 2, '2.0.0': 1, '3.0.0': 4 },
      weights: { '1.0.0': 60, '2.0.0': 20, '9.0.0': 20 },
    });
    expect(await split()).toEqual({ counts: { '1.0.0': near(750), '2.0.0': near(250) }, shares: [0.75, 0.25, 0, 0] });
  });

  test('goes to all versions by their resources when no version with a weight runs or is to run', async () => {
    const { split } = start({ pools: { '1.0.0': 3, '2.0.0': 1 }, weights: { '9.0.0': 100 } });
    expect(await split()).toEqual({ counts: { '1.0.0': near(750), '2.0.0': near(250) }, shares: [0.75, 0.25, 0] });
    const alone = start({ pools: { '1.0.0': 3 }, weights: { '9.0.0': 100 } });
    expect(await alone.split()).toEqual({ counts: { '1.0.0': 1_000 }, shares: [1, 0] });
  });

  test('is the same for calls with a key, which keep their version', async () => {
    const { split, ask } = start({ pools: { '1.0.0': 3, '2.0.0': 1 }, weights: { '9.0.0': 100 } });
    const { counts } = await split((n) => ({ key: `user-${n}` }));
    expect(Object.keys(counts).sort()).toEqual(['1.0.0', '2.0.0']);
    const first = await Promise.all(Array.from({ length: 20 }, (_, n) => ask({ key: `user-${n}` })));
    expect(await Promise.all(Array.from({ length: 20 }, (_, n) => ask({ key: `user-${n}` })))).toEqual(first);
  });

  test('makes its calls wait when that version is deployed, and no version with a weight is up', async () => {
    const setting = { pools: { '1.0.0': 2 }, weights: { '2.0.0': 100 }, deployed: ['1.0.0', '2.0.0'] };
    const { clock, router, ask } = start(setting);
    expect(router.weightOf('Work', '2.0.0')).toBe(1);
    expect(router.weightOf('Work', '1.0.0')).toBe(0);
    // A version without a weight gets only the calls that ask for it.
    expect(await ask({ version: '1.0.0' })).toBe('1.0.0');
    const late = ask();
    clock.advance(1_010);
    expect(await late).toBe('timeout');
    const waiting = ask();
    router.setOffers([offer('1.0.0', 2), offer('2.0.0', 1)]);
    expect(await waiting).toBe('2.0.0');
  });

  test('goes to the others when that version is deployed and cannot start', async () => {
    const deployed = ['1.0.0', '2.0.0'];
    const { split } = start({ pools: { '1.0.0': 2 }, weights: { '2.0.0': 100 }, deployed, failed: ['2.0.0'] });
    expect(await split()).toEqual({ counts: { '1.0.0': 1_000 }, shares: [1, 0] });
  });

  test('keeps its calls in the queue of its pool while all of its copies are restarted', async () => {
    const { split } = start({ pools: { '1.0.0': 2, '2.0.0': 0 }, weights: { '1.0.0': 0, '2.0.0': 100 } });
    expect(await split()).toEqual({ counts: { '2.0.0': 1_000 }, shares: [0, 1] });
  });
});

describe('Weights', () => {
  test('that are all 0 are as no route', async () => {
    const { split } = start({ pools: { '1.0.0': 3, '2.0.0': 1 }, weights: { '1.0.0': 0, '2.0.0': 0 } });
    expect(await split()).toEqual({ counts: { '1.0.0': near(750), '2.0.0': near(250) }, shares: [0.75, 0.25] });
  });

  test('belong to the version, however many of its managers are up', async () => {
    const pools = { '1.0.0 a': 0, '1.0.0 b': 1, '2.0.0 b': 1 };
    const { split } = start({ pools, weights: { '1.0.0': 50, '2.0.0': 50 } });
    expect(await split()).toEqual({ counts: { '1.0.0': near(500), '2.0.0': near(500) }, shares: [0.5, 0.5] });
  });
});

test('A version range goes to the highest version with a live resource', async () => {
  const { ask } = start({ pools: { '1.0.0': 1, '1.1.0': 1, '1.2.0': 0 }, weights: {} });
  expect(await ask({ version: '^1' })).toBe('1.1.0');
  expect(await ask({ version: '1.0.0' })).toBe('1.0.0');
});
