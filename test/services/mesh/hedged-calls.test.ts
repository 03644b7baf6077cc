// Second copies of slow calls: when they are sent, to whom, how many, and what becomes of the slower copy.

import { describe, expect, test } from 'vitest';
import type { AssignmentLog } from '../../../services/mesh/mod.ts';
import { resultOf, startShop, type ScriptedManager } from './copies.ts';

const TWO: readonly ScriptedManager[] = [
  { manager: 'a', free: 2, alive: 2 },
  { manager: 'b', free: 1, alive: 2 },
];
const HEDGED = { hedge: { search: 'p90' } };
const hits = [{ id: 'x', score: 1 }];

const LEARNED = 16;

type Shop = ReturnType<typeof startShop>;

/** Makes as many calls of 5 ms as it takes to know the times of the method. */
function learn({ call, answer, holders, clock }: Shop, method = 'search'): void {
  for (let n = 0; n < LEARNED; n++) {
    call(method);
    clock.advance(5);
    answer(holders()[0] as string, method === 'search' ? hits : 1);
  }
}

describe('A hedged call', () => {
  test('is sent once before the times of its method are known', () => {
    const shop = startShop(TWO, HEDGED);
    shop.call('search');
    shop.clock.advance(5_000);
    expect(shop.holders()).toEqual(['a']);
  });

  test('gets a second copy at another manager once it takes longer than most; the first answer wins', () => {
    const shop = startShop(TWO, HEDGED);
    learn(shop);
    const asked = shop.call('search', { key: 'k', headers: { 'x-a': 'b' } });
    shop.clock.advance(4);
    expect(shop.holders()).toEqual(['a']);
    shop.clock.advance(20);
    expect(shop.holders()).toEqual(['a', 'b']);
    const [first, second] = shop.got.map((copy) => copy.call);
    expect(second).toMatchObject({ key: 'k', headers: { 'x-a': 'b' }, version: '1.0.0', doNotQueue: true });
    expect(first?.group).not.toBe('');
    expect(second?.group).toBe(first?.group);
    expect(second?.deadlineMs).toBe(first?.deadlineMs);
    shop.answer('b', hits);
    expect(asked.end).toBe(`of b ${Buffer.from(resultOf('search', hits)).toString('hex')}`);
    // The loser is cancelled.
    expect(shop.holders()).toEqual([]);
    expect(shop.router.robustCounts()).toMatchObject([{ method: 'search', hedges: { first: 0, second: 1, none: 0 } }]);
  });

  test('waits for a free chassis and goes to none that has the first copy', () => {
    const one = startShop([{ manager: 'a', alive: 1, free: 1 }], HEDGED);
    learn(one);
    one.call('search');
    one.clock.advance(500);
    expect(one.holders()).toEqual(['a']);
    // Another chassis of the same manager.
    const shop = startShop([{ manager: 'a', alive: 2, free: 2 }], HEDGED);
    const [offer] = shop.offers as unknown as [{ free: number }];
    learn(shop);
    shop.call('search');
    offer.free = 0;
    shop.clock.advance(200);
    expect(shop.holders()).toEqual(['a']);
    offer.free = 1;
    shop.clock.advance(40);
    expect(shop.holders()).toEqual(['a', 'a']);
  });

  test('takes its second copies from a budget of one in twenty calls', () => {
    const shop = startShop(TWO, HEDGED);
    learn(shop);
    let hedged = 0;
    const calls = 400;
    for (let n = 0; n < calls; n++) {
      const asked = shop.call('search');
      shop.clock.advance(100);
      hedged += shop.holders().length - 1;
      for (const manager of shop.holders()) if (shop.holders().includes(manager)) shop.answer(manager, hits);
      expect(asked.end).toContain('of ');
    }
    expect(hedged).toBeGreaterThan(10);
    expect(hedged).toBeLessThanOrEqual(1 + (calls + LEARNED) * 0.05);
  });

  test('gives back what a refused second copy took, and tries again', () => {
    const shop = startShop(TWO, HEDGED);
    learn(shop);
    const asked = shop.call('search');
    for (let n = 0; n < 10; n++) {
      shop.clock.advance(40);
      expect(shop.holders()).toEqual(['a', 'b']);
      shop.refuse('b', 'draining', true);
      // The router tries the other chassis of a too.
      for (const manager of shop.holders().slice(1)) shop.refuse(manager, 'cancelled', true);
    }
    shop.answer('a', hits);
    expect(asked.end).toContain('of a');
  });

  test('fails only when both copies have failed', () => {
    const shop = startShop(TWO, HEDGED);
    learn(shop);
    const saved = shop.call('search');
    shop.clock.advance(40);
    shop.refuse('a', 'internal');
    expect(saved.end).toBe('pending');
    shop.answer('b', hits);
    expect(saved.end).toContain('of b');
    expect(shop.router.robustCounts()[0]?.hedges).toEqual({ first: 0, second: 1, none: 0 });
    const other = startShop(TWO, HEDGED);
    learn(other);
    const lost = other.call('search');
    other.clock.advance(40);
    other.refuse('a', 'internal');
    other.refuse('b', 'denied');
    expect(lost.end).toBe('internal: scripted internal');
    expect(other.router.robustCounts()[0]?.hedges).toEqual({ first: 0, second: 0, none: 1 });
  });

  test('is cancelled with all its copies when its caller goes', () => {
    const shop = startShop(TWO, HEDGED);
    learn(shop);
    const caller = new AbortController();
    const asked = shop.call('search', { signal: caller.signal });
    shop.clock.advance(40);
    expect(shop.holders()).toEqual(['a', 'b']);
    caller.abort();
    expect(shop.holders()).toEqual([]);
    expect(asked.end).toContain('cancelled');
  });

  test('is one call for quotas and the log of assignments', () => {
    const lines: unknown[] = [];
    const log = { add: (line: unknown) => lines.push(line) } as unknown as AssignmentLog;
    let begun = 0;
    const quotas = { begin: () => (begun++, undefined) };
    const shop = startShop(TWO, { ...HEDGED, weights: { '1.0.0': 1 } }, { assignments: log, quotas } as object);
    learn(shop);
    shop.call('search');
    shop.clock.advance(40);
    shop.answer('b', hits);
    expect(begun).toBe(LEARNED + 1);
    expect(lines).toHaveLength(LEARNED + 1);
    expect(lines.at(-1)).toMatchObject({ method: 'search', version: '1.0.0', outcome: 'ok' });
  });

  test('is asked for by an annotation, and the route precedes it', () => {
    const annotated = startShop(TWO, undefined);
    learn(annotated, 'count');
    annotated.call('count');
    annotated.clock.advance(40);
    expect(annotated.holders()).toEqual(['a', 'b']);
    const off = startShop(TWO, { hedge: { count: 'off' } });
    learn(off, 'count');
    off.call('count');
    off.clock.advance(40);
    expect(off.holders()).toEqual(['a']);
    // A method that may not run twice.
    const never = startShop(TWO, { hedge: { '*': 'p90', sell: 'p90' } });
    learn(never, 'sell');
    never.call('sell');
    never.clock.advance(40);
    expect(never.holders()).toEqual(['a']);
  });
});
