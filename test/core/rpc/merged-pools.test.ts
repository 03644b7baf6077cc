import { describe, expect, test } from 'vitest';
import { mergePools, type PoolStatus, type ResourceStatus } from '../../../core/rpc/mod.ts';

function resource(name: string, change: Partial<ResourceStatus> = {}): ResourceStatus {
  const figures = { pid: 1, inFlight: 0, callsServed: 0, ageMs: 1, rssBytes: 0, restarts: 0 };
  return { name, state: 'idle', ...figures, note: '', ...change };
}

function pool(manager: string, change: Partial<PoolStatus> = {}): PoolStatus {
  return {
    id: 'Search@1.0.0',
    service: 'Search',
    version: '1.0.0',
    roles: [],
    tags: [],
    interfaceId: 'i',
    manager,
    wanted: 2,
    alive: 2,
    free: 1,
    queued: 3,
    queueMax: 10,
    weight: 0.5,
    calls: 100,
    errors: 1,
    ratePerS: 10,
    p50Ms: 4,
    p99Ms: 9,
    queueP99Ms: null,
    restartsByReason: { crashed: 1 },
    resources: [resource('Search@1.0.0/1'), resource('Search@1.0.0/2')],
    note: '',
    ...change,
  };
}

describe('mergePools()', () => {
  test('merges equal pools into one row with sums', () => {
    const b = pool('b', {
      ratePerS: 30,
      p50Ms: 8,
      p99Ms: 20,
      queueP99Ms: 5,
      restartsByReason: { crashed: 2, hung: 1 },
    });
    const [merged, ...others] = mergePools([b, pool('a')]);
    expect(others).toEqual([]);
    expect(merged).toMatchObject({
      id: 'Search@1.0.0',
      managers: ['a', 'b'],
      wanted: 4,
      alive: 4,
      free: 2,
      queued: 6,
      queueMax: 20,
      weight: 0.5,
      calls: 200,
      errors: 2,
      ratePerS: 40,
      p50Ms: 7,
      p99Ms: 20,
      queueP99Ms: 5,
      restartsByReason: { crashed: 3, hung: 1 },
    });
  });

  test('names the manager of each resource, since resource names repeat', () => {
    const [merged] = mergePools([pool('a'), pool('b')]);
    expect(merged?.resources.map(({ manager, name }) => `${manager} ${name}`)).toEqual([
      'a Search@1.0.0/1',
      'a Search@1.0.0/2',
      'b Search@1.0.0/1',
      'b Search@1.0.0/2',
    ]);
  });

  test('leaves a pool of a single manager as it is', () => {
    const { manager, resources, ...rest } = pool('a', { note: 'slow' });
    const placed = resources.map((one) => ({ ...one, manager }));
    expect(mergePools([pool('a', { note: 'slow' })])).toEqual([
      { ...rest, managers: ['a'], resources: placed, suspects: [] },
    ]);
  });

  test('keeps pools apart that differ in tags, roles or interface, and pools that one manager keeps apart', () => {
    const ids = (...pools: PoolStatus[]): string[] => mergePools(pools).map(({ id }) => id);
    expect(ids(pool('a'), pool('b', { tags: ['gpu'] }))).toEqual(['Search@1.0.0', 'Search@1.0.0#2']);
    expect(ids(pool('a'), pool('b', { roles: ['staging'] }))).toHaveLength(2);
    expect(ids(pool('a'), pool('b', { interfaceId: 'j' }))).toHaveLength(2);
    expect(ids(pool('a'), pool('a', { id: 'Search@1.0.0#2' }))).toHaveLength(2);
    expect(ids(pool('a'), pool('b', { version: '2.0.0' }))).toEqual(['Search@1.0.0', 'Search@2.0.0']);
    // Their order is irrelevant.
    expect(ids(pool('a', { tags: ['x', 'y'] }), pool('b', { tags: ['y', 'x'] }))).toHaveLength(1);
  });

  test('counts copies that have not started anywhere in the pool of their version', () => {
    const unborn = pool('a', { interfaceId: '', alive: 0, tags: ['only', 'wanted'], p50Ms: null, p99Ms: null });
    const [merged, ...others] = mergePools([unborn, pool('b')]);
    expect(others).toEqual([]);
    expect([merged?.alive, merged?.wanted, merged?.interfaceId, merged?.p50Ms]).toEqual([2, 4, 'i', 4]);
  });

  test('has no times without calls, and names the manager of a note', () => {
    const quiet = { ratePerS: 0, p50Ms: null, p99Ms: null };
    const [merged] = mergePools([pool('a', quiet), pool('b', { ...quiet, note: 'out of memory' })]);
    expect([merged?.p50Ms, merged?.p99Ms, merged?.note]).toEqual([null, null, 'b: out of memory']);
  });

  test('gives the same result in any order of the managers', () => {
    const pools = [
      pool('a'),
      pool('b', { tags: ['gpu'] }),
      pool('c', { interfaceId: '' }),
      pool('c', { version: '2' }),
    ];
    expect(mergePools([...pools].reverse())).toEqual(mergePools(pools));
  });

  test('does not modify its input', () => {
    const pools = [pool('b'), pool('a')];
    mergePools(pools);
    expect(pools.map(({ manager }) => manager)).toEqual(['b', 'a']);
  });
});
