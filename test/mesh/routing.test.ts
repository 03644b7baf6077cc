import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { startTestMesh, work, type TestMesh } from '../kit/mesh/mesh.ts';
import { readMetrics, sumOf, type Metrics } from '../kit/mesh/metrics.ts';
import { until } from '../kit/tools/wait.ts';
import { disconnect } from '../kit/wire/raw-http.ts';
import { connect, type ClientReplyInfo } from '../../client/mod.ts';
import type { MeshStatus } from '../../core/rpc/mod.ts';

const meshes: TestMesh[] = [];

async function ready(...given: Parameters<typeof startTestMesh>): Promise<TestMesh> {
  const mesh = await startTestMesh(...given);
  meshes.push(mesh);
  await mesh.mesh.whenReady;
  return mesh;
}

afterEach(async () => {
  await Promise.all(meshes.splice(0).map((mesh) => mesh.end()));
});

async function metricsOf({ mesh }: TestMesh): Promise<Metrics> {
  return readMetrics(await (await fetch(`${mesh.addresses.stats}/metrics`)).text());
}

/** Number of answers by version for this many calls. */
async function answeredBy(
  mesh: TestMesh,
  calls: number,
  method: string,
  headers: Record<string, string> = {},
): Promise<Record<string, number>> {
  const versions: Record<string, number> = {};
  for (let n = 0; n < calls; n++) {
    const { headers: answered } = await mesh.call(method, { text: 'x' }, headers);
    const version = answered.get('katamari-version') ?? 'none';
    versions[version] = (versions[version] ?? 0) + 1;
  }
  return versions;
}

describe('Versions of one service', () => {
  test("share its calls by the route's weights", async () => {
    const routes = { Work: { weights: { '1.0.0': 75, '2.0.0': 25 } } };
    const mesh = await ready([work(), work({ version: '2.0.0' })], { routes });
    const versions = await answeredBy(mesh, 40, 'Work.say');
    expect(versions['1.0.0']).toBeGreaterThanOrEqual(28);
    expect(versions['2.0.0']).toBeGreaterThanOrEqual(8);
  });

  test('follow the route when it changes during calls', async () => {
    const routes = { Work: { weights: { '1.0.0': 100, '2.0.0': 0 } } };
    const mesh = await ready([work(), work({ version: '2.0.0' })], { routes });
    expect(await answeredBy(mesh, 10, 'Work.say')).toEqual({ '1.0.0': 10 });
    const { adminToken: token } = mesh.mesh;
    await mesh.call('Katamari.setRoute', { token, route: { serviceName: 'Work', weights: { '2.0.0': 1 } } });
    await until('the new route', () =>
      mesh.events.some(({ kind, text }) => kind === 'routes_changed' && text === '{"2.0.0":1}'),
    );
    expect(await answeredBy(mesh, 10, 'Work.say')).toEqual({ '2.0.0': 10 });
    expect((await mesh.call('Katamari.getRoutes', { token })).result).toMatchObject([
      { serviceName: 'Work', weights: { '2.0.0': 1 }, index: 1, by: 'admin' },
    ]);
  });

  test('can be selected exactly and by range, and an error names the existing ones', async () => {
    const mesh = await ready([work({ version: '1.2.0' }), work({ version: '1.4.0' }), work({ version: '2.0.0' })]);
    expect(await answeredBy(mesh, 3, 'Work@1.2.0.say')).toEqual({ '1.2.0': 3 });
    expect(await answeredBy(mesh, 3, 'Work.say', { 'katamari-version': '^1.0.0' })).toEqual({ '1.4.0': 3 });
    const { error } = await mesh.call('Work@3.0.0.say', { text: 'x' });
    expect(error).toMatchObject({ code: -32001, data: { code: 'no_pool' } });
    expect(error?.message).toBe(
      'No pool offers Work@3.0.0: versions here are 1.2.0 (1 resource), 1.4.0 (1 resource), 2.0.0 (1 resource)',
    );
  });

  test('are kept apart by a sticky key: equal keys get one version', async () => {
    const routes = { Work: { weights: { '1.0.0': 50, '2.0.0': 50 } } };
    const mesh = await ready([work(), work({ version: '2.0.0' })], { routes });
    const seen = new Set<string>();
    for (let user = 0; user < 12; user++) {
      const versions = Object.keys(await answeredBy(mesh, 3, 'Work.say', { 'katamari-key': `user-${user}` }));
      expect(versions.length).toBe(1);
      seen.add(versions[0] as string);
    }
    expect([...seen].sort()).toEqual(['1.0.0', '2.0.0']);
  });

  test('get the calls that the rules of a route give them, in every protocol', async () => {
    const rules = [
      { name: 'testers', to: '2.0.0', headers: { 'x-beta': 'yes' } },
      { name: 'big', to: '2.0.0', tags: ['big'] },
    ];
    const mesh = await ready([work(), work({ version: '2.0.0' })], {
      routes: { Work: { weights: { '1.0.0': 100 }, rules } },
    });
    const seen = async (headers: Record<string, string>): Promise<unknown[]> => {
      const answer = await mesh.call('Work.say', { text: 'x' }, headers);
      return ['katamari-version', 'katamari-rule'].map((name) => answer.headers.get(name));
    };
    expect(await seen({})).toEqual(['1.0.0', null]);
    expect(await seen({ 'X-Beta': 'yes' })).toEqual(['2.0.0', 'testers']);
    expect(await seen({ 'katamari-tags': 'big' })).toEqual(['2.0.0', 'big']);

    const infos: ClientReplyInfo[] = [];
    const caller = connect({ addresses: mesh.mesh.addresses.thrift });
    const onReply = (info: ClientReplyInfo): unknown => infos.push(info);
    try {
      await caller.service('Work')['say']?.({ text: 'x' }, { tags: ['big'], onReply });
      await caller.service('Work')['say']?.({ text: 'x' }, { onReply });
    } finally {
      caller.close();
    }
    expect(infos).toMatchObject([{ version: '2.0.0', rule: 'big' }, { version: '1.0.0' }]);
    expect(infos[1]?.rule).toBe(undefined);

    expect(sumOf(await metricsOf(mesh), 'katamari_route_calls_total', { rule: 'big', version: '2.0.0' })).toBe(2);
    expect(sumOf(await metricsOf(mesh), 'katamari_route_calls_total', { rule: 'testers' })).toBe(1);

    // A chassis that calls another one follows the same rules.
    const callers = [{ name: 'chassis', to: '2.0.0', callers: ['chassis'] }];
    const { adminToken: token } = mesh.mesh;
    const route = { serviceName: 'Work', weights: { '1.0.0': 100 }, rules: callers };
    expect((await mesh.call('Katamari.setRoute', { token, route })).error).toBe(undefined);
    expect(await answeredBy(mesh, 3, 'Work.say')).toEqual({ '1.0.0': 3 });
    const before = mesh.pool('Work@2.0.0').calls;
    expect((await mesh.call('Work.ask', { service: 'Work', text: 'inside' })).result).toBe('inside');
    expect(mesh.pool('Work@2.0.0').calls - before).toBe(1);
    // What the route does not name stays: the rules, with other weights.
    const shifted = { serviceName: 'Work', weights: { '1.0.0': 50, '2.0.0': 50 } };
    expect((await mesh.call('Katamari.setRoute', { token, route: shifted })).error).toBe(undefined);
    expect((await mesh.call('Katamari.getRoutes', { token })).result).toMatchObject([{ ...shifted, rules: callers }]);
  });

  test('are written to the log of assignments, call by call', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'katamari-assignments-'));
    try {
      const file = path.join(folder, 'assignments.jsonl');
      const routes = { Work: { weights: { '1.0.0': 50, '2.0.0': 50 }, experiment: 'colours' } };
      const mesh = await ready([work(), work({ version: '2.0.0' })], { routes, assignments: { file } });
      const answer = await mesh.call('Work.say', { text: 'x' }, { 'katamari-key': 'ada' });
      const version = answer.headers.get('katamari-version');
      await mesh.call('Work.say', { text: 'x' }, { 'katamari-version': '1.0.0' });
      // A service without a route.
      await mesh.call('Katamari.status', { token: mesh.mesh.adminToken });
      await mesh.call('Work.take', { ms: 2_000 }, { 'katamari-key': 'ada', 'katamari-timeout-ms': '300' });
      const lines = (): readonly unknown[] =>
        readFileSync(file, 'utf8')
          .split('\n')
          .slice(0, -1)
          .map((line) => JSON.parse(line) as unknown);
      await until('three lines', () => existsSync(file) && lines().length === 3);
      const call = { service: 'Work', method: 'say', experiment: 'colours', rule: '', outcome: 'ok' };
      const key = 'fdee430d40bd57de';
      expect(lines()).toMatchObject([
        { ...call, version, key },
        { ...call, version: '1.0.0', key: '' },
        { ...call, method: 'take', version, key, outcome: 'timeout' },
      ]);
      expect(sumOf(await metricsOf(mesh), 'katamari_assignment_lines_total', { result: 'written' })).toBe(3);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test('fail over to a living version while no copy of the chosen one is alive', async () => {
    const mesh = await ready([
      work(),
      work({ version: '2.0.0', restart: { intensity: 1, period: '60s', backoffFirst: '60s', backoffMax: '60s' } }),
    ]);
    await mesh.call('Work@2.0.0.die', { status: 1 });
    expect(await answeredBy(mesh, 6, 'Work.say')).toEqual({ '1.0.0': 6 });
  });
});

describe('Details of a pool', () => {
  test('treat roles as a strict filter in both directions', async () => {
    const mesh = await ready([work({ version: '1.0.0' }), work({ version: '2.0.0', roles: ['staging'] })]);
    expect(await answeredBy(mesh, 5, 'Work.say')).toEqual({ '1.0.0': 5 });
    expect(await answeredBy(mesh, 5, 'Work.say', { 'katamari-roles': 'staging' })).toEqual({ '2.0.0': 5 });
    const { error } = await mesh.call('Work.say', { text: 'x' }, { 'katamari-roles': 'production' });
    expect(error?.message).toContain(
      'No pool offers Work for roles production: versions here are 1.0.0 (1 resource), 2.0.0 (1 resource for roles staging)',
    );
  });

  test('treat tags as a preference', async () => {
    const mesh = await ready([work({ version: '1.0.0' }), work({ version: '2.0.0', tags: ['gpu'] })]);
    expect(await answeredBy(mesh, 5, 'Work.say', { 'katamari-tags': 'gpu' })).toEqual({ '2.0.0': 5 });
    expect(Object.keys(await answeredBy(mesh, 6, 'Work.say', { 'katamari-tags': 'tpu' })).length).toBe(2);
  });
});

describe('A busy pool', () => {
  test('answers as many calls as it can, times the rest out in the queue, and runs no expired call', async () => {
    const mesh = await ready([work({ concurrency: 1 })], { timeout: '2s' });
    const answers = await Promise.all(Array.from({ length: 6 }, () => mesh.call('Work.take', { ms: 800 })));
    const stages = answers.map(({ error }) => error?.data?.['stage'] ?? 'answered').sort();
    expect(stages).toEqual(['answered', 'answered', 'queue', 'queue', 'queue', 'queue']);
    expect((await mesh.call('Work.say', { text: 'right after' })).result).toBe('right after');
    expect(mesh.ledger().length).toBe(2);
  });

  test('refuses with overloaded and Retry-After when its queue is full, and its busy resources count as alive', async () => {
    const mesh = await ready([work({ queue: { max: 2 } })]);
    const calls = Array.from({ length: 5 }, () => mesh.call('Work.take', { ms: 700 }));
    const answers = await Promise.all(calls);
    const refused = answers.filter(({ error }) => error !== undefined);
    expect(refused.map(({ status, error }) => [status, error?.code])).toEqual([
      [503, -32002],
      [503, -32002],
    ]);
    expect(refused[0]?.error?.data?.['retryAfterMs']).toBeGreaterThan(0);
    expect(Number(refused[0]?.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    const busy = mesh.call('Work.take', { ms: 500 });
    await until('it to be busy', () => mesh.pool('Work@1.0.0').resources[0]?.state === 'busy');
    expect((await fetch(`${mesh.mesh.addresses.stats}/status/Work/1`)).status).toBe(200);
    expect((await fetch(`${mesh.mesh.addresses.stats}/status/Work/2`)).status).toBe(503);
    await busy;
  });

  test('gives a chassis as many concurrent calls as it declares, or as its deployment says', async () => {
    const mesh = await ready([
      work({ env: { WORK_CONCURRENCY: '3' } }),
      work({ version: '2.0.0', concurrency: 2, env: { WORK_CONCURRENCY: '3' } }),
      work({ version: '3.0.0', concurrency: 2 }),
    ]);
    for (const [version, places] of [
      ['1.0.0', 3],
      ['2.0.0', 2],
      ['3.0.0', 2],
    ] as const) {
      const calls = Array.from({ length: 4 }, () => mesh.call(`Work@${version}.take`, { ms: 400 }));
      await until('its places to be taken', () => mesh.pool(`Work@${version}`).resources[0]?.inFlight === places);
      await until('the others to wait', () => mesh.pool(`Work@${version}`).queued === 4 - places);
      await Promise.all(calls);
    }
  });

  test('frees the place of a caller that disconnects', async () => {
    const mesh = await ready([work()]);
    // Longer than it takes to notice that a client has gone.
    const running = mesh.call('Work.take', { ms: 4_000 });
    await until('it to run', () => mesh.ledger().length === 1);
    const { port } = new URL(mesh.mesh.addresses.jsonRpc);
    const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'Work.take', params: { ms: 1 } });
    const socket = net.connect(Number(port), '127.0.0.1', () => {
      socket.write(`POST /rpc HTTP/1.1\r\nhost: localhost\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    });
    await until('it to wait', () => mesh.pool('Work@1.0.0').queued === 1);
    disconnect(socket);
    await until('its place to be free', () => mesh.pool('Work@1.0.0').queued === 0);
    await running;
    expect((await mesh.call('Work.say', { text: 'x' })).result).toBe('x');
    expect(mesh.ledger().length).toBe(1);
    expect(mesh.mesh.status().calls.cancelled).toBe(1);
  });

  test("applies the shortest of the global timeout, the annotation and the caller's timeout", async () => {
    const mesh = await ready([work()], { timeout: '30s' });
    const left = async (headers: Record<string, string> = {}): Promise<number> =>
      (await mesh.call('Work.timeLeft', {}, headers)).result as number;
    expect(Math.ceil((await left()) / 1000)).toBe(3);
    expect(Math.ceil((await left({ 'katamari-timeout-ms': '1500' })) / 500)).toBe(3);
    const { adminToken: token } = mesh.mesh;
    await mesh.call('Katamari.setSettings', { token, settings: { timeoutMs: 1000 } });
    expect(await left()).toBeLessThanOrEqual(1000);
  });
});

describe('Calls from inside', () => {
  test('reach other services with the remaining time, and errors keep their type', async () => {
    const mesh = await ready([work({ count: 2 })]);
    expect((await mesh.call('Work.ask', { service: 'Work', text: 'through the mesh' })).result).toBe(
      'through the mesh',
    );
    const { error } = await mesh.call('Work.ask', { service: 'Nobody', text: 'x' });
    expect(error).toMatchObject({ code: -32050, data: { exception: 'Sorry' } });
    expect(error?.data?.['why']).toContain('No pool offers Nobody');
  });

  test('end at their deadline when they wait for their own pool', async () => {
    const mesh = await ready([work({ count: 1 })], { timeout: '600ms' });
    const { error } = await mesh.call('Work.ask', { service: 'Work', text: 'never' });
    expect(error === undefined ? undefined : [error.code, error.data?.['code'] ?? error.data?.['exception']]).toEqual([
      -32003,
      'timeout',
    ]);
    expect(await until('an answer', async () => (await mesh.call('Work.say', { text: 'free again' })).result)).toBe(
      'free again',
    );
  });
});

describe('What handlers do', () => {
  test('declared and undeclared exceptions, oneway calls and i64 arrive as specified', async () => {
    const mesh = await ready([work()]);
    expect((await mesh.call('Work.sorry', { why: 'because' })).error).toMatchObject({
      code: -32050,
      data: { exception: 'Sorry', why: 'because' },
    });
    const undeclared = await mesh.call('Work.undeclared', { why: 'a defect' });
    expect(undeclared.error?.message).toBe('Work.undeclared failed: a defect');
    expect(JSON.stringify(undeclared.error)).not.toContain('.ts:');
    expect((await mesh.call('Work.big', { value: '9223372036854775806' })).result).toBe('9223372036854775807');
    expect((await mesh.call('Work.note', { line: 'heard' })).result).toBe(null);
    await until('the oneway call to run', () => mesh.ledger().some((line) => line.startsWith('note heard')));
    expect(mesh.pool('Work@1.0.0').restartsByReason).toEqual({});
  });

  test('the admin service refuses a wrong token', async () => {
    const mesh = await ready([work()]);
    const { error } = await mesh.call('Katamari.status', { token: 'guess' });
    expect(error).toMatchObject({ code: -32050, data: { exception: 'AdminRefused' } });
    const status = await mesh.call('Katamari.status', { token: mesh.mesh.adminToken });
    expect(status.result).toMatchObject({ mesh: 'test', isReady: true, pools: [{ id: 'Work@1.0.0', alive: 1 }] });
  });

  test('a status counts every call of its own faceplate that was answered before the status was requested', async () => {
    const mesh = await ready([work()]);
    const accepted = async (): Promise<number> => {
      const answer = await fetch(`${mesh.mesh.addresses.stats}/status`);
      return ((await answer.json()) as MeshStatus).calls.accepted;
    };
    const before = await accepted();
    for (let calls = 1; calls <= 5; calls++) {
      await mesh.call('Work.say', { text: 'count me' });
      expect((await accepted()) - before).toBe(calls);
    }
  });
});
