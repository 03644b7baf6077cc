// Attacks on a mesh by somebody who reaches its ports without its secrets: nothing runs, nothing changes, nothing is
// told, and the mesh says what it refused.

import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connectLink } from '../../core/link/mod.ts';
import { frameMessage, MESSAGE_TYPE, NOTHING } from '../../core/thrift/mod.ts';
import { parseAddress } from '../../core/mod.ts';
import { verifyChain } from '../../services/audit/mod.ts';
import { consulClient, type ConsulClient } from '../../services/consul/mod.ts';
import { keysOf } from '../../services/mesh/mod.ts';
import { startRealConsul, type RealTestConsul } from '../kit/consul/consul.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { startTestMesh, work, type TestMesh } from '../kit/mesh/mesh.ts';
import { until } from '../kit/tools/wait.ts';

/** A command that would leave a file behind. */
const trace = path.join(tmpdir(), `katamari-attack-${randomUUID()}`);
afterAll(() => rmSync(trace, { force: true }));
interface AuditLine {
  readonly code: string;
  readonly from: string;
  readonly subject: string;
  readonly reason: string;
}

const { deployments, assignments, drained, routes, settings } = keysOf('test');

const evil = (change: object = {}): string =>
  JSON.stringify({
    service: 'Evil',
    version: '1.0.0',
    count: 1,
    command: ['/bin/sh', '-c', `echo "$(id)" > ${trace}`],
    cwd: '/',
    env: {},
    listen: 'unix',
    roles: [],
    tags: [],
    more: {},
    idl: null,
    concurrency: null,
    times: {
      startTimeoutMs: 1_000,
      pingEveryMs: 1_000,
      pingTimeoutMs: 1_000,
      drainTimeoutMs: 0,
      stopGraceMs: 100,
      hangGraceMs: 100,
    },
    restart: { intensity: 5, periodMs: 30_000, backoffFirstMs: 100, backoffMaxMs: 100 },
    recycle: { afterCalls: 0, afterAgeMs: 0, memoryBytesMax: 0 },
    queueMax: 10,
    ...change,
  });

describe('Somebody with write access to the Consul of a mesh', () => {
  let consul: RealTestConsul;
  let attacker: ConsulClient;
  let mesh: TestMesh;
  beforeAll(async () => {
    consul = await startRealConsul();
    attacker = consulClient({ address: consul.address });
    mesh = await startTestMesh([work()], { consul: { address: consul.address } });
    await mesh.mesh.whenReady;
    await until('a leader', () => mesh.mesh.status().leader !== '');
  });
  afterAll(async () => {
    await mesh?.end();
    attacker?.close();
    await consul?.close();
  });
  const refusals = (): string[] =>
    mesh.events.filter(({ text }) => /not signed|signature does not match/.test(text)).map(({ subject }) => subject);

  test('cannot run a command by a deployment or an assignment', async () => {
    await attacker.put(`${deployments}Evil/1.0.0`, evil());
    const order = { term: 1_000, leader: 'one', deployments: [JSON.parse(evil()) as unknown] };
    await attacker.put(`${assignments}one`, JSON.stringify(order));
    await until('both to be refused', () =>
      [`Evil/1.0.0`, `${assignments}one`].every((subject) => refusals().includes(subject)),
    );
    expect(mesh.mesh.status().pools.map(({ id }) => id)).toEqual(['Work@1.0.0']);
    expect(existsSync(trace)).toBe(false);
  });

  test('cannot drain a manager, divert calls or change the timeout', async () => {
    const before = mesh.mesh.status().timeoutMs;
    await attacker.put(`${drained}one`, JSON.stringify({ since: new Date().toISOString() }));
    await attacker.put(`${routes}Work`, JSON.stringify({ weights: { '6.6.6': 1 } }));
    await attacker.put(settings, JSON.stringify({ timeoutMs: 1 }));
    await until('all to be refused', () =>
      [`${drained}one`, 'Work', 'settings'].every((subject) => refusals().includes(subject)),
    );
    expect(mesh.mesh.status().timeoutMs).toBe(before);
    expect((await mesh.call('Work.say', { text: 'as ever' })).result).toBe('as ever');
    expect(existsSync(trace)).toBe(false);
  });
});

describe('A local process that reaches the ports of a mesh', () => {
  let mesh: MeshProcess;
  beforeAll(async () => {
    mesh = await startMeshProcess({ deployments: [work()] });
  });
  afterAll(() => mesh?.end());

  test('cannot use the embedded Consul', async () => {
    const put = await fetch(`${mesh.addresses.consul}/v1/kv/${deployments}Evil/1.0.0`, { method: 'PUT', body: evil() });
    expect([put.status, await put.text()]).toEqual([403, expect.stringMatching(/^Permission denied/)]);
    const list = await fetch(`${mesh.addresses.consul}/v1/kv/?recurse`);
    expect([list.status, await list.text()]).toEqual([403, expect.stringMatching(/^Permission denied/)]);
  });

  test('cannot use the link, neither for calls nor for its control services', async () => {
    for (const known of [[], ['a secret that is not the one of this mesh']]) {
      const dialed = connectLink(`tcp:${mesh.addresses.link}`, {
        security: { secrets: known, tls: undefined },
        timeoutMs: 5_000,
      });
      await expect(dialed).rejects.toMatchObject({ code: 'denied' });
    }
    // Without a handshake: a forged context, the control service, and a call.
    for (const name of ['katamari.Manager:restart', 'katamari.Manager:status', 'Work@1.0.0:say']) {
      const socket = connect(parseAddress(mesh.addresses.link) ?? { port: 0 });
      const answer: Buffer[] = [];
      socket.on('data', (chunk) => answer.push(chunk));
      socket.write(frameMessage(MESSAGE_TYPE.call, name, 1, NOTHING, Uint8Array.of(0)));
      await new Promise((resolve) => socket.once('close', resolve));
      expect(Buffer.concat(answer).toString('latin1')).toMatch(/requires the secret of the mesh/);
    }
  });

  test('as another user, reads no secret and reaches no socket of a chassis', () => {
    if (process.getuid?.() !== 0) throw new Error('This test runs a command as the user nobody, so it needs root');
    // The folder of the test is closed for others, too; the data directory must not rely on it.
    const dataDir = path.join(mesh.directory, 'data');
    spawnSync('chmod', ['755', mesh.directory]);
    for (const name of ['admin-token', 'link-secret', 'consul-token']) {
      expect([name, (statSync(path.join(dataDir, name)).mode & 0o777).toString(8)]).toEqual([name, '600']);
      const read = spawnSync('setpriv', ['--reuid=nobody', '--clear-groups', 'cat', path.join(dataDir, name)]);
      expect([name, read.status, String(read.stdout)]).toEqual([name, 1, '']);
    }
    const url = `${mesh.addresses.consul}/v1/kv/${deployments}Evil/1.0.0`;
    const put = spawnSync('setpriv', [
      '--reuid=nobody',
      '--clear-groups',
      'curl',
      '-s',
      '-X',
      'PUT',
      '-d',
      evil(),
      url,
    ]);
    expect(String(put.stdout)).toMatch(/^Permission denied/);
    expect(existsSync(trace)).toBe(false);
  });

  test('cannot use an HTTP port by another name, or from a web page of another origin', async () => {
    const { jsonRpc, thrift, stats, consul } = mesh.addresses;
    const urls = [`${jsonRpc}/rpc`, `http://${thrift}/`, `${stats}/status`, `${consul}/v1/kv/`];
    for (const url of urls) {
      const post = (...headers: string[]): string => {
        const given = headers.flatMap((header) => ['-H', header]);
        const args = ['-s', '-o', '/dev/null', '-w', '%{http_code}', '-X', 'POST', '-d', '{}', ...given, url];
        return String(spawnSync('curl', args).stdout);
      };
      const rebound = post('Host: evil.example', 'Content-Type: application/json');
      const foreign = post('Origin: https://evil.example', 'Content-Type: text/plain');
      expect([url, rebound, foreign]).toEqual([url, '421', '403']);
    }
  });

  test('is named in the audit log with each thing that was refused', async () => {
    const folder = path.join(mesh.directory, 'data', 'audit');
    const refused = await until('all lines', () => {
      const lines = readFileSync(path.join(folder, 'audit-000001.jsonl'), 'utf8').split('\n');
      const found = lines.filter((line) => line.includes('"refused"')).map((line) => JSON.parse(line) as AuditLine);
      return found.filter(({ code }) => code === 'bad_origin').length >= 8 ? found : undefined;
    });
    const count = (code: string, about: RegExp): number =>
      refused.filter((line) => line.code === code && about.test(`${line.subject} ${line.reason}`)).length;
    expect(refused.every(({ from }) => /^(::ffff:)?127\.0\.0\.1$/.test(from))).toBe(true);
    expect(count('wrong_token', /^PUT \/v1\/kv\/.*Evil\/1\.0\.0 no token$/)).toBe(2);
    expect(count('wrong_token', /^GET \/v1\/kv\/ no token$/)).toBe(1);
    // A wrong secret, and three calls without a handshake. Who knows no secret leaves by itself.
    expect(count('bad_peer', /secret/)).toBe(4);
    expect(count('bad_origin', /Host "evil\.example" is not a name of this port/)).toBe(4);
    expect(count('bad_origin', /Web pages of "https:\/\/evil\.example" may not use this port/)).toBe(4);
    const verdict = await verifyChain([path.join(folder, 'audit-000001.jsonl')]);
    expect(verdict).toMatchObject({ isIntact: true });
  });

  test('is still served as a caller', async () => {
    expect((await mesh.status()).pools.map(({ id, alive }) => [id, alive])).toEqual([['Work@1.0.0', 1]]);
  });
});
