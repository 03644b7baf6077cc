// What operators are told about changes that are carried out all the same.
import { describe, expect, test } from 'vitest';
import { indexStatus, type ThriftIndexStatus } from '../../../services/master/index-status.ts';
import { promotionWarnings, replicaWarnings, spaceWarnings } from '../../../services/master/index-warnings.ts';
import { indexOf } from './index-records.ts';

function statusOf(version: string, change: Partial<ThriftIndexStatus> = {}): ThriftIndexStatus {
  const [, record] = indexOf(version);
  const status = indexStatus(
    { record, manifest: undefined, replicas: new Map(), conditions: [], share: 0, holders: 1 },
    false,
  );
  return { ...status, served: 4, replicasServed: 1, entries: 100, ...change };
}

describe('promotionWarnings()', () => {
  test('says nothing of a version that is whole and has as much as the one before', () => {
    expect(promotionWarnings(statusOf('1.0.0'), statusOf('2.0.0'))).toEqual([]);
    expect(promotionWarnings(undefined, statusOf('2.0.0', { entries: 0 }))).toEqual([]);
  });

  test.each([
    [1_200_000, 800_000, '1.2M -> 0.8M'],
    [1_200_000, 900, '1.2M -> 0.0M'],
    [1_200_001, 1_200_000, '1200001 -> 1200000'],
    [12_000, 800, '12.0k -> 0.8k'],
    [9_999, 9_998, '9999 -> 9998'],
  ])('compares %d entries with %d', (before, now, text) => {
    expect(promotionWarnings(statusOf('1.0.0', { entries: before }), statusOf('2.0.0', { entries: now }))).toEqual([
      `entries ${text}: 2.0.0 has fewer than 1.0.0`,
    ]);
    expect(promotionWarnings(statusOf('1.0.0', { entries: now }), statusOf('2.0.0', { entries: before }))).toEqual([]);
  });

  test('compares replicas and content services, and says what is missing', () => {
    const before = statusOf('1.0.0', { replicas: 3 });
    expect(promotionWarnings(before, statusOf('2.0.0', { contentService: 'Lucene' }))).toEqual([
      'replicas 3 -> 1: 2.0.0 has fewer than 1.0.0; katamari index replicate wiki@2.0.0 3 asks for as many',
      'content service Words@^1 -> Lucene: its methods may differ',
    ]);
    expect(promotionWarnings(undefined, statusOf('2.0.0', { replicas: 2 }))).toEqual([
      'wiki@2.0.0 is degraded: some shard has 1 of 2 replicas',
    ]);
    expect(promotionWarnings(undefined, statusOf('2.0.0', { served: 3, replicasServed: 0 }))).toEqual([
      '3 of 4 shards are served: calls fail until the others are, except with a lower minCoverage',
    ]);
  });
});

describe('spaceWarnings()', () => {
  const GIB = 2 ** 30;
  const [, record] = indexOf('1.0.0');
  const shards = [7_000, 20, 9_000].map((gib, at) => ({ name: `part-${at}`, bytes: gib * GIB, digest: 'd' }));

  test('names the largest shard that no manager has space for, and the most that one has', () => {
    const free = new Map([
      ['m1', 12 * GIB],
      ['m2', 8_000 * GIB],
    ]);
    expect(spaceWarnings(record, shards, free)).toEqual([
      'the shard part-2 is 9000.0 GiB large, and no manager with Words@^1 has more than 8000.0 GiB of disk left for ' +
        'shards (m2); free space there, or split the shards',
    ]);
    expect(spaceWarnings(record, shards, new Map([['m1', 12 * GIB]]))[0]).toMatch(
      /^3 shards are up to 9000\.0 GiB large, and no manager with Words@\^1 has more than 12\.0 GiB of disk left/,
    );
  });

  test('says nothing when there is space, or a manager has not told how much it has', () => {
    expect(spaceWarnings(record, shards, new Map([['m1', 9_000 * GIB]]))).toEqual([]);
    expect(
      spaceWarnings(
        record,
        shards,
        new Map([
          ['m1', GIB],
          ['m2', undefined],
        ]),
      ),
    ).toEqual([]);
    expect(spaceWarnings(record, shards, new Map())).toEqual([]);
  });
});

describe('replicaWarnings()', () => {
  test('names the managers that a version is pinned to', () => {
    const [, record] = indexOf('1.0.0', { replicas: 2 });
    const pinned = (...pinnedTo: string[]) => ({ ...record, pinnedTo });
    expect(replicaWarnings(pinned('m1', 'm2'), ['m1', 'm2'])).toEqual([]);
    expect(replicaWarnings(pinned('m1'), ['m1'])).toEqual([
      '2 replicas are wanted, and it is pinned to 1 manager (m1); pin it to more, or ask for fewer replicas',
    ]);
    expect(replicaWarnings(pinned('m1', 'm2'), ['m1'])).toEqual([
      '2 replicas are wanted, and only the manager m1 of those that it is pinned to (m1, m2) has Words@^1; ' +
        'the others are placed when more managers can hold them',
    ]);
    expect(replicaWarnings(pinned('off'), [])).toEqual([
      expect.stringContaining('it is pinned to 1 manager (off)'),
      expect.stringMatching(/^1 replica is wanted, and no manager of those that it is pinned to \(off\) has Words/),
      expect.stringContaining('until each shard has 1 replica, it gets no calls that name no version'),
    ]);
  });

  test('names the managers when there are too few', () => {
    const [, record] = indexOf('1.0.0', { replicas: 3, promoteAtReplicas: 1 });
    expect(replicaWarnings(record, ['m1', 'm2', 'm3'])).toEqual([]);
    expect(replicaWarnings(record, ['m1', 'm2'])).toEqual([
      '3 replicas are wanted, and only 2 managers have Words@^1 (m1, m2); the others are placed when more managers can hold them',
    ]);
    expect(replicaWarnings({ ...record, promoteAtReplicas: 3 }, [])).toEqual([
      expect.stringContaining('and no manager has Words@^1'),
      'until each shard has 3 replicas, it gets no calls that name no version; promote it with katamari index promote wiki@1.0.0',
    ]);
    expect(replicaWarnings({ ...record, promoteAtReplicas: 3, promotedAtMs: 1 }, ['m1'])).toHaveLength(1);
  });
});
