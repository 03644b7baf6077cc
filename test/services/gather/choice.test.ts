// Which managers get the requests of gathered calls when one of them is slow: a simulation on a manual clock.

import { describe, expect, test } from 'vitest';
import { createCall, NO_REPLY_CONTEXT } from '../../../core/rpc/mod.ts';
import { NEWCOMER_REQUESTS_MAX } from '../../../services/gather/limits.ts';
import { planRequests } from '../../../services/gather/plan.ts';
import type { GatherTools } from '../../../services/gather/gather-tools.ts';
import { Scatter } from '../../../services/gather/scatter.ts';
import { ShardServer, type ServedIndex } from '../../../services/gather/shard-map.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { Random } from '../../kit/tools/random.ts';
import { ONE, toolsOf, TOTAL, wordsOffer } from './gather-tools.ts';

const ARGS = new Uint8Array([0]);
const SEED = 20261130;
const CALLS = 1_000;
/** A call begins every so many ms. */
const PERIOD_MS = 5;

/** Two managers that serve two shards; each shard prefers another one. */
class Simulation {
  readonly clock = new ManualClock();
  readonly random = new Random(SEED);
  /** Mean time of an answer by manager, in ms. */
  readonly meanMs: [number, number] = [4, 4];
  readonly requests: [number, number] = [0, 0];
  readonly servers = [0, 1].map((at) => this.#server(at));
  readonly index: ServedIndex = {
    id: 'w@1.0.0',
    manifest: '',
    names: ['w@1.0.0/a', 'w@1.0.0/b'],
    places: [0, 1],
    placeOf: new Map(),
    holders: [this.servers, this.servers.toReversed()],
    managers: this.servers,
    failures: new Map(),
    server: 'Words@1.0.0',
    again: () => undefined,
  };
  readonly tools: GatherTools = toolsOf(this.clock);

  /** Makes calls of one shard each. Returns the share of manager 0 in the requests, and the p99 of the calls in ms. */
  run(): { readonly share: number; readonly p99Ms: number } {
    const times: number[] = [];
    const before = [...this.requests] as [number, number];
    for (let made = 0; made < CALLS; made++) {
      const startMs = this.clock.nowMs();
      new Scatter(this.tools, {
        index: this.index,
        method: TOTAL,
        places: [made % 2],
        call: createCall({ service: 'w', method: 'total', args: ARGS, deadlineMs: startMs + 4_000 }),
        argsFor: () => ARGS,
        minCoverage: 1,
        decode: () => undefined,
        onEnd: () => times.push(this.clock.nowMs() - startMs),
      }).start();
      this.clock.advance(PERIOD_MS);
    }
    this.clock.advance(4_000);
    expect(times).toHaveLength(CALLS);
    const [first, second] = [this.requests[0] - before[0], this.requests[1] - before[1]];
    const p99Ms = times.sort((a, b) => a - b)[Math.floor(CALLS * 0.99)] as number;
    return { share: first / (first + second), p99Ms };
  }

  #server(at: number): ShardServer {
    const manager = `m${at}`;
    const offer = wordsOffer(manager, (_, sink) => {
      this.requests[at as 0 | 1]++;
      const ms = (this.meanMs[at] as number) * (0.5 + this.random.next());
      this.clock.after(ms, () => sink.reply({ isException: false, body: ONE, context: NO_REPLY_CONTEXT }));
    });
    return new ShardServer(manager, offer);
  }
}

describe(`Requests (seed ${SEED})`, () => {
  test('of a shard go to its first manager while all are equally fast', () => {
    const simulation = new Simulation();
    simulation.run();
    const plan = (place: number): readonly ShardServer[] =>
      planRequests(simulation.index, [place], '', simulation.clock.nowMs(), () => true).requests.map(
        ({ holder }) => holder,
      );
    expect(plan(0)).toEqual([simulation.servers[0]]);
    expect(plan(1)).toEqual([simulation.servers[1]]);
    const { share } = simulation.run();
    expect(share).toBeGreaterThan(0.45);
    expect(share).toBeLessThan(0.55);
  });

  test('avoid a slow manager, and come back when it is fast again', () => {
    const simulation = new Simulation();
    simulation.run();
    const fast = simulation.run();
    simulation.meanMs[0] = 20;
    simulation.run();
    const before = simulation.tools.counts.requests.hedge;
    const slow = simulation.run();
    const hedges = simulation.tools.counts.requests.hedge - before;
    simulation.meanMs[0] = 4;
    simulation.run();
    simulation.run();
    const again = simulation.run();
    console.log(
      `share of the slow manager ${slow.share.toFixed(2)}, then ${again.share.toFixed(2)}; p99 ${fast.p99Ms.toFixed(1)} -> ${slow.p99Ms.toFixed(1)} ms; ${hedges} hedges`,
    );
    expect(slow.share).toBeLessThan(0.25);
    expect(hedges).toBeLessThanOrEqual(CALLS * 0.06);
    expect(again.share).toBeGreaterThan(0.35);
  });

  test('are few at a time at a manager that has just come', () => {
    const { servers, index, clock } = new Simulation();
    const [first, second] = servers as [ShardServer, ShardServer];
    for (let answers = 0; answers < 100; answers++) second.slowness.answered(1, undefined, clock.nowMs());
    const preferred = (): ShardServer | undefined =>
      planRequests(index, [0], '', clock.nowMs(), () => true).requests[0]?.holder;
    first.inFlight = NEWCOMER_REQUESTS_MAX - 1;
    second.inFlight = NEWCOMER_REQUESTS_MAX;
    expect(preferred()).toBe(first);
    first.inFlight = NEWCOMER_REQUESTS_MAX;
    second.inFlight = 100;
    expect(preferred()).toBe(second);
    second.offer = { ...second.offer, isReachable: false };
    expect(preferred()).toBe(first);
  });

  test('are as many as it has free copies at the only manager, also when it has just come', () => {
    const { servers, index, clock } = new Simulation();
    const [first, second] = servers as [ShardServer, ShardServer];
    second.offer = { ...second.offer, isReachable: false };
    first.inFlight = NEWCOMER_REQUESTS_MAX - 1;
    expect(planRequests(index, [0, 1], '', clock.nowMs(), () => true).requests).toHaveLength(2);
    second.offer = { ...second.offer, isReachable: true };
    for (let answers = 0; answers < 100; answers++) second.slowness.answered(1, undefined, clock.nowMs());
    second.inFlight = 100;
    expect(planRequests(index, [0, 1], '', clock.nowMs(), () => true).requests).toHaveLength(1);
  });

  test('do not all go to a manager that fails at once', () => {
    const { servers, clock } = new Simulation();
    const [first, second] = servers as [ShardServer, ShardServer];
    for (let failed = 0; failed < 10; failed++) first.slowness.failed(clock.nowMs());
    expect(first.load(clock.nowMs())).toBeGreaterThan(second.load(clock.nowMs()) * 1.5);
    clock.advance(60_000);
    expect(first.load(clock.nowMs())).toBeCloseTo(second.load(clock.nowMs()), 2);
  });

  test('go to a manager whose link has cost many calls as soon as it is back', () => {
    const { servers, index, clock } = new Simulation();
    const first = servers[0] as ShardServer;
    for (let failed = 0; failed < 10; failed++) first.slowness.failed(clock.nowMs());
    const preferred = (): ShardServer | undefined =>
      planRequests(index, [0], '', clock.nowMs(), () => true).requests[0]?.holder;
    expect(preferred()).toBe(servers[1]);
    first.offer = { ...first.offer, isReachable: false };
    expect(preferred()).toBe(servers[1]);
    first.offer = { ...first.offer, isReachable: true };
    expect(preferred()).toBe(first);
  });
});
