// `npm run chaos` runs the chaos test of test/kit/chaos/chaos.ts. It prints each fault and the progress, then a
// summary. The exit code is 1 if an invariant was violated.

import { mkdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { runChaos, type ChaosProgress, type ChaosReport } from '../test/kit/chaos/chaos.ts';

const HELP = `npm run chaos -- [options]

Starts three Consul servers, two masters, three managers and two faceplates as separate processes, and
clients that call chassis and two indices without pause. Meanwhile it injects random faults: kills, stops,
freezes, drains, changes of the number of copies, rolling restarts, Consul outages and nonsense, exhausted
files, memory and disks, damaged and missing files of shards, sources that are away, new versions of an
index, and network partitions. Every answer of an index is compared with what is in it.

  --seconds N       duration (600)
  --clients N       number of clients (32)
  --seed N          repeat the random choices of another run (their timing may differ)
  --namespaces      run each process in its own network namespace, so that the network can be cut; needs root
  --directory DIR   keep configurations, data and logs here (default: a new directory, removed at the end)
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

/** Interval of the progress output if lines cannot be overwritten. */
const SHOWN_EVERY_S = 10;

const options = {
  seconds: positive('seconds', values.seconds),
  clients: positive('clients', values.clients),
  seed: positive('seed', values.seed),
  network: values.namespaces ? ('namespaces' as const) : ('loopback' as const),
  ...(values.directory === undefined ? {} : { directory: values.directory }),
};
// On a signal, exit normally, so that the exit handlers end all child processes and remove the network.
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
    ['Calls', `${sent} in ${(lastedMs / 1_000).toFixed(1)} s, ${Math.round((sent * 1_000) / lastedMs)} per second`],
    ['Faults', counts(done.faults)],
    ['Outcomes of calls', counts(done.ends)],
    ['Failed calls by the fault that explains them', counts(done.explained)],
    ['Calls lost with a closing connection, never ran', String(done.crossed)],
    ['Times that a client found no faceplate', String(done.nobodyTook)],
    ['Executions in the ledger', `${done.executions}, of which ${done.ranAgain} are retries of idempotent calls`],
    ['Latency', `p50 ${tookMs.p50} ms, p99 ${tookMs.p99} ms, max ${tookMs.most} ms`],
    ['Latest call after its deadline', `${Math.round(done.worstLateMs)} ms, without calls that a fault affected`],
    [
      'Calls of indices',
      `${done.indices.sent}: ${counts(done.indices.ends)}; explained: ${counts(done.indices.explained)}`,
    ],
    ['All shards whole after', `${(done.indices.wholeAfterMs / 1_000).toFixed(1)} s`],
    ['Call statistics checked', `${done.countersRead} times`],
    [
      'All pools complete after',
      `${(done.wholeAfterMs / 1_000).toFixed(1)} s, registered ${(done.registeredAfterMs / 1_000).toFixed(1)} s later`,
    ],
    ['Calls after the faults, which must all succeed', `${done.calm}, ${done.indices.calm} of indices`],
    ['CPU of the busiest process at rest', `${(done.restCpu * 100).toFixed(2)} %`],
  ];
  return [
    '',
    ...rows.map(([name = '', text = '']) => `${name.padEnd(50)}${text}`),
    '',
    ...violations.slice(0, 50).map((line) => `VIOLATION  ${line}`),
    violations.length === 0 ? 'No violations.' : `${violations.length} violations; repeat with --seed ${done.seed}`,
  ];
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  console.error(`--${name}: found "${text}", expected a whole number above 0`);
  process.exit(2);
}
