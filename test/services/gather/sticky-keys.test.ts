// Calls with equal keys get the same managers, and a manager that joins or leaves moves no other keys.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { planRequests } from '../../../services/gather/plan.ts';
import { ShardMap, type ShardServer } from '../../../services/gather/shard-map.ts';
import { wordsOffer } from './gather-tools.ts';

const SHARDS = 8;
const KEYS = Array.from({ length: 500 }, (_, n) => `user-${n}`);
const INDEX = 'wiki@1.0.0';

/** The manager of each shard for each key, as text; all managers hold all shards. */
function chosenFor(managers: readonly string[]): Map<string, string> {
  const map = new ShardMap();
  const shards = Array.from({ length: SHARDS }, (_, place) => `part-${place}`);
  const known = { id: INDEX, manifest: 'm', contentService: 'Words', contentRange: '', shards };
  map.setIndices(new Map([[INDEX, known]]));
  const holding = { indexVersion: INDEX, manifest: 'm', serviceName: 'Words', serviceVersion: '1.0.0' };
  for (const manager of managers)
    map.setHoldings(manager, { holdings: [{ ...holding, places: `0-${SHARDS - 1}` }], failed: [] });
  map.setOffers(managers.map((manager) => wordsOffer(manager)));
  const index = map.get(INDEX);
  if (index === undefined) throw new Error('the index is not known');
  const chosen = new Map<string, string>();
  for (const key of KEYS) {
    const { requests, unplaced } = planRequests(index, index.places, key, 0, () => true);
    expect(unplaced).toEqual([]);
    for (const { holder, places } of requests)
      for (const place of places) chosen.set(`${key} ${place}`, (holder as ShardServer).manager);
  }
  expect(chosen.size).toBe(KEYS.length * SHARDS);
  return chosen;
}

describe('A key', () => {
  const names = fc.uniqueArray(fc.stringMatching(/^[a-z]{1,8}-[0-9]{1,3}$/), { minLength: 2, maxLength: 8 });

  test('moves only to a manager that joins, and only from one that leaves', () => {
    fc.assert(
      fc.property(names, ([joining = '', ...others]) => {
        const before = chosenFor(others);
        const after = chosenFor([...others, joining]);
        const moved = [...after].filter(([key, manager]) => manager !== before.get(key));
        expect(new Set(moved.map(([, manager]) => manager))).toEqual(new Set([joining]));
        // Its share, of 4,000 shards and keys.
        const share = moved.length / after.size;
        expect(share).toBeGreaterThan(0.6 / (others.length + 1));
        expect(share).toBeLessThan(1.5 / (others.length + 1));
      }),
      { numRuns: 40 },
    );
  });

  test('has the same managers in each process, in whatever order these came', () => {
    fc.assert(
      fc.property(names, (managers) => {
        expect(chosenFor(managers.toReversed())).toEqual(chosenFor(managers));
      }),
      { numRuns: 10 },
    );
  });
});
