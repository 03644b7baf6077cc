// docs/versions.md, step by step: each of its commands is run as it stands there, and does what the page says.

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { scriptCommand } from '../../core/mod.ts';
import { startMeshProcess, type MeshProcess } from '../kit/mesh/mesh-process.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { runKatamari } from '../kit/tools/run.ts';
import { until } from '../kit/tools/wait.ts';

const run = promisify(execFile);
const START = ['npm ci', 'npm start'];
/** What the output of a command has, if the page says so. */
const SHOWS: Readonly<Record<string, RegExp>> = {
  'katamari call Reformulate@2.0.0.suggest word=tommorow limit=1': /tomorrow/,
  'node dist/examples/clients/visitors.js 300': /^300 visitors, 0 failed\n {2}1\.0\.0: 300 visitors, 240 clicks\n$/,
  'katamari diff Reformulate --calls 1': /^\[\]\.score of suggest differs in \d+ of \d+$/m,
  'katamari route Reformulate 1.0.0=95 2.0.0=5 --mirror off': /^2\.0\.0 +5 +5%/m,
  'katamari route Reformulate --explain --key visitor-7': /^1\.0\.0: the weights choose it for this key\.$/m,
  'node dist/examples/clients/visitors.js 2000': /^ {2}2\.0\.0: 121 visitors, 121 clicks$/m,
  'katamari compare Reformulate': /^click .* 2\.0\.0 has a higher rate of click: 100 % against 80 %/m,
  'katamari rollout Reformulate': /^Reformulate 1\.0\.0 -> 2\.0\.0/m,
  'katamari route Reformulate --history': /1\.0\.0=95 2\.0\.0=5/,
};

/** Commands in the fenced blocks of shell of the page. */
const commands = [
  ...readFileSync(path.join(REPOSITORY, 'docs/versions.md'), 'utf8').matchAll(/```sh\n(.*?)```/gs),
].flatMap(([, block = '']) => block.trim().split('\n'));

let mesh: MeshProcess;
beforeAll(async () => {
  mesh = await startMeshProcess({ config: fileURLToPath(new URL('../../examples/katamari.yaml', import.meta.url)) });
  await until('both versions', async () => {
    const { pools } = await mesh.status();
    const alive = pools.filter(({ service, alive: copies }) => service === 'Reformulate' && copies === 2);
    return alive.length === 2;
  });
});
afterAll(() => mesh?.end());

/** Runs a command of the page, against the mesh of this test. */
async function runCommand(command: string): Promise<string> {
  // Words in quotes may have spaces.
  const words = [...command.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');
  const [program, ...args] = words;
  const { addresses, adminToken } = mesh;
  if (program === 'katamari') {
    const env = { KATAMARI_URL: addresses.jsonRpc, KATAMARI_TOKEN: adminToken };
    const { code, stdout, stderr } = await runKatamari(args, { env });
    expect([command, stderr, code]).toEqual([command, '', 0]);
    return stdout;
  }
  const script = /^dist\/(examples\/clients\/\w+)\.js$/.exec(args[0] ?? '')?.[1];
  expect([program, script]).toEqual(['node', 'examples/clients/visitors']);
  const [runtime = '', ...first] = scriptCommand(path.join(REPOSITORY, `${script}.ts`));
  const { stdout, stderr } = await run(runtime, [...first, ...args.slice(1), addresses.jsonRpc]);
  expect([command, stderr]).toEqual([command, '']);
  return stdout;
}

describe('Try a new version on 5 % of your users', () => {
  test('begins with commands that start the samples', () => {
    expect(commands.slice(0, START.length)).toEqual(START);
    expect(commands.length).toBeGreaterThan(12);
    expect(Object.keys(SHOWS).filter((command) => !commands.includes(command))).toEqual([]);
  });

  for (const command of commands.slice(START.length))
    test(
      command,
      async () => {
        expect(await runCommand(command)).toMatch(SHOWS[command] ?? /./);
        // Copies of calls are compared a moment after the answers.
        if (command.endsWith('visitors.js 300'))
          await until('the copies', async () => (await runCommand('katamari diff Reformulate')).includes('differs in'));
      },
      120_000,
    );
});
