// The pools of the mesh. Every process computes them from the same entries.

import * as fc from 'fast-check';
import { poolSetOf, type ManagerRecord, type PoolRecord } from '../../../services/mesh/mod.ts';
import { describe, expect, test } from 'vitest';
const SEED = Number(process.env['KATAMARI_SEED'] ?? Date.now() % 2 ** 31);
console.log(`pool set: KATAMARI_SEED=${SEED}`);

function poolOf(given: Partial<PoolRecord>): PoolRecord {
  return {
    id: 'A@1.0.0',
    service: 'A',
    version: '1.0.0',
    roles: [],
    tags: [],
    more: {},
    interfaceId: 'i',
    alive: 1,
    ...given,
  };
}

function managerOf(pools: readonly PoolRecord[], given: Partial<ManagerRecord> = {}): ManagerRecord {
  return { address: 'x:1', machine: 'x', capacity: 1, isDraining: false, stats: '', pools, starting: [], ...given };
}

describe('poolSetOf()', () => {
  test('merges equal pools of all managers, and keeps different ones apart', () => {
    const managers = new Map([
      ['m2', managerOf([poolOf({ alive: 2 }), poolOf({ version: '2.0.0' })], { isDraining: true })],
      ['m1', managerOf([poolOf({ alive: 3 }), poolOf({ id: 'A@1.0.0#2', interfaceId: 'other' })])],
    ]);
    const [one, other, two, ...rest] = poolSetOf(managers);
    expect(one).toEqual({
      service: 'A',
      version: '1.0.0',
      roles: [],
      tags: [],
      more: {},
      interfaceId: 'i',
      alive: 5,
      parts: [
        { manager: 'm1', alive: 3, isDraining: false },
        { manager: 'm2', alive: 2, isDraining: true },
      ],
    });
    expect(other).toMatchObject({ interfaceId: 'other', parts: [{ manager: 'm1' }] });
    expect(two).toMatchObject({ version: '2.0.0', parts: [{ manager: 'm2' }] });
    expect(rest).toEqual([]);
    expect(poolSetOf(new Map())).toEqual([]);
  });

  test('is independent of any order', () => {
    const some = fc.constantFrom('a', 'b', 'c');
    const anyPool = fc
      .record({
        service: some,
        version: fc.constantFrom('1.0.0', '2.0.0'),
        roles: fc.array(some, { maxLength: 3 }),
        tags: fc.array(some, { maxLength: 3 }),
        more: fc.dictionary(some, some),
        interfaceId: some,
        alive: fc.nat(5),
      })
      .map(poolOf);
    const anyManagers = fc.dictionary(some, fc.array(anyPool, { maxLength: 5 }), { maxKeys: 3 });
    fc.assert(
      fc.property(anyManagers, (pools) => {
        const turned = <T>(list: readonly T[]): T[] => [...list].reverse();
        const turn = (pool: PoolRecord): PoolRecord => ({
          ...pool,
          roles: turned(pool.roles),
          tags: turned(pool.tags),
          more: Object.fromEntries(turned(Object.entries(pool.more))),
        });
        const there = new Map(Object.entries(pools).map(([name, own]) => [name, managerOf(own)]));
        const back = new Map(
          turned(Object.entries(pools)).map(([name, own]) => [name, managerOf(turned(own).map(turn))]),
        );
        // Compared as text, which shows the order of keys too.
        expect(JSON.stringify(poolSetOf(back))).toBe(JSON.stringify(poolSetOf(there)));
        const alive = Object.values(pools)
          .flat()
          .reduce((sum, pool) => sum + pool.alive, 0);
        expect(poolSetOf(there).reduce((sum, pool) => sum + pool.alive, 0)).toBe(alive);
      }),
      { seed: SEED, numRuns: 300 },
    );
  });
});
