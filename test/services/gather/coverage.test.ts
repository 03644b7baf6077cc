// How the error `incomplete` says which shards are missing, and which of them a coverage lists.

import { describe, expect, test } from 'vitest';
import { coverageOf, LACK, missingText, type Lack, type MissingShard } from '../../../services/gather/coverage.ts';
import { MISSING_MAX } from '../../../services/gather/limits.ts';

const NEVER = { retried: 0, hedged: 0 };
const shard = (number: number, lack: Lack, why = ''): MissingShard => ({ shard: `w@1.0.0/${number}`, lack, why });
const coverage = (shards: number, named: readonly MissingShard[], count = named.length): string =>
  missingText(coverageOf(shards, [{ named, count }], NEVER));

describe('Missing shards', () => {
  test('are named by the most telling reasons, those with words first, and then in order', () => {
    const missing = [
      shard(1, LACK.noReplica, 'no manager serves it'),
      shard(2, LACK.cutShort),
      shard(3, LACK.timedOut, 'm2 did not answer in time'),
      shard(4, LACK.failed),
      shard(5, LACK.timedOut, 'm3 did not answer in time'),
      shard(6, LACK.failed, 'the file is damaged'),
    ];
    expect(coverage(9, missing)).toBe(
      'w@1.0.0/6 FAILED (the file is damaged), w@1.0.0/4 FAILED, w@1.0.0/3 TIMED_OUT (m2 did not answer in time), and 3 more',
    );
    expect(coverage(9, missing.slice(0, 2))).toBe('w@1.0.0/2 CUT_SHORT, w@1.0.0/1 NO_REPLICA (no manager serves it)');
  });

  test('are counted also where a content server does not name them', () => {
    expect(coverage(9, [shard(1, LACK.cutShort)], 4)).toBe('w@1.0.0/1 CUT_SHORT, and 3 more');
    expect(coverage(9, [], 4)).toBe('4 that the content servers do not name');
  });

  test('have the one that failed among them when they are too many for a list', () => {
    const missing = Array.from({ length: 4_000 }, (_, number) => shard(number, LACK.noReplica, 'no manager serves it'));
    missing.push(shard(9_999, LACK.failed, 'the file is damaged'));
    const { missing: listed } = coverageOf(5_000, [{ named: missing, count: missing.length }], NEVER);
    expect(listed).toHaveLength(MISSING_MAX);
    expect(listed.at(-1)).toEqual(missing.at(-1));
    expect(listed.map((one) => one.shard)).toEqual(listed.map((one) => one.shard).toSorted());
    expect(coverage(5_000, missing)).toMatch(/^w@1\.0\.0\/9999 FAILED \(the file is damaged\), .*, and 3998 more$/);
  });
});
