// Placement of shards: every shard gets its replicas on different machines, few shards move, and no step of the way
// takes a shard from callers. fast-check generates random meshes.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Random } from '../../kit/tools/random.ts';
import {
  type IndexToPlace,
  type PlacementInput,
  placeShards,
  type ShardManager,
  type ShardPlaces,
} from '../../../services/master/placement.ts';

const SEED = Number(process.env['KATAMARI_SEED'] ?? Date.now() % 2 ** 31);
console.log(`placement: KATAMARI_SEED=${SEED}`);
const RUNS = { seed: SEED, numRuns: 300 };
const GIB = 2 ** 30;
const NOTHING: ShardPlaces = new Map();

function indexOf(id: string, shards: number, replicas = 2, bytes = 100): IndexToPlace {
  const shardBytes = Array.from({ length: shards }, () => bytes);
  return { id, replicas, contentService: 'Words', contentRange: '^1', shardBytes, pinnedTo: new Set() };
}

function managerOf(name: string, change: Partial<ShardManager> = {}): ShardManager {
  const pools = [{ service: 'Words', version: '1.2.0' }];
  return { name, machine: '', capacity: 1, isDrained: false, freeBytes: GIB, pools, ...change };
}
const managersOf = (...names: string[]): ShardManager[] => names.map((name) => managerOf(name));

/** Calls for input in which everything that was ordered before is served now. */
function place(change: Partial<PlacementInput>, before: ShardPlaces = NOTHING): ReturnType<typeof placeShards> {
  return placeShards({
    indices: [],
    managers: [],
    ordered: before,
    serving: before,
    onDisk: before,
    isAvoided: () => false,
    mayReturn: () => false,
    ...change,
  });
}

/** Repeats while something changes; what was ordered is served at the next turn. Returns every step. */
function converge(change: Partial<PlacementInput>, before: ShardPlaces = NOTHING): ShardPlaces[] {
  const steps: ShardPlaces[] = [before];
  for (let step = 0; step < 200; step++) {
    const last = steps.at(-1) as ShardPlaces;
    const { orders } = place(change, last);
    if (JSON.stringify(shown(orders)) === JSON.stringify(shown(last))) return steps;
    steps.push(orders);
  }
  throw new Error('200 steps and no end');
}

/** `{ manager: 'index: 0 1' }`, without managers that hold nothing. */
function shown(places: ShardPlaces): Record<string, string[]> {
  const held = [...places].map(([name, own]): [string, string[]] => [
    name,
    [...own].map(([index, set]) => `${index}: ${[...set].sort((a, b) => a - b).join(' ')}`).sort(),
  ]);
  return Object.fromEntries(held.filter(([, own]) => own.length > 0).sort(([a], [b]) => (a < b ? -1 : 1)));
}

const holdersOf = (places: ShardPlaces, index: string, at: number): string[] =>
  [...places].filter(([, own]) => own.get(index)?.has(at)).map(([name]) => name);
const countOf = (places: ShardPlaces, name: string): number =>
  [...(places.get(name)?.values() ?? [])].reduce((sum, set) => sum + set.size, 0);
/** Shards that a manager holds and did not hold before. */
const gained = (before: ShardPlaces, after: ShardPlaces): number =>
  [...after].reduce(
    (sum, [name, own]) =>
      sum +
      [...own].reduce(
        (more, [index, set]) => more + [...set].filter((at) => !before.get(name)?.get(index)?.has(at)).length,
        0,
      ),
    0,
  );

describe('Shards', () => {
  test('are spread evenly, each with its replicas on different managers', () => {
    const { orders, conditions } = place({ indices: [indexOf('a@1', 6)], managers: managersOf('m1', 'm2', 'm3') });
    for (let at = 0; at < 6; at++) expect(holdersOf(orders, 'a@1', at).length).toBe(2);
    expect(['m1', 'm2', 'm3'].map((name) => countOf(orders, name))).toEqual([4, 4, 4]);
    expect(conditions.size).toBe(0);
  });

  test('are spread by capacity and bytes', () => {
    const managers = [managerOf('large', { capacity: 3 }), managerOf('small')];
    const orders = converge({ indices: [indexOf('a@1', 40, 1)], managers }).at(-1) as ShardPlaces;
    expect(countOf(orders, 'large')).toBe(30);
    expect(countOf(orders, 'small')).toBe(10);
  });

  test('use each machine once while there are enough machines, and then what there is', () => {
    const [a1, a2] = [managerOf('a1', { machine: 'a' }), managerOf('a2', { machine: 'a' })];
    const b = managerOf('b', { machine: 'b' });
    const three = place({ indices: [indexOf('i@1', 4)], managers: [a1, a2, b] }).orders;
    for (let at = 0; at < 4; at++) expect(holdersOf(three, 'i@1', at)).toContain('b');
    const two = place({ indices: [indexOf('i@1', 4)], managers: [a1, a2] }).orders;
    expect(shown(two)).toEqual({ a1: ['i@1: 0 1 2 3'], a2: ['i@1: 0 1 2 3'] });
  });

  test('of a manager that has gone are placed elsewhere, and no other shard moves', () => {
    const indices = [indexOf('a@1', 30)];
    const before = converge({ indices, managers: managersOf('m1', 'm2', 'm3', 'm4') }).at(-1) as ShardPlaces;
    const lost = countOf(before, 'm4');
    const left = new Map([...before].filter(([name]) => name !== 'm4'));
    const after = place({ indices, managers: managersOf('m1', 'm2', 'm3') }, left).orders;
    expect(gained(left, after)).toBe(lost);
    for (let at = 0; at < 30; at++) expect(holdersOf(after, 'a@1', at).length).toBe(2);
  });

  test('move to a new manager one at a time, and no more than its share', () => {
    const indices = [indexOf('a@1', 30)];
    const before = converge({ indices, managers: managersOf('m1', 'm2') }).at(-1) as ShardPlaces;
    const steps = converge({ indices, managers: managersOf('m1', 'm2', 'm3') }, before);
    for (const [at, step] of steps.entries()) expect(gained(steps[at - 1] ?? before, step)).toBeLessThanOrEqual(1);
    const after = steps.at(-1) as ShardPlaces;
    expect(gained(before, after)).toBe(20);
    expect(['m1', 'm2', 'm3'].map((name) => countOf(after, name))).toEqual([20, 20, 20]);
  });

  test('go on with the move that has begun, however often they are placed until it is done', () => {
    const indices = [indexOf('w', 4)];
    const managers = managersOf('a', 'b', 'c');
    const all = new Map([['w', new Set([0, 1, 2, 3])]]);
    const served = new Map([
      ['a', all],
      ['b', all],
    ]);
    const first = place({ indices, managers }, served).orders;
    expect(shown(first)['c']).toEqual(['w: 0']);
    // Another manager comes meanwhile, and gets another shard.
    const more = { indices, managers: managersOf('A', 'a', 'b', 'c'), serving: served, onDisk: served };
    for (let pass = 0, ordered = first; pass < 3; pass++) {
      ordered = place({ ...more, ordered }).orders;
      expect(shown(ordered)).toEqual({ a: ['w: 0 1 2 3'], b: ['w: 0 1 2 3'], c: ['w: 0'], A: ['w: 1'] });
    }
  });

  test('stay with a manager that comes back with their files, until it serves and one holder is too many', () => {
    const indices = [indexOf('w', 4)];
    const all = new Map([['w', new Set([0, 1, 2, 3])]]);
    const three = new Map(['a', 'b', 'c'].map((name) => [name, all]));
    const served = new Map([...three].filter(([name]) => name !== 'b'));
    const managers = managersOf('a', 'b', 'c');
    const back = place({ indices, managers, ordered: three, serving: served, onDisk: three }).orders;
    expect(shown(back)['b']).toEqual(['w: 0 1 2 3']);
    const [, after] = converge({ indices, managers }, three);
    expect([...(after?.values() ?? [])].reduce((sum, own) => sum + (own.get('w')?.size ?? 0), 0)).toBe(8);
    expect(after?.get('b')?.get('w')?.size).toBeGreaterThan(1);
  });

  test('do not move while one is missing', () => {
    const indices = [indexOf('a@1', 30)];
    const before = converge({ indices, managers: managersOf('m1', 'm2') }).at(-1) as ShardPlaces;
    const serving = new Map([...before, ['m2', new Map([['a@1', new Set([0, 1])]])]]);
    const managers = managersOf('m1', 'm2', 'm3');
    const { orders } = place({ indices, managers, ordered: before, serving, onDisk: before });
    expect(gained(before, orders)).toBe(0);
  });

  test('go from a drained manager when the others serve them', () => {
    const indices = [indexOf('a@1', 8, 1)];
    const before = converge({ indices, managers: managersOf('m1', 'm2') }).at(-1) as ShardPlaces;
    const managers = [managerOf('m1'), managerOf('m2', { isDrained: true })];
    const first = place({ indices, managers }, before).orders;
    expect(countOf(first, 'm2')).toBe(4);
    expect(countOf(first, 'm1')).toBe(8);
    expect(shown(converge({ indices, managers }, before).at(-1) as ShardPlaces)).toEqual({
      m1: ['a@1: 0 1 2 3 4 5 6 7'],
    });
  });

  test('return to the manager that has their files', () => {
    const indices = [indexOf('a@1', 6, 1)];
    const onDisk = new Map([['m3', new Map([['a@1', new Set([0, 1, 2, 3, 4, 5])]])]]);
    const { orders } = place({ indices, managers: managersOf('m1', 'm2', 'm3'), onDisk });
    expect(countOf(orders, 'm3')).toBe(6);
  });

  test('avoid a manager on which they have failed, while another one can hold them', () => {
    const indices = [indexOf('a@1', 2, 1)];
    const ordered = new Map([['m1', new Map([['a@1', new Set([0, 1])]])]]);
    const serving = new Map([['m1', new Map([['a@1', new Set([0])]])]]);
    const isAvoided = (manager: string, _: string, at: number): boolean => manager === 'm1' && at === 1;
    const input = { indices, ordered, serving, isAvoided };
    expect(shown(place({ ...input, managers: managersOf('m1', 'm2') }).orders)).toEqual({
      m1: ['a@1: 0'],
      m2: ['a@1: 1'],
    });
    // Without another one it keeps trying, and what it has fetched.
    const alone = place({ ...input, managers: managersOf('m1') });
    expect(shown(alone.orders)).toEqual({ m1: ['a@1: 0 1'] });
    expect(alone.conditions.get('a@1')).toEqual([
      '1 of 2 shards lack a manager for a replica: free disk space, or see why they failed',
    ]);
  });

  test.each<[string, ShardManager[], string]>([
    ['without managers', [], 'no manager has a copy of the content service Words@^1; deploy it'],
    [
      'with another version of the content service',
      [managerOf('m1', { pools: [{ service: 'Words', version: '2.0.0' }] })],
      'no manager has a copy of the content service Words@^1; deploy it',
    ],
    [
      'with drained managers',
      [managerOf('m1', { isDrained: true })],
      'no manager has a copy of the content service Words@^1; all managers are drained',
    ],
    ['with one manager', [managerOf('m1')], '2 replicas are wanted, and 1 manager has the content service'],
    [
      'with full disks',
      [managerOf('m1', { freeBytes: 99 }), managerOf('m2', { freeBytes: 99 })],
      '3 of 3 shards lack a manager for a replica: free disk space, or see why they failed',
    ],
  ])('%s say what is missing', (_, managers, text) => {
    expect(place({ indices: [indexOf('a@1', 3)], managers }).conditions.get('a@1')).toEqual([text]);
  });
});

describe('Shards of a pinned index', () => {
  const pinned = (names: readonly string[], replicas = 2): IndexToPlace => ({
    ...indexOf('a@1', 4, replicas),
    pinnedTo: new Set(names),
  });
  const managers = managersOf('m1', 'm2', 'm3', 'm4');

  test('go to the named managers only, and leave the others when these serve them', () => {
    const before = converge({ indices: [indexOf('a@1', 4)], managers }).at(-1) as ShardPlaces;
    expect(Object.keys(shown(before))).toEqual(['m1', 'm2', 'm3', 'm4']);
    const steps = converge({ indices: [pinned(['m2', 'm3'])], managers }, before);
    // The first step only adds.
    for (let at = 0; at < 4; at++)
      expect(holdersOf(steps[1] as ShardPlaces, 'a@1', at)).toEqual(
        expect.arrayContaining(holdersOf(before, 'a@1', at)),
      );
    expect(shown(steps.at(-1) as ShardPlaces)).toEqual({ m2: ['a@1: 0 1 2 3'], m3: ['a@1: 0 1 2 3'] });
    // Without the pin they spread again.
    const after = converge({ indices: [indexOf('a@1', 4)], managers }, steps.at(-1)).at(-1) as ShardPlaces;
    expect(['m1', 'm2', 'm3', 'm4'].map((name) => countOf(after, name))).toEqual([2, 2, 2, 2]);
  });

  test('have no more replicas than there are named managers, and no other index waits for them', () => {
    const indices = [pinned(['m1'], 3), indexOf('b@1', 8)];
    const { orders, conditions } = place({ indices, managers });
    expect(holdersOf(orders, 'a@1', 0)).toEqual(['m1']);
    expect(conditions.get('a@1')).toEqual(['3 replicas are wanted, and it is pinned to 1 manager (m1)']);
    const settled = converge({ indices, managers: managers.slice(0, 3) }).at(-1) as ShardPlaces;
    const after = converge({ indices, managers }, settled).at(-1) as ShardPlaces;
    expect(countOf(after, 'm4')).toBeGreaterThan(0);
  });

  test('stay where they are while the named managers are off or cannot serve them', () => {
    const before = new Map([['m1', new Map([['a@1', new Set([0, 1, 2, 3])]])]]);
    const { orders, conditions } = place({ indices: [pinned(['gone'], 1)], managers }, before);
    expect(shown(orders)).toEqual({ m1: ['a@1: 0 1 2 3'] });
    expect(conditions.get('a@1')).toEqual([
      'it is pinned to 1 manager (gone), and none of them that is not drained has a copy of the content service ' +
        'Words@^1; start one there, or change the pin',
    ]);
    const few = place({ indices: [pinned(['gone', 'm2'])], managers }, before);
    expect(few.conditions.get('a@1')).toEqual([
      '2 replicas are wanted, and 1 manager has the content service of those that it is pinned to: 2 managers (gone, m2)',
    ]);
    expect(holdersOf(few.orders, 'a@1', 0)).toEqual(['m1', 'm2']);
  });
});

const anyManagers = fc
  .array(
    fc.record({
      machine: fc.constantFrom('', '', 'a', 'b', 'c'),
      capacity: fc.constantFrom(0.5, 1, 1, 1, 2, 16),
      isDrained: fc.constantFrom(false, false, false, true),
      hasService: fc.constantFrom(true, true, true, false),
    }),
    { maxLength: 6 },
  )
  .map((managers) =>
    managers.map(({ hasService, ...one }, at) => managerOf(`m${at}`, { ...one, ...(hasService ? {} : { pools: [] }) })),
  );

const anyIndices = fc
  .array(
    fc.record({
      replicas: fc.integer({ min: 1, max: 4 }),
      shardBytes: fc.array(fc.nat(1_000), { maxLength: 12 }),
      // Some of them are not there.
      pinnedTo: fc.oneof(
        { weight: 3, arbitrary: fc.constant(new Set<string>()) },
        { weight: 1, arbitrary: fc.array(fc.nat(7)).map((numbers) => new Set(numbers.map((at) => `m${at}`))) },
      ),
    }),
    { maxLength: 4 },
  )
  .map((indices) => indices.map((one, at) => ({ ...indexOf(`i${at}@1`, 0), ...one })));

/** Arbitrary places, of present and unknown managers, indices and shards. */
const anyPlaces = fc
  .array(fc.tuple(fc.nat(7), fc.nat(4), fc.nat(14)), { maxLength: 60 })
  .map((entries): ShardPlaces => {
    const places = new Map<string, Map<string, Set<number>>>();
    for (const [manager, index, at] of entries) {
      const own = places.get(`m${manager}`) ?? new Map<string, Set<number>>();
      places.set(`m${manager}`, own.set(`i${index}@1`, (own.get(`i${index}@1`) ?? new Set()).add(at)));
    }
    return places;
  });

describe('In any mesh', () => {
  test('placement comes to an end with every replica that the managers allow, on different machines', () => {
    fc.assert(
      fc.property(anyIndices, anyManagers, anyPlaces, (indices, managers, before) => {
        const after = converge({ indices, managers }, before).at(-1) as ShardPlaces;
        const able = managers.filter(({ isDrained, pools }) => !isDrained && pools.length > 0);
        for (const { id, shardBytes, pinnedTo, ...index } of indices) {
          const open = able.filter(({ name }) => pinnedTo.size === 0 || pinnedTo.has(name));
          const machines = new Set(open.map(({ machine, name }) => machine || name)).size;
          const replicas = pinnedTo.size === 0 ? index.replicas : Math.min(index.replicas, pinnedTo.size);
          for (const at of shardBytes.keys()) {
            const holders = holdersOf(after, id, at);
            const good = open.filter(({ name }) => holders.includes(name));
            expect(good.length).toBe(Math.min(replicas, open.length));
            // With all its replicas on managers that may hold it, no other one has it.
            if (good.length === replicas) expect(holders.length).toBe(replicas);
            const used = new Set(good.map(({ machine, name }) => machine || name)).size;
            if (machines >= replicas && before.size === 0) expect(used).toBe(replicas);
          }
        }
        for (const [name, own] of after)
          for (const [id, set] of own)
            for (const at of set) {
              expect(managers.some((one) => one.name === name)).toBe(true);
              expect(indices.find((one) => one.id === id)?.shardBytes.length ?? 0).toBeGreaterThan(at);
            }
      }),
      RUNS,
    );
  });

  test('no step takes a shard from callers while a manager that serves it is there', () => {
    fc.assert(
      fc.property(anyIndices, anyManagers, anyPlaces, anyPlaces, (indices, managers, ordered, some) => {
        // What is served is a part of what was ordered.
        const serving = new Map(
          [...ordered].map(([name, own]) => [
            name,
            new Map(
              [...own].map(([id, set]) => [id, new Set([...set].filter((at) => some.get(name)?.get(id)?.has(at)))]),
            ),
          ]),
        );
        const { orders } = place({ indices, managers, ordered, serving, onDisk: ordered });
        const names = new Set(managers.map(({ name }) => name));
        for (const { id, shardBytes, pinnedTo, ...index } of indices) {
          const replicas = pinnedTo.size === 0 ? index.replicas : Math.min(index.replicas, pinnedTo.size);
          for (const at of shardBytes.keys()) {
            const served = holdersOf(serving, id, at).filter((name) => names.has(name));
            const still = served.filter((name) => orders.get(name)?.get(id)?.has(at));
            expect(still.length).toBeGreaterThanOrEqual(Math.min(replicas, served.length));
          }
        }
      }),
      RUNS,
    );
  });

  test('placement comes to the same end when managers are slow, and never takes back an order for no reason', () => {
    fc.assert(
      fc.property(anyIndices, anyManagers, fc.integer({ min: 1 }), (indices, managers, seed) => {
        const random = new Random(seed);
        let [ordered, serving] = [NOTHING, NOTHING];
        for (let step = 0; step < 2_000; step++) {
          const next = place({ indices, managers, ordered, serving, onDisk: serving }).orders;
          const again = place({ indices, managers, ordered: next, serving, onDisk: serving }).orders;
          expect(shown(again)).toEqual(shown(next));
          if (JSON.stringify(shown(next)) === JSON.stringify(shown(serving))) return;
          ordered = next;
          // Some of what is ordered is served from now on, and what is not ordered any more is not.
          serving = new Map(
            [...next].map(([name, own]) => [
              name,
              new Map(
                [...own].map(([id, places]) => [
                  id,
                  new Set(
                    [...places].filter((at) => serving.get(name)?.get(id)?.has(at) === true || random.chance(0.3)),
                  ),
                ]),
              ),
            ]),
          );
        }
        throw new Error('2,000 steps and no end');
      }),
      RUNS,
    );
  });

  test('placement is the same again, and for any order of its input', () => {
    fc.assert(
      fc.property(anyIndices, anyManagers, anyPlaces, (indices, managers, before) => {
        const input = { indices, managers };
        const once = place(input, before).orders;
        const again = place({ ...input, ordered: once, serving: before, onDisk: before }).orders;
        expect(shown(again)).toEqual(shown(once));
        const turned = { indices: indices.toReversed(), managers: managers.toReversed() };
        const backwards = new Map(
          [...before]
            .toReversed()
            .map(([name, own]) => [
              name,
              new Map([...own].toReversed().map(([id, set]) => [id, new Set([...set].toReversed())])),
            ]),
        );
        expect(shown(place(turned, backwards).orders)).toEqual(shown(once));
      }),
      RUNS,
    );
  });

  test('a plan for 15,000 shards on 100 managers is whole', () => {
    const indices = Array.from({ length: 50 }, (_, at) => indexOf(`i${at}@1`, 300, 2, 1_000 + at));
    const managers = Array.from({ length: 100 }, (_, at) => managerOf(`m${at}`));
    const startMs = performance.now();
    const { orders } = place({ indices, managers });
    console.log(`placement of 15,000 shards with 2 replicas: ${Math.round(performance.now() - startMs)} ms`);
    expect(gained(NOTHING, orders)).toBe(30_000);
    const counts = managers.map(({ name }) => countOf(orders, name));
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(20);
  });
});
