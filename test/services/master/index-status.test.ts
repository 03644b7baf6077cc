// The state of an index version. Programs and commands wait for it, and call as soon as it says that they can.
import { describe, expect, test } from 'vitest';
import { indexStatus } from '../../../services/master/index-status.ts';
import type { IndexRecord, ReplicaFacts } from '../../../services/mesh/mod.ts';
import { indexOf } from './index-records.ts';

/** Enum IndexState. */
const STATES: readonly string[] = ['', 'loading', 'complete', 'degraded', 'incomplete'];
const SHARDS = ['a', 'b'].map((name) => ({ name, bytes: 10, digest: name }));

/** @param serving the shards of each manager */
function stateOf(change: Partial<IndexRecord>, ...serving: readonly string[]): string {
  const [id, record] = indexOf('1.0.0', { shards: 2, replicas: 2, ...change });
  const replicas = serving.map((names, at): [string, ReplicaFacts[]] => [
    `m${at}`,
    [...names].map((name) => {
      const facts = { bytes: 10, bytesDone: 10, entries: 1, why: '', tries: 0, nextTryInMs: 0 };
      return { shard: `${id}/${name}`, state: 'serving', ...facts };
    }),
  ]);
  const facts = { record, manifest: { shards: SHARDS }, replicas: new Map(replicas), conditions: [], share: 0 };
  return STATES[indexStatus({ ...facts, holders: 2 }, false).state] ?? '';
}

describe('indexStatus()', () => {
  test('is loading until the leader has recorded that all shards are served', () => {
    expect(stateOf({}, 'a', 'a')).toBe('loading');
    expect(stateOf({}, 'ab', 'a')).toBe('loading');
    expect(stateOf({}, 'ab', 'ab')).toBe('loading');
    expect(stateOf({ readyAtMs: 5, promotedAtMs: 5 }, 'ab', 'ab')).toBe('complete');
  });

  test('is degraded or incomplete after that, as many replicas as it lacks', () => {
    expect(stateOf({ readyAtMs: 5, promotedAtMs: 5 }, 'ab', 'a')).toBe('degraded');
    expect(stateOf({ readyAtMs: 5, promotedAtMs: 5 }, 'a', 'a')).toBe('incomplete');
    expect(stateOf({ readyAtMs: 5, promotedAtMs: 5 })).toBe('incomplete');
  });

  test('is not complete before it gets the calls that it is to get', () => {
    expect(stateOf({ readyAtMs: 5, promoteAtReplicas: 2 }, 'ab', 'ab')).toBe('degraded');
    expect(stateOf({ readyAtMs: 5, promoteAtReplicas: 2, promotedAtMs: 6 }, 'ab', 'ab')).toBe('complete');
    expect(stateOf({ readyAtMs: 5, promoteAtReplicas: 3 }, 'ab', 'ab')).toBe('complete');
    expect(stateOf({ readyAtMs: 5, promoteAtReplicas: 0 }, 'ab', 'ab')).toBe('complete');
  });
});
