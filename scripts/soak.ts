// `npm run soak` runs the soak test of test/kit/mesh/soak.ts. It prints the progress, then a summary. The exit code
// is 1 if an invariant was violated.

import { parseArgs } from 'node:util';
import { runSoak, type SoakProgress, type SoakReport } from '../test/kit/mesh/soak.ts';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    clients: { type: 'string', default: '32' },
    kills: { type: 'string', default: '10' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 32)) },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

if (values.help) {
  console.log('npm run soak -- [--seconds 60] [--clients 32] [--kills 10] [--seed NUMBER]');
  process.exit(0);
}

const options = {
  seconds: positive('seconds', values.seconds),
  clients: positive('clients', values.clients),
  kills: positive('kills', values.kills),
  seed: positive('seed', values.seed),
};
console.log(
  `${options.clients} clients for ${options.seconds} s, ${options.kills} chassis killed or stopped, seed ${options.seed}`,
);
const report = await runSoak({ ...options, onProgress: show });
if (process.stdout.isTTY) process.stdout.write('\n');
for (const line of summary(report)) console.log(line);
process.exit(report.violations.length + report.lateness.length === 0 ? 0 : 1);

function show({ secondsLeft, sent, failed, incidents, last }: SoakProgress): void {
  const text = `${secondsLeft.toFixed(0).padStart(4)} s left  ${String(sent).padStart(8)} calls  ${failed} failed  ${incidents} incidents, last: ${last}`;
  if (process.stdout.isTTY) process.stdout.write(`\r${text.padEnd(100)}`);
  else if (Math.round(secondsLeft) % 5 === 0) console.log(text);
}

function summary(report: SoakReport): string[] {
  const { sent, lastedMs, killToErrorMs, violations, lateness, incidents } = report;
  const counts = (record: Readonly<Record<string, number>>): string =>
    Object.entries(record)
      .map(([name, count]) => `${count} ${name}`)
      .join(', ');
  const done: Record<string, number> = {};
  for (const { what } of incidents) done[what] = (done[what] ?? 0) + 1;
  const sorted = [...killToErrorMs].sort((a, b) => a - b);
  const ms = (value: number | undefined): string => (value === undefined ? '-' : `${value.toFixed(1)} ms`);
  const rows = [
    ['Runtime of the mesh', report.runtime],
    ['Calls', `${sent} in ${(lastedMs / 1_000).toFixed(1)} s, ${Math.round((sent * 1_000) / lastedMs)} per second`],
    ['By protocol', counts(report.byProtocol)],
    ['Faults', `${counts(done)}, one rolling restart`],
    ['Restarts', counts(report.restarts)],
    ['Outcomes of calls', counts(report.ends)],
    ['Counted by the mesh', counts(report.callStats)],
    [
      'From SIGKILL to the error of the running call',
      `median ${ms(sorted[Math.floor(sorted.length / 2)])}, max ${ms(sorted.at(-1))}`,
    ],
    [
      'Latest call after its deadline',
      `${ms(report.worstLateMs)} (${ms(report.worstLateRawMs)} measured, minus the delay of this process and the time that the mesh waited for a CPU)`,
    ],
    [
      'State of the machine',
      `the mesh waited for a CPU ${(report.starvedShare * 100).toFixed(1)} % of the time; the event loop of this process was late by up to ${ms(report.worstLagMs)}`,
    ],
    ['All pools complete after', ms(report.wholeAfterMs)],
  ];
  const broken = [...violations, ...lateness];
  return [
    '',
    ...rows.map(([name = '', text = '']) => `${name.padEnd(46)}${text}`),
    '',
    ...broken.slice(0, 50).map((line) => `VIOLATION  ${line}`),
    broken.length === 0 ? 'No violations.' : `${broken.length} violations; repeat with --seed ${report.seed}`,
  ];
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  console.error(`--${name}: found "${text}", expected a whole number above 0`);
  process.exit(2);
}
