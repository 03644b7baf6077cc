// The moves of a rollout: in a small world with one route and two deployments, with leaders that are killed at any
// write, and with random plans.

import { describe, expect, test } from 'vitest';
import { nextMove, type RolloutFacts, type RolloutMove } from '../../../services/master/rollout-move.ts';
import type { RolloutVerdict } from '../../../services/master/rollout-judge.ts';
import { ROLLOUT, weightsFor, type Rollout, type Route } from '../../../services/mesh/mod.ts';
import { Random } from '../../kit/tools/random.ts';
import { aRollout } from './a-rollout.ts';

const RUNS = 150;
const SEED = Number(process.env['KATAMARI_SEED'] ?? Math.floor(Math.random() * 2 ** 32));

/** What becomes of the new version. Times are since its share was set. */
interface Fate {
  /** The share from which on it goes wrong; above 100 for never. */
  readonly badFrom: number;
  readonly badAfterMs: number;
  /** Copies that come up at most. */
  readonly copiesMax: number;
}

const GOOD: Fate = { badFrom: 101, badAfterMs: 0, copiesMax: 1_000 };

/** What Consul and the managers have. A write is applied only if nothing that it was made from has changed. */
class World {
  rollout: Rollout;
  route: Route | undefined;
  desired: Record<string, number>;
  nowMs = 0;
  version = 0;
  readonly fate: Fate;
  /** Each route that was set, and when. */
  readonly routes: { readonly atMs: number; readonly weights: Readonly<Record<string, number>> }[] = [];
  #upSinceMs = 0;

  constructor(rollout: Rollout, fate: Fate) {
    this.rollout = rollout;
    this.route = {
      ...rollout.routeBefore,
      index: 0,
      splitIndex: 0,
      rules: [{ name: 'qa', to: '2.0.0', callers: ['qa'] }],
    };
    this.desired = { '1.9.0': rollout.copiesBefore.from, '2.0.0': rollout.copiesBefore.to };
    this.fate = fate;
  }

  facts(): RolloutFacts {
    const { desired, fate, nowMs, route, rollout } = this;
    const alive = Math.min(desired['2.0.0'] ?? 0, fate.copiesMax);
    const isBad = rollout.share >= fate.badFrom && nowMs - this.#shareSinceMs() >= fate.badAfterMs;
    const verdict: RolloutVerdict = {
      calls: 100,
      badCalls: isBad ? 7 : 0,
      guards: [{ guard: { metric: 'errors', max: 0.5 }, isViolated: isBad, text: isBad ? 'fails' : 'fine' }],
    };
    return {
      nowMs,
      route,
      from: { desired: desired['1.9.0'], alive: desired['1.9.0'] ?? 0, failure: '' },
      to: { desired: desired['2.0.0'], alive, failure: '' },
      upForMs: nowMs - this.#upSinceMs,
      goneForMs: alive > 0 ? 0 : nowMs - this.#upSinceMs,
      verdict,
    };
  }

  apply(move: RolloutMove, madeFrom: number): boolean {
    if (move.kind === 'wait' || madeFrom !== this.version) return false;
    this.version++;
    if (move.kind === 'scale') {
      if ((this.desired[move.version] ?? 0) < move.copies) this.#upSinceMs = this.nowMs + 3_000;
      this.desired[move.version] = move.copies;
      if (move.next !== undefined) this.rollout = move.next;
    } else if (move.kind === 'route') {
      const index = (this.route?.index ?? 0) + 1;
      this.route = { ...this.route, weights: move.weights, index, splitIndex: index, by: 'leader' };
      this.routes.push({ atMs: this.nowMs, weights: move.weights });
      this.rollout = { ...move.next, splitIndex: index };
    } else this.rollout = move.next;
    expect(ROLLOUT.parse(JSON.parse(JSON.stringify(this.rollout)))).toEqual(this.rollout);
    return true;
  }

  #shareSinceMs(): number {
    return this.routes.at(-1)?.atMs ?? 0;
  }
}

/**
 * Lets leaders look once a second until the rollout is settled. Before each write, and after it, the leader may be
 * killed; a former leader may write what it decided long ago.
 */
function carryOut(world: World, random?: Random): void {
  let late: { readonly move: RolloutMove; readonly version: number } | undefined;
  for (let looks = 0; !world.rollout.isSettled; looks++) {
    expect(looks, 'looks of the leader').toBeLessThan(20_000);
    const move = nextMove(world.rollout, world.facts());
    const { version } = world;
    if (random?.chance(0.1) === true) late = { move, version };
    if (random?.chance(0.2) !== true) world.apply(move, version);
    if (late !== undefined && random?.chance(0.1) === true && world.version > late.version)
      expect(world.apply(late.move, late.version)).toBe(false);
    world.nowMs += 1_000 * (random?.chance(0.1) === true ? 5 : 1);
  }
}

function shareIn(weights: Readonly<Record<string, number>>): number {
  const sum = Object.values(weights).reduce((all, weight) => all + weight, 0);
  return (100 * (weights['2.0.0'] ?? 0)) / sum;
}

function endOf(world: World): unknown {
  const { state, passed, share, reason } = world.rollout;
  return {
    state,
    share,
    reason,
    passed: passed.map((one) => one.share),
    weights: world.route?.weights,
    copies: world.desired,
  };
}

describe('A rollout', () => {
  test('of a good version goes through all steps, scales first, and keeps the old copies for a while', () => {
    const world = new World(aRollout(), GOOD);
    carryOut(world);
    expect(world.routes.map(({ weights }) => shareIn(weights))).toEqual([1, 5, 25, 50, 100]);
    expect(endOf(world)).toEqual({
      state: 'done',
      share: 100,
      reason: '',
      passed: [1, 5, 25, 50, 100],
      weights: { '1.9.0': 0, '2.0.0': 100 },
      copies: { '1.9.0': 0, '2.0.0': 10 },
    });
    const lastMs = world.routes.at(-1)?.atMs ?? 0;
    expect(world.nowMs - lastMs).toBeGreaterThanOrEqual(120_000 + 600_000);
    // The rules are not its business.
    expect(world.route?.rules).toHaveLength(1);
    expect(world.rollout).toMatchObject({ calls: 500, badCalls: 0 });
  });

  test('of a version that goes wrong at 25 % is reverted by one change of the route, and its copies are scaled back', () => {
    const world = new World(aRollout(), { ...GOOD, badFrom: 25, badAfterMs: 10_000 });
    carryOut(world);
    expect(world.routes.map(({ weights }) => shareIn(weights))).toEqual([1, 5, 25, 0]);
    expect(endOf(world)).toEqual({
      state: 'reverted',
      share: 0,
      reason: 'errors +0.5pt: fails',
      passed: [1, 5],
      weights: { '1.9.0': 100 },
      copies: { '1.9.0': 10, '2.0.0': 1 },
    });
    expect(world.rollout).toMatchObject({ calls: 300, badCalls: 7 });
  });

  test('of a version whose copies do not come up is reverted without a change of the route', () => {
    const world = new World(aRollout({ steps: [50, 100] }), { ...GOOD, copiesMax: 3 });
    carryOut(world);
    expect(world.routes).toEqual([]);
    expect(world.rollout).toMatchObject({
      state: 'reverted',
      reason: '3 of 5 copies of 2.0.0 came up within 1m 0s; katamari events says why',
    });
    expect(world.desired).toEqual({ '1.9.0': 10, '2.0.0': 1 });
  });

  test('is paused when somebody changes the route', () => {
    const world = new World(aRollout(), GOOD);
    while (world.rollout.share < 5) {
      world.apply(nextMove(world.rollout, world.facts()), world.version);
      world.nowMs += 1_000;
    }
    world.route = { weights: { '1.9.0': 60, '2.0.0': 40 }, index: 9, splitIndex: 9, by: 'bob' };
    const move = nextMove(world.rollout, world.facts());
    expect(move).toMatchObject({ kind: 'record', next: { state: 'paused' } });
    expect(move.kind === 'record' && move.next.reason).toContain('bob changed the route (change 9)');
    world.apply(move, world.version);
    expect(nextMove(world.rollout, { ...world.facts(), verdict: undefined }).kind).toBe('wait');
  });

  test('waits while it is paused, but not for a violated guard', () => {
    const holding = aRollout({ phase: 'holding', share: 1, state: 'paused', splitIndex: 1 });
    const world = new World(holding, GOOD);
    world.route = { weights: { '1.9.0': 99, '2.0.0': 1 }, splitIndex: 1 };
    world.nowMs = 900_000;
    expect(nextMove(holding, world.facts())).toEqual({ kind: 'wait', why: 'it is paused' });
    const bad = new World(holding, { ...GOOD, badFrom: 1 });
    bad.route = world.route;
    expect(nextMove(holding, bad.facts())).toMatchObject({ kind: 'route', weights: { '1.9.0': 100 } });
  });

  test('does not go on while its guards cannot be read, or no copy of the new version is alive', () => {
    const holding = aRollout({ phase: 'holding', share: 1, splitIndex: 1 });
    const world = new World(holding, GOOD);
    world.route = { weights: { '1.9.0': 99, '2.0.0': 1 }, splitIndex: 1 };
    world.nowMs = 900_000;
    const facts = world.facts();
    const gone = { ...facts, to: { ...facts.to, alive: 0 } };
    expect(nextMove(holding, { ...facts, verdict: undefined })).toMatchObject({ why: 'its guards cannot be read' });
    expect(nextMove(holding, { ...gone, goneForMs: 59_000 })).toMatchObject({ why: 'no copy of 2.0.0 is alive' });
    expect(nextMove(holding, { ...gone, goneForMs: 60_000 })).toMatchObject({
      kind: 'route',
      next: { state: 'reverted' },
    });
  });
});

test(`Random rollouts end alike, however often leaders are killed (seed ${SEED})`, () => {
  const random = new Random(SEED);
  const ends: Record<string, number> = {};
  for (let run = 0; run < RUNS; run++) {
    const steps = [...new Set(Array.from({ length: random.below(5) }, () => random.between(1, 9_900) / 100))].sort(
      (a, b) => a - b,
    );
    const plan = aRollout({
      steps: [...steps, 100],
      holdMs: random.between(0, 60) * 1_000,
      keepMs: random.between(0, 60) * 1_000,
      copies: random.pick(['follow', 'fixed']),
      copiesBefore: { from: random.between(1, 30), to: random.between(0, 3) },
      routeBefore: {
        weights: random.pick([{}, { '1.9.0': 100 }, { '1.9.0': 7, '1.8.0': 3 }, { '1.9.0': 2, '2.0.0': 1 }]),
      },
    });
    const isOverloaded = random.chance(0.2);
    const fate = {
      badFrom: random.chance(0.5) ? random.between(1, 100) : 101,
      badAfterMs: 0,
      copiesMax: isOverloaded ? random.between(0, 10) : 1_000,
    };
    const what = `run ${run} of seed ${SEED}: ${JSON.stringify({ plan, fate })}`;
    const [calm, killed] = [new World(plan, fate), new World(plan, fate)];
    carryOut(calm);
    carryOut(killed, random);
    expect(endOf(killed), what).toEqual(endOf(calm));
    for (const world of [calm, killed]) {
      const shares = world.routes.map(({ weights }) => shareIn(weights));
      const { state } = world.rollout;
      ends[state] = (ends[state] ?? 0) + 1;
      // Each share is that of a step, in order. A revert is one change more.
      const own = plan.routeBefore.weights['1.8.0'] === undefined ? 1 : 0.7;
      const raised = shares.filter((share) => share > 0);
      for (const [at, share] of raised.entries()) expect(share, what).toBeCloseTo((plan.steps[at] as number) * own, 6);
      const isTakenBack = state === 'reverted' && raised.length > 0;
      expect(shares.slice(raised.length), what).toEqual(isTakenBack ? [0] : []);
      if (state === 'done') expect(raised, what).toHaveLength(plan.steps.length);
      expect(world.desired['1.9.0'], what).toBe(
        state === 'done' && plan.copies === 'follow' ? 0 : plan.copiesBefore.from,
      );
    }
  }
  console.log(`${RUNS} random rollouts, twice each, seed ${SEED}: ${JSON.stringify(ends)}`);
});

describe('Weights', () => {
  test('add up to 100 for two versions, and leave others their share', () => {
    expect(weightsFor(aRollout(), 25)).toEqual({ '1.9.0': 75, '2.0.0': 25 });
    expect(weightsFor(aRollout({ routeBefore: { weights: {} } }), 5)).toEqual({ '1.9.0': 95, '2.0.0': 5 });
    expect(weightsFor(aRollout(), 0.5)).toEqual({ '1.9.0': 199, '2.0.0': 1 });
    expect(weightsFor(aRollout(), 100)).toEqual({ '1.9.0': 0, '2.0.0': 100 });
    const three = aRollout({ routeBefore: { weights: { '1.8.0': 20, '1.9.0': 80 } } });
    expect(weightsFor(three, 25)).toEqual({ '1.8.0': 1, '1.9.0': 3, '2.0.0': 1 });
  });
});
