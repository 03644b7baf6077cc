// The commands of indices against a real mesh with one manager: what an operator reads on the screen.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { scriptCommand } from '../../core/mod.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { work } from '../kit/mesh/mesh.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import type { RunResult } from '../kit/tools/run.ts';
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
    'warns of more replicas than managers that can hold them, and says so until there are enough',
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
      const options = ['--service', 'TextSearch', '--replicas', '3', '--promote', '2'];
      const waited = await katamari('index', 'add', 'news@1.0.0', 'one', ...options);
      expect([waited.code, waited.stdout]).toEqual([
        0,
        expect.stringContaining('\nnews@1.0.0 has 1 of 3 replicas: 1 manager can hold it.\n'),
      ]);
      await index('remove', 'news@1.0.0');
      const added = await katamari('index', 'add', 'news@1.0.0', 'one', ...options, '--json');
      expect([added.code, JSON.parse(added.stdout)]).toMatchObject([
        0,
        {
          isNew: true,
          replicas: 3,
          warnings: [
            expect.stringContaining('3 replicas are wanted, and only the manager one has TextSearch'),
            expect.stringContaining('promote it with katamari index promote news@1.0.0'),
          ],
        },
      ]);
      expect(added.stderr).toContain(`${warning} are placed`);
      await index('remove', 'news@1.0.0');
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
