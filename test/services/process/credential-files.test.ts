// Secrets and certificates are replaced in a running mesh.

import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connectLink, type LinkSecurity } from '../../../core/link/mod.ts';
import { startTestMesh, work, type TestMesh } from '../../kit/mesh/mesh.ts';
import { makeAuthority, type TestAuthority } from '../../kit/tools/certificates.ts';
import { until } from '../../kit/tools/wait.ts';

const [FIRST, SECOND] = ['b7e23ec29af22b0b4e41da31e868d572', '9f86d081884c7d659a2feaa0c55ad015'];
const directory = mkdtempSync(path.join(tmpdir(), 'katamari-credentials-'));
const file = (name: string): string => path.join(directory, name);

/** Replaces a file in one step, as tools that rotate secrets do. */
function replace(name: string, text: string): void {
  writeFileSync(file(`${name}.new`), text, { mode: 0o600 });
  renameSync(file(`${name}.new`), file(name));
}

/** PEM texts. */
interface Credentials {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

function credentialsOf(authority: TestAuthority): Credentials {
  const { certFile, keyFile } = authority.sign('member');
  const [ca = '', cert = '', key = ''] = [authority.caFile, certFile, keyFile].map((name) =>
    readFileSync(name, 'utf8'),
  );
  return { ca, cert, key };
}

describe('A running mesh', () => {
  let mesh: TestMesh;
  const authorities = [makeAuthority('one'), makeAuthority('other')];
  const [one, other] = authorities.map(credentialsOf) as [Credentials, Credentials];
  beforeAll(async () => {
    replace('secret', FIRST);
    replace('consul-token', FIRST);
    use(one);
    mesh = await startTestMesh([work()], {
      link: {
        secretFile: file('secret'),
        caFile: file('ca.pem'),
        certFile: file('cert.pem'),
        keyFile: file('key.pem'),
      },
      consul: { embedded: true, tokenFile: file('consul-token') },
    });
    await mesh.mesh.whenReady;
    const params = { token: mesh.mesh.adminToken, settings: { timeoutMs: 5_000 } };
    expect((await mesh.call('Katamari.setSettings', params)).result).toEqual({ timeoutMs: 5_000 });
    await until('a leader', () => mesh.mesh.status().leader !== '');
  });
  afterAll(async () => {
    await mesh?.end();
    for (const authority of authorities) authority.close();
    rmSync(directory, { recursive: true });
  });

  function use({ ca, cert, key }: Credentials): void {
    replace('ca.pem', ca);
    replace('cert.pem', cert);
    replace('key.pem', key);
  }

  const dial = async (security: LinkSecurity): Promise<string> => {
    try {
      const socket = await connectLink(`tcp:${mesh.mesh.addresses.link}`, { security, timeoutMs: 5_000 });
      socket.destroy();
      return 'accepted';
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  const withSecret = (secret: string, tls = one): Promise<string> => dial({ secrets: [secret], tls });
  const told = (text: RegExp): number =>
    mesh.events.filter((event) => event.kind === 'credentials_changed' && text.test(`${event.subject} ${event.text}`))
      .length;

  test('accepts the old and the new link secret during a rotation, then the new one alone', async () => {
    expect([await withSecret(FIRST), await withSecret(SECOND)]).toEqual(['accepted', 'denied']);
    replace('secret', `${SECOND}\n${FIRST}\n`);
    await until('the secrets to be read', () => told(/^link read anew/) === 1);
    expect([await withSecret(FIRST), await withSecret(SECOND)]).toEqual(['accepted', 'accepted']);
    await until('the documents to be signed again', () => told(/^Consul 1 documents signed with the new secret/) === 1);
    replace('secret', `${SECOND}\n`);
    await until('the secret to be read', () => told(/^link read anew/) === 2);
    expect([await withSecret(FIRST), await withSecret(SECOND)]).toEqual(['denied', 'accepted']);
  });

  test('keeps its secret when the new content is weak, open to others, or missing, and says so once', async () => {
    replace('secret', 'short');
    await until('the refusal', () => told(/cannot be used; the old content stays in use: .*5 characters/) === 1);
    rmSync(file('secret'));
    await until('the next refusal', () => told(/cannot be used; the old content stays in use: .*ENOENT/) === 1);
    expect(await withSecret(SECOND)).toBe('accepted');
    replace('secret', SECOND);
    await until('the secret to be read', () => told(/^link read anew/) === 3);
  });

  test('uses new certificates for new connections', async () => {
    expect([await withSecret(SECOND), await withSecret(SECOND, other)]).toEqual(['accepted', 'denied']);
    use(other);
    await until('the certificates to be read', () => told(/^link read anew/) === 4);
    expect([await withSecret(SECOND), await withSecret(SECOND, other)]).toEqual(['denied', 'accepted']);
    // A key that does not belong to the certificate.
    replace('key.pem', one.key);
    await until('the refusal', () => told(/key of the link does not belong to its certificate/) === 1);
    expect(await withSecret(SECOND, other)).toBe('accepted');
  });

  test('uses a new token for its Consul, and so does the embedded agent', async () => {
    const statusWith = async (token: string): Promise<number> => {
      const headers = { 'x-consul-token': token };
      const response = await fetch(`${mesh.mesh.addresses.consul}/v1/kv/katamari/?keys`, { headers });
      await response.text();
      return response.status;
    };
    expect([await statusWith(FIRST), await statusWith(SECOND)]).toEqual([200, 403]);
    replace('consul-token', SECOND);
    await until('the token to be read', () => told(/^consul read anew/) === 1);
    expect(await statusWith(SECOND)).toBe(200);
    // Requests that are under way with the old token are served.
    await until('the old token to be refused', async () => (await statusWith(FIRST)) === 403);
    expect(readFileSync(file('consul-token'), 'utf8')).toBe(SECOND);
    // Its session lives on: the mesh sends the new token.
    await until('another answer of Consul', async () => (await mesh.call('Work.say', { text: 'x' })).result === 'x');
    expect(mesh.events.filter(({ kind }) => kind === 'consul_lost')).toEqual([]);
  });
});
