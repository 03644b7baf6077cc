// Stock clients prove who they are on every port: mutual TLS, a static token and a signed token (JWT), from Python,
// Java, Node and curl. The chassis sees the identity, never the token. Then a policy decides what each may call.

import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request, type RequestOptions } from 'node:https';
import { createServer, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { exportJWK, generateKeyPair, SignJWT, type CryptoKey } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect as katamari, type ConnectOptions } from '../../client/mod.ts';
import { httpReadsClientCertificates } from '../../core/mod.ts';
import { makeAuthority, type CertificateFiles, type TestAuthority } from '../kit/tools/certificates.ts';
import { fixture, startTestMesh, type TestMesh } from '../kit/mesh/mesh.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { toolPath } from '../kit/tools/tools.ts';
import { until } from '../kit/tools/wait.ts';
import { generate, type Generated } from '../kit/wire/thrift-client.ts';

const run = promisify(execFile);
const LINE = path.join(REPOSITORY, 'examples/faceplates/line.ts');
const ISSUER = 'https://login.example.org';
const STATIC_TOKEN = randomBytes(32).toString('base64url');
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const HAS_HTTP_CERTIFICATES = httpReadsClientCertificates();

let authority: TestAuthority;
let stranger: TestAuthority;
let folder: string;
let mesh: TestMesh;
let generated: Generated;
let java: string;
let billing: CertificateFiles;
let keys: { readonly privateKey: CryptoKey };
let otherKeys: { readonly privateKey: CryptoKey };

const at = (name: string): string => path.join(folder, name);

/** A signed token; `change` replaces claims. */
async function jwt(change: Readonly<Record<string, unknown>> = {}, by = keys): Promise<string> {
  const claims = { sub: 'carol', roles: ['support', 'eu'], iss: ISSUER, aud: 'mesh', ...change };
  const token = new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: 'one' }).setIssuedAt();
  return await ('exp' in change ? token : token.setExpirationTime('5m')).sign(by.privateKey);
}

beforeAll(async () => {
  authority = makeAuthority('callers');
  stranger = makeAuthority('others');
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-callers-'));
  billing = authority.sign('billing', ['URI:spiffe://example.org/billing', 'DNS:billing.example.org']);
  keys = await generateKeyPair('ES256', { extractable: true });
  otherKeys = await generateKeyPair('ES256');
  const { publicKey } = keys as Awaited<ReturnType<typeof generateKeyPair>>;
  const jwk = { ...(await exportJWK(publicKey)), kid: 'one', alg: 'ES256' };
  writeFileSync(at('jwks.json'), JSON.stringify({ keys: [jwk] }));
  const tls = { ...authority.sign('server'), caFile: authority.caFile, clientCertificate: 'optional' };
  const httpTls = HAS_HTTP_CERTIFICATES ? tls : { certFile: tls.certFile, keyFile: tls.keyFile };
  mesh = await startTestMesh(
    [
      { service: 'Who', version: '1.0.0', command: fixture('who.ts'), count: 1 },
      { service: 'Who', version: '2.0.0', command: fixture('who.ts'), count: 1, env: { WORK_VERSION: '2.0.0' } },
      { service: 'Web', version: '1.0.0', command: fixture('who-web.ts'), count: 1 },
    ],
    {
      thrift: { tls, defaultService: 'Who' },
      jsonRpc: { tls: httpTls },
      faceplates: [{ module: LINE, name: 'line', port: 0, options: { service: 'Who' } }],
      web: { port: 0, tls: httpTls, sites: [{ prefix: '/', service: 'Web' }] },
      stats: { tls: httpTls },
      access: {
        anonymous: 'never',
        tokens: [{ name: 'robot', sha256: sha256(STATIC_TOKEN), roles: ['machines'] }],
        jwt: { issuer: ISSUER, audience: 'mesh', jwksFile: at('jwks.json') },
      },
    },
  );
  generated = await generate(path.join(REPOSITORY, 'test/fixtures/chassis/who.thrift'));
  java = await compileJava();
  await mesh.mesh.whenReady;
}, 120_000);

afterAll(async () => {
  await mesh?.end();
  generated?.remove();
  authority.close();
  stranger.close();
  rmSync(folder, { recursive: true, force: true });
});

async function compileJava(): Promise<string> {
  const jars = ['thrift.jar', 'slf4j-api.jar'].map((name) => `/usr/share/java/${name}`).join(':');
  await run(toolPath('thrift'), [
    '-o',
    folder,
    '--gen',
    'java:generated_annotations=suppress',
    path.join(REPOSITORY, 'test/fixtures/chassis/who.thrift'),
  ]);
  const source = path.join(REPOSITORY, 'test/fixtures/client/WhoClient.java');
  await run(toolPath('javac'), [
    '-nowarn',
    '-Xlint:none',
    '-proc:none',
    '-d',
    at('classes'),
    '-cp',
    jars,
    source,
    at('gen-java/Who.java'),
  ]);
  await pkcs12('billing.p12', billing);
  const trust = ['-importcert', '-noprompt', '-alias', 'ca', '-file', authority.caFile, '-keystore', at('trust.p12')];
  await run('keytool', [...trust, '-storetype', 'PKCS12', '-storepass', 'changeit']);
  return `${jars}:${at('classes')}`;
}

async function pkcs12(name: string, { certFile, keyFile }: CertificateFiles): Promise<void> {
  const files = ['-in', certFile, '-inkey', keyFile, '-out', at(name), '-passout', 'pass:changeit'];
  await run(toolPath('openssl'), ['pkcs12', '-export', ...files]);
}

const portOf = (address: string): string => /:(\d+)$/.exec(address)?.[1] ?? '';
const none = { certFile: '', keyFile: '' };

async function python(
  how: 'framed' | 'header' | 'http',
  { certFile, keyFile }: CertificateFiles,
  token = '',
): Promise<string> {
  const program = path.join(REPOSITORY, 'test/fixtures/client/who_client.py');
  const args = [
    program,
    '127.0.0.1',
    portOf(mesh.mesh.addresses.thrift),
    how,
    authority.caFile,
    certFile,
    keyFile,
    token,
  ];
  const env = { ...process.env, PYTHONPATH: path.join(generated.directory, 'gen-py') };
  const { stdout } = await run('/usr/bin/python3', args, { env, timeout: 30_000 });
  return stdout.trim();
}

interface Answer {
  readonly status: number;
  readonly challenge: string;
  readonly text: string;
}

async function curl(
  url: string,
  given: { token?: string; cert?: CertificateFiles; data?: string } = {},
): Promise<Answer> {
  const { token, cert, data } = given;
  const args = ['-sS', '--max-time', '20', '--cacert', authority.caFile, '-D', '-', url];
  if (token !== undefined) args.push('-H', `Authorization: Bearer ${token}`);
  if (cert !== undefined) args.push('--cert', cert.certFile, '--key', cert.keyFile);
  if (data !== undefined) args.push('-H', 'content-type: application/json', '-d', data);
  const { stdout } = await run('curl', args);
  const [head = '', ...rest] = stdout.split('\r\n\r\n');
  return {
    status: Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1]),
    challenge: /^www-authenticate: (.*)$/im.exec(head)?.[1] ?? '',
    text: rest.join('\r\n\r\n'),
  };
}

/** A request by Node's own HTTPS client. */
function node(url: string, options: RequestOptions, body?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const ca = readFileSync(authority.caFile);
    const sent = request(
      url,
      { ca, agent: false, method: body === undefined ? 'GET' : 'POST', ...options },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (part: string) => (text += part));
        response.on('end', () => {
          const { 'www-authenticate': challenge = '' } = response.headers;
          resolve({ status: response.statusCode ?? 0, challenge, text });
        });
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

const FACTS = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'Who.facts' });
const factsOf = ({ text }: Answer): unknown => JSON.parse((JSON.parse(text) as { result: string }).result) as unknown;
const rpcUrl = (): string => `${mesh.mesh.addresses.jsonRpc}/rpc`;

const BILLING = { name: 'spiffe://example.org/billing', roles: [], how: 'mtls' };
const ROBOT = { name: 'robot', roles: ['machines'], how: 'token' };
const CAROL = { name: 'carol', roles: ['eu', 'support'], how: 'jwt' };

describe('On the Thrift port', () => {
  test('Python proves itself by certificate, static token and signed token', async () => {
    expect(JSON.parse(await python('framed', billing))).toEqual({ ...BILLING, headers: {} });
    expect(JSON.parse(await python('header', none, STATIC_TOKEN))).toEqual({
      ...ROBOT,
      headers: { 'x-colour': 'blue' },
    });
    expect(JSON.parse(await python('header', none, await jwt()))).toEqual({
      ...CAROL,
      headers: { 'x-colour': 'blue' },
    });
    expect(JSON.parse(await python('http', none, await jwt()))).toMatchObject(CAROL);
    expect(JSON.parse(await python('http', billing))).toMatchObject(BILLING);
    // A token says more than the certificate of the machine that it comes from.
    expect(JSON.parse(await python('header', billing, STATIC_TOKEN))).toMatchObject(ROBOT);
  });

  test('who proves nothing, or something wrong, is denied and not anonymous', async () => {
    expect(await python('framed', none)).toMatch(/^TApplicationException: An anonymous caller may not call Who\.facts/);
    expect(await python('header', billing, 'wrong')).toMatch(
      /^TApplicationException: The bearer token is not one that/,
    );
    expect(await python('header', none, await jwt({}, otherKeys))).toMatch(/its signature is wrong/);
    const anotherCa = stranger.sign('billing', ['URI:spiffe://example.org/billing']);
    expect(await python('framed', anotherCa)).toMatch(/^(TTransportException|SSL\w*Error|ConnectionResetError): /);
  });

  test('katamari/client proves itself by certificate and by tokens that it renews', async () => {
    const addresses = mesh.mesh.addresses.thrift;
    const ca = readFileSync(authority.caFile);
    const facts = async (options: Omit<ConnectOptions, 'addresses'>): Promise<unknown> => {
      const client = katamari({ addresses, ...options });
      const found = JSON.parse((await client.service('Who')['facts']?.()) as string) as unknown;
      client.close();
      return found;
    };
    expect(await facts({ tls: { ca }, token: STATIC_TOKEN })).toMatchObject(ROBOT);
    const [cert, key] = [readFileSync(billing.certFile), readFileSync(billing.keyFile)];
    expect(await facts({ tls: { ca, cert, key } })).toMatchObject(BILLING);
    const tokens = [await jwt(), await jwt({ sub: 'dave' })];
    const client = katamari({ addresses, tls: { ca }, token: () => tokens[0] as string });
    const who = client.service('Who');
    expect(JSON.parse((await who['facts']?.()) as string)).toMatchObject(CAROL);
    tokens.shift();
    expect(JSON.parse((await who['facts']?.()) as string)).toMatchObject({ name: 'dave' });
    client.close();
  });

  test('Java proves itself by certificate', async () => {
    const client = (keystore: string): Promise<string> =>
      run('java', [
        '-cp',
        java,
        'WhoClient',
        '127.0.0.1',
        portOf(mesh.mesh.addresses.thrift),
        keystore,
        at('trust.p12'),
        'changeit',
      ]).then(({ stdout }) => stdout.trim());
    expect(JSON.parse(await client(at('billing.p12')))).toMatchObject(BILLING);
    expect(await client('')).toMatch(/^TApplicationException: An anonymous caller/);
  });
});

describe('On the JSON-RPC port', () => {
  test('curl and Node prove themselves', async () => {
    expect(factsOf(await curl(rpcUrl(), { data: FACTS, token: STATIC_TOKEN }))).toEqual({ ...ROBOT, headers: {} });
    expect(factsOf(await curl(rpcUrl(), { data: FACTS, token: await jwt() }))).toMatchObject(CAROL);
    const headers = { authorization: `Bearer ${STATIC_TOKEN}`, 'content-type': 'application/json' };
    expect(factsOf(await node(rpcUrl(), { headers }, FACTS))).toMatchObject(ROBOT);
    if (!HAS_HTTP_CERTIFICATES) return;
    expect(factsOf(await curl(rpcUrl(), { data: FACTS, cert: billing }))).toMatchObject(BILLING);
    const [cert, key] = [readFileSync(billing.certFile), readFileSync(billing.keyFile)];
    expect(factsOf(await node(rpcUrl(), { cert, key }, FACTS))).toMatchObject(BILLING);
    // A resumed TLS session brings its certificate along.
    const agent = new Agent({ keepAlive: false, maxCachedSessions: 10 });
    for (let n = 0; n < 3; n++)
      expect(factsOf(await node(rpcUrl(), { cert, key, agent }, FACTS))).toMatchObject(BILLING);
    const others = stranger.sign('curl');
    await expect(curl(rpcUrl(), { data: FACTS, cert: others })).rejects.toThrow();
  });

  test.each([
    ['an unknown token', () => 'wrong'],
    ['an expired one', () => jwt({ exp: Math.floor(Date.now() / 1_000) - 3_600 })],
    ['one of another issuer', () => jwt({ iss: 'https://evil.example' })],
    ['one for another audience', () => jwt({ aud: 'another' })],
    ['one that is signed by another key', () => jwt({}, otherKeys)],
    [
      'one without an end',
      async () => (await jwt()).replace(/^[^.]+/, Buffer.from('{"alg":"none"}').toString('base64url')),
    ],
  ])('%s is refused with 401 and a challenge', async (_what, token) => {
    const refused = await curl(rpcUrl(), { data: FACTS, token: await token() });
    expect(refused).toMatchObject({ status: 401, challenge: 'Bearer realm="katamari"' });
    expect(JSON.parse(refused.text)).toMatchObject({ error: { data: { code: 'denied' } } });
  });

  test('a public key does not pass for a secret', async () => {
    const {
      keys: [jwk],
    } = JSON.parse(readFileSync(at('jwks.json'), 'utf8')) as { keys: [Record<string, string>] };
    const forged = await new SignJWT({ sub: 'root', iss: ISSUER, aud: 'mesh' })
      .setProtectedHeader({ alg: 'HS256', kid: 'one' })
      .setExpirationTime('5m')
      .sign(Buffer.from(JSON.stringify(jwk)));
    expect(await curl(rpcUrl(), { data: FACTS, token: forged })).toMatchObject({ status: 401 });
  });

  test('documents are for callers that are accepted', async () => {
    expect(await curl(`${mesh.mesh.addresses.jsonRpc}/openrpc.json`)).toMatchObject({ status: 401 });
    expect(await curl(`${mesh.mesh.addresses.jsonRpc}/idl/Who.thrift`)).toMatchObject({ status: 401 });
    expect(await curl(`${mesh.mesh.addresses.jsonRpc}/openrpc.json`, { token: STATIC_TOKEN })).toMatchObject({
      status: 200,
    });
  });
});

describe('On the web and stats ports', () => {
  test('callers prove themselves, and the application gets no token', async () => {
    const url = `${mesh.mesh.addresses.web}/page`;
    const seen = async (given: Parameters<typeof curl>[1]): Promise<unknown> =>
      JSON.parse((await curl(url, given)).text);
    expect(await seen({ token: STATIC_TOKEN })).toEqual({ ...ROBOT, authorization: '', scheme: 'https' });
    expect(await seen({ token: await jwt() })).toEqual({ ...CAROL, authorization: '', scheme: 'https' });
    if (HAS_HTTP_CERTIFICATES) expect(await seen({ cert: billing })).toMatchObject(BILLING);
    expect(await curl(url)).toMatchObject({ status: 401, challenge: 'Bearer realm="katamari"' });
    expect(await curl(url, { token: 'wrong' })).toMatchObject({ status: 401, challenge: 'Bearer realm="katamari"' });
  });

  test('metrics and status need a caller, health checks do not', async () => {
    const { stats } = mesh.mesh.addresses;
    expect(await curl(`${stats}/livez`)).toMatchObject({ status: 200 });
    expect(await curl(`${stats}/readyz`)).toMatchObject({ status: 200 });
    for (const page of ['/', '/metrics', '/status', '/events']) {
      expect(await curl(`${stats}${page}`)).toMatchObject({ status: 401, challenge: 'Bearer realm="katamari"' });
      expect(await curl(`${stats}${page}`, { token: STATIC_TOKEN })).toMatchObject({ status: 200 });
      expect(await curl(`${stats}${page}`, { token: await jwt() })).toMatchObject({ status: 200 });
      if (HAS_HTTP_CERTIFICATES)
        expect(await curl(`${stats}${page}`, { cert: billing })).toMatchObject({ status: 200 });
    }
    const { text } = await curl(`${stats}/metrics`, { token: STATIC_TOKEN });
    expect(text).toMatch(/^katamari_access_denied_total\{reason="token"\} [1-9]/m);
    expect(text).toMatch(/^katamari_access_denied_total\{reason="unauthenticated"\} [1-9]/m);
    expect(text).toMatch(/^katamari_access_policy_version 0$/m);
  });
});

describe('On the port of an added faceplate', () => {
  test('a caller that proves nothing is denied too', async () => {
    const socket = connect({ port: Number(portOf(mesh.mesh.added['line'] as string)), host: '127.0.0.1' });
    let text = '';
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
    socket.write('facts\n');
    await until('a reply', () => text.includes('\n'));
    expect(JSON.parse(text)).toMatchObject({ error: { code: 'denied' } });
    socket.destroy();
  });
});

describe('A signed token', () => {
  test('that expires ends the calls of a connection that stays open', async () => {
    const exp = Math.floor(Date.now() / 1_000) - 28;
    const token = await jwt({ exp });
    // The clock tolerance of 30 s leaves two or three seconds.
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: readFileSync(authority.caFile) });
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const ask = (): Promise<Answer> => node(rpcUrl(), { headers, agent }, FACTS);
    expect((await ask()).status).toBe(200);
    const refused = await until('the token to expire', async () => {
      const answer = await ask();
      return answer.status === 401 ? answer : undefined;
    });
    expect(refused.text).toContain('it has expired');
    agent.destroy();
  });
});

/** Calls the admin service with its own token in the arguments; the caller shows nothing else. */
async function admin(method: string, params: Readonly<Record<string, unknown>>): Promise<Record<string, unknown>> {
  const call = {
    jsonrpc: '2.0',
    id: 1,
    method: `Katamari.${method}`,
    params: { token: mesh.mesh.adminToken, ...params },
  };
  const { text } = await curl(rpcUrl(), { data: JSON.stringify(call) });
  return JSON.parse(text) as Record<string, unknown>;
}

describe('A policy', () => {
  const POLICY = `
roles:
  payments: [spiffe://example.org/*]
rules:
  - { who: "role:payments", may: Who@1.x.facts }
  - { who: robot, may: [Who.facts, Who.note] }
  - { who: "role:support", may: Web.* }
stats: [robot]
`;

  beforeAll(async () => {
    expect(await admin('setAccessPolicy', { text: POLICY, expectedVersion: 0 })).toMatchObject({
      result: { version: 1 },
    });
  });

  const rpc = async (
    method: string,
    given: Parameters<typeof curl>[1],
    path = '',
  ): Promise<Record<string, unknown>> => {
    const data = JSON.stringify({ jsonrpc: '2.0', id: 1, method });
    return JSON.parse((await curl(rpcUrl() + path, { ...given, data })).text) as Record<string, unknown>;
  };
  const denied = { error: { data: { code: 'denied' } } };

  test('allows what a rule allows, by every way to name it, and nothing else', async () => {
    const robot = { token: STATIC_TOKEN };
    expect(await rpc('Who.facts', robot)).toHaveProperty('result');
    expect(await rpc('Who@2.0.0.facts', robot)).toHaveProperty('result');
    expect(await rpc('facts', robot, '/Who@1.0.0')).toHaveProperty('result');
    for (const [method, below] of [
      ['Who.secret'],
      ['secret'],
      ['Who@1.0.0.secret'],
      ['Who@^1.0.0.secret'],
      ['secret', '/Who'],
      ['Web.handle_request'],
    ]) {
      expect(await rpc(method as string, robot, below)).toMatchObject(denied);
    }
    const batch = JSON.stringify(
      ['Who.facts', 'Who.secret', 'secret'].map((method, id) => ({ jsonrpc: '2.0', id, method })),
    );
    const answers = JSON.parse((await curl(rpcUrl(), { ...robot, data: batch })).text) as unknown[];
    expect(answers).toMatchObject([{ id: 0, result: expect.anything() as unknown }, denied, denied]);
    if (!HAS_HTTP_CERTIFICATES) return;
    const versions = await Promise.all(Array.from({ length: 12 }, () => rpc('Who.facts', { cert: billing })));
    expect(versions.every((answer) => 'result' in answer)).toBe(true);
    expect(await rpc('Who@2.0.0.facts', { cert: billing })).toMatchObject(denied);
  });

  test('holds for oneway calls, notifications, Thrift and the multiplexed names of Thrift', async () => {
    const carol = { token: await jwt() };
    await curl(rpcUrl(), {
      ...carol,
      data: JSON.stringify({ jsonrpc: '2.0', method: 'Who.note', params: ['carol was here'] }),
    });
    await curl(rpcUrl(), {
      token: STATIC_TOKEN,
      data: JSON.stringify({ jsonrpc: '2.0', method: 'Who.note', params: ['robot was here'] }),
    });
    await until('the note of the robot', () => mesh.ledger().includes('robot was here'));
    expect(mesh.ledger()).not.toContain('carol was here');
    expect(JSON.parse(await python('framed', billing))).toMatchObject(BILLING);
    expect(await python('header', none, await jwt())).toMatch(
      /carol may not call Who\.facts: the access policy does not allow it/,
    );
  });

  test('shows each caller what it may call', async () => {
    const { text } = await curl(`${mesh.mesh.addresses.jsonRpc}/openrpc.json`, { token: STATIC_TOKEN });
    const names = (JSON.parse(text) as { methods: { name: string }[] }).methods.map(({ name }) => name);
    expect(names.filter((name) => !/^katamari/i.test(name)).toSorted()).toEqual([
      'Who.facts',
      'Who.note',
      'Who@1.0.0.facts',
      'Who@1.0.0.note',
      'Who@2.0.0.facts',
      'Who@2.0.0.note',
    ]);
    expect(await curl(`${mesh.mesh.addresses.jsonRpc}/idl/Web.thrift`, { token: STATIC_TOKEN })).toMatchObject({
      status: 404,
    });
    const discovered = await rpc('rpc.discover', { token: await jwt() });
    expect(JSON.stringify(discovered)).not.toContain('Who.');
    expect(JSON.stringify(discovered)).toContain('Web.handle_request');
  });

  test('decides on the web and stats ports', async () => {
    expect(await curl(`${mesh.mesh.addresses.web}/x`, { token: await jwt() })).toMatchObject({ status: 200 });
    expect(await curl(`${mesh.mesh.addresses.web}/x`, { token: STATIC_TOKEN })).toMatchObject({ status: 403 });
    expect(await curl(`${mesh.mesh.addresses.stats}/metrics`, { token: STATIC_TOKEN })).toMatchObject({ status: 200 });
    expect(await curl(`${mesh.mesh.addresses.stats}/metrics`, { token: await jwt() })).toMatchObject({ status: 403 });
  });

  test('is compared before it is set, checked, explained, remembered and told in events without tokens', async () => {
    expect(await admin('setAccessPolicy', { text: 'rules: []', expectedVersion: 0 })).toMatchObject({
      error: {
        data: {
          why: expect.stringMatching(/^The policy is at version 1, and this change was made from version 0/) as unknown,
        },
      },
    });
    expect(await admin('setAccessPolicy', { text: 'rules: 3', expectedVersion: 1 })).toMatchObject({
      error: { data: { why: expect.stringContaining('line 1: rules: expected a list') as unknown } },
    });
    const explained = { caller: 'token:robot', roles: [], poolRoles: [] };
    expect(await admin('explainAccess', { ...explained, target: 'Who.facts' })).toMatchObject({
      result: { isAllowed: true, why: expect.stringContaining('rules[1] (line 6)') as unknown },
    });
    expect(await admin('explainAccess', { ...explained, target: 'Who.secret' })).toMatchObject({
      result: { isAllowed: false, why: expect.stringContaining('the rules for this caller are rules[1]') as unknown },
    });
    expect(await admin('setAccessPolicy', { text: `${POLICY}\n`, expectedVersion: 1 })).toMatchObject({
      result: { version: 2 },
    });
    const { result } = await admin('getAccessHistory', {});
    expect(result).toMatchObject([
      { version: 2, text: `${POLICY}\n` },
      { version: 1, text: POLICY, changedBy: expect.stringContaining('admin') as unknown },
    ]);
    const told = JSON.stringify(mesh.events);
    expect(told).toContain('robot Who.secret');
    expect(told).not.toContain(STATIC_TOKEN);
    expect(told).not.toMatch(/eyJ[\w-]+\./);
    const data = path.join(path.dirname(mesh.ledgerFile), 'data');
    expect(existsSync(path.join(data, 'policy.json'))).toBe(true);
    const audited = (): string => readFileSync(path.join(data, 'audit', 'audit-000001.jsonl'), 'utf8');
    await until('the denied call in the audit log', () => /"denied_call"/.test(audited()));
    const denied = audited()
      .split('\n')
      .filter((line) => line.includes('denied_call'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(denied).toContainEqual(
      expect.objectContaining({ who: 'robot', from: 'token:robot', subject: 'Who.secret', result: 'refused' }),
    );
    expect(audited()).not.toContain(STATIC_TOKEN);
  });
});

describe('Keys at a URL', () => {
  let jwks: Server;
  let asked = 0;
  let isDown = false;

  beforeAll(async () => {
    jwks = createServer((_request, response) => {
      asked++;
      if (isDown) response.writeHead(503).end();
      else response.writeHead(200, { 'content-type': 'application/json' }).end(readFileSync(at('jwks.json')));
    });
    await new Promise<void>((resolve) => jwks.listen(0, '127.0.0.1', resolve));
  });
  afterAll(() => jwks.close());

  test('are fetched once, keep their value while the URL is down, and tokens are verified once', async () => {
    const jwksUrl = `http://127.0.0.1:${(jwks.address() as AddressInfo).port}/keys`;
    const other = await startTestMesh([{ service: 'Who', version: '1.0.0', command: fixture('who.ts'), count: 1 }], {
      access: { jwt: { issuer: ISSUER, audience: 'mesh', jwksUrl, nameClaim: 'user.name', rolesClaim: 'scope' } },
    });
    await other.mesh.whenReady;
    const change = { user: { name: 'dora' }, scope: 'read write' };
    const token = await jwt(change);
    const ask = (bearer: string): ReturnType<TestMesh['call']> =>
      other.call('Who.facts', undefined, { authorization: `Bearer ${bearer}` });
    const answers = await Promise.all(Array.from({ length: 30 }, () => ask(token)));
    for (const { result } of answers) {
      expect(JSON.parse(result as string)).toMatchObject({ name: 'dora', roles: ['read', 'write'], how: 'jwt' });
    }
    expect(asked).toBe(1);
    isDown = true;
    expect(await ask(await jwt({ ...change, jti: '2' }))).toHaveProperty('result');
    expect(await ask(await jwt(change, otherKeys))).toMatchObject({ status: 401 });
    // Anonymous callers of this machine are still accepted.
    expect(JSON.parse((await other.call('Who.facts')).result as string)).toMatchObject({ how: 'anonymous' });
    await other.end();
  });
});
