// `katamari index add`, `check`, `status` and `remove`: what they print of an answer of the mesh.

import { afterEach, describe, expect, onTestFinished, test } from 'vitest';
import type { IndexSummary } from '../../../../services/cli/kit/index-client.ts';
import { startKatamari } from '../../../kit/tools/run.ts';
import { runInside } from '../run-inside.ts';
import { startRpcServer, type RpcServer } from '../rpc-server.ts';

/** A process starts slowly while all tests run. */
const BUSY_MS = 60_000;

let server: RpcServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

const DEGRADED: IndexSummary = {
  name: 'wiki',
  version: '1.0.0',
  source: 'file:///srv/wiki',
  contentService: 'TextSearch',
  replicas: 2,
  replicasServed: 1,
  holders: 2,
  pinnedTo: [],
  promoteAtReplicas: 1,
  state: 'DEGRADED',
  conditions: [],
  share: 1,
  entries: 9,
  bytes: 1024,
  shards: 1,
  served: 1,
  addedAtMs: 0,
  addedBy: 'admin',
  bytesDone: 1024,
  bytesWanted: 2048,
  manifest: '',
  shardList: [],
};

async function run(args: readonly string[], result: unknown) {
  server = await startRpcServer(() => ({ result }));
  return runInside(['index', ...args, '--mesh', server.url, '--token', 'x'], { cwd: '/' });
}

describe('katamari index', () => {
  test('check says that there is no index', async () => {
    const { code, stdout, stderr } = await run(['check'], []);
    expect([code, stdout]).toEqual([0, '']);
    expect(stderr).toContain('No indices.');
  });

  test.each(['check', 'status'])(
    '%s says where to look when no manager tells why replicas are missing',
    async (name) => {
      const { stdout } = await run([name, 'wiki'], [DEGRADED]);
      expect(stdout).toContain('some managers do not serve its shards now; katamari index nodes shows the managers\n');
      await server?.close();
      const told = await run([name, 'wiki'], [{ ...DEGRADED, conditions: ['m1: its disk is full'] }]);
      expect(told.stdout).toContain('m1: its disk is full\n');
      expect(told.stdout).not.toContain('katamari index nodes');
    },
  );

  test('remove prints JSON when it is asked to', async () => {
    const { code, stdout } = await run(['remove', 'wiki@1.0.0', '--json'], null);
    expect([code, JSON.parse(stdout)]).toEqual([0, { name: 'wiki', version: '1.0.0' }]);
  });

  test(
    'add says on Ctrl-C that the mesh goes on',
    async () => {
      const loading = { ...DEGRADED, state: 'LOADING', served: 0, bytesDone: 0 };
      server = await startRpcServer(({ method }) => ({
        result: method === 'addIndex' ? { status: loading, isNew: true, warnings: [] } : [loading],
      }));
      const args = ['index', 'add', 'wiki@1.0.0', 'file:/srv/wiki', '--service', 'TextSearch', '--wait', '1m'];
      const running = startKatamari([...args, '--mesh', server.url, '--token', 'x'], {});
      onTestFinished(() => void (running.child.exitCode ?? running.child.kill('SIGKILL')));
      await running.says(/Added wiki@1.0.0[^]*loading/);
      running.signal('SIGINT');
      const { code, stderr } = await running.ended;
      expect([code, stderr]).toEqual([
        1,
        'Stopped waiting. The mesh goes on with wiki@1.0.0: katamari index status wiki@1.0.0 shows how far it is.\n',
      ]);
    },
    BUSY_MS,
  );

  test('replicate and add say how many replicas there can be', async () => {
    for (const args of [
      ['replicate', 'wiki@1.0.0', '99999'],
      ['add', 'wiki@1.0.0', 'file:/srv/wiki', '--service', 'TextSearch', '--replicas', '-1'],
    ]) {
      const { code, stderr } = await run(args, null);
      expect([code, stderr]).toEqual([2, expect.stringContaining(', expected 1 to 1000\n')]);
      await server?.close();
    }
  });
});
