import { array, assert, boolean, nat, property, tuple } from 'fast-check';
import { expect, test } from 'vitest';
import { DenseSet, type DenseSetEntry } from '../../../core/link/mod.ts';

class Entry implements DenseSetEntry {
  index = -1;
}

test('holds the entries that were added and not removed, in any order', () => {
  assert(
    property(array(tuple(boolean(), nat(9))), (steps) => {
      const entries = Array.from({ length: 10 }, () => new Entry());
      const set = new DenseSet<Entry>();
      const inside = new Set<Entry>();
      for (const [comes, index] of steps) {
        const entry = entries[index] as Entry;
        if (!comes) expect(set.remove(entry)).toBe(inside.delete(entry));
        else if (!inside.has(entry)) {
          set.add(entry);
          inside.add(entry);
        }
        expect(new Set(set.all())).toEqual(inside);
        expect(set.size).toBe(inside.size);
      }
      expect(new Set(set.takeAll())).toEqual(inside);
      expect([set.size, entries.some(({ index }) => index !== -1)]).toEqual([0, false]);
    }),
  );
});

test('finds an entry', () => {
  const set = new DenseSet<Entry & { readonly name: string }>();
  const [a, b] = [
    { name: 'a', index: -1 },
    { name: 'b', index: -1 },
  ];
  set.add(a);
  set.add(b);
  expect([set.find(({ name }) => name === 'b'), set.find(({ name }) => name === 'c')]).toEqual([b, undefined]);
});
