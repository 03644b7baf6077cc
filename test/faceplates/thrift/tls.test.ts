import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { makeAuthority, type CertificateFiles, type TestAuthority } from '../../kit/tools/certificates.ts';
import { startTestMesh, work } from '../../kit/mesh/mesh.ts';
import { rawThrift } from '../../kit/wire/raw-thrift.ts';
import { until } from '../../kit/tools/wait.ts';
import { startFixture, type Fixture } from './fixture.ts';
import { frameMessage, NOTHING } from '../../../core/thrift/mod.ts';
import type { ThriftTls } from '../../../faceplates/thrift/mod.ts';

let authority: TestAuthority;
let stranger: TestAuthority;
let fixture: Fixture;
let tls: ThriftTls;
let ca: string;

const pem = ({ certFile, keyFile }: CertificateFiles): { cert: string; key: string } => ({
  cert: readFileSync(certFile, 'utf8'),
  key: readFileSync(keyFile, 'utf8'),
});

beforeAll(() => {
  authority = makeAuthority('thrift');
  stranger = makeAuthority('somebody else');
  ca = readFileSync(authority.caFile, 'utf8');
  tls = { ...pem(authority.sign('server')), ca: '', isRequired: false };
});
afterAll(() => {
  authority.close();
  stranger.close();
});
afterEach(() => fixture.end());

async function answers(client: Awaited<ReturnType<Fixture['connect']>>): Promise<void> {
  client.send(fixture.bytes('add', { a: 20, b: 22 }));
  expect((await client.count(1))[0]?.type).toBe(2);
}

describe('TLS on the Thrift port', () => {
  test('is accepted beside plain Thrift by the first bytes, with a handshake in any pieces', async () => {
    fixture = await startFixture({ tls });
    await answers(await fixture.connect(true, { ca }));
    await answers(await fixture.connect());
    expect(fixture.faceplate.connections()).toBe(2);
    const many = await fixture.connect(true, { ca });
    const calls = Array.from({ length: 200 }, (_, n) => fixture.bytes('add', { a: n, b: 1 }, { seqId: n }));
    many.send(Buffer.concat(calls));
    expect((await many.count(200)).map(({ seqId }) => seqId)).toEqual(calls.map((_, n) => n));
  });

  test('can be required', async () => {
    fixture = await startFixture({ tls: { ...tls, isRequired: true } });
    await answers(await fixture.connect(true, { ca }));
    const plain = await fixture.connect();
    plain.send(fixture.bytes('add', { a: 1, b: 2 }));
    expect((await plain.count(1))[0]?.body.toString()).toContain('This Thrift port requires TLS');
    await until('it to be let go', () => plain.isClosed());
    expect(fixture.behind.calls).toHaveLength(1);
  });

  test('requires client certificates when an authority is given, and accepts only certificates of that authority', async () => {
    fixture = await startFixture({ tls: { ...tls, ca } });
    await answers(await fixture.connect(true, { ca, ...pem(authority.sign('client')) }));
    for (const wrong of [{ ca }, { ca, ...pem(stranger.sign('client')) }]) {
      // With TLS 1.3 the client briefly believes that it is connected.
      const client = await rawThrift(fixture.faceplate.port, true, wrong).catch(() => undefined);
      client?.send(fixture.bytes('add', { a: 1, b: 2 }));
      if (client !== undefined) await until('it to be let go', () => client.isClosed());
    }
    expect(fixture.behind.calls).toHaveLength(1);
    await until('the other connections to close', () => fixture.faceplate.connections() === 1);
  });

  test('is configured by files, and an invalid file is named', async () => {
    fixture = await startFixture();
    const files = authority.sign('configured');
    const mesh = await startTestMesh([work()], { thrift: { tls: { ...files, required: true } } });
    await mesh.mesh.whenReady;
    const client = await rawThrift(Number(mesh.mesh.addresses.thrift.split(':').at(-1)), true, { ca });
    client.send(frameMessage(1, 'say', 7, NOTHING, Buffer.from('0b00010000000568656c6c6f00', 'hex')));
    expect((await client.count(1))[0]?.body.toString()).toContain('hello');
    client.destroy();
    await mesh.end();
    const wrong = { ...files, keyFile: stranger.sign('other').keyFile };
    const failure = await startTestMesh([work()], { thrift: { tls: wrong } }).then(
      () => 'none',
      (error: Error) => error.message,
    );
    expect(failure).toMatch(/^thrift\.tls: The key of the Thrift port does not belong to its certificate\. Expected /);
  });

  test('closes invalid and endless handshakes, and ends with the faceplate', async () => {
    fixture = await startFixture({ tls, limits: { requestMs: 200 } });
    const rubbish = await fixture.connect();
    rubbish.send(Buffer.from('16030100ffdeadbeef'.padEnd(520, '0'), 'hex'));
    const silent = await fixture.connect();
    silent.send(Buffer.from('1603010200', 'hex'));
    await until('both to be let go', () => rubbish.isClosed() && silent.isClosed());
    const half = await fixture.connect();
    half.send(Buffer.from('1603010200', 'hex'));
    await fixture.faceplate.drain();
    await until('the last to be let go', () => half.isClosed());
  });
});
