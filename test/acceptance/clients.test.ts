// The client examples, run as their heads say, against a mesh with the Calculator sample; and the page that shows
// them.

import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestMesh, type TestMesh } from '../kit/mesh/mesh.ts';
import { scriptCommand } from '../../core/mod.ts';
import { REPOSITORY } from '../kit/tools/repository.ts';
import { toolPath } from '../kit/tools/tools.ts';

const EXAMPLES = path.join(REPOSITORY, 'examples');
const CLIENTS = path.join(EXAMPLES, 'clients');
/** Compiling the C++ client takes long on a busy machine. */
const COMPILE_MS = 240_000;

interface Example {
  readonly file: string;
  /**
   * Uses the Katamari client instead of generated code: no Thrift compiler, and errors have the names that the mesh
   * gives them.
   */
  readonly isOwn?: boolean;
  /** Shows a third way: THeader, or many calls at once. */
  readonly withHeaders?: boolean;
  /** The commands in its head, except for the Thrift compiler's; the last one runs it. */
  readonly steps: readonly (readonly string[])[];
}

const JARS = 'classes:/usr/share/java/thrift.jar:/usr/share/java/slf4j-api.jar';
const BIN = path.join(REPOSITORY, 'node_modules', '.bin');
const TYPES = ['types', path.join(EXAMPLES, 'calculator.thrift'), '--out', 'calculator-types.ts'];
const TSC = ['--target', 'es2022', '--module', 'nodenext', '--types', 'node', '--rewriteRelativeImportExtensions'];
const own = (...run: string[]): Example => ({
  file: 'calculator.ts',
  isOwn: true,
  withHeaders: true,
  steps: [
    ['node', path.join(REPOSITORY, 'dist', 'services', 'cli', 'main.js'), ...TYPES],
    ...(run[0] === 'node' ? [['node', path.join(BIN, 'tsc'), ...TSC, 'calculator.ts']] : []),
    run,
  ],
});

const EXAMPLE_OF: Readonly<Record<string, Example>> = {
  'TypeScript on Node': own('node', 'calculator.js'),
  'TypeScript on Bun': own(path.join(BIN, 'bun'), 'calculator.ts'),
  'TypeScript on Deno': own(path.join(BIN, 'deno'), 'run', '-A', 'calculator.ts'),
  Python: { file: 'calculator.py', withHeaders: true, steps: [['/usr/bin/python3', 'calculator.py']] },
  Ruby: { file: 'calculator.rb', steps: [['ruby', 'calculator.rb']] },
  'C++': {
    file: 'calculator.cpp',
    withHeaders: true,
    steps: [
      ['sh', '-c', 'g++ -std=c++17 -Igen-cpp calculator.cpp gen-cpp/*.cpp -lthrift -lthriftz -o calculator'],
      ['./calculator'],
    ],
  },
  Java: {
    file: 'CalculatorClient.java',
    steps: [
      ['sh', '-c', `CLASSPATH=${JARS} javac -d classes CalculatorClient.java gen-java/*/*.java`],
      ['java', '-cp', JARS, 'CalculatorClient'],
    ],
  },
  Perl: { file: 'calculator.pl', steps: [['perl', '-Igen-perl', 'calculator.pl']] },
  Node: { file: 'calculator.cjs', steps: [['node', 'calculator.cjs']] },
};

let mesh: TestMesh | undefined;
beforeAll(async () => {
  const command = scriptCommand(path.join(EXAMPLES, 'calculator.ts'));
  mesh = await startTestMesh([{ service: 'Calculator', version: '1.0.0', command, count: 1 }]);
  await mesh.mesh.whenReady;
});
afterAll(() => mesh?.end());

describe('A client example in', () => {
  for (const [language, { file, isOwn = false, withHeaders = false, steps }] of Object.entries(EXAMPLE_OF)) {
    test(
      `${language} calls, has a declared exception and an error explained, and names a version`,
      async () => {
        const directory = mkdtempSync(path.join(tmpdir(), 'katamari-client-'));
        try {
          copyFileSync(path.join(CLIENTS, file), path.join(directory, file));
          if (isOwn) projectIn(directory);
          else symlinkSync(path.join(REPOSITORY, 'node_modules'), path.join(directory, 'node_modules'));
          const options = { cwd: directory, timeout: COMPILE_MS };
          const thrift = [...generatorIn(path.join(CLIENTS, file)), path.join(EXAMPLES, 'calculator.thrift')];
          if (!isOwn) await run(toolPath('thrift'), thrift, options);
          for (const [program = '', ...args] of steps.slice(0, -1)) await run(program, args, options);
          const [program = '', ...args] = steps.at(-1) ?? [];
          const port = mesh?.mesh.addresses.thrift.split(':').at(-1) ?? '';
          const { stdout } = await run(program, [...args, port], options);
          expect(stdout.trim().split('\n')).toEqual([
            '2 + 40 = 42',
            expect.stringMatching(/^1 \/ 0: Cannot divide 1 by 0$/) as string,
            expect.stringMatching(/^error (6|internal): .*add failed: .*2147483648/) as string,
            '15 - 10 = 5',
            ...(withHeaders ? ['6 * 7 = 42'] : []),
          ]);
        } finally {
          rmSync(directory, { recursive: true, force: true });
        }
      },
      COMPILE_MS,
    );
  }

  test('docs/clients.md shows each example as it is in its file', () => {
    const page = readFileSync(path.join(REPOSITORY, 'docs', 'clients.md'), 'utf8');
    for (const { file } of Object.values(EXAMPLE_OF)) {
      expect(page.includes(readFileSync(path.join(CLIENTS, file), 'utf8').trimEnd()), file).toBe(true);
    }
  });
});

/** A user's project with Katamari and the types of Node installed. */
function projectIn(directory: string): void {
  const modules = path.join(directory, 'node_modules');
  mkdirSync(modules);
  symlinkSync(REPOSITORY, path.join(modules, 'katamari'));
  for (const name of ['@types', 'undici-types']) {
    symlinkSync(path.join(REPOSITORY, 'node_modules', name), path.join(modules, name));
  }
  writeFileSync(path.join(directory, 'package.json'), '{"type": "module", "dependencies": {"katamari": "*"}}');
}

/** The Thrift compiler command in the head of an example. */
function generatorIn(file: string): string[] {
  const [, text = ''] = /thrift (-r --gen \S+) /.exec(readFileSync(file, 'utf8')) ?? [];
  return ['-nowarn', ...text.split(' ')];
}

const run = promisify(execFile);
