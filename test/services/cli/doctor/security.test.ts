// `katamari doctor --security`: a well protected configuration without a finding, the same one with one fault each,
// real certificates and files, an audit log whose lines were changed, and a running mesh.

import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { AuditLog } from '../../../../services/audit/mod.ts';
import { checkAdminTokens, SCOPES_OF_CHANGES, tokenUsesIn } from '../../../../services/cli/doctor/admin-tokens.ts';
import { checkAuditLog } from '../../../../services/cli/doctor/audit.ts';
import type { Finding } from '../../../../services/cli/doctor/finding.ts';
import { examineSecurity } from '../../../../services/cli/doctor/security.ts';
import { loadConfig } from '../../../../services/config/mod.ts';
import { makeAuthority, type CertificateFiles, type TestAuthority } from '../../../kit/tools/certificates.ts';
import { startMeshProcess } from '../../../kit/mesh/mesh-process.ts';
import { REPOSITORY } from '../../../kit/tools/repository.ts';
import { runKatamari } from '../../../kit/tools/run.ts';
import { runInside } from '../run-inside.ts';

const BUSY_MS = 60_000;
const DAY_MS = 86_400_000;
const SECRET = '0d9f3a71c5e84b62a7d01e9c48f5b3260d9f3a71';
const DIGEST = '5f0c'.repeat(16);
const MESH_USER = { uid: 4_321, name: 'mesh' };

let authority: TestAuthority;
let server: CertificateFiles;
beforeAll(() => {
  authority = makeAuthority('doctor');
  server = authority.sign('server');
});
afterAll(() => authority.close());

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'katamari-security-'));
  mkdirSync(at('data'), { mode: 0o700 });
  writeFileSync(at('link-secret'), `${SECRET}\n`, { mode: 0o600 });
  writeFileSync(at('consul-token'), `${SECRET}\n`, { mode: 0o600 });
  writePolicy(POLICY);
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const at = (name: string): string => path.join(directory, name);

const POLICY = 'rules:\n  - {who: anonymous, may: Status.read}\nquotas:\n  - {who: anonymous, rate: 10/s}\n';

function writePolicy(text: string): void {
  writeFileSync(at('data/policy.json'), JSON.stringify({ version: 3, text, by: 'alice', atMs: 1 }));
}

type Settings = Readonly<Record<string, unknown>>;

/** A deployment that cannot hurt the mesh. */
const SAFE = {
  service: 'A',
  version: '1',
  command: ['sh'],
  user: 'nobody',
  env: { LOG_LEVEL: 'info', MAX_TOKENS: '9' },
};

/** Open to the network, and nothing to complain about. */
function clean(): Settings {
  const tls = { ...server, caFile: authority.caFile };
  return {
    mesh: 'main',
    name: 'here',
    dataDir: 'data',
    host: '0.0.0.0',
    ports: { thrift: 9090, jsonRpc: 0, stats: 9081, link: 9070, consul: 0 },
    link: { ...tls, secretFile: 'link-secret' },
    consul: { address: 'https://10.0.0.5:8501', tokenFile: 'consul-token' },
    thrift: { tls: { ...tls, required: true } },
    jsonRpc: { tls },
    stats: { tls },
    web: { tls, sites: [{ prefix: '/', service: 'Shop' }] },
    content: { sources: ['file:/srv/indices/', 'https://files.example.org/', 's3://indices/'] },
    access: {
      anonymous: 'always',
      tokens: [{ name: 'robot', sha256: DIGEST }],
      jwt: { issuer: 'me', audience: 'mesh', jwksUrl: 'https://login.example.org/jwks.json' },
    },
    deployments: [SAFE],
  };
}

async function examine(settings: Settings, more: { nowMs?: number; env?: NodeJS.ProcessEnv } = {}): Promise<Finding[]> {
  const { nowMs = Date.now(), env = {} } = more;
  const file = at('katamari.yaml');
  const mode = existsSync(file) ? statSync(file).mode : 0o600;
  writeFileSync(file, JSON.stringify(settings, null, 1), { mode });
  const loaded = loadConfig({ file, env, cwd: directory, flags: [] });
  return examineSecurity(loaded, { cwd: directory, env, nowMs, user: MESH_USER });
}

const shown = (findings: readonly Finding[]): string[] =>
  findings
    .filter(({ verdict }) => verdict !== 'OK')
    .map(({ verdict, subject, text, advice }) => `${verdict} ${subject}: ${text} -> ${advice}`);

/** A configuration with one fault, and the only finding: verdict, subject, and what it and its advice have. */
interface Case {
  readonly name: string;
  /** Replaces keys of the clean configuration, section by section. */
  readonly settings?: () => Settings;
  /** Makes the fault on the machine. */
  readonly before?: () => void;
  readonly nowMs?: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly expected: readonly [verdict: string, subject: string, text: RegExp, advice: RegExp];
}

const section = (name: string, keys: Settings) => (): Settings => ({
  [name]: { ...(clean()[name] as Settings), ...keys },
});
const deployed = (keys: Settings) => (): Settings => ({ deployments: [{ ...SAFE, ...keys }] });
const plain = { certFile: undefined, keyFile: undefined, caFile: undefined };
const sources = (...list: string[]) => section('content', { sources: list });
/** The directories of a manager that has shards. */
const makeShards = (mode: number): void => {
  mkdirSync(at('data/shards/live'), { recursive: true });
  chmodSync(at('data/shards'), mode);
};
const withTls = (name: string, keys: Settings) => (): Settings => {
  const own = clean()[name] as { readonly tls: Settings };
  return { [name]: { ...own, tls: { ...own.tls, ...keys } } };
};

const CASES: readonly Case[] = [
  {
    name: 'a Thrift port without TLS',
    settings: withTls('thrift', { ...plain, required: false }),
    expected: ['FAIL', 'port thrift', /0\.0\.0\.0:9090 has no TLS: .* and read the tokens/, /thrift\.tls\.certFile/],
  },
  {
    name: 'a Thrift port where TLS is optional',
    settings: withTls('thrift', { required: false }),
    expected: ['warn', 'port thrift', /also accepts connections without TLS/, /^set thrift\.tls\.required: true$/],
  },
  {
    name: 'a JSON-RPC port without TLS',
    settings: withTls('jsonRpc', plain),
    expected: ['FAIL', 'port jsonRpc', /no TLS: .*tokens/, /jsonRpc\.tls\.certFile/],
  },
  {
    name: 'a stats port without TLS, to which tokens are sent',
    settings: withTls('stats', plain),
    expected: ['FAIL', 'port stats', /no TLS: .*tokens/, /stats\.tls\.certFile/],
  },
  {
    name: 'a web port without TLS',
    settings: withTls('web', plain),
    expected: ['FAIL', 'port web', /no TLS/, /web\.tls\.certFile/],
  },
  {
    name: 'TLS that no caller can show anything to',
    settings: () => ({
      ...withTls('jsonRpc', { caFile: undefined })(),
      access: { anonymous: 'loopback' },
    }),
    expected: ['warn', 'port jsonRpc', /no callers: without client certificates and tokens/, /jsonRpc\.tls\.caFile/],
  },
  {
    name: 'a faceplate of its own',
    settings: () => ({ faceplates: [{ module: './line.js', name: 'line', port: 7_000 }] }),
    expected: ['warn', 'port line', /0\.0\.0\.0:7000 is open/, /identifies its callers/],
  },
  {
    name: 'anonymous callers who may call everything',
    before: () => writePolicy('quotas:\n  - {who: anonymous, rate: 10/s}\nrules:\n  - {who: anonymous, may: "*"}\n'),
    expected: [
      'FAIL',
      'anonymous callers',
      /may call every method: .*a rule of the policy/,
      /access\.anonymous: loopback/,
    ],
  },
  {
    name: 'anonymous callers without a quota',
    before: () => writePolicy('rules:\n  - {who: anonymous, may: Status.read}\nquotas:\n  - {who: bob, rate: 1/s}\n'),
    expected: ['warn', 'quotas', /one of them can keep all copies busy/, /who: anonymous/],
  },
  {
    name: 'no policy',
    settings: () => section('access', { anonymous: 'never' })(),
    before: () => rmSync(at('data/policy.json')),
    expected: ['warn', 'policy', /^none: every accepted caller may call every method/, /katamari access apply/],
  },
  {
    name: 'a policy with quotas alone',
    settings: () => section('access', { anonymous: 'never' })(),
    before: () => writePolicy('quotas:\n  - {who: anonymous, rate: 10/s}\n'),
    expected: ['warn', 'policy', /^version 3, no rules.*every accepted caller/, /add rules/],
  },
  {
    name: 'a policy that is broken',
    settings: () => section('access', { anonymous: 'never' })(),
    before: () => writeFileSync(at('data/policy.json'), '{"version": 3, "text": "rul'),
    expected: ['FAIL', 'policy', /policy\.json cannot be used .*denies every call/, /katamari access apply/],
  },
  {
    name: 'clients of a proxy that look local',
    settings: () => ({ ...section('access', { anonymous: 'loopback' })(), ...section('web', { trustProxy: true })() }),
    expected: ['warn', 'anonymous callers', /look local/, /access\.anonymous: never/],
  },
  {
    name: 'every host name',
    settings: () => ({ http: { hosts: ['*'] } }),
    expected: ['FAIL', 'web pages', /^http\.hosts allows every name/, /http\.hosts/],
  },
  {
    name: 'every origin',
    settings: () => ({ http: { origins: ['*'] } }),
    expected: ['FAIL', 'web pages', /^http\.origins allows every origin/, /http\.origins/],
  },
  {
    name: 'every origin of JSON-RPC, where callers need proof',
    settings: () => ({
      ...section('jsonRpc', { allowedOrigins: ['*'] })(),
      ...section('access', { anonymous: 'never' })(),
    }),
    expected: ['warn', 'web pages', /^jsonRpc\.allowedOrigins allows every origin/, /jsonRpc\.allowedOrigins/],
  },
  {
    name: 'keys of an issuer without TLS',
    settings: section('access', {
      jwt: { issuer: 'me', audience: 'mesh', jwksUrl: 'http://login.example.org/jwks.json' },
    }),
    expected: ['FAIL', 'signed tokens', /without TLS: .*tokens of any caller/, /https:/],
  },
  {
    name: 'keys of an issuer that everybody can write',
    settings: section('access', { jwt: { issuer: 'me', audience: 'mesh', jwksFile: 'jwks.json' } }),
    before: () => {
      writeFileSync(at('jwks.json'), '{}');
      chmodSync(at('jwks.json'), 0o666);
    },
    expected: ['FAIL', 'signed tokens', /jwks\.json has mode 0666/, /^chmod o-w /],
  },
  {
    name: 'a link without encryption',
    settings: () => ({ link: { secretFile: 'link-secret' } }),
    expected: ['warn', 'link', /0\.0\.0\.0:9070 .* does not encrypt/, /link\.caFile/],
  },
  {
    name: 'a link without a shared secret',
    settings: () => ({ link: {} }),
    expected: ['warn', 'link', /cannot have the secret that this process makes/, /link\.secretFile/],
  },
  {
    name: 'a Consul without a token',
    settings: () => ({ consul: { address: 'https://127.0.0.1:8501' } }),
    expected: ['warn', 'Consul', /without a token: whoever reaches it/, /consul\.tokenFile/],
  },
  {
    name: 'a Consul elsewhere without a token',
    settings: () => ({ consul: { address: 'https://10.0.0.5:8501' } }),
    expected: ['FAIL', 'Consul', /without a token/, /consul\.tokenFile/],
  },
  {
    name: 'a Consul elsewhere without TLS',
    settings: section('consul', { address: 'http://10.0.0.5:8500' }),
    expected: ['FAIL', 'Consul', /another machine, without TLS/, /https:/],
  },
  {
    name: 'a deployment that runs as root',
    settings: deployed({ user: 'root' }),
    expected: ['FAIL', 'deployments', /^A@1 runs as root/, /set user .* in deployments\[0\]$/],
  },
  {
    name: 'a deployment without a user',
    settings: deployed({ user: undefined, noNewPrivileges: true }),
    expected: ['warn', 'deployments', /^A@1 runs as mesh, like the mesh: .*secrets/, /set user in deployments\[0\]$/],
  },
  {
    name: 'a deployment with the user of the mesh',
    settings: deployed({ user: '4321' }),
    expected: ['warn', 'deployments', /^A@1 runs as mesh, like the mesh/, /set user/],
  },
  {
    name: 'a deployment that can gain rights',
    settings: deployed({ noNewPrivileges: false }),
    expected: ['warn', 'deployments', /^A@1 runs without no_new_privs/, /noNewPrivileges: true in deployments\[0\]$/],
  },
  {
    name: 'a secret in the environment of a deployment',
    settings: deployed({ env: { DB_PASSWORD: 'hunter2', DB_PASSWORD_FILE: '/run/db' } }),
    expected: ['warn', 'chassis A@1', /katamari\.yaml:\d+: deployments\[0\]\.env\.DB_PASSWORD looks/, /pass the name/],
  },
  {
    name: 'a password in a URL in the environment',
    settings: deployed({ env: { DATABASE: 'postgres://app:hunter2@db/app' } }),
    expected: ['warn', 'chassis A@1', /deployments\[0\]\.env\.DATABASE looks like a secret/, /pass the name/],
  },
  {
    name: 'a secret in a configuration that everybody can read',
    settings: deployed({ env: { API_KEY: 'x1y2z3' } }),
    before: () => {
      writeFileSync(at('katamari.yaml'), '');
      chmodSync(at('katamari.yaml'), 0o644);
    },
    expected: ['FAIL', 'chassis A@1', /env\.API_KEY .*every user of this machine can read it in/, /^chmod 600 /],
  },
  {
    name: 'a secret on the command line of a deployment',
    settings: deployed({ command: ['sh', '--token', 'abc'] }),
    expected: ['FAIL', 'chassis A@1', /deployments\[0\]\.command .*list of processes/, /name of a file/],
  },
  {
    name: 'a program of a deployment that everybody can write',
    settings: deployed({ command: ['sh', './copy.sh'] }),
    before: () => {
      writeFileSync(at('copy.sh'), '');
      chmodSync(at('copy.sh'), 0o777);
    },
    expected: ['FAIL', 'chassis A@1', /copy\.sh has mode 0777: every user .* replace the code/, /^chmod o-w /],
  },
  {
    name: 'a site with the files of the mesh',
    settings: () => ({ ...section('web', { sites: [{ prefix: '/', files: '.' }] })() }),
    expected: ['FAIL', 'served files', /^web\.sites\[0\]\.files is .* serves .*data to everybody/, /web\.sites\[0\]/],
  },
  {
    name: 'a configuration that everybody can write',
    before: () => {
      writeFileSync(at('katamari.yaml'), '');
      chmodSync(at('katamari.yaml'), 0o602);
    },
    expected: ['FAIL', 'configuration', /has mode 0602: every user .* decides/, /^chmod o-w /],
  },
  {
    name: 'a data directory that others can enter',
    before: () => chmodSync(at('data'), 0o755),
    expected: ['warn', 'data directory', /can be entered by other users/, /^chmod 700 /],
  },
  {
    name: 'shards that every user can write',
    before: () => makeShards(0o777),
    expected: [
      'FAIL',
      'shard directory',
      /data\/shards has mode 0777: every user .* other shards into/,
      /^chmod go-w /,
    ],
  },
  {
    name: 'shards that a group can write',
    before: () => makeShards(0o775),
    expected: ['FAIL', 'shard directory', /data\/shards has mode 0775: its group can put/, /^chmod go-w .*shards$/],
  },
  {
    name: 'a directory in that of the shards that every user can write',
    before: () => {
      makeShards(0o755);
      chmodSync(at('data/shards/live'), 0o757);
    },
    expected: ['FAIL', 'shard directory', /data\/shards\/live has mode 0757: every user/, /^chmod go-w .*live$/],
  },
  {
    name: 'a directory of shards that is a link',
    before: () => {
      makeShards(0o755);
      rmdirSync(at('data/shards/live'));
      mkdirSync(at('elsewhere'));
      symlinkSync(at('elsewhere'), at('data/shards/live'));
    },
    expected: ['FAIL', 'shard directory', /data\/shards\/live is a symbolic link/, /content\.directory$/],
  },
  {
    name: 'a directory of shards behind a link in a directory that every user can write',
    settings: () => ({ content: { ...(clean()['content'] as Settings), directory: 'here' } }),
    before: () => {
      mkdirSync(at('open/shards'), { recursive: true });
      chmodSync(at('open'), 0o777);
      symlinkSync(at('open/shards'), at('here'));
    },
    expected: ['FAIL', 'shard directory', /\/open has mode 0777: every user .* into .*\/here$/, /^chmod go-w .*open$/],
  },
  {
    name: 'a source that is the whole machine',
    settings: sources('file:/'),
    expected: ['FAIL', 'shard sources', /^file:\/ is this whole machine/, /content\.sources$/],
  },
  {
    name: 'a source that is a link to the whole machine',
    settings: () => sources(pathToFileURL(at('all')).href)(),
    before: () => symlinkSync('/', at('all')),
    expected: ['FAIL', 'shard sources', /\/all \(\/\) is this whole machine/, /content\.sources$/],
  },
  {
    name: 'a source with files of the system',
    settings: sources('file:///etc/katamari/'),
    expected: ['FAIL', 'shard sources', /^file:\/\/\/etc\/katamari\/ has files of the system/, /content\.sources$/],
  },
  {
    name: 'a source with the secrets of the mesh',
    settings: () => sources(pathToFileURL(at('')).href)(),
    expected: ['FAIL', 'shard sources', / contains .*\/data, which an admin can/, /content\.sources$/],
  },
  {
    name: 'a source with the home folder of the user',
    settings: sources(pathToFileURL(userInfo().homedir).href),
    expected: ['FAIL', 'shard sources', / contains \/.*, which an admin can/, /content\.sources$/],
  },
  {
    name: 'a source with much more than indices',
    settings: sources('file:///var/'),
    expected: ['warn', 'shard sources', /^file:\/\/\/var\/ has much more than indices/, /content\.sources$/],
  },
  {
    name: 'a source without TLS',
    settings: sources('http://files.example.org/', 'http://127.0.0.1:8080/', 'http://[::1]/'),
    expected: ['warn', 'shard sources', /^http:\/\/files\.example\.org is another machine, without TLS/, /https:/],
  },
  {
    name: 'a Hadoop without TLS',
    settings: sources('hdfs://namenode:9870/'),
    expected: ['warn', 'shard sources', /^hdfs:\/\/namenode:9870 is another machine/, /write swebhdfs:/],
  },
  {
    name: 'a link secret that others can read',
    before: () => chmodSync(at('link-secret'), 0o644),
    expected: ['FAIL', 'link secret', /has mode 0644, so every user.*chmod 600/, /correct link\.secretFile/],
  },
  {
    name: 'a link secret that can be guessed',
    before: () => writeFileSync(at('link-secret'), `${'0'.repeat(40)}\n`),
    expected: ['FAIL', 'link secret', /only 1 different characters/, /correct link\.secretFile/],
  },
  {
    name: 'a weak link secret in the configuration',
    settings: section('link', { secretFile: undefined, secret: 'aaaaaaaaaaaaaaaaaaaa' }),
    expected: ['FAIL', 'link secret', /katamari\.yaml:\d+: link\.secret has .*can be guessed/, /openssl rand/],
  },
  {
    name: 'a Consul token that does not exist',
    before: () => rmSync(at('consul-token')),
    expected: ['FAIL', 'Consul token', /consul\.tokenFile: .* does not exist/, /correct consul\.tokenFile/],
  },
  {
    name: 'a root token that is short',
    before: () => writeFileSync(at('data/admin-token'), 'abcdefghijklmnopqrst\n', { mode: 0o600 }),
    expected: ['warn', 'admin token', /only 20 characters/, /openssl rand/],
  },
  {
    name: 'a root token in the environment',
    env: { KATAMARI_TOKEN: SECRET },
    expected: ['warn', 'admin token', /admin\.token is in the environment/, /admin\.tokenFile/],
  },
  {
    name: 'a root token in a configuration that everybody can read',
    settings: () => ({ admin: { token: SECRET } }),
    before: () => {
      writeFileSync(at('katamari.yaml'), '');
      chmodSync(at('katamari.yaml'), 0o644);
    },
    expected: ['FAIL', 'admin token', /katamari\.yaml:\d+: admin\.token is in a file that every user/, /^chmod 600/],
  },
];

describe('katamari doctor --security', () => {
  test('finds nothing in a configuration that is well protected', async () => {
    const findings = await examine(clean());
    expect(shown(findings)).toEqual([]);
    expect(findings.length).toBeGreaterThan(20);
  });

  test('finds nothing on loopback but the users of deployments', async () => {
    const deployments = [
      { ...SAFE, user: undefined },
      { ...SAFE, user: undefined, version: '2' },
    ];
    rmSync(at('data/policy.json'));
    const ports = { thrift: 0, jsonRpc: 0, stats: 0, link: 0, consul: 0 };
    expect(shown(await examine({ dataDir: 'data', ports, deployments }))).toEqual([
      expect.stringMatching(/^warn deployments: A@1, A@2 run as mesh, .* in deployments\[0\], deployments\[1\]$/),
      expect.stringMatching(/^warn deployments: A@1, A@2 run without no_new_privs/),
    ]);
  });

  test.each(CASES)('tells $name', async ({ settings, before, env = {}, expected }) => {
    before?.();
    const findings = (await examine({ ...clean(), ...settings?.() }, { env })).filter(
      ({ verdict }) => verdict !== 'OK',
    );
    const [verdict, subject, text, advice] = expected;
    expect(findings).toEqual([
      { verdict, subject, text: expect.stringMatching(text), advice: expect.stringMatching(advice) },
    ]);
  });

  test('tells that anonymous callers may call everything, without a policy', async () => {
    rmSync(at('data/policy.json'));
    expect(shown(await examine(clean()))).toEqual([
      expect.stringMatching(/^FAIL anonymous callers: everybody .* and there is no policy with rules -> /),
      expect.stringMatching(/^warn policy: none/),
      expect.stringMatching(/^warn quotas: /),
    ]);
  });

  test('tells certificates that expire soon, have expired or are not valid yet', async () => {
    const hoursLater = (hours: number): number => Date.now() + hours * 3_600_000;
    const soon = await examine(clean(), { nowMs: hoursLater(40) });
    expect(shown(soon)).toHaveLength(10);
    expect(shown(soon)[0]).toMatch(/^warn thrift\.tls\.certFile: .* expires in [78]h: .* -> put a new certificate/);
    const late = shown(await examine(clean(), { nowMs: hoursLater(72) }));
    expect(late).toHaveLength(10);
    expect(late.at(-1)).toMatch(/^FAIL link\.caFile: .* expired on \d{4}-\d\d-\d\d: peers refuse it/);
    const early = shown(await examine(clean(), { nowMs: hoursLater(-72) }));
    expect(early[0]).toMatch(/^FAIL thrift\.tls\.certFile: .* is not valid before /);
  });

  test('looks at every certificate of a file, and tells files that have none', async () => {
    const both = at('both.pem');
    writeFileSync(both, readFileSync(authority.caFile, 'utf8') + readFileSync(server.certFile, 'utf8'));
    expect(shown(await examine({ ...clean(), ...withTls('stats', { caFile: both })() }))).toEqual([]);
    writeFileSync(both, 'nothing');
    expect(shown(await examine({ ...clean(), ...withTls('stats', { caFile: both })() }))).toEqual([
      expect.stringMatching(/^FAIL stats\.tls\.caFile: .*both\.pem has no certificate in PEM/),
    ]);
  });

  test('tells private keys that others can read', async () => {
    const { certFile, keyFile } = authority.sign('open');
    chmodSync(keyFile, 0o644);
    expect(shown(await examine({ ...clean(), ...withTls('jsonRpc', { certFile, keyFile })() }))).toEqual([
      expect.stringMatching(/^FAIL jsonRpc\.tls\.keyFile: .*open\.key has mode 0644: .*pose .* -> chmod 600 /),
    ]);
  });

  test.skipIf(process.geteuid?.() !== 0)('tells files of other users', async () => {
    await examine(clean());
    makeShards(0o755);
    for (const name of ['link-secret', 'katamari.yaml', 'data/shards/live']) chownSync(at(name), 4_322, -1);
    expect(shown(await examine(clean()))).toEqual([
      expect.stringMatching(/^FAIL configuration: .* belongs to user 4322, .* -> chown /),
      expect.stringMatching(/^FAIL link secret: .* belongs to user 4322, .* -> chown /),
      expect.stringMatching(/^FAIL shard directory: .*live belongs to user 4322, who can put .* -> chown /),
    ]);
  });

  test('tells each fault of a configuration on a screen of 80 columns, and exits with 1', async () => {
    writeFileSync(
      at('katamari.yaml'),
      'host: 0.0.0.0\ndataDir: data\nports: {jsonRpc: 0}\naccess: {anonymous: always}\nhttp: {hosts: ["*"]}\n' +
        'deployments:\n  - {service: A, version: "1", command: [sh, --password=hunter2], env: {API_KEY: abc}}\n',
    );
    const run = (...args: string[]): ReturnType<typeof runInside> =>
      runInside(['doctor', '--security', ...args], { cwd: directory, env: { HOME: directory }, screen: [80, 24] });
    const { code, stdout } = await run();
    expect(code).toBe(1);
    expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80);
    expect(stdout).toMatch(/^FAIL {2}port thrift: 0\.0\.0\.0:9090 has no TLS: .*\n {6}\S.*\n {6}-> set thrift\.tls/m);
    expect(stdout).toMatch(/\d+ of \d+ checks failed; \d+ warnings\.\n$/);
    expect(stdout).not.toContain('hunter2');
    const json = JSON.parse((await run('--json')).stdout) as { isHealthy: boolean; findings: Finding[] };
    expect(json.isHealthy).toBe(false);
    expect(json.findings.map(({ verdict }) => verdict)).toEqual(expect.arrayContaining(['OK', 'warn', 'FAIL']));
  });

  test('tells errors of the configuration', async () => {
    writeFileSync(at('katamari.yaml'), 'timeout: 10\n');
    const { code, stdout } = await runInside(['doctor', '--security'], { cwd: directory, env: { HOME: directory } });
    expect([code, stdout]).toEqual([1, expect.stringContaining('FAIL  configuration: katamari.yaml:1: timeout')]);
  });
});

describe('katamari doctor, on the audit log', () => {
  const config = (): { dataDir: string } => ({ dataDir: at('data') });
  const check = async (bytesMax = Number.POSITIVE_INFINITY): Promise<string[]> =>
    (await checkAuditLog(config() as Parameters<typeof checkAuditLog>[0], bytesMax)).map(
      ({ verdict, text }) => `${verdict} ${text}`,
    );
  const file = (number: number): string => at(`data/audit/audit-00000${number}.jsonl`);

  /** Each line has about 12 KiB, so each file has an opening line and two of these. */
  async function write(lines: number): Promise<void> {
    const log = new AuditLog({
      folder: at('data/audit'),
      process: 'here',
      fileBytesMax: 26_000,
      filesMax: 10,
      onFailure: (text) => expect.fail(text),
      onRecovery: () => undefined,
    });
    log.start();
    for (let line = 1; line <= lines; line++) {
      log.record({
        who: 'ci',
        from: '',
        action: 'scale',
        subject: `A@${line}`,
        result: 'done',
        after: 'x'.repeat(11_000),
      });
      await log.flushed(BUSY_MS);
    }
    await log.close();
  }

  test('confirms a log that is intact, and one that does not exist yet', async () => {
    expect(await check()).toEqual([expect.stringMatching(/^OK .*audit begins at the first start$/)]);
    await write(5);
    expect(await check()).toEqual([expect.stringMatching(/^OK the chain of \d+ lines in 3 files is intact$/)]);
  });

  test('names file and line of a line that was changed, in each file, in plain doctor too', async () => {
    await write(5);
    for (const number of [1, 2, 3]) {
      const before = readFileSync(file(number), 'utf8');
      writeFileSync(file(number), before.replace('"subject":"A@', '"subject":"B@'));
      const broken = `FAIL ${file(number)}:2: the sum of the line does not match its text: the line was altered`;
      expect(await check()).toEqual([broken]);
      const { stdout, code } = await runInside(['doctor', '--data-dir', 'data', '--set', 'ports.jsonRpc=0'], {
        cwd: directory,
        env: { HOME: directory, PATH: process.env['PATH'] },
      });
      expect([stdout, code]).toEqual([expect.stringContaining(`audit log: ${file(number)}:2: the sum`), 1]);
      writeFileSync(file(number), before);
    }
  });

  test('reads the newest files up to a limit, and says that it stopped early', async () => {
    await write(5);
    const newest = statSync(file(3)).size;
    const stopped = /is intact; stopped after .*, `katamari audit verify` reads the rest$/;
    expect(await check(newest)).toEqual([expect.stringMatching(/^OK the chain of \d lines? in 1 file is intact; /)]);
    expect(await check(newest)).toEqual([expect.stringMatching(stopped)]);
    expect(await check(newest + statSync(file(2)).size)).toEqual([
      expect.stringMatching(/in 2 files is intact; stopped/),
    ]);
    // Not even the newest file is read to its end.
    expect(await check(10_000)).toEqual([expect.stringMatching(stopped)]);
    // What was changed in an older file is then not seen.
    writeFileSync(file(1), 'x');
    expect(await check(newest)).toEqual([expect.stringMatching(stopped)]);
    expect(await check()).toEqual([expect.stringMatching(/^FAIL .*audit-000001\.jsonl:1: /)]);
  });

  test('tells lines that were removed at the end, a missing note, and a folder that cannot be used', async () => {
    await write(1);
    const text = readFileSync(file(1), 'utf8');
    writeFileSync(file(1), text.slice(0, text.trimEnd().lastIndexOf('\n') + 1));
    expect(await check()).toEqual([expect.stringMatching(/^FAIL .*:2: the log ends here, but it had a line/)]);
    writeFileSync(file(1), text);
    rmSync(at('data/audit/head.json'));
    expect(await check()).toEqual([
      expect.stringMatching(/^OK /),
      expect.stringMatching(/^warn .*head\.json is missing/),
    ]);
    rmSync(at('data/audit'), { recursive: true });
    writeFileSync(at('data/audit'), 'no folder');
    expect(await check()).toEqual([expect.stringMatching(/^FAIL .*audit cannot be used: /)]);
  });

  test('reads what tokens were used for', async () => {
    await write(1);
    const { scopes, sinceMs } = await tokenUsesIn(at('data/audit'));
    expect([...scopes]).toEqual([['ci', new Set(['operate'])]]);
    expect(sinceMs).toBeLessThanOrEqual(Date.now());
  });
});

describe('katamari doctor --security, on admin tokens', () => {
  const nowMs = 100 * DAY_MS;
  const token = (name: string, createdAtMs: number, ...scopes: ('read' | 'operate' | 'deploy')[]) => ({
    name,
    scopes,
    roles: [],
    createdAtMs,
    createdBy: 'admin',
    expiresAtMs: nowMs + DAY_MS,
  });

  test('tells tokens without an end, and scopes that were never used', () => {
    const old = token('old', 10 * DAY_MS, 'read', 'operate', 'deploy');
    const uses = { sinceMs: 0, scopes: new Map([['old', new Set(['operate'] as const)]]) };
    const check = (tokens: readonly Parameters<typeof checkAdminTokens>[0][number][], known = true): string[] =>
      checkAdminTokens(tokens, known ? uses : undefined, nowMs).map(({ verdict, text, advice }) =>
        [verdict, text, advice].join(' '),
      );
    expect(check([])).toEqual(['OK none beside the root token ']);
    expect(check([old])).toEqual([
      expect.stringMatching(/^warn old has never used its scope deploy in 90 days: .* --scopes read,operate$/),
    ]);
    expect(check([{ ...old, expiresAtMs: undefined }], false)).toEqual([
      expect.stringMatching(/^warn old has no end: /),
    ]);
    // Too young, older than the log, or its uses are in other logs.
    expect(check([token('young', 80 * DAY_MS, 'deploy')])).toEqual(['OK 1, each with an end ']);
    expect(check([old], false)).toEqual(['OK 1, each with an end ']);
    expect(checkAdminTokens([old], { ...uses, sinceMs: 11 * DAY_MS }, nowMs)[0]?.verdict).toBe('OK');
  });

  test('knows the scopes that docs/audit.md lists', () => {
    const page = readFileSync(path.join(REPOSITORY, 'docs/audit.md'), 'utf8');
    const rows = ['operate', 'deploy'].map((scope) => new RegExp(`^\\| \`${scope}\` \\| ([^|]*)`, 'm').exec(page)?.[1]);
    const listed = rows.map((row) => [...(row ?? '').matchAll(/`(\w+)`/g)].map(([, name]) => name).sort());
    const known = ['operate', 'deploy'].map((scope) =>
      [...SCOPES_OF_CHANGES].flatMap(([name, its]) => (its === scope ? [name] : [])).sort(),
    );
    expect(listed).toEqual(known);
  });
});

describe('katamari doctor --security, on a running mesh', () => {
  test(
    'asks it for its policy, tokens, deployments and listeners',
    async () => {
      const mesh = await startMeshProcess({ directory });
      try {
        const env = { KATAMARI_TOKEN: mesh.adminToken, KATAMARI_URL: mesh.addresses.jsonRpc };
        const katamari = async (...args: string[]): Promise<string> => {
          const { code, stdout, stderr } = await runKatamari(args, { env });
          expect([args, code, stderr]).toEqual([args, 0, stderr]);
          return stdout;
        };
        await katamari('token', 'create', 'ci', '--scopes', 'read,deploy');
        await katamari('token', 'create', 'bob', '--scopes', 'read', '--expires', '30d');
        writeFileSync(at('policy.yaml'), 'rules:\n  - {who: bob, may: "*"}\n');
        await katamari('access', 'apply', at('policy.yaml'));
        const more =
          'deployments:\n  - {service: A, version: "1", command: ["false"], count: 0, env: {API_KEY: hidden}}\n';
        writeFileSync(at('more.yaml'), more);
        await katamari('deploy', at('more.yaml'), '--no-wait');

        const port = new URL(mesh.addresses.jsonRpc).port;
        const diagnose = async (...args: string[]): Promise<Map<string, string>> => {
          const common = ['doctor', '--security', '--json', '--config', at('katamari.yaml'), '--data-dir', at('data')];
          const { stdout } = await runKatamari([...common, '--set', `ports.jsonRpc=${port}`, ...args], { env: {} });
          expect(stdout).not.toContain('hidden');
          const { findings } = JSON.parse(stdout) as { findings: Finding[] };
          const about = new Map<string, string>();
          for (const { verdict, subject, text } of findings)
            about.set(subject, `${about.has(subject) ? `${about.get(subject)}\n` : ''}${verdict} ${text}`);
          return about;
        };
        const found = await diagnose();
        expect(found.get('running mesh')).toMatch(/^OK .* told its policy, tokens, deployments and listeners$/);
        expect(found.get('policy')).toBe('OK version 4, 1 rule');
        expect(found.get('admin tokens')).toMatch(/^warn ci has no end: /);
        expect(found.get('listeners')).toMatch(/^OK .* on loopback only/);
        expect(found.get('chassis A@1')).toMatch(/^warn A@1: env\.API_KEY looks like a secret/);
        expect(found.get('deployments')).toContain('A@1 runs');
        expect(found.get('audit log')).toMatch(/^OK the chain of \d+ lines in 1 file is intact$/);

        const wrong = await diagnose('--set', `admin.token=${SECRET}`);
        expect(wrong.get('running mesh')).toMatch(/^warn could not be asked: .*refused status: the token is wrong/);
        const other = await diagnose('--set', 'mesh=other');
        expect(other.get('running mesh')).toMatch(/^warn .* is the mesh test, not other/);
        await mesh.stop();
        const gone = await diagnose();
        expect(gone.get('running mesh')).toMatch(/^OK does not answer at .*not checked$/);
        expect(gone.get('policy')).toBe('OK version 4, 1 rule');
      } finally {
        await mesh.end();
      }
    },
    2 * BUSY_MS,
  );

  test(
    'tells that it could not be asked, if this command does not trust its certificate',
    async () => {
      const mesh = await startMeshProcess({ directory, settings: { jsonRpc: { tls: server } } });
      try {
        const { port } = new URL(mesh.addresses.jsonRpc);
        const args = ['doctor', '--security', '--config', at('katamari.yaml'), '--data-dir', at('data')];
        const { stdout } = await runKatamari([...args, '--set', `ports.jsonRpc=${port}`], { env: {} });
        expect(stdout).toMatch(
          /^warn {2}running mesh: could not be asked: .*not checked\n {6}-> .*NODE_EXTRA_CA_CERTS/m,
        );
      } finally {
        await mesh.end();
      }
    },
    2 * BUSY_MS,
  );

  test(
    'tells that it listens beyond loopback, although the configuration does not',
    async () => {
      const mesh = await startMeshProcess({ directory, settings: { host: '0.0.0.0' } });
      try {
        const port = new URL(mesh.addresses.jsonRpc).port;
        const args = ['doctor', '--security', '--config', at('katamari.yaml'), '--data-dir', at('data')];
        const { code, stdout } = await runKatamari([...args, '--set', `ports.jsonRpc=${port}`, '--host', '127.0.0.1'], {
          env: {},
        });
        expect(stdout).toMatch(/^FAIL {2}listeners: the running process is open to other machines \(.*0\.0\.0\.0:/m);
        expect(code).toBe(1);
      } finally {
        await mesh.end();
      }
    },
    2 * BUSY_MS,
  );
});
