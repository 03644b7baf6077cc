// Two versions compared by the calls that a route splits between them: what differs is named with an interval, in
// `katamari compare` and in the admin service, and callers report what calls were good for.

import { afterEach, describe, expect, test } from 'vitest';
import { connect } from '../../client/mod.ts';
import { fixture, startTestMesh, type DeploymentText, type TestMesh } from '../kit/mesh/mesh.ts';
import { runInside } from '../services/cli/run-inside.ts';

const meshes: TestMesh[] = [];
afterEach(async () => {
  await Promise.all(meshes.splice(0).map((mesh) => mesh.end()));
});

function compared(version: string, env: Readonly<Record<string, string>> = {}): DeploymentText {
  const command = fixture('compared.ts');
  return { service: 'Compared', version, command, count: 1, env: { WORK_VERSION: version, ...env } };
}

async function start(env: Readonly<Record<string, string>>, route: object = EVEN): Promise<TestMesh> {
  const mesh = await startTestMesh([compared('1.0.0'), compared('2.0.0', env)], { routes: { Compared: route } });
  meshes.push(mesh);
  await mesh.mesh.whenReady;
  return mesh;
}

const EVEN = { weights: { '1.0.0': 50, '2.0.0': 50 } };

/** Makes calls, eight at a time. */
async function work(mesh: TestMesh, calls: number): Promise<void> {
  let left = calls;
  const caller = async (): Promise<void> => {
    while (left-- > 0) await mesh.call('Compared.work', { number: left });
  };
  await Promise.all(Array.from({ length: 8 }, caller));
}

interface Compared {
  readonly methods: readonly {
    readonly method: string;
    readonly first: Readonly<Record<string, number>>;
    readonly second: Readonly<Record<string, number>>;
    readonly verdicts: readonly { readonly metric: string; readonly isDifferent: boolean; readonly text: string }[];
  }[];
  readonly outcomes: readonly {
    readonly metric: string;
    readonly firstCount: number;
    readonly secondCount: number;
    readonly verdict: { readonly text: string; readonly isDifferent: boolean };
  }[];
}

async function compare(running: TestMesh): Promise<Compared> {
  const params = { token: running.mesh.adminToken, serviceName: 'Compared', first: '', second: '' };
  const { result, error } = await running.call('KatamariVersions.compareVersions', params);
  expect(error).toBeUndefined();
  return result as Compared;
}

const cli = async ({ mesh }: TestMesh, ...words: readonly string[]) => {
  const { jsonRpc } = mesh.addresses;
  return await runInside(['compare', ...words, '--mesh', jsonRpc, '--token', mesh.adminToken], { cwd: '/' });
};

describe('katamari compare', () => {
  test('names what differs: failures, exceptions and durations, of JSON-RPC and Thrift alike', async () => {
    const mesh = await start({ COMPARED_FAILURES: '10', COMPARED_EXCEPTIONS: '20', COMPARED_MS: '20' });
    await work(mesh, 600);
    const client = connect({ addresses: mesh.mesh.addresses.thrift });
    const service = client.service('Compared');
    for (let n = 0; n < 200; n++) await service['work']?.({ number: n }).catch(() => undefined);
    client.close();
    // Whoever asks for a version is no part of the comparison.
    for (let n = 0; n < 10; n++) await mesh.call('Compared.work', { number: n }, { 'katamari-version': '2.0.0' });
    const { methods } = await compare(mesh);
    const [all] = methods;
    if (all === undefined) throw new Error('no method');
    expect(all.first['calls']).toBe(400);
    // The tenth call of each ten fails, which would have been one of those that throw.
    expect(all.second).toMatchObject({ calls: 400, failures: 40, exceptions: 40, timeouts: 0, refusals: 0 });
    const verdicts = Object.fromEntries(all.verdicts.map((one) => [one.metric, one]));
    expect(verdicts['errors']?.text).toMatch(
      /^2\.0\.0 fails more often: 10\.?0? % against 0\.?0? % \(difference .* points, 99 %\)$/,
    );
    expect(verdicts['exceptions']?.text).toMatch(/^2\.0\.0 throws declared exceptions more often: /);
    expect(verdicts['p50']).toMatchObject({ isDifferent: true });
    expect(verdicts['p50']?.text).toMatch(/^2\.0\.0 has a longer p50: /);
    const { stdout, code } = await cli(mesh, 'Compared');
    console.log(stdout);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Compared: 1\.0\.0 against 2\.0\.0, 800 calls since the start of its route, 20/);
    expect(stdout).toMatch(/^errors +0 % +10 % +2\.0\.0 fails more often/m);
    expect(JSON.parse((await cli(mesh, 'Compared', '--json')).stdout)).toMatchObject({ first: '1.0.0' });
    expect((await cli(mesh, 'Compared', '--method', 'work')).stdout).toMatch(/^Compared\.work: /);
  });

  test('says how many more calls it takes while nothing is certain, and begins anew with another split', async () => {
    const mesh = await start({});
    await work(mesh, 200);
    const { methods } = await compare(mesh);
    expect(methods[0]?.verdicts[0]?.text).toMatch(/^no difference to be seen yet; [\d,]+ more calls would show one of/);
    const { adminToken: token } = mesh.mesh;
    const weights = { '1.0.0': 90, '2.0.0': 10 };
    await mesh.call('Katamari.setRoute', { token, route: { serviceName: 'Compared', weights } });
    const anew = (await cli(mesh, 'Compared')).stdout;
    expect(anew).toMatch(/ 0 calls since change 1 of its route$/m);
    expect(anew).toMatch(/no calls of 1\.0\.0 and 2\.0\.0 yet/);
  });

  test('refuses what cannot be compared, and says why', async () => {
    const mesh = await start({}, { weights: { '1.0.0': 100 } });
    const said = async (...words: readonly string[]): Promise<string> => {
      const { code, stderr } = await cli(mesh, ...words);
      expect(code).not.toBe(0);
      return stderr;
    };
    expect(await said('Compared')).toContain('Compared has no two versions with weights to compare');
    expect(await said('Compared', '1.0.0')).toContain('Found 1 versions, expected two');
    expect(await said('Compared', '1.0.0', '3.0.0')).toContain('Compared has no version 3.0.0; it has 1.0.0, 2.0.0');
    expect(await said('Other')).toContain('No service Other is deployed');
  });
});

describe('Callers report what calls were good for', () => {
  test('by JSON-RPC and Thrift, and rates and means are compared', async () => {
    const mesh = await start({}, { ...EVEN, experiment: 'ranking' });
    const client = connect({ addresses: mesh.mesh.addresses.thrift });
    const service = client.service<{ outcome(args: object): Promise<void> }>('katamari.Mesh');
    const versions: Record<string, number> = {};
    for (let n = 0; n < 400; n++) {
      const key = `user-${n}`;
      const { headers } = await mesh.call('Compared.work', { number: n }, { 'katamari-key': key });
      const version = headers.get('katamari-version') ?? '';
      versions[version] = (versions[version] ?? 0) + 1;
      // The second version gets a click from half of its users, the first one from a tenth.
      const isClicked = version === '2.0.0' ? n % 2 === 0 : n % 10 === 0;
      const click = { experiment: 'ranking', key, metric: 'click', value: isClicked ? 1 : 0 };
      if (n % 2 === 0) await service.outcome(click);
      else expect((await mesh.call('katamari.Mesh.outcome', click)).error).toBeUndefined();
      await service.outcome({
        ...click,
        metric: 'score',
        value: version === '2.0.0' ? 1.5 : 1.25 + (n % 3) / 4,
      });
    }
    client.close();
    const { outcomes } = await compare(mesh);
    expect(outcomes).toMatchObject([
      { metric: 'click', firstCount: versions['1.0.0'], secondCount: versions['2.0.0'] },
      { metric: 'score' },
    ]);
    expect(outcomes[0]?.verdict.text).toMatch(
      /^2\.0\.0 has a higher rate of click: .* % against .* % \(difference .* points, 99 %\)/,
    );
    expect((await cli(mesh, 'Compared')).stdout).toMatch(
      /^click +0\.\d+ +0\.\d+ +\d+ \/ \d+ +2\.0\.0 has a higher rate of click/m,
    );
  });

  test('and a report that cannot be counted is refused in words', async () => {
    const mesh = await start({});
    const said = async (change: object): Promise<string | undefined> => {
      const outcome = { experiment: 'Compared', key: 'ada', metric: 'click', value: 1, ...change };
      return (await mesh.call('katamari.Mesh.outcome', outcome)).error?.message;
    };
    expect(await said({})).toBeUndefined();
    expect(await said({ experiment: 'ranking' })).toContain(
      'experiment is "ranking", which no route has: known are Compared',
    );
    expect(await said({ key: '' })).toContain('key has 0 characters, expected 1 to 1024');
    expect(await said({ key: 'k'.repeat(1_000_000) })).toContain('key has 1000000 characters, expected 1 to 1024');
    expect(await said({ metric: 'a b' })).toContain('metric is "a b", expected 1 to 64 letters');
    for (let n = 0; n < 199; n++) expect(await said({ metric: `m${n}` })).toBeUndefined();
    expect(await said({ metric: 'another' })).toContain('the experiment Compared has too many others already');
  });
});
