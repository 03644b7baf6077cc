// What calls for an index version meet before its leader has recorded that it is served.
import { describe, expect, test } from 'vitest';
import { Gatherer, type GathererOptions } from '../../../services/gather/gatherer.ts';
import type { Holdings } from '../../../services/mesh/mod.ts';
import { ManualClock } from '../../kit/tools/manual-clock.ts';
import { indexOf, MANIFEST } from '../master/index-records.ts';

const SHARDS = ['a', 'b', 'c', 'd'].map((name) => ({ name, bytes: 10, digest: name }));

/** A process whose manager serves these places of `wiki@1.0.0`, which is being loaded. */
async function gathererOf(places: string): Promise<Gatherer> {
  const gatherer = new Gatherer({
    self: 'm1',
    peers: () => [],
    onChange: () => undefined,
    clock: new ManualClock(),
    manifests: { get: () => Promise.resolve({ shards: SHARDS }), keepOnly: () => Promise.resolve() },
  } as unknown as GathererOptions);
  gatherer.loadSnapshot(new Map([indexOf('1.0.0')]));
  const holding = { indexVersion: 'wiki@1.0.0', places, serviceName: 'Words', serviceVersion: '1.0.0' };
  const holdings: Holdings = { start: 's', seq: 1, holdings: [{ ...holding, manifest: MANIFEST }], failed: [] };
  gatherer.followOwn((start) => (start === '' ? Promise.resolve(holdings) : new Promise(() => undefined)));
  for (let turns = 0; turns < 20; turns++) await Promise.resolve();
  return gatherer;
}

describe('An index version that is being loaded', () => {
  test('lets its calls fail with what is there, and wait when all of it is', async () => {
    for (const [places, failure] of [
      ['0-1,3', 'wiki@1.0.0 is being loaded: 3 of 4 shards are served'],
      ['0-3', ''],
    ] as const) {
      const gatherer = await gathererOf(places);
      expect(gatherer.deployed()).toEqual([
        { service: 'wiki', version: '1.0.0', roles: [], queueMax: 256, failure, isLoading: true },
      ]);
      gatherer.close();
    }
  });
});
