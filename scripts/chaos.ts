// `npm run chaos`: the chaos of test/kit/chaos/chaos.ts for people. Shows what is done to the mesh and how it goes,
// then a summary; exit code 1 when anything did not hold.

import { mkdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { runChaos, type ChaosProgress, type ChaosReport } from '../test/kit/chaos/chaos.ts';

const HELP = `npm run chaos -- [options]

Three Consul servers, two masters, three managers and two faceplates as processes of their own, clients that never pause, and everything that can
befall them, at random: kills, stops, freezes, drains, other numbers of copies, rolling restarts, an absent Consul, cuts of the network.

  --seconds N       how long (600)
  --clients N       (32)
  --seed N          choices of another run, not its moments
  --namespaces      each process in a network namespace of its own, so that ways can be cut; needs root
  --directory DIR   where configurations, data and logs go, and stay (default: a new directory, removed at the end)
  -h, --help
`;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '600' },
    clients: { type: 'string', default: '32' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 32)) },
    namespaces: { type: 'boolean', default: false },
    directory: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

if (values.help) {
  console.log(HELP);
  process.exit(0);
}

/** How often the state is shown where lines cannot be overwritten. */
const SHOWN_EVERY_S = 10;

const options = {
  seconds: positive('seconds', values.seconds),
  clients: positive('clients', values.clients),
  seed: positive('seed', values.seed),
  network: values.namespaces ? ('namespaces' as const) : ('loopback' as const),
  ...(values.directory === undefined ? {} : { directory: values.directory }),
};
// With this process ends whatever it has started, and its network.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(1));
if (values.directory !== undefined) mkdirSync(values.directory, { recursive: true });
console.log(`${options.clients} clients for ${options.seconds} s on ${options.network}, seed ${options.seed}`);
const report = await runChaos({ ...options, onProgress: show });
if (process.stdout.isTTY) process.stdout.write('\n');
for (const line of summary(report)) console.log(line);
process.exit(report.violations.length === 0 ? 0 : 1);

function show({ secondsLeft, sent, failed, faults, news }: ChaosProgress): void {
  const state = `${secondsLeft.toFixed(0).padStart(4)} s left  ${String(sent).padStart(8)} calls  ${failed} failed  ${faults} faults`;
  if (news !== '') {
    if (process.stdout.isTTY) process.stdout.write('\r');
    console.log(`${state}  ${news}`.padEnd(100));
  } else if (process.stdout.isTTY) process.stdout.write(`\r${state.padEnd(100)}`);
  else if (Math.round(secondsLeft) % SHOWN_EVERY_S === 0) console.log(state);
}

function summary(done: ChaosReport): string[] {
  const { sent, lastedMs, tookMs, violations } = done;
  const counts = (record: Readonly<Record<string, number>>): string =>
    Object.entries(record)
      .map(([name, count]) => `${count} ${name}`)
      .join(', ') || 'none';
  const rows = [
    ['Calls', `${sent} in ${(lastedMs / 1_000).toFixed(1)} s, ${Math.round((sent * 1_000) / lastedMs)} a second`],
    ['Done to it', counts(done.faults)],
    ['Ends of calls', counts(done.ends)],
    ['Failed calls by what explains them', counts(done.explained)],
    ['Crossed the end of their connection, never ran', String(done.crossed)],
    ['Clients that found no faceplate for a moment', String(done.nobodyTook)],
    [
      'Executions in the ledger',
      `${done.executions}, ${done.ranAgain} of them of idempotent calls that were sent again`,
    ],
    [
      'Calls took',
      `half of them up to ${tookMs.p50} ms, 99 of 100 up to ${tookMs.p99} ms, the longest ${tookMs.most} ms`,
    ],
    ['Latest call after its deadline', `${Math.round(done.worstLateMs)} ms, but for those that a fault lay on`],
    ['Books read', `${done.booksRead} times`],
    [
      'Whole again after',
      `${(done.wholeAfterMs / 1_000).toFixed(1)} s, registered ${(done.registeredAfterMs / 1_000).toFixed(1)} s later`,
    ],
    ['In the calm afterwards', `${done.calm} calls`],
  ];
  return [
    '',
    ...rows.map(([name = '', text = '']) => `${name.padEnd(50)}${text}`),
    '',
    ...violations.slice(0, 50).map((line) => `VIOLATION  ${line}`),
    violations.length === 0 ? 'Everything held.' : `${violations.length} violations; again with --seed ${done.seed}`,
  ];
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  console.error(`--${name}: found "${text}", expected a whole number above 0`);
  process.exit(2);
}
