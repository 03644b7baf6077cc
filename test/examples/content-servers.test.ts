// The programs of docs/content-servers.md, as the page shows them: each passes the checks of `katamari conform` for
// content servers, and all find the same lines.

import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodeResult, encodeParams, parseIdl, readIdlFile } from '../../core/idl/mod.ts';
import { Link } from '../../core/link/mod.ts';
import { DEFAULT_LIMITS, KatamariError, systemClock } from '../../core/mod.ts';
import { contentInterface, createCall } from '../../core/rpc/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import type { Summary } from '../../services/cli/conform/report.ts';
import { consulClient } from '../../services/consul/mod.ts';
import { documentSigner } from '../../services/mesh/mod.ts';
import { addIndex } from '../kit/mesh/index-source.ts';
import { startMeshProcess } from '../kit/mesh/mesh-process.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { runKatamari } from '../kit/tools/run.ts';
import { toolPath } from '../kit/tools/tools.ts';
import { until } from '../kit/tools/wait.ts';

const PAGE = readFileSync(path.join(REPOSITORY, 'docs/content-servers.md'), 'utf8');
const EXAMPLES = path.join(REPOSITORY, 'chassis-sdk/python/examples');
const KITS = path.join(REPOSITORY, 'chassis-sdk');

/** The program below a heading of the page. */
function programBelow(heading: string): string {
  const [, section = ''] = PAGE.split(`## ${heading}\n`);
  const [, program = ''] = /^```\w+\n(.*?)^```$/ms.exec(section) ?? [];
  return program;
}

const PROGRAMS: Readonly<Record<string, { readonly heading: string; readonly file: string }>> = {
  TypeScript: { heading: 'TypeScript content server', file: 'server.ts' },
  Python: { heading: 'Python content server', file: 'grep_content.py' },
  Ruby: { heading: 'Ruby content server', file: 'grep_content.rb' },
};

const STRICT = ['--strict', '--module', 'nodenext', '--target', 'es2022', '--types', 'node', '--skipLibCheck'];

let folder: string;
let commands: Readonly<Record<string, readonly string[]>>;
const env: Record<string, string> = {};
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-grep-'));
  const at = (...names: readonly string[]): string => path.join(folder, ...names);
  writeFileSync(at('grep.thrift'), programBelow('Interface: the parameter `shards` and `katamari.gather`'));
  for (const { heading, file } of Object.values(PROGRAMS)) writeFileSync(at(file), programBelow(heading));
  for (const language of ['py', 'rb'])
    execFileSync(toolPath('thrift'), ['-nowarn', '--gen', language, 'grep.thrift'], { cwd: folder });
  mkdirSync(at('node_modules'));
  symlinkSync(REPOSITORY, at('node_modules', 'katamari'));
  for (const name of ['@types', 'undici-types'])
    symlinkSync(path.join(REPOSITORY, 'node_modules', name), at('node_modules', name));
  writeFileSync(at('package.json'), '{ "type": "module" }');
  compile(['server.ts']);
  mkdirSync(at('book'));
  writeFileSync(at('book', '1'), 'a cat\na dog\n');
  writeFileSync(at('book', '2'), 'two cats\n');
  writeFileSync(at('poem'), 'no cat\nat all\n');
  writeFileSync(at('broken'), Buffer.of(0x61, 0xff, 0x0a));
  env['PYTHONPATH'] = [at('gen-py'), path.join(KITS, 'python')].join(path.delimiter);
  env['PYTHONDONTWRITEBYTECODE'] = '1';
  commands = {
    TypeScript: ['node', at('server.js')],
    Python: ['/usr/bin/python3', at('grep_content.py')],
    Ruby: [toolPath('ruby'), '-W0', '-I', path.join(KITS, 'ruby/lib'), at('grep_content.rb')],
  };
});
afterAll(() => rmSync(folder, { recursive: true }));

function compile(files: readonly string[]): void {
  const tsc = path.join(REPOSITORY, 'node_modules/typescript/bin/tsc');
  execFileSync('node', [tsc, ...STRICT, ...files], { cwd: folder });
}

describe('The content servers of docs/content-servers.md', () => {
  test.each(Object.keys(PROGRAMS))(
    'in %s pass katamari conform, and find lines',
    async (language) => {
      const command = commands[language] ?? [];
      const shards = ['--content', path.join(folder, 'book'), '--damaged', path.join(folder, 'broken')];
      const { stdout, stderr } = await runKatamari(['conform', '--json', ...shards, '--', ...command], { env });
      expect(stderr).toBe('');
      const { checks } = JSON.parse(stdout) as Summary;
      expect(checks.filter(({ verdict }) => verdict === 'failed')).toEqual([]);
      const ofContent = checks.filter(({ id, verdict }) => id.startsWith('content-') && verdict === 'ok');
      expect(ofContent.length).toBe(13);
      await whileRunning(command, async (ask) => {
        for (const name of ['book', 'poem'])
          expect(
            await ask(contentInterface(), 'open', { shard: `b@1.0.0/${name}`, path: path.join(folder, name) }),
          ).toEqual({
            entries: name === 'book' ? 3 : 2,
            more: { files: name === 'book' ? '2' : '1' },
          });
        const all = ['b@1.0.0/book:1: a cat', 'b@1.0.0/book:3: two cats', 'b@1.0.0/poem:1: no cat'];
        expect(await ask(grep(), 'grep', { pattern: 'cats?$' })).toEqual(all);
        expect(await ask(grep(), 'grep', { shards: ['b@1.0.0/poem'], pattern: 'a' })).toEqual([
          'b@1.0.0/poem:1: no cat',
          'b@1.0.0/poem:2: at all',
        ]);
        expect(await ask(grep(), 'grep', { pattern: '(' })).toEqual({ why: expect.stringMatching(/\w/) as string });
        await expect(ask(grep(), 'grep', { shards: ['b@1.0.0/song'], pattern: 'a' })).rejects.toEqual(
          new KatamariError('no_pool', 'Shard b@1.0.0/song is not open here; open are b@1.0.0/book, b@1.0.0/poem'),
        );
      });
    },
    120_000,
  );

  test('serve an index in a mesh, and a call of it returns the lines of all its shards', async () => {
    const source = path.join(folder, 'source');
    mkdirSync(source);
    for (const name of ['poem', 'book']) cpSync(path.join(folder, name), path.join(source, name), { recursive: true });
    // Versions of one service, so that each index version has the server of one language.
    const versions = Object.entries(PROGRAMS).map(([language, { file }], i) => {
      const program = readFileSync(path.join(folder, file), 'utf8').replace('1.0.0', `${i + 1}.0.0`);
      return { language, file: `v${i + 1}-${file}`, version: `${i + 1}.0.0`, program };
    });
    for (const { file, program } of versions) writeFileSync(path.join(folder, file), program);
    compile(versions.map(({ file }) => file).filter((file) => file.endsWith('.ts')));
    const directory = path.join(folder, 'mesh');
    mkdirSync(directory);
    const mesh = await startMeshProcess({
      directory,
      settings: { content: { sources: [pathToFileURL(source).href] } },
      deployments: versions.map(({ language, file, version }) => ({
        service: 'Grep',
        version,
        command: [...(commands[language] ?? []).slice(0, -1), path.join(folder, file.replace(/ts$/, 'js'))],
        env: { ...env },
        count: 2,
      })),
    });
    try {
      const secret = readFileSync(path.join(directory, 'data/link-secret'), 'utf8').trim();
      const signer = documentSigner('test', () => [secret]);
      const client = consulClient({ address: mesh.addresses.consul, token: mesh.consulToken, signer });
      for (const { version } of versions)
        await addIndex(client, source, version, { contentService: 'Grep', contentRange: version });
      for (const { version } of versions) {
        const grepped = async (params: object): Promise<unknown> =>
          (await mesh.call(`wiki@${version}.grep`, params)).result;
        const lines = [
          `wiki@${version}/book:1: a cat`,
          `wiki@${version}/book:3: two cats`,
          `wiki@${version}/poem:1: no cat`,
        ];
        await until(
          `wiki@${version} to be served`,
          async () => JSON.stringify(await grepped({ pattern: 'cats?$' })) === JSON.stringify(lines),
        );
        expect(await grepped({ pattern: 'all', shards: [`wiki@${version}/poem`] })).toEqual([
          `wiki@${version}/poem:2: at all`,
        ]);
        const { error } = await mesh.call(`wiki@${version}.grep`, { pattern: '(' });
        expect(error?.data).toMatchObject({ exception: 'BadPattern' });
      }
    } finally {
      await mesh.end();
    }
  }, 120_000);

  test('include the sample of the Python kit, unchanged', () => {
    for (const [heading, file] of [
      ['Python content server', 'grep_content.py'],
      ['Interface: the parameter `shards` and `katamari.gather`', 'grep.thrift'],
    ] as const)
      expect(programBelow(heading)).toBe(readFileSync(path.join(EXAMPLES, file), 'utf8'));
  });
});

function grep(): Interface {
  const { services } = parseIdl(readIdlFile(path.join(folder, 'grep.thrift')));
  return services.get('Grep') as Interface;
}

/** Calls a method: the result, or the fields of the declared exception. */
type Ask = (of: Interface, method: string, params: Readonly<Record<string, unknown>>) => Promise<unknown>;

/** Runs a chassis, linked to it like its manager. */
async function whileRunning(command: readonly string[], use: (ask: Ask) => Promise<void>): Promise<void> {
  const socket = path.join(folder, 'sock');
  const [program = '', ...args] = command;
  const child = spawn(program, args, {
    env: { ...process.env, ...env, KATAMARI_LISTEN: `unix:${socket}`, KATAMARI_LIFELINE: 'stdin' },
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  const exited = new Promise((resolve) => child.once('exit', resolve));
  try {
    const connected = await until('it to listen', () => connectedTo(socket));
    const link = new Link(connected, { peer: 'the chassis', limits: DEFAULT_LIMITS });
    await use(async (of, name, params) => {
      const method = of.methods.get(name);
      if (method === undefined) throw new Error(`${of.service} has no method ${name}`);
      const service = of.service === 'Content' ? 'katamari.Content' : '';
      const deadlineMs = systemClock.nowMs() + 10_000;
      const call = createCall({ service, method: name, args: encodeParams(method, params), deadlineMs });
      const result = decodeResult(method, (await link.dispatch(systemClock)(call)).body);
      return result.ok ? result.value : result.fields;
    });
    link.close();
  } finally {
    child.kill('SIGKILL');
    await exited;
    rmSync(socket, { force: true });
  }
}

/** A connection; undefined while nothing listens there. */
function connectedTo(socket: string): Promise<Socket | undefined> {
  const connection = connect(socket);
  return new Promise((resolve) => {
    connection.once('connect', () => resolve(connection));
    connection.once('error', () => resolve(undefined));
  });
}
