// Signed documents on both kinds of Consul: what somebody with write access to Consul can and cannot do.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { consulClient, type ConsulClient } from '../../../services/consul/mod.ts';
import { documentSigner, keysOf } from '../../../services/mesh/mod.ts';
import { signAgain } from '../../../services/master/sign-again.ts';
import { CONSUL_KINDS, startConsul, type TestConsul } from '../../kit/consul/consul.ts';

const SECRET = 'b7e23ec29af22b0b4e41da31e868d572';
const NEXT = '9f86d081884c7d659a2feaa0c55ad015';
const { deployments, assignments, drained, routes, settings, managers, leader } = keysOf('main');
const KEY = `${deployments}Search/1.0.0`;

for (const kind of CONSUL_KINDS) {
  describe(`A signing client on the ${kind} Consul`, () => {
    let consul: TestConsul;
    let attacker: ConsulClient;
    const clients: ConsulClient[] = [];
    const member = (...secrets: string[]): ConsulClient => {
      const client = consulClient({ address: consul.address, signer: documentSigner('main', () => secrets) });
      clients.push(client);
      return client;
    };
    const problemOf = async (client: ConsulClient, key: string): Promise<string | undefined> =>
      (await client.get(key))?.problem;
    beforeAll(async () => {
      consul = await startConsul(kind);
      attacker = consulClient({ address: consul.address });
      clients.push(attacker);
    });
    afterAll(async () => {
      for (const client of clients) client.close();
      await consul?.close();
    });

    test('reads what another member wrote, alone, in a list and in a transaction', async () => {
      const text = '{"service":"Sübel","lines":"a\\nhmac-sha256 b"}\n';
      await member(SECRET).put(KEY, text);
      await member(SECRET).transact([{ verb: 'cas', key: `${assignments}one`, value: text, index: 0 }]);
      const reader = member(SECRET);
      expect(await reader.get(KEY)).toMatchObject({ value: text, problem: '' });
      expect(await reader.get(`${assignments}one`)).toMatchObject({ value: text, problem: '' });
      expect((await reader.list(deployments)).entries).toMatchObject([{ key: KEY, value: text, problem: '' }]);
      // People can read it in Consul.
      expect((await attacker.get(KEY))?.value).toMatch(/^\{"service":"Sübel".*\nhmac-sha256 [\w-]{43}$/s);
    });

    test('refuses a document without a signature at every place that decides what runs', async () => {
      const reader = member(SECRET);
      for (const key of [KEY, `${assignments}one`, `${drained}one`, `${routes}Search`, settings]) {
        for (const value of [
          '{}',
          '',
          '{}\nhmac-sha256 ',
          '{}\nhmac-sha256 AAAA',
          `{}\nhmac-sha256 ${'A'.repeat(43)}`,
        ]) {
          await attacker.put(key, value);
          expect([key, value, await problemOf(reader, key)]).toEqual([key, value, expect.stringMatching(/sign/)]);
          expect((await reader.get(key))?.value).toBe('');
        }
      }
    });

    test('refuses a document that was changed, or copied to another key or mesh', async () => {
      const writer = member(SECRET);
      await writer.put(KEY, '{"command":["good"]}');
      const signed = (await attacker.get(KEY))?.value ?? '';
      const reader = member(SECRET);
      await attacker.put(KEY, signed);
      expect(await problemOf(reader, KEY)).toBe('');
      await attacker.put(KEY, signed.replace('good', 'evil'));
      expect(await problemOf(reader, KEY)).toMatch(/signature does not match/);
      await attacker.put(`${deployments}Search/2.0.0`, signed);
      expect(await problemOf(reader, `${deployments}Search/2.0.0`)).toMatch(/signature does not match/);
      const elsewhere = keysOf('other').deployments;
      const otherMesh = consulClient({ address: consul.address, signer: documentSigner('other', () => [SECRET]) });
      clients.push(otherMesh);
      await attacker.put(`${elsewhere}Search/1.0.0`, signed);
      expect(await problemOf(otherMesh, `${elsewhere}Search/1.0.0`)).toMatch(/signature does not match/);
    });

    test('accepts the old and the new secret during a rotation, and neither without the other', async () => {
      await member(NEXT, SECRET).put(KEY, '{"by":"next"}');
      expect(await problemOf(member(SECRET, NEXT), KEY)).toBe('');
      expect((await member(SECRET, NEXT).get(KEY))?.isOutdated).toBe(true);
      expect((await member(NEXT, SECRET).get(KEY))?.isOutdated).toBe(false);
      expect(await problemOf(member(SECRET), KEY)).toMatch(/another link\.secretFile/);
      await member(SECRET).put(KEY, '{"by":"old"}');
      expect(await problemOf(member(NEXT, SECRET), KEY)).toBe('');
      expect(await problemOf(member(NEXT), KEY)).toMatch(/another link\.secretFile/);
    });

    test('signs every outdated document again, and no other', async () => {
      const places = [KEY, `${assignments}one`, `${routes}Search`, settings];
      for (const place of places) await member(SECRET).put(place, '{"by":"old"}');
      await member(NEXT).put(`${routes}Rank`, '{"by":"next"}');
      await attacker.put(`${drained}one`, '{"by":"attacker"}');
      const none = new AbortController().signal;
      expect(await signAgain(member(NEXT, SECRET), none)).toBe(places.length);
      expect(await signAgain(member(NEXT, SECRET), none)).toBe(0);
      for (const place of [...places, `${routes}Rank`]) expect(await problemOf(member(NEXT), place)).toBe('');
      expect(await problemOf(member(NEXT), `${drained}one`)).toMatch(/not signed/);
    });

    test('leaves the records of processes alone, whose links prove the secret themselves', async () => {
      await member(SECRET).put(`${managers}one`, '{"address":"x"}');
      await member(SECRET).put(leader, '{"name":"x"}');
      expect((await attacker.get(`${managers}one`))?.value).toBe('{"address":"x"}');
      await attacker.put(leader, '{"name":"y"}');
      expect(await member(SECRET).get(leader)).toMatchObject({ value: '{"name":"y"}', problem: '' });
    });
  });
}
