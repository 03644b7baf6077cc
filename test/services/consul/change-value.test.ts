// Changes of one value by two clients at once, on the embedded and the real Consul.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  changeValue,
  consulClient,
  setUnlessChanged,
  UNCHANGED,
  type ConsulClient,
} from '../../../services/consul/mod.ts';
import { CONSUL_KINDS, startConsul, type TestConsul } from '../../kit/consul/consul.ts';
import { withRival } from '../../kit/consul/rival-writer.ts';

for (const kind of CONSUL_KINDS) {
  describe(`changeValue() on the ${kind} Consul`, () => {
    let consul: TestConsul;
    let client: ConsulClient;
    let keys = 0;
    beforeAll(async () => {
      consul = await startConsul(kind);
      client = consulClient({ address: consul.address });
    }, 60_000);
    afterAll(async () => {
      client?.close();
      await consul?.close();
    });
    const valueOf = async (key: string): Promise<string | undefined> => (await client.get(key))?.value;
    const aKey = (): string => `katamari/test/change-${++keys}`;

    test('creates, changes, leaves and deletes a value', async () => {
      const key = aKey();
      expect(await changeValue(client, key, (entry) => (entry === undefined ? 'one' : 'other'))).toBe(true);
      expect(await changeValue(client, key, (entry) => `${entry?.value} two`)).toBe(true);
      expect(await valueOf(key)).toBe('one two');
      const before = await client.get(key);
      expect(await changeValue(client, key, () => UNCHANGED)).toBe(true);
      expect(await changeValue(client, key, () => 'one two')).toBe(true);
      expect(await client.get(key)).toEqual(before);
      expect(await changeValue(client, key, () => undefined)).toBe(true);
      expect(await valueOf(key)).toBeUndefined();
      expect(await changeValue(client, key, () => undefined)).toBe(true);
    });

    test('decides again on the value of a client that was faster', async () => {
      const key = aKey();
      const rival = withRival(client, async (count) => count < 3 && client.put(key, `rival ${count}`));
      expect(await changeValue(rival, key, (entry) => `${entry?.value}, own`)).toBe(true);
      expect(await valueOf(key)).toBe('rival 2, own');
    });

    test('gives up when others are faster each time, and writes nothing', async () => {
      const key = aKey();
      let last = 0;
      const rival = withRival(client, (count) => client.put(key, `rival ${(last = count)}`));
      expect(await changeValue(rival, key, () => 'own')).toBe(false);
      expect(last).toBe(10);
      expect(await valueOf(key)).toBe('rival 10');
    });

    test('setUnlessChanged() refuses after a different write of another client, also after a delete', async () => {
      const refusal = (): Error => new Error('refused');
      const key = aKey();
      for (const write of [() => client.put(key, 'rival'), () => client.delete(key)]) {
        await client.put(key, 'first');
        const rival = withRival(client, write);
        await expect(
          changeValue(
            rival,
            key,
            setUnlessChanged(() => 'own', refusal),
          ),
        ).rejects.toThrow('refused');
        expect(await valueOf(key)).not.toBe('own');
      }
    });

    test('setUnlessChanged() goes on when the same value was written again, or the wanted one', async () => {
      const refusal = (): Error => new Error('refused');
      const key = aKey();
      await client.put(key, 'first');
      const again = withRival(client, async (count) => count === 1 && client.put(key, 'first'));
      expect(
        await changeValue(
          again,
          key,
          setUnlessChanged(() => 'own', refusal),
        ),
      ).toBe(true);
      expect(await valueOf(key)).toBe('own');
      const wanted = withRival(client, async (count) => count === 1 && client.put(key, 'next'));
      expect(
        await changeValue(
          wanted,
          key,
          setUnlessChanged(() => 'next', refusal),
        ),
      ).toBe(true);
      expect(await valueOf(key)).toBe('next');
    });
  });
}
