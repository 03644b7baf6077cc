// `katamari doctor` on real Consul servers with one fault each, and on meshes with faults. It finds and names each
// fault, gives advice, and leaves nothing in Consul.

import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { makeAuthority } from '../../../kit/tools/certificates.ts';
import { startConsul, startRealConsul, type RealTestConsul, type TestConsul } from '../../../kit/consul/consul.ts';
import { startLinkServer } from '../../../../core/link/mod.ts';
import { KatamariError } from '../../../../core/mod.ts';
import { runDoctor } from '../../../../services/cli/doctor/doctor.ts';
import type { Finding } from '../../../../services/cli/doctor/finding.ts';
import { consulClient, ConsulSession, type ConsulClient } from '../../../../services/consul/mod.ts';
import { REPOSITORY } from '../../../kit/tools/repository.ts';
import { until } from '../../../kit/tools/wait.ts';
const directory = mkdtempSync(path.join(tmpdir(), 'katamari-doctor-'));
const ends: (() => unknown)[] = [];

let consul: TestConsul;
let client: ConsulClient;
beforeAll(async () => {
  consul = await startConsul('real');
  client = consulClient({ address: consul.address });
});
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});
afterAll(async () => {
  client.close();
  await consul.close();
  rmSync(directory, { recursive: true, force: true });
});

interface Diagnosis {
  readonly code: number;
  readonly findings: readonly Finding[];
  /** `VERDICT text; advice` of each finding. */
  readonly about: (subject: string) => string;
  /** The output as a person sees it. */
  readonly text: string;
}

/** Runs the doctor on a configuration with free ports and these keys. */
async function diagnose(settings: Record<string, unknown>, env: Record<string, string> = {}): Promise<Diagnosis> {
  const file = path.join(directory, 'katamari.yaml');
  const ports = { thrift: 0, jsonRpc: 0, stats: 0, link: 0, consul: 0 };
  writeFileSync(
    file,
    JSON.stringify({ mesh: 'main', name: 'here', machine: 'm1', dataDir: 'data', ports, ...settings }),
  );
  let text = '';
  const run = async (json: boolean): Promise<number> => {
    text = '';
    const terminal = {
      write: (part: string) => void (text += part),
      writeError: (part: string) => void (text += part),
      isScreen: false,
      hasColor: false,
      hasUnicode: false,
      columns: () => 80,
      rows: () => 24,
    };
    const never = (): never => {
      throw new Error('not for the doctor');
    };
    const context = { terminal, env, cwd: directory, program: [], readInput: never, startMesh: never };
    return runDoctor(
      { ...context, onStopSignal: never, exitNow: never } as unknown as Parameters<typeof runDoctor>[0],
      { config: file, flags: [], json },
    );
  };
  const code = await run(true);
  const { findings } = JSON.parse(text) as { findings: Finding[] };
  return {
    code,
    findings,
    about: (subject) => {
      const found = findings.filter((finding) => finding.subject === subject);
      return found.map((one) => `${one.verdict} ${one.text}; ${one.advice}`).join('\n');
    },
    text,
  };
}

const at = (address: string, more: Record<string, unknown> = {}): Record<string, unknown> => ({
  consul: { address, ...more },
});

function listen(server: Server): Promise<number> {
  ends.push(() => new Promise((resolve) => server.close(resolve)));
  return new Promise((resolve) =>
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port)),
  );
}

const listenHttp = (answer: RequestListener): Promise<number> => listen(createHttpServer(answer));

/** Keys and services of the doctor that remain in Consul. */
async function remains(): Promise<unknown[]> {
  const { entries } = await client.list('katamari/main/doctor/');
  const services = (await client.serviceIds()).filter((id) => id.includes('doctor'));
  const sessions = (await client.sessions()).filter(({ name }) => name.includes('doctor'));
  return [...entries, ...services, ...sessions];
}

describe('katamari doctor, on Consul', () => {
  test('finds nothing wrong with a usable Consul, and leaves nothing there', async () => {
    const { about, code, findings } = await diagnose(at(consul.address));
    expect(about('Consul')).toMatch(/^OK the Consul at .* answers, its leader is 127\.0\.0\.1:\d+; $/);
    expect(about('Consul agent')).toMatch(/^OK node katamari of dc1, Consul 1\./);
    expect(about('Consul keys')).toBe('OK can read, list, write and delete below katamari/main/; ');
    expect(about('Consul checks')).toBe('OK the agent reaches this process at 127.0.0.1; ');
    expect(about('Consul sessions')).toBe('OK can be created (TTL 10 s), renewed and destroyed, and lock keys; ');
    expect(about('mesh main')).toBe('OK no process is registered; this would be the first; ');
    expect([code, findings.filter(({ verdict }) => verdict === 'FAIL')]).toEqual([0, []]);
    expect(await remains()).toEqual([]);
  });

  test('reports that nothing listens', async () => {
    const { about, code } = await diagnose(at('127.0.0.1:1'));
    expect(about('Consul')).toMatch(
      /^FAIL the Consul at http:\/\/127\.0\.0\.1:1 does not answer: .*; start it, correct/,
    );
    expect([about('Consul keys'), code]).toEqual(['', 1]);
  });

  test('distinguishes another server from Consul', async () => {
    const answers: RequestListener[] = [
      (_, response) => response.writeHead(404).end('not here'),
      (_, response) => response.end('<html>hello</html>'),
      (_, response) => response.setHeader('content-type', 'application/json').end('{"hello": "world"}'),
    ];
    for (const answer of answers) {
      const { about } = await diagnose(at(`127.0.0.1:${await listenHttp(answer)}`));
      expect(about('Consul')).toMatch(
        /^FAIL the server at .* does not answer like Consul: .*; correct consul\.address/,
      );
    }
  });

  test('gives up on a Consul that does not answer', async () => {
    const port = await listen(createServer((socket) => void ends.push(() => socket.destroy())));
    const { about } = await diagnose(at(`127.0.0.1:${port}`));
    expect(about('Consul')).toMatch(/^FAIL the server at .* does not answer like Consul/);
  });

  test('reports TLS to a plain port, and unreadable files', async () => {
    const { about } = await diagnose(at(`https://${consul.address}`));
    expect(about('Consul')).toMatch(/^FAIL .*does not speak TLS: write http:\/\/ before the address/);
    const noFile = await diagnose(at(`https://${consul.address}`, { caFile: 'none.pem' }));
    expect(noFile.about('Consul')).toMatch(/^FAIL Cannot read the CA certificate from .*none\.pem/);
  });

  test('reports an unknown CA, with CONSUL_CACERT and with consul.caFile', async () => {
    const authority = makeAuthority('doctor');
    ends.push(() => authority.close());
    const { certFile, keyFile } = authority.sign('server');
    const tls = await startRealConsul({ config: { cert_file: certFile, key_file: keyFile } });
    ends.push(() => tls.close());
    const address = `https://${tls.httpsAddress}`;
    expect((await diagnose(at(address))).about('Consul')).toMatch(
      /^FAIL .*\(consul\.caFile\); correct the section consul/,
    );
    expect((await diagnose(at(address, { caFile: authority.caFile }))).about('Consul')).toMatch(/^OK /);
    expect((await diagnose(at(address), { CONSUL_CACERT: authority.caFile })).about('Consul')).toMatch(/^OK /);
  });

  test('reports that there is no leader', async () => {
    const lonely = await startRealConsul({ config: { bootstrap: false, bootstrap_expect: 3 }, hasLeader: false });
    ends.push(() => lonely.close());
    const { about, code } = await diagnose(at(lonely.address));
    expect(about('Consul')).toMatch(/^FAIL the Consul at .* has no leader; start a majority of its servers/);
    expect(code).toBe(1);
  });

  test("reports that Consul's minimum session TTL is longer than the mesh needs", async () => {
    const slow = await startRealConsul({ config: { session_ttl_min: '30s' } });
    ends.push(() => slow.close());
    const { about } = await diagnose(at(slow.address));
    expect(about('Consul sessions')).toMatch(/^FAIL .*Invalid Session TTL.*; set session_ttl_min to 10s or less/);
  });

  test('reports that the agent cannot reach this process', async () => {
    // A documentation address, which no machine has.
    const { about } = await diagnose({ ...at(consul.address), advertise: '192.0.2.1' });
    expect(about('Consul checks')).toMatch(
      /^FAIL the agent accepted a check of 192\.0\.2\.1:\d+ but cannot reach it: .*; use the agent of this machine, or set advertise/,
    );
    expect(await remains()).toEqual([]);
  });
});

describe('katamari doctor, on ACLs', () => {
  const MASTER = randomUUID();
  const POLICY = readFileSync(path.join(REPOSITORY, 'deploy/consul-policy.hcl'), 'utf8');
  let closed: RealTestConsul;
  beforeAll(async () => {
    closed = await startRealConsul({
      token: MASTER,
      config: { acl: { enabled: true, default_policy: 'deny', tokens: { master: MASTER, agent: MASTER } } },
    });
  });
  afterAll(() => closed.close());

  async function put(what: string, body: object): Promise<Record<string, unknown>> {
    const headers = { 'x-consul-token': MASTER };
    const init = { method: 'PUT', body: JSON.stringify(body), headers };
    return (await (await fetch(`http://${closed.address}/v1/acl/${what}`, init)).json()) as Record<string, unknown>;
  }

  async function tokenFor(rules: string): Promise<string> {
    const name = randomUUID();
    await put('policy', { Name: name, Rules: rules });
    return (await put('token', { Policies: [{ Name: name }] }))['SecretID'] as string;
  }

  const without = (resource: string): string => POLICY.replace(new RegExp(`^${resource} ".*" \\{\n.*\n\\}$`, 'm'), '');

  test('accepts the policy in deploy/', async () => {
    const { findings, code } = await diagnose(at(closed.address, { token: await tokenFor(POLICY) }));
    expect([findings.filter(({ subject, verdict }) => subject.startsWith('Consul') && verdict !== 'OK'), code]).toEqual(
      [[], 0],
    );
  });

  test('names each missing rule', async () => {
    const cases = [
      ['key_prefix', 'Consul keys', 'FAIL'],
      ['session_prefix', 'Consul sessions', 'FAIL'],
      ['service_prefix', 'Consul checks', 'FAIL'],
      ['agent_prefix', 'Consul agent', 'warn'],
    ] as const;
    for (const [resource, subject, verdict] of cases) {
      const token = await tokenFor(without(resource));
      const { about } = await diagnose(at(closed.address, { token }));
      expect(about(subject)).toMatch(
        new RegExp(`^${verdict} .* lacks the rule ${resource} ".*; give the token this rule`),
      );
    }
  });

  test('distinguishes reading from writing, and an unknown token from a weak one', async () => {
    const reads = await tokenFor(POLICY.replace(/(key_prefix .*\n {2}policy = )"write"/, '$1"read"'));
    const { about } = await diagnose(at(closed.address, { token: reads }));
    expect(about('Consul keys')).toMatch(/^FAIL .*lacks the rule key_prefix "katamari\/main\/" \{ policy = "write" \}/);
    const unknown = await diagnose(at(closed.address, { token: randomUUID() }));
    expect(unknown.about('Consul keys')).toContain('does not know this token');
    const none = await diagnose(at(closed.address));
    expect(none.about('Consul keys')).toContain('No token is configured');
  });
});

describe('katamari doctor, on the mesh', () => {
  const SECRET = 'a secret of the tests';

  /** A process as its records show it: a session, keys, and the ports that really listen. */
  async function register(
    name: string,
    records: Record<string, object>,
    on: ConsulClient = client,
  ): Promise<ConsulSession> {
    const port = await listen(createServer((socket) => socket.destroy()));
    const session = new ConsulSession({
      client: on,
      name: `main:${name}`,
      service: { name: 'katamari-manager', host: '127.0.0.1', port, tags: ['main'] },
    });
    ends.push(() => session.close());
    await session.start();
    for (const [key, record] of Object.entries(records))
      expect(await session.announce(`katamari/main/${key}`, JSON.stringify(record))).toBe(true);
    return session;
  }

  async function startLink(secret: string): Promise<string> {
    const link = await startLinkServer('tcp:127.0.0.1:0', {
      send: (_call, sink) => sink.fail(new KatamariError('internal', 'nothing is called')),
      limits: { frameBytesMax: 1_000, nestingMax: 8, pipelineMax: 8, requestMs: 1_000, connectionsMax: 8 },
      timeoutMs: () => 1_000,
      caller: 'the doctor',
      security: { secrets: [secret], tls: undefined },
    });
    ends.push(() => link.close());
    return link.address.replace('tcp:', '');
  }

  const manager = (address: string, stats: string, machine = 'm2'): object => ({
    address,
    machine,
    capacity: 1,
    isDraining: false,
    stats,
    pools: [],
  });

  test('lists the processes and the leader, and confirms that all are reachable', async () => {
    const stats = `http://127.0.0.1:${await listenHttp((_, response) => response.end('ok'))}`;
    const port = await listen(createServer((socket) => socket.destroy()));
    const address = await startLink(SECRET);
    await register('one', { 'managers/one': manager(address, stats) });
    const two = await register('two', { 'masters/two': { rank: 1, machine: 'm2', stats } });
    await register('three', {
      'faceplates/three': { machine: 'm3', thrift: `127.0.0.1:${port}`, jsonRpc: `http://127.0.0.1:${port}`, stats },
    });
    const settings = { ...at(consul.address), link: { secret: SECRET } };
    const early = await diagnose(settings);
    expect(early.about('leader')).toMatch(/^warn there are masters, but none leads; wait/);
    expect(await two.lock('katamari/main/leader', '{"name":"two"}')).toBe(true);
    const { about, code } = await diagnose(settings);
    expect(about('mesh main')).toBe('OK 1 master (two), 1 manager (one), 1 faceplate (three); ');
    expect(about('leader')).toMatch(/^OK two leads, in term \d+; $/);
    expect(about('process one')).toBe(`OK can be reached: link ${address}, stats ${stats}; `);
    expect(about('process two')).toBe(`OK can be reached: stats ${stats}; `);
    expect(about('process three')).toMatch(/^OK can be reached: Thrift .*, JSON-RPC .*, stats/);
    expect(code).toBe(0);
    await client.delete('katamari/main/leader');
  });

  test('reports unreachable processes, and a link that refuses this process', async () => {
    const stats = `http://127.0.0.1:${await listenHttp((_, response) => response.end('ok'))}`;
    await register('gone', { 'managers/gone': manager('127.0.0.1:1', 'http://127.0.0.1:1') });
    await register('silent', { 'managers/silent': manager(await startLink(SECRET), 'http://127.0.0.1:1') });
    await register('other', { 'managers/other': manager(await startLink('another secret of the tests'), stats) });
    const { about, code } = await diagnose({ ...at(consul.address), link: { secret: SECRET } });
    expect(about('leader')).toMatch(
      /^warn there is no master; calls and deployments from configuration files still work/,
    );
    expect(about('process gone')).toMatch(
      /^FAIL link 127\.0\.0\.1:1: .*; stats http:\/\/127\.0\.0\.1:1: .*; check that the process runs/,
    );
    expect(about('process silent')).toMatch(/^warn stats http:\/\/127\.0\.0\.1:1: /);
    expect(about('process other')).toMatch(
      /^FAIL link .*: access denied: .*; give all processes of the mesh the same link\.secret/,
    );
    expect(code).toBe(1);
  });

  test('reports two processes with one name, and its own name in use elsewhere', async () => {
    await register('twin', {});
    await register('twin', {});
    await register('here', { 'masters/here': { rank: 1, machine: 'm9', stats: '' } });
    const { about } = await diagnose(at(consul.address));
    expect(about('name twin')).toMatch(
      /^FAIL 2 processes \(katamari-manager\) have this name, at the Consul nodes katamari: each hides the others; give each process its own name/,
    );
    expect(about('name here')).toBe('FAIL a master with this name runs on m9; give this process another name (--name)');
  });

  test('allows another mesh to use a name at another agent, and reports two agents with one name', async () => {
    // A Consul of its own: a server checks once a minute for nodes that it does not know from gossip, and removes
    // them.
    const young = await startRealConsul();
    ends.push(() => young.close());
    const itsClient = consulClient({ address: young.address });
    ends.push(() => itsClient.close());
    await register('afar', {}, itsClient);
    const put = async (what: string, body: object): Promise<void> => {
      const answer = await fetch(`http://${young.address}/v1/${what}`, { method: 'PUT', body: JSON.stringify(body) });
      expect([what, answer.ok || (await answer.text())]).toEqual([what, true]);
    };
    const idIn = (mesh: string): string => `katamari-manager:${mesh}:afar`;
    const enter = (mesh: string, id = idIn(mesh)): Promise<void> =>
      put('catalog/register', {
        Node: 'elsewhere',
        Address: '192.0.2.1',
        Service: { ID: id, Service: 'katamari-manager', Tags: [mesh] },
        Checks: [
          { CheckID: `service:${id}`, Name: 'alive', ServiceID: id, Status: 'passing' },
          { CheckID: 'serfHealth', Name: 'agent', Status: 'passing' },
        ],
      });
    const hold = (mesh: string): Promise<void> =>
      put('session/create', { Name: 'afar', Node: 'elsewhere', Checks: [`service:${idIn(mesh)}`], TTL: '60s' });
    await enter('other');
    await hold('other');
    expect((await diagnose(at(young.address))).about('name afar')).toBe('');
    await enter('main');
    await hold('main');
    expect((await diagnose(at(young.address))).about('name afar')).toMatch(
      /^FAIL 2 processes \(katamari-manager\) have this name, at the Consul nodes elsewhere, katamari:/,
    );
  });

  test('names invalid records', async () => {
    await register('odd', { 'managers/odd': { address: 7 } });
    const { about } = await diagnose(at(consul.address));
    expect(about('record odd')).toMatch(/^warn is invalid: .*address.*; run the same version of Katamari/);
  });

  test('reports that the mesh is running instead of complaining about its ports', async () => {
    const port = await listen(createServer((socket) => socket.destroy()));
    let name = 'here';
    const statsPort: number = await listenHttp((_, response) => {
      const listeners = [`127.0.0.1:${port}`, `http://127.0.0.1:${statsPort}`].map((address) => ({
        name: 'x',
        address,
      }));
      response.end(JSON.stringify({ mesh: 'main', name, pid: 4_000_000, listeners }));
    });
    const ports = { thrift: port, jsonRpc: 0, stats: statsPort, link: 0, consul: 0 };
    const own = await diagnose({ ports });
    expect(own.about('port thrift')).toBe(
      `OK ${port} is held by here of this mesh (process 4000000), which is running; `,
    );
    expect([own.about('port stats').slice(0, 2), own.code]).toEqual(['OK', 0]);
    name = 'another';
    const others = await diagnose({ ports });
    expect(others.about('port thrift')).toMatch(/^FAIL \d+ is held by process \d+ \(.*\); end that process, or choose/);
  });

  test('uses singular and plural correctly', async () => {
    const one = { service: 'A', version: '1', command: ['sh'] };
    expect((await diagnose({ deployments: [one] })).about('configuration')).toMatch(/, 1 deployment; $/);
    const two = await diagnose({ deployments: [one, { ...one, version: '2' }] });
    expect(two.about('configuration')).toMatch(/, 2 deployments; $/);
    await until('nothing of the doctor left', async () => (await remains()).length === 0);
  });
});
