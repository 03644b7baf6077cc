// The order of hits, and the best ones of many.

import { assert as holds, array, integer, property, string } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { orderOf, type RankedHit } from '../../../content-servers/text/order.ts';
import type { SqlValue } from '../../../content-servers/text/sqlite.ts';
import { TopHits } from '../../../content-servers/text/top-hits.ts';
import { compareUtf8 } from '../../../core/thrift/mod.ts';

const hit = (document: number, values: readonly SqlValue[], score = Number.NaN, shard = 's'): RankedHit => ({
  shard,
  document,
  score,
  values,
});

describe('compareUtf8()', () => {
  test('orders text as its UTF-8 bytes are', () => {
    const text = string({ unit: 'binary', maxLength: 4 });
    holds(
      property(text, text, (a, b) => {
        expect(Math.sign(compareUtf8(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)));
      }),
      { numRuns: 500 },
    );
    expect(compareUtf8('\u{10000}', '\u{ffff}')).toBeGreaterThan(0);
  });
});

describe('orderOf()', () => {
  test('puts numbers before text before bytes, and missing values last in both directions', () => {
    const values: SqlValue[] = [-1.5, 2, 2n ** 60n, 'a', 'b', Uint8Array.of(1), Uint8Array.of(1, 0)];
    for (const descending of [false, true]) {
      const order = orderOf([{ field: 'x', descending }]);
      const hits = [...values, null].map((value, i) => hit(i, [value]));
      const sorted = hits.toReversed().sort(order);
      expect(sorted.map(({ document }) => document)).toEqual(
        descending ? [6, 5, 4, 3, 2, 1, 0, 7] : [0, 1, 2, 3, 4, 5, 6, 7],
      );
    }
  });

  test('compares whole numbers beyond 2^53 exactly', () => {
    const order = orderOf([{ field: 'x', descending: false }]);
    expect(order(hit(1, [2n ** 53n + 1n]), hit(1, [2 ** 53]))).toBeGreaterThan(0);
  });

  test('breaks ties by shard, then by document', () => {
    const hits = [hit(2, [], 1, 'a'), hit(1, [], 1, 'b'), hit(9, [], 2, 'c'), hit(1, [], 1, 'a')];
    const sorted = hits.toSorted(orderOf([]));
    expect(sorted.map(({ shard, document }) => `${shard}${document}`)).toEqual(['c9', 'a1', 'a2', 'b1']);
  });
});

describe('TopHits', () => {
  test('keeps the best hits behind the cursor, as a sort does', () => {
    const scores = array(integer({ min: 0, max: 20 }), { maxLength: 400 });
    holds(
      property(scores, integer({ min: 0, max: 30 }), integer({ min: -1, max: 399 }), (given, count, afterAt) => {
        const hits = given.map((score, i) => hit(i, [], score));
        const order = orderOf([]);
        const after = hits[afterAt];
        const top = new TopHits(count, order, after);
        for (const one of hits) if (!top.isTooLow(one.score)) top.add(one);
        const behind = hits.toSorted(order).filter((one) => after === undefined || order(one, after) > 0);
        expect(top.best()).toEqual(behind.slice(0, count));
        expect(top.hasMore()).toBe(behind.length > count);
      }),
    );
  });
});
