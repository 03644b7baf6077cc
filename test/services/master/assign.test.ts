// Assignment of copies: shares by capacity, machines first, few moves, and no loss of capacity on the way to the
// target. fast-check generates random meshes.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { assign, type AssignedCopies, type ManagerView } from '../../../services/master/assign.ts';
import { nextStep } from '../../../services/master/rollout-step.ts';
import type { Deployment } from '../../../services/mesh/mod.ts';
import { deploymentFor } from '../../kit/mesh/deployments.ts';

const SEED = Number(process.env['KATAMARI_SEED'] ?? Date.now() % 2 ** 31);
console.log(`assign: KATAMARI_SEED=${SEED}`);
const RUNS = { seed: SEED, numRuns: 300 };

type Deployments = Map<string, Deployment>;

function deploymentsOf(counts: Readonly<Record<string, number>>): Deployments {
  return new Map(
    Object.entries(counts).map(([service, count]) => [`${service}@1.0.0`, deploymentFor({ service, count })]),
  );
}

function managersOf(...names: string[]): ManagerView[] {
  return names.map((name) => ({ name, machine: `machine-of-${name}`, capacity: 1, isDrained: false }));
}

/** Converts to a plain object, with empty managers. */
function shown(copies: AssignedCopies): Record<string, Record<string, number>> {
  return Object.fromEntries([...copies].map(([name, own]) => [name, Object.fromEntries(own)]));
}

function countsOf(copies: AssignedCopies, id: string): Map<string, number> {
  return new Map([...copies].map(([name, own]) => [name, own.get(id) ?? 0]));
}

function sum(numbers: Iterable<number>): number {
  return [...numbers].reduce((all, one) => all + one, 0);
}

/** Copies in `after` that are new at their manager compared with `before`. */
function additions(before: AssignedCopies, after: AssignedCopies): number {
  return sum(
    [...after].flatMap(([name, own]) =>
      [...own].map(([id, count]) => Math.max(0, count - (before.get(name)?.get(id) ?? 0))),
    ),
  );
}

const anyDeployments: fc.Arbitrary<Deployments> = fc
  .array(fc.integer({ min: 0, max: 12 }), { maxLength: 8 })
  .map((counts) => deploymentsOf(Object.fromEntries(counts.map((count, at) => [`S${at}`, count]))));

const anyManagers = (given: { isEqual?: boolean; min?: number } = {}): fc.Arbitrary<ManagerView[]> =>
  fc
    .array(
      fc.record({
        machine: given.isEqual ? fc.constant('') : fc.constantFrom('', 'a', 'b', 'c'),
        capacity: given.isEqual ? fc.constant(1) : fc.constantFrom(0.1, 0.5, 1, 1, 1, 2, 3.7, 16),
        isDrained: given.isEqual ? fc.constant(false) : fc.constantFrom(false, false, false, true),
      }),
      { minLength: given.min ?? 0, maxLength: 7 },
    )
    .map((managers) => managers.map((one, at) => ({ name: `m${at}`, ...one })));

/** Arbitrary orders, for present and unknown managers and deployments. */
const anyCurrent: fc.Arbitrary<AssignedCopies> = fc
  .array(fc.tuple(fc.nat(8), fc.nat(9), fc.integer({ min: 1, max: 6 })), { maxLength: 20 })
  .map((entries) => {
    const copies = new Map<string, Map<string, number>>();
    for (const [manager, service, count] of entries) {
      const name = `m${manager}`;
      copies.set(name, (copies.get(name) ?? new Map<string, number>()).set(`S${service}@1.0.0`, count));
    }
    return copies;
  });

describe('assign()', () => {
  test('spreads copies evenly over managers, in total as well as per deployment', () => {
    const deployments = deploymentsOf({ A: 3, B: 3, C: 1, D: 1, E: 1 });
    expect(shown(assign(deployments, managersOf('m1', 'm2', 'm3'), new Map()))).toEqual({
      m1: { 'A@1.0.0': 1, 'B@1.0.0': 1, 'C@1.0.0': 1 },
      m2: { 'A@1.0.0': 1, 'B@1.0.0': 1, 'D@1.0.0': 1 },
      m3: { 'A@1.0.0': 1, 'B@1.0.0': 1, 'E@1.0.0': 1 },
    });
  });

  test('weights by capacity, and spreads over machines before managers', () => {
    const sized = [
      { name: 'big', machine: 'x', capacity: 3, isDrained: false },
      { name: 'small', machine: 'y', capacity: 1, isDrained: false },
    ];
    expect(shown(assign(deploymentsOf({ A: 8 }), sized, new Map()))).toEqual({
      big: { 'A@1.0.0': 6 },
      small: { 'A@1.0.0': 2 },
    });
    const crowded = [...managersOf('m1', 'm2', 'm3').map((one) => ({ ...one, machine: 'x' })), ...managersOf('z')];
    // Two copies of one deployment are on two machines, though one machine has three quarters of the capacity.
    const target = assign(deploymentsOf({ A: 2 }), crowded, new Map());
    expect(countsOf(target, 'A@1.0.0').get('z')).toBe(1);
  });

  test('assigns nothing to a drained manager, and nothing when there is no manager', () => {
    const [one, two] = managersOf('m1', 'm2') as [ManagerView, ManagerView];
    const deployments = deploymentsOf({ A: 4 });
    expect(shown(assign(deployments, [one, { ...two, isDrained: true }], new Map()))).toEqual({
      m1: { 'A@1.0.0': 4 },
      m2: {},
    });
    expect(shown(assign(deployments, [], new Map([['m1', new Map([['A@1.0.0', 4]])]])))).toEqual({});
    expect(shown(assign(deployments, [{ ...one, isDrained: true }], new Map()))).toEqual({ m1: {} });
  });

  test('gives each manager that is not drained its own copies of a deployment for every manager', () => {
    const deployments = deploymentsOf({ a: 3 });
    deployments.set('index@1.0.0', deploymentFor({ service: 'index', count: 2, perManager: true }));
    const managers = managersOf('m1', 'm2', 'm3').map((one) => ({ ...one, isDrained: one.name === 'm3' }));
    const target = assign(deployments, managers, new Map());
    expect(Object.fromEntries(countsOf(target, 'index@1.0.0'))).toEqual({ m1: 2, m2: 2, m3: 0 });
    expect(sum(countsOf(target, 'a@1.0.0').values())).toBe(3);
  });

  test('leaves running copies in place while the shares allow it', () => {
    const current = new Map([
      ['m1', new Map([['A@1.0.0', 1]])],
      ['m3', new Map([['A@1.0.0', 1]])],
    ]);
    expect(shown(assign(deploymentsOf({ A: 2 }), managersOf('m1', 'm2', 'm3'), current))).toEqual({
      m1: { 'A@1.0.0': 1 },
      m2: {},
      m3: { 'A@1.0.0': 1 },
    });
  });

  test('assigns every copy, to each manager its share by capacity within one, on every level', () => {
    fc.assert(
      fc.property(anyDeployments, anyManagers(), anyCurrent, (deployments, managers, current) => {
        const target = assign(deployments, managers, current);
        expect([...target.keys()].sort()).toEqual(managers.map(({ name }) => name).sort());
        const open = managers.filter(({ isDrained }) => !isDrained);
        const capacity = sum(open.map((one) => one.capacity));
        const machineOf = (one: ManagerView): string => one.machine || `own ${one.name}`;
        const machines = [...new Set(open.map(machineOf))];
        for (const one of managers) if (one.isDrained) expect(target.get(one.name)?.size).toBe(0);
        for (const [id, { count }] of deployments) {
          const counts = countsOf(target, id);
          expect(sum(counts.values())).toBe(open.length === 0 ? 0 : count);
          const used = machines.filter((machine) =>
            open.some((one) => machineOf(one) === machine && (counts.get(one.name) ?? 0) > 0),
          );
          if (count > 1 && machines.length > 1) expect(used.length).toBeGreaterThan(1);
          for (const machine of machines) {
            const here = open.filter((one) => machineOf(one) === machine);
            const has = sum(here.map((one) => counts.get(one.name) ?? 0));
            const size = sum(here.map((one) => one.capacity));
            const share = (count * size) / capacity;
            // One more or less than its share; a machine that would get all copies leaves one to the others.
            expect(Math.abs(has - share)).toBeLessThan(1 + 1e-6);
            for (const one of here) {
              expect(Math.abs((counts.get(one.name) ?? 0) - (has * one.capacity) / size)).toBeLessThan(1 + 1e-6);
            }
          }
        }
      }),
      RUNS,
    );
  });

  test('is independent of input order, and stable on its own result', () => {
    fc.assert(
      fc.property(
        anyDeployments,
        anyManagers(),
        anyCurrent,
        fc.integer(),
        (deployments, managers, current, shuffle) => {
          const mixed = <T>(list: readonly T[]): T[] =>
            list
              .map((one, at) => ({ one, by: Math.imul(at + 1, shuffle | 1) }))
              .sort((a, b) => a.by - b.by)
              .map(({ one }) => one);
          const target = assign(deployments, managers, current);
          const again = assign(
            new Map(mixed([...deployments])),
            mixed(managers),
            new Map(mixed([...current]).map(([name, own]) => [name, new Map(mixed([...own]))])),
          );
          expect(shown(again)).toEqual(shown(target));
          expect(shown(assign(deployments, managers, target))).toEqual(shown(target));
        },
      ),
      RUNS,
    );
  });

  test('keeps the total load of equal managers equal within one', () => {
    fc.assert(
      fc.property(
        anyDeployments,
        anyManagers({ isEqual: true, min: 1 }),
        anyCurrent,
        (deployments, managers, current) => {
          const loads = [...assign(deployments, managers, current).values()].map((own) => sum(own.values()));
          expect(Math.max(...loads) - Math.min(...loads)).toBeLessThanOrEqual(1);
        },
      ),
      RUNS,
    );
  });

  test('moves few copies when a manager leaves and when it returns', () => {
    fc.assert(
      fc.property(
        anyDeployments,
        anyManagers({ isEqual: true, min: 2 }),
        anyCurrent,
        fc.nat(),
        (deployments, managers, current, pick) => {
          const before = assign(deployments, managers, current);
          const leaver = managers[pick % managers.length] as ManagerView;
          const rest = managers.filter((one) => one !== leaver);
          const without = assign(deployments, rest, before);
          const lost = sum(before.get(leaver.name)?.values() ?? []);
          // Its copies start elsewhere. At most a few others move, to keep the loads equal.
          expect(additions(before, without)).toBeGreaterThanOrEqual(lost);
          expect(additions(before, without)).toBeLessThanOrEqual(lost + rest.length);
          const back = assign(deployments, managers, without);
          const regained = sum(back.get(leaver.name)?.values() ?? []);
          expect(Math.abs(regained - lost)).toBeLessThanOrEqual(1);
          expect(additions(without, back)).toBeLessThanOrEqual(regained + rest.length);
        },
      ),
      RUNS,
    );
  });

  test('moves at most one copy per deployment and manager besides those that left, whatever the capacities', () => {
    fc.assert(
      fc.property(anyDeployments, anyManagers({ min: 2 }), fc.nat(), (deployments, managers, pick) => {
        const before = assign(deployments, managers, new Map());
        const leaver = managers[pick % managers.length] as ManagerView;
        const rest = managers.filter((one) => one !== leaver);
        const without = assign(deployments, rest, before);
        const lost = sum(before.get(leaver.name)?.values() ?? []);
        if (rest.every(({ isDrained }) => isDrained)) expect(additions(before, without)).toBe(0);
        else expect(additions(before, without)).toBeLessThanOrEqual(lost + deployments.size * rest.length);
      }),
      RUNS,
    );
  });

  test('starts or ends one copy and moves none when a deployment scales by one, among equal managers', () => {
    fc.assert(
      fc.property(fc.nat(20), anyManagers({ isEqual: true, min: 1 }), (count, managers) => {
        const before = assign(deploymentsOf({ A: count }), managers, new Map());
        const more = assign(deploymentsOf({ A: count + 1 }), managers, before);
        expect(additions(before, more)).toBe(1);
        expect(additions(more, before)).toBe(0);
        expect(additions(more, assign(deploymentsOf({ A: count }), managers, more))).toBe(0);
      }),
      RUNS,
    );
  });
});

describe('nextStep()', () => {
  const copies = (of: Record<string, Record<string, number>>): AssignedCopies =>
    new Map(Object.entries(of).map(([name, own]) => [name, new Map(Object.entries(own))]));

  test('starts the new copy of a move at once, and ends the old one only when the new one is alive', () => {
    const target = copies({ m1: { A: 1 }, m2: { A: 1 } });
    const before = copies({ m1: { A: 2 } });
    const first = nextStep(target, before, copies({ m1: { A: 2 } }));
    expect(shown(first)).toEqual({ m1: { A: 2 }, m2: { A: 1 } });
    expect(shown(nextStep(target, first, copies({ m1: { A: 2 } })))).toEqual(shown(first));
    expect(shown(nextStep(target, first, copies({ m1: { A: 2 }, m2: { A: 1 } })))).toEqual(shown(target));
  });

  test('ends at once copies that are not alive, too many, or no longer deployed', () => {
    expect(shown(nextStep(copies({ m1: { A: 1 } }), copies({ m1: { A: 3 } }), copies({ m1: { A: 1 } })))).toEqual({
      m1: { A: 1 },
    });
    expect(shown(nextStep(copies({ m1: { A: 1 } }), copies({ m1: { A: 3 } }), copies({ m1: { A: 3 } })))).toEqual({
      m1: { A: 1 },
    });
    expect(shown(nextStep(copies({ m1: {} }), copies({ m1: { A: 3 } }), copies({ m1: { A: 3 } })))).toEqual({ m1: {} });
  });

  test('reaches the target from any assignment as copies come alive, and never has fewer alive than necessary', () => {
    fc.assert(
      fc.property(
        anyDeployments,
        anyManagers({ min: 1 }),
        anyCurrent,
        fc.array(fc.nat(), { minLength: 1, maxLength: 30 }),
        (deployments, managers, orders, chances) => {
          const there = new Set(managers.map(({ name }) => name));
          let current: AssignedCopies = new Map([...orders].filter(([name]) => there.has(name)));
          const target = assign(deployments, managers, current);
          // Some are alive at random. From now on, copies end only by order.
          let turn = 0;
          const chance = (below: number): number => (chances[turn++ % chances.length] as number) % below;
          let alive: AssignedCopies = new Map(
            [...current].map(([name, own]) => [name, new Map([...own].map(([id, count]) => [id, chance(count + 1)]))]),
          );
          const living = (id: string): number =>
            sum(managers.map(({ name }) => Math.min(current.get(name)?.get(id) ?? 0, alive.get(name)?.get(id) ?? 0)));
          const ids = new Set([...target, ...current].flatMap(([, own]) => [...own.keys()]));
          for (let step = 0; ; step++) {
            expect(step).toBeLessThan(500);
            const before = new Map([...ids].map((id) => [id, living(id)]));
            current = nextStep(target, current, alive);
            // Each manager ends the copies it is told to, starting with those that are not alive.
            alive = new Map(
              [...alive].map(([name, own]) => [
                name,
                new Map([...own].map(([id, count]) => [id, Math.min(count, current.get(name)?.get(id) ?? 0)])),
              ]),
            );
            for (const id of ids) {
              const wanted = sum(countsOf(target, id).values());
              expect(living(id)).toBeGreaterThanOrEqual(Math.min(wanted, before.get(id) ?? 0));
            }
            // Of the ordered copies, one comes alive now and the next later.
            const starting = [...current].flatMap(([name, own]) =>
              [...own].filter(([id, count]) => (alive.get(name)?.get(id) ?? 0) < count).map(([id]) => ({ name, id })),
            );
            if (starting.length === 0) break;
            const { name, id } = starting[chance(starting.length)] as { name: string; id: string };
            const own = new Map(alive.get(name) ?? []);
            alive = new Map([...alive, [name, own.set(id, (own.get(id) ?? 0) + 1)]]);
          }
          expect(shown(nextStep(target, current, alive))).toEqual(shown(target));
        },
      ),
      RUNS,
    );
  });
});
