// A real Consul that requires HTTPS with client certificates (verify_incoming). The mesh works with the given files,
// and errors about wrong files name the setting.

import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { makeAuthority, type CertificateFiles, type TestAuthority } from '../../kit/tools/certificates.ts';
import { startRealConsul, type RealTestConsul } from '../../kit/consul/consul.ts';
import { startMeshProcess, type MeshProcess } from '../../kit/mesh/mesh-process.ts';
import type { ConsulClientOptions } from '../../../services/consul/options.ts';
import { consulClient, ConsulError, type ConsulClient } from '../../../services/consul/mod.ts';
import { work } from '../../kit/mesh/mesh.ts';
import { until } from '../../kit/tools/wait.ts';

let authority: TestAuthority;
let stranger: TestAuthority;
let server: CertificateFiles;
let own: CertificateFiles;
let consul: RealTestConsul;
let mesh: MeshProcess | undefined;
const clients: ConsulClient[] = [];

beforeAll(async () => {
  authority = makeAuthority('katamari test');
  stranger = makeAuthority('somebody else');
  server = authority.sign('server');
  own = authority.sign('client');
  consul = await startRealConsul({
    config: {
      verify_incoming_https: true,
      ca_file: authority.caFile,
      cert_file: server.certFile,
      key_file: server.keyFile,
    },
  });
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await mesh?.end();
  mesh = undefined;
});
afterAll(async () => {
  await consul?.close();
  authority?.close();
  stranger?.close();
});

function clientOf(options: ConsulClientOptions): ConsulClient {
  const client = consulClient({ address: `https://${consul.httpsAddress}`, ...options });
  clients.push(client);
  return client;
}

async function failureOf(options: ConsulClientOptions): Promise<ConsulError> {
  const error: unknown = await clientOf(options)
    .leader()
    .catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ConsulError);
  return error as ConsulError;
}

describe('ConsulClient over TLS', () => {
  test('works with the CA and a certificate that Consul trusts', async () => {
    const client = clientOf({ caFile: authority.caFile, ...own });
    expect(await client.leader()).toContain(':');
    expect(await client.put('katamari/main/settings', '{"timeoutMs":1}')).toBe(true);
    const watched = await client.list('katamari/main/');
    expect(watched.entries.map(({ key }) => key)).toEqual(['katamari/main/settings']);
    await client.delete('katamari/main/', { isTree: true });
  });

  test('reports a CA that is unknown, missing or wrong', async () => {
    for (const options of [own, { ...own, caFile: stranger.caFile }]) {
      const { trouble, message } = await failureOf(options);
      expect([trouble, message]).toEqual([
        'tls',
        expect.stringContaining('is signed by an unknown CA: configure that CA'),
      ]);
      expect(message).toContain('(consul.caFile)');
    }
  });

  test('reports that Consul requires a certificate', async () => {
    const { trouble, message } = await failureOf({ caFile: authority.caFile });
    expect([trouble, message]).toEqual(['tls', expect.stringContaining('client certificate (verify_incoming)')]);
    expect(message).toContain('consul.certFile and consul.keyFile');
  });

  test('reports that Consul does not trust the certificate', async () => {
    const { trouble, message } = await failureOf({ caFile: authority.caFile, ...stranger.sign('client') });
    expect([trouble, message]).toEqual(['tls', expect.stringContaining('consul.certFile')]);
  });

  test('reports that the certificate is for another name', async () => {
    const { trouble, message } = await failureOf({ caFile: authority.caFile, ...own, serverName: 'elsewhere.example' });
    expect([trouble, message]).toEqual(['tls', expect.stringContaining('is for another name')]);
    const byName = clientOf({ caFile: authority.caFile, ...own, serverName: 'localhost' });
    expect(await byName.leader()).toContain(':');
  });

  test('reports TLS to a plain port, and plain HTTP to a TLS port', async () => {
    const withoutTls = await failureOf({ address: `http://${consul.httpsAddress}` });
    expect([withoutTls.trouble, withoutTls.message]).toEqual(['tls', expect.stringContaining('write https:// before')]);
    const withTls = await failureOf({ address: `https://${consul.address}`, caFile: authority.caFile });
    expect([withTls.trouble, withTls.message]).toEqual(['tls', expect.stringContaining('does not speak TLS')]);
  });

  test('reports that nothing listens', async () => {
    const { trouble, message } = await failureOf({ address: 'https://127.0.0.1:1' });
    expect([trouble, message]).toEqual(['refused', expect.stringContaining('Is Consul running there?')]);
  });

  test('names the file that cannot be read', () => {
    expect(() => clientOf({ caFile: '/nowhere/ca.pem' })).toThrow(
      'Cannot read the CA certificate from /nowhere/ca.pem',
    );
  });
});

describe('katamari up', () => {
  test('works with a Consul that requires certificates', async () => {
    expect(readFileSync(own.certFile, 'utf8')).toContain('BEGIN CERTIFICATE');
    const address = `https://${consul.httpsAddress}`;
    const one = (mesh = await startMeshProcess({
      settings: { mesh: 'main', consul: { address, caFile: authority.caFile, ...own } },
      deployments: [work()],
    }));
    const client = clientOf({ caFile: authority.caFile, ...own });
    await until('its pools in Consul', async () =>
      (await client.get('katamari/main/managers/one'))?.value.includes('Work'),
    );
    expect(await one.stop()).toBe(0);
    expect(await client.get('katamari/main/managers/one')).toBeUndefined();
  });

  test('serves with a wrong CA, and reports the error', async () => {
    const address = `https://${consul.httpsAddress}`;
    const one = (mesh = await startMeshProcess({
      settings: { mesh: 'main', consul: { address, caFile: stranger.caFile, ...own } },
      deployments: [work()],
    }));
    await until('the reason in its log', () => one.output().includes('(consul.caFile)'));
  });
});
