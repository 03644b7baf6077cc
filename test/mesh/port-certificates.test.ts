// The certificate of each port for clients is replaced while the mesh runs: new connections get the new one, open ones
// go on, and files that do not fit together change nothing.

import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../client/mod.ts';
import { runtimeName } from '../../core/mod.ts';
import { makeAuthority, type CertificateFiles, type TestAuthority } from '../kit/tools/certificates.ts';
import { startTestMesh, work, type TestMesh } from '../kit/mesh/mesh.ts';
import { until } from '../kit/tools/wait.ts';

const run = promisify(execFile);
/** Bun has no way to change the certificate of an HTTP server. */
const HTTP_RENEWS = runtimeName() !== 'bun';

let authority: TestAuthority;
let folder: string;
let mesh: TestMesh;
const at = (name: string): string => path.join(folder, name);

function install({ certFile, keyFile }: CertificateFiles): void {
  copyFileSync(certFile, at('server.pem'));
  copyFileSync(keyFile, at('server.key'));
}

beforeAll(async () => {
  authority = makeAuthority('ports');
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-ports-'));
  install(authority.sign('first'));
  copyFileSync(authority.caFile, at('ca.pem'));
  const tls = { certFile: at('server.pem'), keyFile: at('server.key') };
  const web = { port: 0, tls, sites: [{ prefix: '/', files: folder }] };
  mesh = await startTestMesh([work({ count: 4 })], {
    thrift: { tls: { ...tls, caFile: at('ca.pem'), clientCertificate: 'optional' } },
    jsonRpc: { tls },
    stats: { tls },
    web,
  });
  await mesh.mesh.whenReady;
});

afterAll(async () => {
  await mesh?.end();
  authority.close();
  rmSync(folder, { recursive: true, force: true });
});

const told = (about: string): string[] =>
  mesh.events
    .filter(({ kind, subject }) => kind === 'credentials_changed' && subject === about)
    .map(({ text }) => text);
const portOf = (address: string): number => Number(/:(\d+)\/?$/.exec(address)?.[1]);
const ports = (): Record<string, number> => {
  const { thrift, jsonRpc, stats, web } = mesh.mesh.addresses;
  return { thrift: portOf(thrift), jsonRpc: portOf(jsonRpc), stats: portOf(stats), web: portOf(web) };
};

/** The name in the certificate that a new connection gets. */
async function nameAt(port: number): Promise<string> {
  const script = `openssl s_client -connect 127.0.0.1:${port} </dev/null 2>/dev/null | openssl x509 -noout -subject`;
  return /CN ?= ?(\w+)/.exec((await run('sh', ['-c', script])).stdout)?.[1] ?? '';
}

const namesAt = async (): Promise<Record<string, string>> =>
  Object.fromEntries(
    await Promise.all(Object.entries(ports()).map(async ([name, port]) => [name, await nameAt(port)] as const)),
  );

const all = (name: string, http = name): Record<string, string> => ({
  thrift: name,
  jsonRpc: http,
  stats: http,
  web: http,
});

describe('A certificate that is replaced on disk', () => {
  test('is used by the next connection of every port, and cuts none that is open', async () => {
    expect(await namesAt()).toEqual(all('first'));
    const ca = readFileSync(authority.caFile);
    const client = connect({ addresses: mesh.mesh.addresses.thrift, tls: { ca } });
    const pid = async (): Promise<unknown> => client.service('Work')['pid']?.();
    const kept: TLSSocket = connectTls({ port: ports()['jsonRpc'] as number, host: '127.0.0.1', ca });
    await new Promise((resolve) => kept.once('secureConnect', resolve));
    let answer = '';
    kept.setEncoding('utf8').on('data', (text: string) => (answer += text));
    expect(await pid()).toBeGreaterThan(0);
    const take = async (): Promise<unknown> => client.service('Work')['take']?.({ ms: 2_500 });
    const calls = Array.from({ length: 4 }, take);

    install(authority.sign('second'));
    await until('the new certificate', () => told('thrift').length > 0);
    if (HTTP_RENEWS)
      await until('the others', () => ['jsonRpc', 'stats', 'web'].every((port) => told(port).length > 0));
    expect(await namesAt()).toEqual(all('second', HTTP_RENEWS ? 'second' : 'first'));
    expect(new Set(await Promise.all(calls)).size).toBe(4);
    expect(await pid()).toBeGreaterThan(0);
    kept.write('GET /openrpc.json HTTP/1.1\r\nhost: localhost\r\n\r\n');
    await until('an answer on the old connection', () => answer.startsWith('HTTP/1.1 200 '));
    kept.destroy();
    client.close();
    if (HTTP_RENEWS) return;
    await until('the ports that cannot', () => told('jsonRpc').length > 0);
    expect(told('jsonRpc')[0]).toContain('cannot change the certificate of an open HTTP port; restart this process');
  });

  test('without its key changes nothing and is told; with it, it is used', async () => {
    const third = authority.sign('third');
    const before = await namesAt();
    const count = told('thrift').length;
    copyFileSync(third.certFile, at('server.pem'));
    await until('the mismatch to be told', () => told('thrift').length > count);
    expect(told('thrift').at(-1)).toMatch(/cannot be used; the old content stays in use: .*key/);
    expect(await namesAt()).toEqual(before);
    copyFileSync(third.keyFile, at('server.key'));
    await until('the pair', async () => (await nameAt(ports()['thrift'] as number)) === 'third');
    if (HTTP_RENEWS)
      await until('all ports', async () => JSON.stringify(await namesAt()) === JSON.stringify(all('third')));
  });

  test('of the CA of clients decides about the next client', async () => {
    const other = makeAuthority('newcomers');
    try {
      const [cert, key] = [other.sign('client').certFile, other.sign('client').keyFile].map((file) =>
        readFileSync(file),
      ) as [Buffer, Buffer];
      const call = async (): Promise<unknown> => {
        const ca = readFileSync(authority.caFile);
        const client = connect({ addresses: mesh.mesh.addresses.thrift, tls: { ca, cert, key }, timeoutMs: 3_000 });
        try {
          return typeof (await client.service('Work')['pid']?.());
        } catch {
          return 'refused';
        } finally {
          client.close();
        }
      };
      expect(await call()).toBe('refused');
      copyFileSync(other.caFile, at('ca.pem'));
      await until('the newcomer', async () => (await call()) === 'number');
    } finally {
      other.close();
    }
  });
});
