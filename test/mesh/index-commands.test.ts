// The commands of indices against a real mesh with one manager: what an operator reads on the screen.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { scriptCommand } from '../../core/mod.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { work } from '../kit/mesh/mesh.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import type { RunResult } from '../kit/tools/run.ts';
import { until } from '../kit/tools/wait.ts';
import { runInside } from '../services/cli/run-inside.ts';

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const BUSY_MS = 120_000;
let folder: string;
let mesh: MeshProcess;
beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-index-commands-'));
  mesh = await startMeshProcess({
    settings: { timeout: '20s', content: { sources: [pathToFileURL(folder).href] } },
    deployments: [
      work({
        service: 'TextSearch',
        command: scriptCommand(path.join(REPOSITORY, 'content-servers/text/main.ts')),
        count: 1,
      }),
    ],
  });
}, BUSY_MS);
afterAll(async () => {
  await mesh?.end();
  rmSync(folder, { recursive: true, force: true });
});

/** `katamari ...` on a screen that is wide enough for every table. */
function katamari(...args: readonly string[]): Promise<RunResult> {
  const env = { KATAMARI_URL: mesh.addresses.jsonRpc, KATAMARI_TOKEN: mesh.adminToken };
  return runInside(args, { cwd: folder, env });
}

/** `katamari index ...` that is to succeed without a word on stderr. */
async function index(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await katamari('index', ...args);
  expect([args, code, stderr]).toEqual([args, 0, '']);
  return stdout;
}

/** Builds an index of so many documents. */
async function build(name: string, documents: number, shards: number): Promise<void> {
  const file = path.join(folder, `${name}.ndjson`);
  writeFileSync(file, Array.from({ length: documents }, (_, n) => `{"text":"rabbit ${n}"}\n`).join(''));
  await index('build', file, '--out', name, '--shards', String(shards));
}

describe('katamari index', () => {
  test(
    'adds an index right after it was built without a warning',
    async () => {
      await build('one', 30, 3);
      expect(await index('add', 'wiki@1.0.0', 'one', '--service', 'TextSearch')).toMatch(
        /Added wiki@1\.0\.0: 3 shards, [\d.]+ KiB, 1 replica of each shard\.\n[^]*^wiki@1.0.0 complete: 3 of 3 /m,
      );
      expect(await index('list')).toMatch(/^wiki@1\.0\.0 +complete +3\/3 +1\/1 +30 /m);
    },
    BUSY_MS,
  );

  test(
    'refuses to add more replicas than managers can hold, and says how many are missing',
    async () => {
      const warning = 'Warning: 3 replicas are wanted, and only the manager one has TextSearch; the others';
      const changed = await katamari('index', 'replicate', 'wiki@1.0.0', '3');
      expect([changed.code, changed.stdout]).toEqual([0, 'wiki@1.0.0 is to have 3 replicas of each shard.\n']);
      expect(changed.stderr).toBe(`${warning} are placed when more managers can hold them\n`);
      const status = await index('status', 'wiki');
      expect(status).toContain('wiki@1.0.0  degraded');
      expect(status).toContain('  service   TextSearch, 1 of 3 replicas: 1 manager can hold it\n');
      expect(status).toContain('  ! 3 replicas are wanted, and 1 manager has the content service\n');
      expect(await index('list')).toMatch(/^wiki@1\.0\.0 +degraded +3\/3 +1\/3 /m);
      expect(await index('replicate', 'wiki@1.0.0', '1', '--json')).toMatch(/"warnings":\[\]/);
      const options = ['--service', 'TextSearch', '--replicas', '3'];
      for (const what of ['add', 'plan']) {
        const { code, stderr } = await katamari('index', what, 'news@1.0.0', 'one', ...options);
        expect([code, stderr]).toEqual([
          1,
          expect.stringContaining(
            '3 replicas are wanted, and only the manager one has TextSearch; start it on more managers, or add ' +
              'news@1.0.0 with --replicas 1 now, and more with katamari index replicate when they are there\n',
          ),
        ]);
      }
      expect(await index('list')).not.toContain('news');
    },
    BUSY_MS,
  );

  test(
    'shows the managers as holders of shards, and what is wrong with each',
    async () => {
      expect(await index('nodes')).toMatch(
        /^MANAGER +MACHINE +STATE +SERVING +FETCHING +BACKING OFF +HELD +FREE +INDICES\none +\S+ +up +3 +0 +0 +[\d.]+ KiB +\S+ \S+ +wiki@1\.0\.0\n$/,
      );
      expect((await katamari('drain', 'one')).code).toBe(0);
      const drained = await index('nodes');
      expect(drained).toMatch(/^one +\S+ +drained +3 /m);
      expect(drained).toContain(
        '\n! one is drained, so it gets no shards, and serves 3 shards until other managers do; katamari undrain one takes it back\n',
      );
      expect(JSON.parse(await index('nodes', '--json'))).toMatchObject([
        { manager: 'one', state: 'DRAINED', serving: 3, indices: ['wiki@1.0.0'] },
      ]);
      expect((await katamari('undrain', 'one')).code).toBe(0);
      await until('it to be up', async () => / up /.test(await index('nodes')));
    },
    BUSY_MS,
  );

  test(
    'shows all about a version, and its documents as they stand in Consul',
    async () => {
      const shown = await index('show', 'wiki@1.0.0');
      expect(shown).toMatch(
        /^ {2}service +TextSearch\n {2}replicas +1 replica\n {2}pinned +to no manager\n {2}promotion +by itself, once, when/m,
      );
      expect(shown).toMatch(/^ {2}part-00002 +[\d.]+ KiB +10 +[0-9a-f]{24} +one serving$/m);
      const { manifest, shardList } = JSON.parse(await index('show', 'wiki@1.0.0', '--json')) as {
        manifest: string;
        shardList: { name: string; digest: string }[];
      };
      const raw = await index('show', 'wiki@1.0.0', '--raw');
      expect(JSON.parse(raw)).toMatchObject([
        { key: 'katamari/test/indices/wiki/1.0.0', problem: '', value: { name: 'wiki', replicas: 1, manifest } },
        {
          key: `katamari/test/manifests/${manifest}`,
          value: { shards: shardList.map(({ name, digest }) => ({ name, digest })) },
        },
        {
          key: 'katamari/test/assignments/one',
          value: { leader: 'one', shards: [{ indexVersion: 'wiki@1.0.0', places: '0-2' }] },
        },
        { key: 'katamari/test/holdings/one', value: { serving: '0-2', onDisk: '0-2', failed: [] } },
      ]);
      // The deployments of a manager may hold secrets.
      expect(raw).not.toContain('deployments');
      const unknown = await katamari('index', 'show', 'wiki@7.0.0', '--raw');
      expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining('its versions are 1.0.0')]);
      const known = await katamari('index', 'show', 'wiki@7.0.0');
      expect([known.code, known.stderr]).toEqual([1, expect.stringContaining('versions of wiki are 1.0.0')]);
      expect((await katamari('index', 'show', 'wiki')).code).toBe(2);
    },
    BUSY_MS,
  );

  test(
    'warns when a version that gets the calls has less than the one before',
    async () => {
      await build('two', 20, 2);
      await index('add', 'wiki@2.0.0', 'two', '--service', 'TextSearch', '--no-promote');
      const promoted = await katamari('index', 'promote', 'wiki@2.0.0');
      expect([promoted.code, promoted.stderr, promoted.stdout]).toEqual([
        0,
        'Warning: entries 30 -> 20: 2.0.0 has fewer than 1.0.0\n',
        'Calls of wiki that name no version go to 2.0.0.\n',
      ]);
      await index('promote', 'wiki@1.0.0');
      const json = await katamari('index', 'promote', 'wiki@2.0.0', '--json');
      expect(JSON.parse(json.stdout)).toMatchObject({
        version: '2.0.0',
        share: 1,
        entries: 20,
        warnings: [expect.stringContaining('entries 30 -> 20')],
      });
      // Nothing changes now.
      await index('promote', 'wiki@2.0.0');
      await index('promote', 'wiki@1.0.0');
      await index('remove', 'wiki@2.0.0');
    },
    BUSY_MS,
  );

  test(
    'pins a version to managers that are known, or forced, and shows it',
    async () => {
      const unknown = await katamari('index', 'pin', 'wiki@1.0.0', 'one', 'two');
      expect([unknown.code, unknown.stderr]).toEqual([
        1,
        expect.stringContaining(
          'No manager of this mesh is called "two"; there are one. For a manager that is off, force the pin (--force)',
        ),
      ]);
      expect(await index('pin', 'wiki@1.0.0', 'one')).toBe('wiki@1.0.0 is pinned to one: no other manager gets it.\n');
      expect(await index('status', 'wiki')).toMatch(/complete[^]* {2}pinned +to one\n/);
      expect(await index('list')).toMatch(/ PINNED\n.* one\n$/);
      expect(await index('show', 'wiki@1.0.0')).toContain('  pinned     to one\n');
      const forced = await katamari('index', 'pin', 'wiki@1.0.0', 'two', '--force', '--json');
      expect([forced.code, JSON.parse(forced.stdout)]).toMatchObject([
        0,
        {
          pinnedTo: ['two'],
          warnings: [expect.stringContaining('no manager of those that it is pinned to (two) has')],
        },
      ]);
      // It stays where it is until the other manager comes.
      await until('the reason', async () =>
        (await index('status', 'wiki')).includes('! it is pinned to 1 manager (two), and none of them'),
      );
      expect(await index('status', 'wiki')).toContain('3 of 3 shards served');
      expect(await index('pin', 'wiki@1.0.0', '--clear')).toBe('wiki@1.0.0 may be on any manager.\n');
      expect(await index('list')).not.toContain('PINNED');
      expect((await katamari('index', 'pin', 'wiki@1.0.0')).code).toBe(2);
      expect((await katamari('index', 'pin', 'wiki@1.0.0', 'one', '--clear')).code).toBe(2);
    },
    BUSY_MS,
  );

  test(
    'has only routes to versions that exist, unless they are forced',
    async () => {
      const misspelled = await katamari('route', 'wiki', '1.0.0=95', '1.0.1=5');
      expect([misspelled.code, misspelled.stderr]).toEqual([
        1,
        expect.stringContaining(
          'refused setRoute: 1.0.1 is no version of the index wiki, which has 1.0.0; add it first, ' +
            'or force the route (--force) to write it before\n',
        ),
      ]);
      expect((await katamari('route', 'wiki', '1.0.0=95', '1.0.1=5', '--force')).code).toBe(0);
      const { stdout } = await katamari('route', 'wiki', '--json');
      expect(JSON.parse(stdout)).toMatchObject({ weights: { '1.0.0': 95, '1.0.1': 5 } });
      expect((await katamari('route', 'wiki', '1.0.0=1')).code).toBe(0);
    },
    BUSY_MS,
  );
});
