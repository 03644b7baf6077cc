// Chassis that run as another user than the mesh, as `nobody` here: what they are, what they can reach, and what they
// cannot. Only root can start them, so these tests need root. Elsewhere they are skipped; the gate sets KATAMARI_GATE,
// and fails if it does not run as root.
import { afterEach, describe, expect, test } from 'vitest';
import { scriptCommand } from '../../core/mod.ts';
import { consulClient } from '../../services/consul/mod.ts';
import { documentSigner } from '../../services/mesh/mod.ts';
import { addIndex, writeWords } from '../kit/mesh/index-source.ts';
import { fixture, work } from '../kit/mesh/mesh.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { until } from '../kit/tools/wait.ts';

import { spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

let mesh: MeshProcess | undefined;
afterEach(async () => {
  await mesh?.end();
  mesh = undefined;
});

const NOBODY = 65_534;
const SECRETS = {
  KATAMARI_TOKEN: 'secret-of-the-admin-0123456789',
  KATAMARI_LINK_SECRET: 'secret-of-the-link-0123456789',
  CONSUL_HTTP_TOKEN: 'secret-of-consul-0123456789',
};
const as = (user: string, change: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, unknown>> =>
  work({ user, ...change });

/** Output of a shell command in the chassis of a version. */
async function shell(command: string, version = '1.0.0'): Promise<string> {
  const up = mesh as MeshProcess;
  const answer = await until(`an answer of ${version}`, async () => {
    const found = await up.call(`Work@${version}.shell`, { command });
    return found.error?.data?.['code'] === 'no_pool' ? undefined : found;
  });
  if (answer.error !== undefined) throw new Error(answer.error.message);
  return answer.result as string;
}

const isRoot = process.getuid?.() === 0;
describe.skipIf(!isRoot && process.env['KATAMARI_GATE'] === undefined)('A chassis with user (needs root)', () => {
  test('runs as that user, with its groups, umask, limits and without new privileges', async () => {
    mesh = await startMeshProcess({
      deployments: [
        as('nobody', {
          groups: ['daemon', 'mail'],
          umask: '037',
          systemLimits: { openFiles: 300, memory: '64GiB', processes: 5_000, core: 0, cpu: '1000s' },
        }),
        as(String(NOBODY), { version: '2.0.0', group: 'daemon', groups: [] }),
        as('nobody', { version: '3.0.0', noNewPrivileges: false }),
        work({ version: '4.0.0', umask: '027', systemLimits: { openFiles: 400 } }),
      ] as never,
    });
    expect(await shell('id -un; id -gn; id -Gn | tr " " "\\n" | sort | tr "\\n" " "; echo; umask')).toBe(
      'nobody\nnogroup\ndaemon mail nogroup \n0037',
    );
    expect(await shell('ulimit -n; ulimit -v; ulimit -c; ulimit -t')).toBe('300\n67108864\n0\n1000');
    expect(await shell('grep -E "^(NoNewPrivs|CapEff|CapInh)" /proc/self/status | cut -f2')).toBe(
      '0000000000000000\n0000000000000000\n1',
    );
    expect(await shell('echo "$USER $LOGNAME"')).toBe('nobody nobody');
    expect(await shell('id -u; id -gn; id -Gn', '2.0.0')).toBe(`${NOBODY}\ndaemon\ndaemon`);
    expect(await shell('grep NoNewPrivs /proc/self/status | cut -f2', '3.0.0')).toBe('0');
    expect(await shell('id -u; umask; ulimit -n', '4.0.0')).toBe('0\n0027\n400');
  });

  test('reaches its own socket and the mesh, but no secret, no data and no other socket', async () => {
    mesh = await startMeshProcess({
      deployments: [as('nobody'), work({ version: '2.0.0' }), as('daemon', { version: '3.0.0' })] as never,
      env: SECRETS,
    });
    const up = mesh;
    const [own, root, daemon] = await Promise.all(
      ['1.0.0', '2.0.0', '3.0.0'].map((version) => shell('echo "${KATAMARI_LISTEN#unix:}"', version)),
    );
    const reach = (socket: string): Promise<string> =>
      shell(
        `node -e 'require("net").connect("${socket}", () => { console.log("reached"); process.exit() }).on("error", (e) => console.log(e.code))'`,
      );
    expect(await reach(own ?? '')).toBe('reached');
    expect(await reach(await shell('echo "${KATAMARI_MESH#unix:}"'))).toBe('reached');
    for (const socket of [root, daemon, path.join(path.dirname(path.dirname(own ?? '')), 'mesh.sock')])
      expect(await reach(socket ?? '')).toBe('EACCES');
    expect(await shell(`ls ${path.dirname(path.dirname(own ?? ''))} 2>&1 | grep -c 'Permission denied'`)).toBe('1');
    expect(await shell(`cat ${path.join(up.directory, 'data')}/* 2>&1 | grep -c 'Permission denied'`)).toBe('1');
    expect(await shell(`cat /proc/${up.pid}/environ 2>&1 | grep -c 'Permission denied'`)).toBe('1');
    for (const version of ['1.0.0', '2.0.0', '3.0.0']) {
      const env = await shell('env', version);
      for (const secret of Object.values(SECRETS)) expect(env).not.toContain(secret);
    }
    expect(statSync(own ?? '').uid).toBe(NOBODY);
    const before = up.descendants();
    expect(await up.stop()).toBe(0);
    expect(before.length).toBeGreaterThan(3);
    expect(up.descendants()).toEqual([]);
  });

  test('is a start that fails, with the reason, for an unknown user and without the right', async () => {
    mesh = await startMeshProcess({
      deployments: [as('no-such-user'), as('nobody', { version: '2.0.0', group: 'no-such-group' })] as never,
    });
    const first = mesh;
    await until('both to fail', () => (first.output().match(/"kind":"resource_failed"/g) ?? []).length === 2);
    expect(first.output()).toContain('there is no user no-such-user on this machine; correct user');
    expect(first.output()).toContain('there is no group no-such-group on this machine; correct group');
    const folder = mkdtempSync('/tmp/katamari-nobody-');
    chownSync(folder, NOBODY, NOBODY);
    writeFileSync(
      path.join(folder, 'katamari.yaml'),
      JSON.stringify({
        dataDir: './data',
        ports: { thrift: 0, jsonRpc: 0, stats: 0, link: 0, consul: 0 },
        deployments: [{ service: 'Work', version: '1.0.0', command: fixture('work.ts'), user: 'daemon' }],
      }),
    );
    const up = [...scriptCommand(fileURLToPath(new URL('../../services/cli/main.ts', import.meta.url))), 'up'];
    const child = spawn('setpriv', ['--reuid', `${NOBODY}`, '--regid', `${NOBODY}`, '--clear-groups', '--', ...up], {
      cwd: folder,
      env: { PATH: process.env['PATH'], HOME: folder, DENO_DIR: path.join(folder, 'deno') },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text: Buffer) => (said += text.toString()));
    try {
      await until('the reason', () => said.includes('it cannot run as user daemon: the mesh runs as user 65534'));
    } catch (error) {
      throw new Error(`${(error as Error).message}: ${said}`, { cause: error });
    } finally {
      child.kill('SIGTERM');
      await until('its end', () => child.exitCode !== null || child.signalCode !== null);
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test('reads the shards of a content.directory that it may enter, and cannot change them', async () => {
    const folder = mkdtempSync('/tmp/katamari-shards-');
    const shards = path.join(folder, 'shards');
    const source = path.join(folder, 'source');
    writeWords(source, { a: 'the cat and the dog' });
    chmodSync(folder, 0o755);
    // The rights of the files at the source do not matter.
    chmodSync(path.join(source, 'a/words.txt'), 0o600);
    mkdirSync(shards);
    chmodSync(shards, 0o750);
    chownSync(shards, 0, NOBODY);
    try {
      mesh = await startMeshProcess({
        settings: { content: { sources: [pathToFileURL(folder).href], directory: shards } },
        deployments: [
          as('nobody'),
          as('daemon', { version: '2.0.0', groups: [] }),
          { service: 'Words', version: '1.0.0', command: fixture('words.ts'), user: 'nobody' },
        ] as never,
      });
      const up = mesh;
      const secret = readFileSync(path.join(up.directory, 'data/link-secret'), 'utf8').trim();
      const client = consulClient({
        address: up.addresses.consul,
        token: up.consulToken,
        signer: documentSigner('test', () => [secret]),
      });
      await addIndex(client, source, '1.0.0');
      let answer: unknown;
      await until(
        () => `an answer of the index, not ${JSON.stringify(answer)}`,
        async () => {
          const { result, error } = await up.call('wiki.total', { word: 'the' });
          answer = result ?? error?.message;
          return result === 2;
        },
      );
      const content = path.join(shards, 'live/wiki@1.0.0/a/content');
      expect(await shell(`cat ${content}/words.txt`)).toBe('the cat and the dog');
      expect(
        await shell(
          `(echo x >> ${content}/words.txt; rm ${content}/words.txt; touch ${content}/new) 2>&1 | grep -c denied`,
        ),
      ).toBe('3');
      expect(await shell(`cat ${content}/words.txt 2>&1 | grep -c denied`, '2.0.0')).toBe('1');
    } finally {
      await mesh?.end();
      mesh = undefined;
      rmSync(folder, { recursive: true, force: true });
    }
  }, 120_000);
});
