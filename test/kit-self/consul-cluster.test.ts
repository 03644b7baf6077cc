// The kit's Consul cluster: real servers that elect a leader, lose their data, and come back.

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { get } from 'node:https';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeAuthority } from '../kit/tools/certificates.ts';
import { startConsulCluster, type ConsulCluster, type ConsulServer } from '../kit/cluster/consul-cluster.ts';
import { isAlive } from '../kit/mesh/mesh.ts';
import { loopbackNetwork, type Host } from '../kit/cluster/network.ts';

describe('A Consul cluster of three servers', () => {
  let consul: ConsulCluster;
  const put = async (key: string, value: string): Promise<boolean> =>
    (await (await consul.ask(`/v1/kv/${key}`, { method: 'PUT', body: value })).text()).trim() === 'true';
  const get = async (key: string): Promise<string> => (await consul.ask(`/v1/kv/${key}?raw&consistent`)).text();
  let leader: ConsulServer | undefined;

  beforeAll(async () => {
    consul = await startConsulCluster({ network: await loopbackNetwork() });
    console.log(`a leader after ${Math.round(consul.upAfterMs)} ms`);
  });
  afterAll(() => consul.end());

  test('elects a leader, and each server has its own address with the default port', async () => {
    const addresses = consul.servers.map(({ address }) => address);
    expect(new Set(addresses).size).toBe(3);
    expect(addresses.every((address) => /^127\.\d+\.\d+\.\d+:8500$/.test(address))).toBe(true);
    expect(consul.servers).toContain(await consul.leader());
  });

  test('survives the death of its leader: another one is elected and the data are there', async () => {
    expect(await put('kit/first', 'one')).toBe(true);
    leader = await consul.leader();
    const index = consul.servers.findIndex(({ name }) => name === leader?.name);
    await consul.kill(index);
    const tookMs = await consul.waitForLeader();
    console.log(`another leader after ${Math.round(tookMs)} ms`);
    const next = await consul.leader();
    expect(next).toBeDefined();
    expect(next?.name).not.toBe(leader?.name);
    expect(await get('kit/first')).toBe('one');
    expect(await put('kit/second', 'two')).toBe(true);
    consul.start(index);
    await consul.waitForLeader();
  });

  test('keeps its data when all servers are killed and restarted', async () => {
    await Promise.all([0, 1, 2].map((index) => consul.kill(index)));
    await expect(consul.ask('/v1/status/leader')).rejects.toThrow('no Consul server runs');
    for (const index of [0, 1, 2]) consul.start(index);
    const tookMs = await consul.waitForLeader();
    console.log(`a leader after ${Math.round(tookMs)} ms, with old data`);
    expect([await get('kit/first'), await get('kit/second')]).toEqual(['one', 'two']);
  });

  test('takes a server back that lost its data, and is empty when all lost theirs', async () => {
    await consul.kill(1);
    consul.wipe(1);
    consul.start(1);
    await consul.waitForLeader();
    expect(await get('kit/first')).toBe('one');
    await Promise.all([0, 1, 2].map((index) => consul.kill(index)));
    for (const index of [0, 1, 2]) consul.wipe(index);
    for (const index of [0, 1, 2]) consul.start(index);
    await consul.waitForLeader();
    expect((await consul.ask('/v1/kv/kit/first')).status).toBe(404);
  }, 90_000);
});

describe('startConsulCluster()', () => {
  test('merges additional settings into the configuration: ACLs that deny by default, and TLS beside the default port', async () => {
    const authority = makeAuthority('Consul cluster');
    const token = randomUUID();
    const config = ({ address }: Host) => {
      const { certFile, keyFile } = authority.sign('server', [`IP:${address}`]);
      const acl = { enabled: true, default_policy: 'deny', tokens: { master: token, agent: token } };
      return { ports: { https: 8501 }, ca_file: authority.caFile, cert_file: certFile, key_file: keyFile, acl };
    };
    const network = await loopbackNetwork();
    const consul = await startConsulCluster({ network, servers: 1, config, token });
    try {
      const [{ address, host } = { address: '', host: { address: '' } }] = consul.servers;
      expect((await consul.ask('/v1/kv/kit', { method: 'PUT', body: 'x' })).status).toBe(200);
      expect((await fetch(`http://${address}/v1/kv/kit`)).status).toBe(403);
      const ca = readFileSync(authority.caFile);
      const headers = { 'x-consul-token': token };
      const status = await new Promise((resolve, reject) => {
        get(`https://${host.address}:8501/v1/kv/kit`, { ca, headers }, ({ statusCode }) => resolve(statusCode)).on(
          'error',
          reject,
        );
      });
      expect(status).toBe(200);
    } finally {
      await consul.end();
      authority.close();
    }
  });
});

describe('ConsulCluster.end()', () => {
  test('leaves no server, not even a stopped one, and frees the addresses', async () => {
    const network = await loopbackNetwork();
    const consul = await startConsulCluster({ network, servers: 1 });
    const [server] = consul.servers;
    const pid = server?.pid ?? 0;
    expect(isAlive(pid)).toBe(true);
    server?.signal('SIGSTOP');
    await consul.end();
    expect(isAlive(pid)).toBe(false);
  });
});
