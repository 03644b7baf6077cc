import { array, assert, constant, nat, oneof, property } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PendingTable } from '../../../core/link/mod.ts';

describe('PendingTable', () => {
  test('behaves like a map by number, whatever is added and removed', () => {
    const step = oneof(constant('add' as const), nat({ max: 200 }));
    assert(
      property(array(step, { maxLength: 400 }), (steps) => {
        const outstanding = new PendingTable<{ readonly of: number }>();
        const known = new Map<number, { readonly of: number }>();
        for (const [of, what] of steps.entries()) {
          if (what === 'add') {
            const entry = { of };
            const number = outstanding.add(entry);
            expect(known.has(number)).toBe(false);
            known.set(number, entry);
          } else {
            const number = [...known.keys()][what] ?? what;
            expect(outstanding.take(number)).toBe(known.get(number));
            known.delete(number);
          }
          expect(outstanding.size).toBe(known.size);
        }
        expect(new Set(outstanding.takeAll())).toEqual(new Set(known.values()));
        expect([outstanding.size, outstanding.takeAll()]).toEqual([0, []]);
      }),
    );
  });

  test('assigns consecutive numbers, and skips those in use', () => {
    const outstanding = new PendingTable<string>();
    expect(outstanding.add('stays')).toBe(1);
    const numbers = Array.from({ length: 200 }, () => {
      const number = outstanding.add('goes');
      outstanding.take(number);
      return number;
    });
    expect(numbers.slice(0, 3)).toEqual([2, 3, 4]);
    // In every 64, one would collide with the first.
    expect(numbers.filter((number) => number % 64 === 1)).toEqual([]);
    expect(outstanding.take(1 + 64)).toBeUndefined();
    expect(outstanding.take(1)).toBe('stays');
    expect(outstanding.take(0)).toBeUndefined();
    expect(outstanding.take(-1)).toBeUndefined();
  });
});
