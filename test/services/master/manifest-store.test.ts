// A manifest is deleted while versions with it are added and removed: whatever the order of their requests to Consul,
// no record is left without its manifest.

import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { consulClient, type ConsulClient } from '../../../services/consul/mod.ts';
import { IndexStore } from '../../../services/master/index-store.ts';
import { ManifestStore } from '../../../services/master/manifest-store.ts';
import { EventLog, keysOf, manifestHash, type ManifestRecord } from '../../../services/mesh/mod.ts';
import { CONSUL_KINDS, startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { newIndex } from '../../kit/mesh/index-source.ts';

const BUSY_MS = 60_000;
const MANIFEST: ManifestRecord = { shards: [{ name: 'a', bytes: 1, digest: 'd' }] };
const TEXT = JSON.stringify(MANIFEST);
const HASH = manifestHash(TEXT);
const RUNS = { embedded: 100, real: 30 };

/** Runs several programs whose requests to Consul are made one at a time, in the order of a schedule. */
class Turns {
  readonly #client: ConsulClient;
  /** Requests that wait for their turn, by the place of their program. */
  readonly #waiting = new Map<number, () => void>();
  #running = 0;
  #wake: () => void = () => undefined;

  constructor(client: ConsulClient) {
    this.#client = client;
  }

  async run(programs: readonly ((client: ConsulClient) => Promise<unknown>)[], schedule: readonly number[]) {
    this.#running = programs.length;
    let open = programs.length;
    const ends = Promise.allSettled(
      programs.map(async (program, place) => {
        try {
          return await program(this.#clientOf(place));
        } finally {
          open--;
          this.#stop();
        }
      }),
    );
    for (let turn = 0; open > 0; turn++) {
      // Wait until each program waits for its turn or has ended.
      if (this.#running > 0) await new Promise<void>((resolve) => (this.#wake = resolve));
      // The program of the schedule, or the next one that waits.
      const wanted = schedule[turn % schedule.length] ?? 0;
      const places = [...this.#waiting.keys()].sort();
      const place = places.find((one) => one >= wanted) ?? places[0];
      if (place === undefined) continue;
      const go = this.#waiting.get(place);
      this.#waiting.delete(place);
      this.#running++;
      go?.();
    }
    return await ends;
  }

  #stop(): void {
    this.#running--;
    if (this.#running === 0) this.#wake();
  }

  #clientOf(place: number): ConsulClient {
    return new Proxy(this.#client, {
      get: (target, name) => {
        const value = Reflect.get(target, name) as unknown;
        if (typeof value !== 'function') return value;
        return async (...args: unknown[]) => {
          await new Promise<void>((resolve) => {
            this.#waiting.set(place, resolve);
            this.#stop();
          });
          return (await Reflect.apply(value, target, args)) as unknown;
        };
      },
    });
  }
}

for (const kind of CONSUL_KINDS) {
  describe(`ManifestStore on the ${kind} Consul`, () => {
    let consul: TestConsul;
    let client: ConsulClient;
    let meshes = 0;
    beforeAll(async () => {
      consul = await startConsul(kind);
      client = consulClient({ address: consul.address });
    }, BUSY_MS);
    afterAll(() => consul.close());

    const indicesOf = (mesh: string, one: ConsulClient): IndexStore =>
      new IndexStore({ client: one, mesh, events: new EventLog('tests') });
    const collect = (mesh: string, one: ConsulClient): Promise<boolean | undefined> =>
      new ManifestStore({ client: one, mesh }).deleteUnused(HASH, (key, index) => one.delete(key, { cas: index }));
    const manifestOf = async (mesh: string): Promise<string | undefined> =>
      (await client.get(`${keysOf(mesh).manifests}${HASH}`))?.value;

    test('deleteUnused() deletes a manifest that no record names, and no other', async () => {
      const mesh = `m${++meshes}`;
      const indices = indicesOf(mesh, client);
      await indices.putManifest(MANIFEST);
      expect(await collect(mesh, client)).toBe(true);
      expect(await manifestOf(mesh)).toBeUndefined();
      expect(await collect(mesh, client)).toBeUndefined();
      await indices.add(newIndex('1.0.0'), MANIFEST);
      expect(await collect(mesh, client)).toBeUndefined();
      expect(await manifestOf(mesh)).toBe(TEXT);
    });

    test('deleteUnused() keeps all manifests while a record cannot be read', async () => {
      const mesh = `m${++meshes}`;
      await indicesOf(mesh, client).putManifest(MANIFEST);
      await client.put(`${keysOf(mesh).indices}wiki/1.0.0`, '{');
      expect(await collect(mesh, client)).toBeUndefined();
      expect(await manifestOf(mesh)).toBe(TEXT);
    });

    const start = fc.record({
      /** Whether a version has the manifest, which is then removed meanwhile. */
      hasFirst: fc.boolean(),
      /** Whether an earlier deletion ended after its first step. */
      isMarked: fc.boolean(),
      /** Programs, each with the number of requests that it makes before the next one makes any. */
      stretches: fc.array(fc.tuple(fc.nat(2), fc.integer({ min: 1, max: 6 })), { minLength: 1, maxLength: 12 }),
    });
    test(
      'adds, removals and deletions at once leave no record without its manifest',
      { timeout: BUSY_MS },
      async () => {
        const property = fc.asyncProperty(start, async ({ hasFirst, isMarked, stretches }) => {
          const mesh = `m${++meshes}`;
          if (hasFirst) await indicesOf(mesh, client).add(newIndex('1.0.0'), MANIFEST);
          else await indicesOf(mesh, client).putManifest(MANIFEST);
          if (isMarked) {
            const { modifyIndex = 0 } = (await client.get(`${keysOf(mesh).manifests}${HASH}`)) ?? {};
            await client.put(`${keysOf(mesh).manifests}${HASH}`, TEXT, { cas: modifyIndex, flags: 1 });
          }
          const programs = [
            (one: ConsulClient) => indicesOf(mesh, one).add(newIndex('2.0.0'), MANIFEST),
            (one: ConsulClient) => collect(mesh, one),
            (one: ConsulClient) => (hasFirst ? indicesOf(mesh, one).remove('wiki', '1.0.0') : collect(mesh, one)),
          ];
          const schedule = stretches.flatMap(([program, requests]) => Array<number>(requests).fill(program));
          const ends = await new Turns(client).run(programs, schedule);
          expect(ends.map((end) => (end.status === 'rejected' ? String(end.reason) : 'done'))).toEqual(
            Array(3).fill('done'),
          );
          expect((await indicesOf(mesh, client).list()).map(({ version }) => version)).toEqual(['2.0.0']);
          expect(await manifestOf(mesh)).toBe(TEXT);
        });
        await fc.assert(property, { numRuns: RUNS[kind] });
      },
    );
  });
}
