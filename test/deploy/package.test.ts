// The npm package: it contains only the product, installs in an empty project, type-checks there with every library
// check on, and runs on Node, Bun and Deno.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { REPOSITORY } from '../kit/tools/repository.ts';

const PROGRAM = `
import { chassis, KatamariError, ThriftException, type ChassisOptions, type HandlerContext } from 'katamari';
import { connect, type CallOptions, type ConnectOptions, type Mesh } from 'katamari/client';
import { FaceplateCalls, serveLines, type Faceplate, type FaceplateModule } from 'katamari/faceplate';

export type Public = [ChassisOptions, HandlerContext, CallOptions, ConnectOptions, Mesh, Faceplate, FaceplateModule];
const named = { chassis, KatamariError, ThriftException, connect, FaceplateCalls, serveLines };
console.log(Object.entries(named).map(([name, value]) => \`\${name} \${typeof value}\`).join(', '));
`;

const PRINTED =
  'chassis function, KatamariError function, ThriftException function, connect function, FaceplateCalls function, serveLines function';

let folder: string;
let packed: readonly string[];

const bin = (program: string): string => path.join(REPOSITORY, 'node_modules', '.bin', program);
const run = (program: string, args: readonly string[], cwd: string): string =>
  execFileSync(program, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'katamari-package-'));
  // Without scripts: dist/ is already built, and a build here would disturb concurrent tests.
  const [made] = JSON.parse(
    run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], REPOSITORY),
  ) as { filename: string; files: { path: string }[] }[];
  if (made === undefined) throw new Error('npm pack made no package');
  packed = made.files.map((file) => file.path);
  // Unpacked manually, with the dependencies of the repository, so the test needs no registry.
  const modules = path.join(folder, 'node_modules');
  mkdirSync(path.join(modules, 'katamari'), { recursive: true });
  run('tar', ['xzf', made.filename, '-C', path.join(modules, 'katamari'), '--strip-components=1'], folder);
  symlinkSync(path.join(REPOSITORY, 'node_modules'), path.join(modules, 'katamari', 'node_modules'));
  symlinkSync(path.join(REPOSITORY, 'node_modules', '@types'), path.join(modules, '@types'));
  writeFileSync(path.join(folder, 'package.json'), '{"type": "module"}');
  writeFileSync(path.join(folder, 'program.ts'), PROGRAM);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('The npm package', () => {
  test('contains the product without tests, samples and benchmarks', () => {
    const folders = new Set(packed.map((file) => file.replace(/^dist\//, '').split('/')[0]));
    expect([...folders].filter((name) => /^(?:test|examples|bench|scripts|node_modules)$/.test(name ?? ''))).toEqual(
      [],
    );
    expect(packed.filter((file) => /\.test\.|\/tests?\/|\/examples\//.test(file))).toEqual([]);
    const needed = [
      'README.md',
      'LICENSE',
      'idl/katamari.thrift',
      'dist/idl/chassis.thrift',
      'dist/services/cli/main.js',
    ];
    expect(packed).toEqual(expect.arrayContaining(needed));
  });

  test('type-checks in an empty project, strictly and including its libraries, and runs on Node', () => {
    const compilerOptions = {
      strict: true,
      skipLibCheck: false,
      target: 'esnext',
      module: 'nodenext',
      types: ['node'],
    };
    writeFileSync(path.join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['program.ts'] }));
    const tsc = path.join(REPOSITORY, 'node_modules', 'typescript', 'bin', 'tsc');
    expect(run('node', [tsc, '-p', folder], folder)).toBe('');
    expect(run('node', ['program.js'], folder).trim()).toBe(PRINTED);
  });

  test('runs on Bun', () => {
    expect(run(bin('bun'), ['run', 'program.ts'], folder).trim()).toBe(PRINTED);
  });

  test('type-checks and runs on Deno', () => {
    const manual = '--node-modules-dir=manual';
    run(bin('deno'), ['check', '--no-lock', manual, 'program.ts'], folder);
    expect(run(bin('deno'), ['run', '-A', '--no-lock', manual, 'program.ts'], folder).trim()).toBe(PRINTED);
  });
});
