import { array, assert, boolean, nat, property, tuple } from 'fast-check';
import { expect, test } from 'vitest';
import { DenseSet, type DenseSetEntry } from '../../../core/link/mod.ts';

class Entry implements DenseSetEntry {
  rosterPlace = -1;
}

test('holds those that came and have not left, whatever the order', () => {
  assert(
    property(array(tuple(boolean(), nat(9))), (steps) => {
      const entries = Array.from({ length: 10 }, () => new Entry());
      const roster = new DenseSet<Entry>();
      const inside = new Set<Entry>();
      for (const [comes, index] of steps) {
        const entry = entries[index] as Entry;
        if (!comes) expect(roster.remove(entry)).toBe(inside.delete(entry));
        else if (!inside.has(entry)) {
          roster.add(entry);
          inside.add(entry);
        }
        expect(new Set(roster.all())).toEqual(inside);
        expect(roster.size).toBe(inside.size);
      }
      expect(new Set(roster.takeAll())).toEqual(inside);
      expect([roster.size, entries.some(({ rosterPlace }) => rosterPlace !== -1)]).toEqual([0, false]);
    }),
  );
});

test('finds an entry', () => {
  const roster = new DenseSet<Entry & { readonly name: string }>();
  const [a, b] = [
    { name: 'a', rosterPlace: -1 },
    { name: 'b', rosterPlace: -1 },
  ];
  roster.add(a);
  roster.add(b);
  expect([roster.find(({ name }) => name === 'b'), roster.find(({ name }) => name === 'c')]).toEqual([b, undefined]);
});
