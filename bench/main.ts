// `npm run bench`: what people use instead and Katamari, in turn, at the same work; bench/results/ gets what was found.

import { parseArgs } from 'node:util';
import { RUNTIMES, type Runtime } from './contenders.ts';
import { aligned, gridTable, idleLines, isReached, machineFacts, rowTable, writeResults } from './report.ts';
import { gridOf, idleFigures, measureGrid, rowsOfGrid, SETTINGS, SPECIAL, type Effort, type Row } from './works.ts';

const HELP = `npm run bench -- [options]

Starts what people use instead (an Apache Thrift server, jayson, Moleculer, NATS, HAProxy before HTTP workers) and Katamari, drives them in turn
with the same work from another process, round after round, and prints medians, spread, percentiles and ratios. The whole takes
about 15 minutes; keep the machine quiet meanwhile.

  --quick             a round of a second each, one setting: to see that it works, not for figures
  --rounds N          default 5
  --seconds N         of each measurement, default 2
  --runtime NAME      what the mesh runs on: ${RUNTIMES.join(', ')}; its chassis run on Node
  --only WORDS        only contenders whose name contains one of these, separated by commas
  --rows NAMES        only these of the rows with arrangements of their own: ${Object.keys(SPECIAL).join(', ')}, idle; none for none
  --name NAME         of the files in bench/results/, default the runtime; nothing is written with --quick unless it is given
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
// With this process ends whatever it has started.
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
if (!Object.keys(gridOf(effort.runtime)).some(isWanted)) usage(`--only ${values.only}: no contender is called so`);
const names = values.rows === 'none' ? [] : (values.rows?.split(',') ?? [...Object.keys(SPECIAL), 'idle']);

const machine = machineFacts(effort.runtime);
for (const [name, value] of Object.entries(machine)) console.log(`${name.padEnd(10)} ${value}`);
const grid = await measureGrid(effort, isWanted, quick ? SETTINGS.slice(0, 1) : SETTINGS);
const rows: Row[] = rowsOfGrid(grid);
for (const name of names) {
  if (name === 'idle') continue;
  const measure = SPECIAL[name] ?? usage(`--rows ${name}: expected ${Object.keys(SPECIAL).join(', ')}, idle or none`);
  console.error(`  ${name}`);
  rows.push(await measure(effort));
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
  `${rows.filter(isReached).length} of ${rows.length} ratios as wanted${quick ? ' (quick: no figures to go by)' : ''}`,
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
