// Runs the tests: `node scripts/test.mjs node|bun|deno [FILE or folder ...]`. Under Node all of them; under the others all that the runtime can
// make a difference to: left out are the tests of the repository and of the test kit, those of programs in other languages, and most of those
// with many machines, which take minutes. They start real processes with real deadlines, on machines that others use too: a file that fails is
// run once more, alone, and both runs are shown. Fails when a file fails twice, and at once when more than RERUN_MAX fail.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const RERUN_MAX = 3;
const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const bin = (program) => path.join(root, 'node_modules', '.bin', program);
const vitest = path.join(root, 'node_modules', 'vitest', 'vitest.mjs');
const vitestReport = (file) => ['--reporter=default', '--reporter=junit', `--outputFile.junit=${file}`];

// What a runtime runs tests with, how it is told where to write its report, and the flags for several files at a time and for one.
const runtimes = {
  node: {
    command: [process.execPath, vitest, 'run'],
    report: vitestReport,
    together: [],
    alone: ['--no-file-parallelism'],
  },
  bun: {
    command: [bin('bun'), 'test', '--timeout', '60000'],
    report: (file) => ['--reporter=junit', `--reporter-outfile=${file}`],
    together: ['--parallel=2'],
    alone: [],
  },
  deno: {
    command: [bin('deno'), 'run', '-A', vitest, 'run'],
    report: vitestReport,
    together: [],
    alone: ['--no-file-parallelism'],
  },
};

const ofManyMachines = 'test/acceptance/cluster/';
const onNodeOnly = [
  'test/deploy/',
  'test/kit-self/',
  'test/tidy/',
  'test/chassis-sdk/',
  'test/acceptance/cost-of-a-call.test.ts',
  'test/acceptance/matrix.test.ts',
  'test/acceptance/clients.test.ts',
  'test/acceptance/stock-servers.test.ts',
];
const machinesEverywhere = ['manager-killed', 'rolling'].map((name) => `${ofManyMachines}${name}.test.ts`);

const [name = '', ...wanted] = process.argv.slice(2);
const runtime = runtimes[name];
if (runtime === undefined) {
  process.stderr.write('usage: node scripts/test.mjs node|bun|deno [FILE or folder ...]\n');
  process.exit(2);
}
const files = chosenFiles();
if (files.length === 0) {
  process.stderr.write(`No test file is at ${wanted.join(' ')}: name files or folders below test/\n`);
  process.exit(2);
}

const env = { ...process.env };
if (name !== 'node') {
  env.KATAMARI_FUZZ_INPUTS ??= '20000';
  env.KATAMARI_FUZZ_MESH_INPUTS ??= '2000';
}
const folder = mkdtempSync(path.join(os.tmpdir(), 'katamari-tests-'));
const failed = [
  ...tested(
    files.filter((file) => !file.startsWith(ofManyMachines)),
    runtime.together,
  ),
  ...tested(
    files.filter((file) => file.startsWith(ofManyMachines)),
    runtime.alone,
  ),
];
rmSync(folder, { recursive: true });
if (failed.length > 0) {
  process.stderr.write(`\nUnder ${name} failed:\n${failed.map((file) => `  ${file}\n`).join('')}`);
  process.exit(1);
}

function chosenFiles() {
  const all = readdirSync(path.join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .map((file) => `test/${file}`)
    .filter((file) => file.endsWith('.test.ts'))
    .sort();
  if (wanted.length > 0) return all.filter((file) => wanted.some((start) => file.startsWith(start)));
  if (name === 'node') return all;
  return all.filter((file) => {
    if (file.startsWith(ofManyMachines)) return machinesEverywhere.includes(file);
    return !onNodeOnly.some((start) => file.startsWith(start));
  });
}

/** @returns the files that failed, twice unless they were many */
function tested(some, flags) {
  const failures = run(some, flags);
  if (failures.length === 0 || failures.length > RERUN_MAX) return failures;
  process.stdout.write(`\nFailed, and run once more, alone: ${failures.join(' ')}\n`);
  return failures.flatMap((file) => run([file], runtime.alone));
}

/** @returns the files that are not reported as passed */
function run(some, flags) {
  if (some.length === 0) return [];
  const report = path.join(folder, 'report.xml');
  rmSync(report, { force: true });
  const [program, ...args] = [...runtime.command, ...flags, ...runtime.report(report), ...some];
  const { status } = spawnSync(program, args, { cwd: root, env, stdio: 'inherit' });
  if (status === 0) return [];
  const passed = passedFiles(report);
  const failures = some.filter((file) => !passed.has(file));
  // It failed, but no file did: all are suspect.
  return failures.length > 0 ? failures : some;
}

function passedFiles(report) {
  let text = '';
  try {
    text = readFileSync(report, 'utf8');
  } catch {
    // It ended before it could report.
  }
  const suites = [...text.matchAll(/<testsuite name="(?<file>test\/[^"]+\.test\.ts)"(?<facts>[^>]*)>/g)];
  const isPassed = ({ groups }) => !/(?:failures|errors)="[1-9]/.test(groups.facts);
  return new Set(suites.filter(isPassed).map(({ groups }) => groups.file));
}
