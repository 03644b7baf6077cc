// Runs the tests: `node scripts/test.mjs node|bun|deno|unit [--all] [FILE or folder ...]`.
//   node       all tests, or those that are named
//   bun, deno  the tests whose result often depends on the runtime; with --all, those where it seldom does too
//   unit       on Node, the tests that start no process, need no program beside Node and no build
// Tests drive real processes with real deadlines, and the machine may be busy. A file that fails is run once more,
// alone. The end of the run lists every test that had to be run twice, by name and with its error. The run fails when
// a file fails twice, or at once when more than RERUN_MAX files fail.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** A busy machine upsets several files at once; a defect in what all use upsets most of them. */
const RERUN_MAX = 8;
/** Characters of an error in the list at the end. */
const ERROR_LENGTH_MAX = 2_000;
const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const bin = (program) => path.join(root, 'node_modules', '.bin', program);
const vitest = path.join(root, 'node_modules', 'vitest', 'vitest.mjs');
const vitestReport = (file) => ['--reporter=default', '--reporter=junit', `--outputFile.junit=${file}`];

// The command of each runtime, the flag that names its report, and the flags for as many files at a time as two cores
// can run, for three, and for one.
const onNode = {
  command: [process.execPath, vitest, 'run'],
  report: vitestReport,
  together: [],
  inThrees: ['--maxWorkers=3'],
  alone: ['--no-file-parallelism'],
};
const runtimes = {
  node: onNode,
  // The files share a module registry: loading the code for each file took half of the time.
  unit: { ...onNode, together: ['--no-isolate'] },
  bun: {
    command: [bin('bun'), 'test', '--timeout', '60000'],
    report: (file) => ['--reporter=junit', `--reporter-outfile=${file}`],
    together: ['--parallel=3'],
    inThrees: ['--parallel=3'],
    alone: [],
  },
  deno: { ...onNode, command: [bin('deno'), 'run', '-A', vitest, 'run'] },
};

// These start a dozen processes each, call them without pause, and wait for failovers: three at a time, after all
// others.
const ofManyMachines = 'test/acceptance/cluster/';
// The runtime makes no difference to these: tests of the repository, of the test kit, and of programs in other
// languages.
const onNodeOnly = [
  'test/deploy/',
  'test/kit-self/',
  'test/tidy/',
  'test/chassis-sdk/cpp.test.ts',
  'test/examples/content-servers.test.ts',
  'test/chassis-sdk/java.test.ts',
  'test/chassis-sdk/python',
  'test/chassis-sdk/ruby.test.ts',
  'test/content-servers/',
  'test/acceptance/cost-of-a-call.test.ts',
  'test/acceptance/matrix.test.ts',
  'test/acceptance/clients.test.ts',
  'test/acceptance/search-clients.test.ts',
  'test/acceptance/other-user.test.ts',
  'test/acceptance/stock-servers.test.ts',
];
// What these test is the same code on every runtime, and takes long. They run there before a release.
const seldomDifferent = [
  'test/acceptance/audit-log.test.ts',
  'test/acceptance/browser-attacks.test.ts',
  'test/acceptance/consul.test.ts',
  'test/acceptance/many-managers.test.ts',
  'test/acceptance/poison.test.ts',
  'test/acceptance/queues.test.ts',
  'test/acceptance/quotas.test.ts',
  'test/acceptance/second-mesh.test.ts',
  'test/acceptance/soak.test.ts',
  'test/examples/',
  'test/services/access/',
  'test/services/audit/',
  'test/services/cli/bench/',
  'test/services/cli/commands/',
  'test/services/cli/conform/',
  'test/services/cli/doctor/',
  'test/services/cli/program.test.ts',
  'test/services/config/',
  'test/services/gather/',
  'test/services/master/',
];
const machinesEverywhere = ['manager-killed', 'rolling'].map((name) => `${ofManyMachines}${name}.test.ts`);

const [name = '', ...words] = process.argv.slice(2);
const named = words.filter((word) => word !== '--all');
const runtime = runtimes[name];
if (runtime === undefined) {
  process.stderr.write('usage: node scripts/test.mjs node|bun|deno|unit [--all] [FILE or folder ...]\n');
  process.exit(2);
}
const files = chosenFiles();
if (files.length === 0) {
  process.stderr.write(
    `No ${name === 'unit' ? 'unit test' : 'test'} file is at ${named.join(' ')}: name files or folders below test/\n`,
  );
  process.exit(2);
}

const env = { ...process.env };
if (name !== 'node') {
  env.KATAMARI_FUZZ_INPUTS ??= name === 'unit' ? '5000' : '10000';
  env.KATAMARI_FUZZ_MESH_INPUTS ??= '2000';
}
const folder = mkdtempSync(path.join(os.tmpdir(), 'katamari-tests-'));
/** Tests that failed and were run once more, as `file: test`. */
const repeated = [];
const failed = [
  ...tested(
    files.filter((file) => !file.startsWith(ofManyMachines)),
    runtime.together,
  ),
  ...tested(
    files.filter((file) => file.startsWith(ofManyMachines)),
    runtime.inThrees,
  ),
];
rmSync(folder, { recursive: true });
if (repeated.length > 0) {
  process.stdout.write(`\nRun twice under ${name}:\n${repeated.map((test) => `  ${test}\n`).join('')}`);
}
if (failed.length > 0) {
  const lines = failed.flatMap(({ file, tests }) => [`  ${file}\n`, ...tests.map((test) => `    ${test}\n`)]);
  process.stderr.write(`\nFailed under ${name}:\n${lines.join('')}`);
  process.exit(1);
}

function chosenFiles() {
  const all = readdirSync(path.join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .map((file) => `test/${file}`)
    .filter((file) => file.endsWith('.test.ts'))
    .sort();
  if (named.length > 0) {
    const starts = named.map((one) => path.relative(root, path.resolve(one)));
    return all.filter((file) => starts.some((start) => file.startsWith(start)));
  }
  if (name === 'node') return all;
  if (name === 'unit') return all.filter((file) => !startsPrograms(file));
  return all.filter((file) => {
    if (file.startsWith(ofManyMachines)) return machinesEverywhere.includes(file);
    const leftOut = words.includes('--all') ? onNodeOnly : [...onNodeOnly, ...seldomDifferent];
    return !leftOut.some((start) => file.startsWith(start));
  });
}

/** Whether a test, or a file below test/ that it imports, starts a program or a mesh, or needs a build. */
function startsPrograms(file, seen = new Set()) {
  if (seen.has(file) || !file.startsWith('test/') || !existsSync(path.join(root, file))) return false;
  seen.add(file);
  const text = readFileSync(path.join(root, file), 'utf8');
  if (/node:child_process|node:worker_threads|\bscriptCommand\b|\bstartMesh\b|\btoolPath\(/.test(text)) return true;
  // The configuration of the samples names scripts that Node 20 runs only when they are built.
  if (text.includes('examples/katamari.yaml')) return true;
  return [...text.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)].some(([, target]) =>
    startsPrograms(path.posix.join(path.posix.dirname(file), target), seen),
  );
}

/** @returns the files that failed: twice, unless they were many; and their tests that failed, with their errors */
function tested(some, flags) {
  const failures = run(some, flags);
  if (failures.length === 0 || failures.length > RERUN_MAX) return failures;
  process.stdout.write(`\nThese failed and are run once more, alone: ${failures.map(({ file }) => file).join(' ')}\n`);
  return failures.flatMap(({ file, tests }) => {
    repeated.push(...(tests.length === 0 ? [`${file}: the whole file`] : tests.map((test) => `${file}: ${test}`)));
    return run([file], runtime.alone);
  });
}

/** @returns the files that are not reported as passed, with the names of the tests that failed */
function run(some, flags) {
  if (some.length === 0) return [];
  const report = path.join(folder, 'report.xml');
  rmSync(report, { force: true });
  const [program, ...args] = [...runtime.command, ...flags, ...runtime.report(report), ...some];
  const { status } = spawnSync(program, args, { cwd: root, env, stdio: 'inherit' });
  if (status === 0) return [];
  const suites = readReport(report);
  const failures = some.filter((file) => suites.get(file)?.isPassed !== true);
  // The run failed though no file did: all of them are suspect.
  return (failures.length > 0 ? failures : some).map((file) => ({ file, tests: suites.get(file)?.failed ?? [] }));
}

/** The JUnit report, by file. Empty when the runner ended before it wrote one. */
function readReport(report) {
  const suites = new Map();
  if (!existsSync(report)) return suites;
  const text = readFileSync(report, 'utf8');
  for (const part of text.split(/(?=<testsuite )/)) {
    const head = /^<testsuite name="(test\/[^"]+\.test\.ts)"([^>]*)>/.exec(part);
    if (head === null) continue;
    const failed = [
      ...part.matchAll(/<testcase\b([^>]*[^/])>(?:(?!<\/testcase>)[\s\S])*?<(?:failure|error)\b([^>]*)/g),
    ].map(([, test, failure]) => {
      const error = attribute(failure, 'message');
      return `${attribute(test, 'name') ?? '?'}${error === undefined ? '' : `: ${error.slice(0, ERROR_LENGTH_MAX)}`}`;
    });
    suites.set(head[1], { isPassed: !/(?:failures|errors)="[1-9]/.test(head[2]), failed });
  }
  return suites;
}

function attribute(tag, name) {
  const value = new RegExp(` ${name}="([^"]*)"`).exec(` ${tag}`)?.[1];
  return value === undefined ? undefined : unescaped(value);
}

function unescaped(text) {
  const characters = { '&lt;': '<', '&gt;': '>', '&quot;': '"', '&apos;': "'", '&amp;': '&' };
  return text.replaceAll(/&(?:lt|gt|quot|apos|amp);/g, (entity) => characters[entity]);
}
