// `npm run cluster` simulates a mesh of many machines on one machine. Consul servers, masters, managers and
// faceplates run as separate processes with separate addresses, and run the sample chassis. The script prints the
// addresses, reads commands (kill, freeze, cut ...) from standard input, and stops everything on Ctrl-C. The cluster
// itself is test/kit/cluster/cluster.ts, which the tests use, too.

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { parse } from 'yaml';
import { formatTable, processTerminal, type Column } from '../services/cli/kit/terminal.ts';
import { startCluster, type Cluster } from '../test/kit/cluster/cluster.ts';
import { REPOSITORY } from '../test/kit/tools/repository.ts';
import { until } from '../test/kit/tools/wait.ts';

const HELP = `npm run cluster -- [options]

Starts a mesh of many processes on this machine. The default numbers are in parentheses.

  --consuls N       number of Consul servers (3); choose an odd number
  --masters N       number of masters (2)
  --managers N      number of managers (3)
  --faceplates N    number of faceplates (2)
  --namespaces      run each process in its own network namespace, so that the network can be cut; needs root
  --directory DIR   keep configurations, data and logs here (default: a new directory, removed at the end)
  --for SECONDS     stop after this time
  -h, --help

Examples:
  npm run cluster
  npm run cluster -- --managers 5 --faceplates 3
  npm run cluster -- --namespaces --directory ./cluster
`;

const COMMANDS = `Commands, on standard input:
  kill NAME ...     SIGKILL              start NAME ...    start again with the same data
  stop NAME ...     SIGTERM, drain       wipe consul-N     delete the data of a stopped Consul server
  freeze NAME ...   SIGSTOP              thaw NAME ...     SIGCONT
  cut A B [one way] drop all packets     heal A B          undo a cut (both need --namespaces)
  ls                print the table      quit, Ctrl-C      stop everything`;

interface Options {
  readonly consuls: number;
  readonly masters: number;
  readonly managers: number;
  readonly faceplates: number;
  readonly network: 'loopback' | 'namespaces';
  readonly directory: string | undefined;
  readonly seconds: number | undefined;
}

type ProcessCommand = 'kill' | 'stop' | 'freeze' | 'thaw' | 'wipe' | 'start';

/** One line of the table. */
interface Row {
  readonly name: string;
  readonly address: string;
  readonly pid: number;
  readonly listens: string;
}

/** Time limit until all copies of the samples are alive. */
const COMPLETE_MS = 60_000;

const terminal = processTerminal(process.env);
const { directory: kept, seconds, ...size } = readOptions();
const say = (text: string): void => terminal.write(`${text}\n`);
const since = performance.now();
const stamp = (): string => `${((performance.now() - since) / 1_000).toFixed(1).padStart(5)} s`;

const directory = kept ?? mkdtempSync(path.join(tmpdir(), 'katamari-cluster-'));
mkdirSync(directory, { recursive: true });

let isEnding = false;
let cluster: Cluster | undefined;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void finish(0));

try {
  cluster = await startCluster({
    ...size,
    directory,
    ...samples(),
    onProgress: (what) => say(`${stamp()}  ${what}`),
  });
  await waitUntilComplete(cluster);
} catch (error) {
  terminal.writeError(`The cluster did not start: ${(error as Error).message}\n`);
  await finish(1);
}
if (cluster !== undefined && !isEnding) run(cluster);

function run(up: Cluster): void {
  say('');
  showTable(up);
  say(`\n${linesToTry(up).join('\n')}\n\n${COMMANDS}\n`);
  for (const one of up.processes) watchEnd(one);
  // Run commands one after the other, even if several lines arrive at once.
  let running = Promise.resolve();
  createInterface({ input: process.stdin }).on('line', (line) => {
    running = running.then(() => runLine(up, line)).catch((error: unknown) => say((error as Error).message));
  });
  // Keep the process alive after standard input ends.
  setInterval(() => undefined, 60_000);
  if (seconds !== undefined) setTimeout(() => void finish(0), seconds * 1_000);
}

async function runLine(up: Cluster, line: string): Promise<void> {
  const [command = '', ...names] = line.trim().split(/\s+/);
  switch (command) {
    case '':
      return;
    case 'ls':
      showTable(up);
      return;
    case 'quit':
      await finish(0);
      return;
    case 'cut':
    case 'heal': {
      const [from = '', to = '', ...rest] = names;
      await up[command](from, to, rest.join(' ') === 'one way' ? 'one way' : 'both');
      say(`${stamp()}  ${command} between ${from} and ${to}`);
      return;
    }
    case 'kill':
    case 'stop':
    case 'freeze':
    case 'thaw':
    case 'wipe':
    case 'start':
      for (const name of names) await runCommand(up, command, name);
      if (names.length === 0) say(`${command}: name a process, as in "${command} manager-1"`);
      return;
    default:
      say(`Unknown command "${command}".\n${COMMANDS}`);
  }
}

async function runCommand(up: Cluster, command: ProcessCommand, name: string): Promise<void> {
  const index = up.consul.servers.findIndex((server) => server.name === name);
  const server = up.consul.servers[index];
  const one = server ?? up.process(name);
  switch (command) {
    case 'kill':
      await (server === undefined ? up.process(name).kill() : up.consul.kill(index));
      break;
    case 'stop':
      if (server !== undefined) throw new Error('stop does not work for Consul servers; use kill');
      say(`${stamp()}  ${name} drains`);
      await up.process(name).stop();
      break;
    case 'freeze':
      one.signal('SIGSTOP');
      break;
    case 'thaw':
      one.signal('SIGCONT');
      break;
    case 'wipe':
      if (server === undefined) throw new Error('wipe works only for Consul servers, such as consul-1');
      up.consul.wipe(index);
      break;
    case 'start': {
      if (server === undefined) {
        up.process(name).start();
        watchEnd(up.process(name));
        await up.process(name).untilReady();
      } else {
        up.consul.start(index);
        await up.consul.waitForLeader();
      }
      break;
    }
  }
  say(`${stamp()}  ${command} ${name}: done`);
}

function watchEnd({ name, ended }: Cluster['processes'][number]): void {
  void ended.then(({ code, signal }) => {
    if (!isEnding) say(`${stamp()}  ${name} exited with ${code ?? signal}; "start ${name}" starts it again`);
  });
}

/** Stops everything. The first call drains; a second one (Ctrl-C again) does not wait for calls in progress. */
async function finish(status: number): Promise<void> {
  const isFirst = !isEnding;
  isEnding = true;
  try {
    if (isFirst && cluster !== undefined && status === 0) {
      say(`\n${stamp()}  draining; press Ctrl-C again to stop at once`);
      await cluster.stop();
    }
  } catch (error) {
    say((error as Error).message);
  }
  await cluster?.end();
  const left = cluster === undefined ? [] : cluster.descendants();
  say(left.length === 0 ? `${stamp()}  all processes have ended` : `Processes still running: ${left.join(', ')}`);
  if (kept === undefined) rmSync(directory, { recursive: true, force: true });
  process.exit(left.length === 0 ? status : 1);
}

/** Waits until all copies are alive. After the time limit it prints a message and the cluster continues. */
async function waitUntilComplete(up: Cluster): Promise<void> {
  const [first] = up.faceplates;
  if (first === undefined) return;
  let said = '';
  const isComplete = async (): Promise<boolean> => {
    const { pools } = await first.status();
    const text = pools.map(({ id, alive, wanted }) => `${id} ${alive}/${wanted}`).join('  ');
    if (text !== said) say(`${stamp()}  ${text}`);
    said = text;
    return pools.length > 0 && pools.every(({ alive, wanted }) => alive === wanted);
  };
  await until('every copy', isComplete, COMPLETE_MS).catch((error: Error) =>
    say(`${error.message}; continuing without it`),
  );
}

/** Returns the deployments and routes of `npm start`, for the leader to place. */
function samples() {
  const folder = path.join(REPOSITORY, 'examples');
  const text = parse(readFileSync(path.join(folder, 'katamari.yaml'), 'utf8')) as {
    readonly deployments: readonly { readonly service: string; readonly version: string; readonly script: string }[];
    readonly routes: unknown;
  };
  const wanted = text.deployments.map((one) => ({ ...one, script: path.join(folder, one.script), cwd: folder }));
  return { wanted, settings: { routes: text.routes } };
}

function showTable(up: Cluster): void {
  const consuls = up.consul.servers.map(({ name, host, pid, address }): Row => {
    return { name, address: host.address, pid, listens: `http://${address}` };
  });
  const others = up.processes.map(({ name, role, host, pid, addresses }): Row => {
    const { thrift, jsonRpc, stats, link } = addresses;
    const own = { master: [], manager: [`link ${link}`], faceplate: [`thrift ${thrift}`, `json-rpc ${jsonRpc}`] }[role];
    return { name, address: host.address, pid, listens: [...own, `stats ${stats}`].join('  ') };
  });
  const columns: Column<Row>[] = [
    { head: 'NAME', text: ({ name }) => name },
    { head: 'ADDRESS', text: ({ address }) => address, dropOrder: 1 },
    { head: 'PID', text: ({ pid }) => (pid === 0 ? '-' : String(pid)), isNumber: true },
    { head: 'LISTENS', text: ({ listens }) => listens },
  ];
  for (const line of formatTable(terminal, columns, [...consuls, ...others])) say(line);
  say(`\nLogs: ${up.directory}/NAME/log. Configurations and data are in the same directories.`);
}

function linesToTry(up: Cluster): string[] {
  const [first, second = first] = up.faceplates;
  if (first === undefined || second === undefined) return [];
  const katamari = 'node dist/services/cli/main.js';
  const mesh = `--mesh ${first.addresses.jsonRpc} --config ${path.join(first.directory, 'katamari.yaml')}`;
  const body = '{"jsonrpc":"2.0","id":1,"method":"Calculator.add","params":{"num1":2,"num2":40}}';
  return [
    'Try these commands in the directory of the repository:',
    `  curl -s ${second.addresses.jsonRpc}/rpc -H 'content-type: application/json' -d '${body}'`,
    `  ${katamari} status ${mesh}`,
    `  ${katamari} top ${mesh}`,
    `  ${katamari} scale Calculator@1.0.0 8 ${mesh}`,
    `  curl -s http://${up.consul.servers[0]?.address}/v1/kv/katamari/test/?keys`,
    `In a browser: ${first.addresses.stats}/`,
  ];
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      consuls: { type: 'string', default: '3' },
      masters: { type: 'string', default: '2' },
      managers: { type: 'string', default: '3' },
      faceplates: { type: 'string', default: '2' },
      namespaces: { type: 'boolean', default: false },
      directory: { type: 'string' },
      for: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    terminal.write(HELP);
    process.exit(0);
  }
  return {
    consuls: count('consuls', values.consuls, 1, 7),
    masters: count('masters', values.masters, 1, 20),
    managers: count('managers', values.managers, 1, 60),
    faceplates: count('faceplates', values.faceplates, 1, 60),
    network: values.namespaces ? 'namespaces' : 'loopback',
    directory: values.directory === undefined ? undefined : path.resolve(values.directory),
    seconds: values.for === undefined ? undefined : count('for', values.for, 1, 1_000_000),
  };
}

function count(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= least && value <= most) return value;
  terminal.writeError(`--${name}: found "${text}", expected a whole number, ${least} to ${most}\n`);
  process.exit(2);
}
