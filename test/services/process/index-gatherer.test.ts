// The state of indices for the status page: what it costs, and what it shows while a manager or Consul is away.

import { describe, expect, test } from 'vitest';
import type { IndexActions } from '../../../services/master/mod.ts';
import type { IndexRecord, ManifestRecord, ReplicaFacts } from '../../../services/mesh/mod.ts';
import { IndexGatherer } from '../../../services/process/index-gatherer.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';

const SHARDS = 4_000;
const RECORD: IndexRecord = {
  name: 'wiki',
  version: '1.0.0',
  source: 'file:///srv/wiki',
  contentService: 'Words',
  contentRange: '',
  replicas: 2,
  promoteAtReplicas: 1,
  manifest: 'a'.repeat(64),
  shards: SHARDS,
  bytes: SHARDS * 10,
  by: 'a test',
  atMs: 1,
  readyAtMs: 2,
  promotedAtMs: 2,
};
const nameOf = (place: number): string => `part-${String(place).padStart(5, '0')}`;
const MANIFEST: ManifestRecord = {
  shards: Array.from({ length: SHARDS }, (_, place) => ({ name: nameOf(place), bytes: 10, digest: '' })),
};

/** Two of three shards, the first of them on its way. */
function replicasOf(without: number): readonly ReplicaFacts[] {
  return MANIFEST.shards.flatMap(({ name, bytes }, place) => {
    if (place % 3 === without) return [];
    const state = place < 3 ? 'fetching' : 'serving';
    const bytesDone = place < 3 ? 4 : bytes;
    return [{ shard: `wiki@1.0.0/${name}`, state, bytes, bytesDone, entries: 7, why: '', tries: 0, nextTryInMs: 0 }];
  });
}

/** A mesh with one index on three managers, or with none. */
class Fixture {
  readonly clock = new ManualClock();
  readonly records = new Map<string, IndexRecord>([['wiki@1.0.0', RECORD]]);
  readonly managers = new Map(['m1', 'm2', 'm3'].map((name, at) => [name, replicasOf(at)]));
  readonly registered = new Map<string, unknown>(this.managers);
  isConsulAway = false;
  asked = 0;

  gatherer(): IndexGatherer {
    const consul = (): Promise<never> => Promise.reject(new Error('Consul does not answer'));
    const { clock, records, registered } = this;
    const actions = {
      store: { list: () => (this.isConsulAway ? consul() : Promise.resolve([...records.values()])) },
      manifest: () => Promise.resolve(MANIFEST),
      managers: () => new Map(),
      replicas: () => {
        this.asked++;
        return Promise.resolve(new Map(this.managers));
      },
      readHoldings: () =>
        Promise.resolve({ managers: new Map(), drained: new Set(), holdings: new Map(), orders: new Map() }),
      shareOf: () => 1,
      clock,
    } as unknown as IndexActions;
    const base = {
      clock,
      gatherer: {
        records,
        counts: { requests: { first: 3 }, missing: {}, calls: new Map() },
      },
      manifests: { get: () => Promise.resolve(MANIFEST) },
      fleet: { records: registered },
    } as unknown as ConstructorParameters<typeof IndexGatherer>[0];
    return new IndexGatherer(base, actions);
  }
}

describe('IndexGatherer.overview()', () => {
  test('asks no manager in a mesh without indices', async () => {
    const fixture = new Fixture();
    fixture.records.clear();
    expect(await fixture.gatherer().overview()).toEqual({ versions: [], requests: { first: 3 }, missing: {} });
    expect(fixture.asked).toBe(0);
  });

  test('tells 4,000 shards on three managers in some kilobytes', async () => {
    const overview = await new Fixture().gatherer().overview();
    const [wiki] = overview.versions;
    expect(wiki).toMatchObject({ state: 'incomplete', shards: SHARDS, served: SHARDS - 3, entries: SHARDS * 7 });
    expect(wiki?.managers.map(({ name, isReachable }) => [name, isReachable])).toEqual([
      ['m1', true],
      ['m2', true],
      ['m3', true],
    ]);
    expect(wiki?.managers[0]?.states.slice(0, 12)).toBe('-2f-2s-2s-2s');
    expect(wiki?.managers[0]).toMatchObject({ bytesDone: 26_648, bytesWanted: 26_660 });
    expect(JSON.stringify(overview).length).toBeLessThan(20_000);
  });

  test('shares one round of requests among its readers, and keeps it for a while', async () => {
    const fixture = new Fixture();
    const gatherer = fixture.gatherer();
    await Promise.all([gatherer.overview(), gatherer.overview()]);
    await gatherer.overview();
    expect(fixture.asked).toBe(1);
    fixture.clock.advance(10_001);
    await gatherer.overview();
    expect(fixture.asked).toBe(2);
  });

  test('shows what a silent manager said last until it has left', async () => {
    const fixture = new Fixture();
    const gatherer = fixture.gatherer();
    const managers = async (): Promise<unknown> => {
      fixture.clock.advance(10_001);
      const { versions } = await gatherer.overview();
      return versions[0]?.managers.map(({ name, isReachable }) => [name, isReachable]);
    };
    await managers();
    fixture.managers.delete('m2');
    const silent = [
      ['m1', true],
      ['m2', false],
      ['m3', true],
    ];
    expect(await managers()).toEqual(silent);
    expect(await managers()).toEqual(silent);
    fixture.registered.delete('m2');
    expect(await managers()).toEqual([silent[0], silent[2]]);
  });

  test('works without Consul, and says what is not known', async () => {
    const fixture = new Fixture();
    fixture.isConsulAway = true;
    const { versions } = await fixture.gatherer().overview();
    expect(versions[0]?.managers.length).toBe(3);
    expect(versions[0]?.conditions).toEqual(['what keeps shards from being placed is unknown: Consul does not answer']);
  });
});
