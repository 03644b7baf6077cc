// Calls for a service that is deployed while no copy of it is up: at the first start, after a deployment at run time,
// and while all copies restart. By JSON-RPC, Thrift, the web faceplate and the client library, each call waits and is
// answered, or is refused with 503 and Retry-After.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { connect } from '../../client/mod.ts';
import { desiredDeployment, loadConfig } from '../../services/config/mod.ts';
import { fixture, startTestMesh, work, type DeploymentText, type TestMesh } from '../kit/mesh/mesh.ts';
import { until } from '../kit/tools/wait.ts';

const WORK_IDL = new URL('../fixtures/chassis/work.thrift', import.meta.url);
const WEB = { port: 0, sites: [{ prefix: '/app', service: 'Web' }] };

let mesh: TestMesh;
const directories: string[] = [];
afterEach(async () => {
  await mesh?.end();
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

/** A command that becomes `command` once `release` is called. */
function held(command: readonly string[]): { readonly command: readonly string[]; readonly release: () => void } {
  const directory = mkdtempSync(path.join(tmpdir(), 'katamari-starting-'));
  directories.push(directory);
  const flag = path.join(directory, 'go');
  const script = `until [ -e ${flag} ]; do sleep 0.05; done; exec ${command.join(' ')}`;
  return { command: ['/bin/sh', '-c', script], release: () => writeFileSync(flag, '') };
}

function web(command: readonly string[]): DeploymentText {
  return { service: 'Web', version: '1.0.0', command, count: 1, startTimeout: '30s' };
}

/** Calls every faceplate; the answers by protocol. */
function callAll(timeoutMs = 20_000): Promise<Readonly<Record<string, unknown>>> {
  const { addresses } = mesh.mesh;
  const headers = { 'katamari-timeout-ms': String(timeoutMs) };
  const say = async (idl: URL | undefined, text: string): Promise<unknown> => {
    await using client = connect({ addresses: addresses.thrift, timeoutMs });
    try {
      const service = client.service('Work', idl === undefined ? {} : { idl });
      return await service['say']?.({ text });
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  const calls = {
    json: mesh.call('Work.say', { text: 'json' }, headers).then((answer) => answer.result ?? outcomeOf(answer)),
    range: mesh.call('Work@^1.say', { text: 'range' }, headers).then((answer) => answer.result ?? outcomeOf(answer)),
    web: fetch(`${addresses.web}/app/echo`, { method: 'POST', body: 'web', headers }).then(async (response) => {
      const text = await response.text();
      return response.status === 200 ? text : [response.status, response.headers.get('retry-after')];
    }),
    thrift: say(WORK_IDL, 'thrift'),
    client: say(undefined, 'client'),
  };
  return Promise.all(Object.entries(calls).map(async ([name, call]) => [name, await call] as const)).then((found) =>
    Object.fromEntries(found),
  );
}

function outcomeOf({ status, headers, error }: Awaited<ReturnType<TestMesh['call']>>): unknown {
  return [error?.data?.['code'], error?.data?.['retryAfterMs'], headers.get('retry-after'), status];
}

const ANSWERED = { json: 'json', range: 'range', web: 'web', thrift: 'thrift', client: 'client' };

function inFlight(): number {
  return mesh.mesh.status().calls.inFlight;
}

describe('A call before the first copy is up', () => {
  test('waits and is answered, by every protocol', async () => {
    const [works, webs] = [held(fixture('work.ts')), held(fixture('web.ts'))];
    const deployments = [work({ command: works.command, startTimeout: '30s' }), web(webs.command)];
    mesh = await startTestMesh(deployments, { web: WEB, timeout: '20s' });
    const answers = callAll();
    await until('the calls to wait', () => inFlight() === 5);
    works.release();
    webs.release();
    expect(await answers).toEqual(ANSWERED);
    expect(inFlight()).toBe(0);
  });

  test('is refused at its deadline with 503 and Retry-After, as a call that did not run', async () => {
    const [works, webs] = [held(fixture('work.ts')), held(fixture('web.ts'))];
    const deployments = [work({ command: works.command, startTimeout: '30s' }), web(webs.command)];
    mesh = await startTestMesh(deployments, { web: WEB });
    const refused = await callAll(300);
    expect(refused).toMatchObject({
      json: ['timeout', 500, '1', 503],
      web: [503, '1'],
      thrift: 'timeout',
      client: 'timeout',
    });
    // A document that only a copy can provide: try again.
    const idl = await fetch(`${mesh.mesh.addresses.jsonRpc}/idl/Work.thrift`);
    expect([idl.status, idl.headers.get('retry-after')]).toEqual([503, '1']);
    expect((await fetch(`${mesh.mesh.addresses.jsonRpc}/idl/Wrok.thrift`)).status).toBe(404);
  });

  test('fails at once when its service is misspelled', async () => {
    const { command } = held(fixture('work.ts'));
    mesh = await startTestMesh([work({ command, startTimeout: '30s' })]);
    const answer = await mesh.call('Wrok.say', { text: 'x' });
    expect([answer.status, answer.error?.data?.['code']]).toEqual([404, 'no_pool']);
    expect((await mesh.call('Work@2.0.0.say', { text: 'x' })).error?.message).toMatch(/No pool offers Work@2\.0\.0/);
  });
});

test('A call after `katamari deploy` waits for the first copy', async () => {
  mesh = await startTestMesh([]);
  const directory = mkdtempSync(path.join(tmpdir(), 'katamari-deploy-'));
  directories.push(directory);
  const file = path.join(directory, 'deploy.yaml');
  writeFileSync(file, JSON.stringify({ deployments: [work()] }));
  const { config } = loadConfig({ file, env: {}, cwd: directory, flags: [] });
  const [deployment] = config.deployments.map(desiredDeployment);
  const { service: serviceName, idl: _, concurrency: __, ...rest } = deployment as NonNullable<typeof deployment>;
  const { adminToken } = mesh.mesh;
  const deployed = await mesh.call(
    'Katamari.deploy',
    { deployment: { serviceName, ...rest } },
    {
      authorization: `Bearer ${adminToken}`,
    },
  );
  expect(deployed.result).toBe('CREATED');
  // Nothing runs it yet.
  const answer = await mesh.call('Work.say', { text: 'deployed' });
  expect([answer.status, answer.result]).toEqual([200, 'deployed']);
});

test('A call while all copies restart after a crash waits for the first one', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'katamari-crash-'));
  directories.push(directory);
  const flag = path.join(directory, 'broken');
  const script = `[ -e ${flag} ] && exit 1; exec ${fixture('work.ts').join(' ')}`;
  const restart = { backoffFirst: '50ms', backoffMax: '200ms' };
  const deployment = work({ count: 2, command: ['/bin/sh', '-c', script], restart });
  mesh = await startTestMesh([deployment, web(fixture('web.ts'))], { web: WEB, timeout: '20s' });
  await mesh.mesh.whenReady;
  writeFileSync(flag, '');
  for (const { pid } of mesh.pool('Work@1.0.0').resources) process.kill(pid, 'SIGKILL');
  await until('no copy', () => mesh.pool('Work@1.0.0').alive === 0);
  const late = await mesh.call('Work.say', { text: 'late' }, { 'katamari-timeout-ms': '300' });
  expect(outcomeOf(late)).toEqual(['timeout', 500, '1', 503]);
  const answers = callAll();
  await until('calls to wait', () => mesh.pool('Work@1.0.0').queued >= 2);
  rmSync(flag);
  expect(await answers).toEqual(ANSWERED);
});
