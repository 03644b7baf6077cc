// Mirrors of routes with real processes: what differs is found and named, and a version that is slow, crashes or hangs
// costs no call of a caller anything.

import { afterEach, describe, expect, test } from 'vitest';
import { fixture, startTestMesh, type DeploymentText, type TestMesh } from '../kit/mesh/mesh.ts';
import { readMetrics, sumOf } from '../kit/mesh/metrics.ts';
import { until } from '../kit/tools/wait.ts';
import { runInside } from '../services/cli/run-inside.ts';
import type { MirrorReport } from '../../services/mesh/mod.ts';

const meshes: TestMesh[] = [];
afterEach(async () => {
  await Promise.all(meshes.splice(0).map((mesh) => mesh.end()));
});

function mirrored(version: string, env: Readonly<Record<string, string>> = {}): DeploymentText {
  const command = fixture('mirrored.ts');
  return { service: 'Mirrored', version, command, count: 2, env: { WORK_VERSION: version, ...env } };
}

async function start(env: Readonly<Record<string, string>>, mirror: object): Promise<TestMesh> {
  const routes = { Mirrored: { weights: { '1.0.0': 100 }, mirror } };
  const mesh = await startTestMesh([mirrored('1.0.0'), mirrored('2.0.0', env)], { routes });
  meshes.push(mesh);
  await mesh.mesh.whenReady;
  return mesh;
}

const search = (mesh: TestMesh): Promise<unknown> =>
  mesh.call('Mirrored.search', { words: 'a bb ccc', password: 'hidden' }).then(({ result, error }) => result ?? error);

async function resultsOf({ mesh }: TestMesh, method: string): Promise<Record<string, number>> {
  const metrics = readMetrics(await (await fetch(`${mesh.addresses.stats}/metrics`)).text());
  const results = ['equal', 'different', 'failed', 'skipped'];
  const name = 'katamari_mirror_calls_total';
  return Object.fromEntries(
    results.map((result) => [result, sumOf(metrics, name, { method, result, version: '2.0.0' })]),
  );
}

describe('A mirror', () => {
  test('finds what differs, names it by its path, and shows it', async () => {
    const mesh = await start({ MIRRORED_SCORE: '2' }, { to: '2.0.0' });
    const calls = 10;
    for (let n = 0; n < calls; n++) expect(await search(mesh)).toMatchObject({ hits: [{ id: 'a' }, { score: 1 }, {}] });
    await mesh.call('Mirrored.add', { number: 7 });
    await until('the copies', async () => {
      const { different = 0, skipped = 0 } = await resultsOf(mesh, 'search');
      return different + skipped === calls && different > 0;
    });
    // It is not idempotent.
    expect(mesh.ledger()).toEqual(['add 1.0.0 7']);
    const { adminToken: token, addresses } = mesh.mesh;
    const { result } = await mesh.call('Katamari.getMirrors', { token, serviceName: 'Mirrored' });
    const { paths, differences, missing } = result as MirrorReport;
    const { different } = await resultsOf(mesh, 'search');
    expect(paths).toEqual([
      { serviceName: 'Mirrored', version: '2.0.0', method: 'search', path: 'hits[].score', calls: different },
    ]);
    expect(missing).toEqual([]);
    expect(differences).toHaveLength(different as number);
    expect(differences[0]).toMatchObject({
      version: '1.0.0',
      mirrorVersion: '2.0.0',
      parameters: '{"words":"a bb ccc","password":"***"}',
      places: [{ path: 'hits[].score', at: 'hits[1].score', answer: '1', mirrorAnswer: '2' }],
    });
    const diff = async (...words: readonly string[]): Promise<string> =>
      (await runInside(['diff', 'Mirrored', ...words, '--mesh', addresses.jsonRpc, '--token', token], { cwd: '/' }))
        .stdout;
    const shown = await diff('--calls', '1');
    expect(shown).toContain(`hits[].score of search differs in ${different} of ${different}\n`);
    expect(shown).toContain('\n  hits[1].score: 1, then 2\n');
    expect(JSON.parse(await diff('--json'))).toMatchObject({ service: 'Mirrored', paths });
  });

  test('sees no difference where only order and ignored fields differ, and marks its copies', async () => {
    const mesh = await start({}, { to: '2.0.0', share: 50 });
    const calls = 20;
    for (let n = 0; n < calls; n++) await search(mesh);
    await until('the copies', async () => {
      const { equal = 0, skipped = 0 } = await resultsOf(mesh, 'search');
      return equal + skipped === calls / 2 && equal > 0;
    });
    expect(await resultsOf(mesh, 'search')).toMatchObject({ different: 0, failed: 0 });
    // A client cannot mark its calls as copies.
    const { result } = await mesh.call('Mirrored.headers', {}, { 'katamari-mirror': '1', 'x-own': 'a' });
    expect(JSON.parse(result as string)).not.toHaveProperty('katamari-mirror');
    await until(
      'the other copy',
      async () =>
        (await resultsOf(mesh, 'headers'))['different'] !== 0 || mesh.call('Mirrored.headers').then(() => false),
    );
    const { adminToken: token } = mesh.mesh;
    const report = (await mesh.call('Katamari.getMirrors', { token, serviceName: '' })).result as MirrorReport;
    expect(report.differences[0]?.mirrorAnswer).toContain('katamari-mirror');
  });

  for (const fault of ['slow', 'crash', 'hang'])
    test(`of a version that is to ${fault} fails and delays no call`, async () => {
      const mesh = await start({ MIRRORED_FAULT: fault }, { to: '2.0.0' });
      const answers: unknown[] = [];
      const client = async (): Promise<void> => {
        for (let n = 0; n < 60; n++) answers.push(await search(mesh));
      };
      // 80 % of the places of the version that callers get.
      await Promise.all(Array.from({ length: 6 }, client));
      expect(answers).toHaveLength(360);
      for (const answer of answers) expect(answer).toMatchObject({ hits: [{ id: 'a' }, { id: 'bb' }, { id: 'ccc' }] });
      await until('the copies', async () => {
        const sum = Object.values(await resultsOf(mesh, 'search')).reduce((all, one) => all + one, 0);
        return sum === 360;
      });
      const results = await resultsOf(mesh, 'search');
      expect(results[fault === 'slow' ? 'equal' : 'failed']).toBeGreaterThan(0);
      expect(results['different']).toBe(0);
      const pool = mesh.pool('Mirrored@1.0.0');
      expect(pool.errors).toBe(0);
      expect(pool.restartsByReason).toEqual({});
    });
});
