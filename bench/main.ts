// `npm run bench` measures Katamari and its alternatives in turn with the same work, and writes the results to
// bench/results/.

import { parseArgs } from 'node:util';
import { RUNTIMES, type Runtime } from './contenders.ts';
import { aligned, gridTable, idleLines, isReached, machineFacts, rowTable, writeResults } from './report.ts';
import { gridOf, idleFigures, measureGrid, rowsOfGrid, SETTINGS, SPECIAL, type Effort, type Row } from './works.ts';

const HELP = `npm run bench -- [options]

Starts Katamari and its alternatives (an Apache Thrift server, jayson, Moleculer, NATS, HAProxy in front of
HTTP workers) and drives them in turn with the same load from another process, round after round. Prints
medians, spread, percentiles and ratios. Takes about 15 minutes; do not use the machine meanwhile.

  --quick             one round of one second each, one setting: checks that the bench works, not the speed
  --rounds N          number of rounds (5)
  --seconds N         duration of each measurement (2)
  --runtime NAME      runtime of the mesh: ${RUNTIMES.join(', ')}; its chassis run on Node
  --only WORDS        only contenders whose name contains one of these words, separated by commas
  --rows NAMES        only these of the rows with a setup of their own: ${Object.keys(SPECIAL).join(', ')},
                      idle; or none
  --name NAME         name of the files in bench/results/ (default: the runtime; with --quick, no files)
  -h, --help

Examples:
  npm run bench
  npm run bench -- --quick
  npm run bench -- --only Thrift,NATS --rows none --rounds 5
`;

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    runtime: { type: 'string', default: 'node' },
    only: { type: 'string' },
    rows: { type: 'string' },
    name: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
// On a signal, exit normally, so that the exit handler ends all child processes.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(1));

process.on('uncaughtException', (error) => {
  console.error(`npm run bench: ${error.message}`);
  process.exit(1);
});

const { quick } = values;
const effort: Effort = {
  rounds: count('rounds', values.rounds, quick ? 1 : 5),
  seconds: count('seconds', values.seconds, quick ? 1 : 2),
  warmUp: quick ? 0.5 : 2,
  runtime: runtimeOf(values.runtime),
  onProgress: (line) => console.error(`  ${line}`),
};
const words = values.only?.toLowerCase().split(',');
const isWanted = (contender: string): boolean => words?.some((word) => contender.toLowerCase().includes(word)) ?? true;
if (!Object.keys(gridOf(effort.runtime)).some(isWanted))
  usage(`--only: no contender has ${JSON.stringify(values.only)} in its name`);
const names = values.rows === 'none' ? [] : (values.rows?.split(',') ?? [...Object.keys(SPECIAL), 'idle']);

const machine = machineFacts(effort.runtime);
for (const [name, value] of Object.entries(machine)) console.log(`${name.padEnd(10)} ${value}`);
const grid = await measureGrid(effort, isWanted, quick ? SETTINGS.slice(0, 1) : SETTINGS);
const rows: Row[] = rowsOfGrid(grid);
for (const name of names) {
  if (name === 'idle') continue;
  const measure =
    SPECIAL[name] ?? usage(`--rows: found "${name}", expected ${Object.keys(SPECIAL).join(', ')}, idle or none`);
  console.error(`  ${name}`);
  rows.push(...[await measure(effort)].flat());
}
const idle = names.includes('idle')
  ? await idleFigures(effort.runtime, quick ? 2 : 20, quick ? 1_000 : 10_000)
  : undefined;

console.log('');
for (const line of aligned(gridTable(grid))) console.log(line);
console.log('');
for (const line of aligned(rowTable(rows))) console.log(line);
console.log('');
if (idle !== undefined) for (const line of idleLines(idle)) console.log(line);
console.log(
  `${rows.filter(isReached).length} of ${rows.length} ratios reach their goal${quick ? ' (--quick: not representative)' : ''}`,
);
const resultName = values.name ?? (quick ? undefined : effort.runtime);
if (resultName !== undefined) {
  const { rounds, seconds } = effort;
  console.log(
    `Written to ${writeResults(resultName, { machine, rounds, seconds, grid, rows, idle })}/${resultName}.{json,md,svg}`,
  );
}
process.exit(0);

function count(option: string, text: string | undefined, otherwise: number): number {
  const value = text === undefined ? otherwise : Number(text);
  return Number.isInteger(value) && value > 0
    ? value
    : usage(`--${option}: found "${text}", expected a whole number above 0`);
}

function runtimeOf(text: string): Runtime {
  return RUNTIMES.find((name) => name === text) ?? usage(`--runtime: found "${text}", expected ${RUNTIMES.join(', ')}`);
}

function usage(why: string): never {
  console.error(why);
  process.exit(2);
}
