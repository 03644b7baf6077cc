// The command line of `katamari`: what commands and options there are, their help with examples, and how each ends. Commands
import { ExitError, EXIT, type ExitCode, type FlagValue, VERSION } from '../config/mod.ts';
import type { BenchOptions } from './bench/plan.ts';
import { runCall, type CallCommandOptions } from './commands/call.ts';
import type { DeployOptions } from './commands/deploy.ts';
import { runDrain, runUndrain, type DrainOptions } from './commands/drain.ts';
import { runEvents, type EventsOptions } from './commands/events.ts';
import type { IdlDiffOptions } from './commands/idl.ts';
import { runRestart, type RestartOptions } from './commands/restart.ts';
import { runRoute, type RouteOptions } from './commands/route.ts';
import type { ScaleOptions } from './commands/scale.ts';
import { runConfig } from './commands/show-config.ts';
import { runStatus, type StatusOptions } from './commands/status.ts';
import { runTop, type TopOptions } from './commands/top.ts';
import type { TypesCommandOptions } from './commands/types.ts';
import type { ConformOptions } from './conform/conform.ts';
import type { ClientOptions, CliContext } from './kit/context.ts';
import { paint, printable } from './kit/terminal.ts';

// themselves are functions in files of their own; those that stand on much (mesh, logs, Consul) are loaded when they are run.

import { Command, CommanderError, Option } from 'commander';

/** Runs one command line (without program and script) to its end and returns the exit code; never throws. */
export async function runProgram(args: readonly string[], surroundings: CliContext): Promise<number> {
  const { terminal } = surroundings;
  let exitCode: ExitCode = EXIT.done;
  const program = describeProgram(surroundings, (code) => (exitCode = code));
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
    if (error instanceof ExitError) {
      terminal.writeError(`${paint(terminal, 'red', 'katamari:')} ${error.message}\n`);
      return error.exitCode;
    }
    const told = error instanceof Error ? error : new Error(String(error));
    const detail = surroundings.env['KATAMARI_DEBUG'] ? `\n${told.stack}` : '';
    terminal.writeError(`${paint(terminal, 'red', 'katamari:')} ${printable(told.message)}${detail}\n`);
    return EXIT.failed;
  }
}

type Ended = (code: ExitCode) => void;

function describeProgram(surroundings: CliContext, ended: Ended): Command {
  const { terminal } = surroundings;
  const program = new Command('katamari')
    .description('Turns single-threaded, crash-prone code in any language into a reliable, distributed API.')
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .exitOverride()
    // Only before a command is --version the program's own; behind one it may be that of a service.
    .enablePositionalOptions()
    .showHelpAfterError('(see `katamari --help`)')
    .configureOutput({
      writeOut: (text) => terminal.write(text),
      writeErr: (text) => terminal.writeError(text),
      getOutHelpWidth: () => Math.min(terminal.columns(), HELP_COLUMNS_MAX),
      getErrHelpWidth: () => Math.min(terminal.columns(), HELP_COLUMNS_MAX),
      outputError: (text, write) => write(text.replace(/^error: /, 'katamari: ')),
    })
    .addHelpText('after', PROGRAM_NOTES);
  addUp(program, surroundings, ended);
  for (const role of ROLE_COMMANDS) addRole(program, surroundings, ended, role);
  addStatus(program, surroundings, ended);
  addCall(program, surroundings, ended);
  addBench(program, surroundings, ended);
  addEvents(program, surroundings, ended);
  addTop(program, surroundings, ended);
  addDeploy(program, surroundings, ended);
  addScale(program, surroundings, ended);
  addUndeploy(program, surroundings, ended);
  addRoute(program, surroundings, ended);
  addRestart(program, surroundings, ended);
  addDrain(program, surroundings, ended);
  addUndrain(program, surroundings, ended);
  addConfig(program, surroundings, ended);
  addDoctor(program, surroundings, ended);
  addTypes(program, surroundings, ended);
  addIdl(program, surroundings, ended);
  addConform(program, surroundings, ended);
  return program;
}

function addUp(program: Command, surroundings: CliContext, ended: Ended): void {
  const flags: FlagValue[] = [];
  withSettings(command(program, 'up', 'run the whole mesh in this process'), flags)
    .option('--log <format>', 'how to log: pretty, json', 'pretty')
    .option('--log-level <level>', 'what to log: debug, info, warn, error', 'info')
    .action(async (options: { config?: string; log: string; logLevel: string }) =>
      ended(await (await import('./commands/up.ts')).runUp(surroundings, { ...options, flags })),
    )
    .addHelpText(
      'after',
      examples(
        'katamari up',
        'katamari up --config mesh/katamari.yaml --thrift-port 0',
        'katamari up --set limits.frame=32MiB --log json',
      ),
    );
}

/** One role of a mesh in a process of its own, or several. */
function addRole(
  program: Command,
  surroundings: CliContext,
  ended: Ended,
  { role, what, example }: (typeof ROLE_COMMANDS)[number],
): void {
  const flags: FlagValue[] = [];
  withSettings(command(program, role, what), flags)
    .option('--also <roles>', 'further roles in the same process, comma separated')
    .option('--log <format>', 'how to log: pretty, json', 'pretty')
    .option('--log-level <level>', 'what to log: debug, info, warn, error', 'info')
    .action(async (options: { config?: string; also?: string; log: string; logLevel: string }) =>
      ended(await (await import('./commands/up.ts')).runRole(surroundings, role, { ...options, flags })),
    )
    .addHelpText(
      'after',
      examples(`katamari ${role} --config /etc/katamari.yaml`, `katamari ${role} --consul 10.0.0.5:8500 ${example}`),
    );
}

function addStatus(program: Command, surroundings: CliContext, ended: Ended): void {
  withMesh(command(program, 'status', 'show the processes and the pools of a running mesh'))
    .option('-v, --verbose', 'show the resources too')
    .option('-w, --watch', 'show it again every second')
    .option('--json', 'print JSON')
    .action(async (options: StatusOptions) => ended(await runStatus(surroundings, options)))
    .addHelpText(
      'after',
      examples('katamari status -v', 'katamari status --watch', "katamari status --json | jq '.pools[].id'"),
    );
}

function addCall(program: Command, surroundings: CliContext, ended: Ended): void {
  withMesh(command(program, 'call', 'call a method and print its result as JSON'))
    .argument('<method>', 'Service.method or Service@version.method')
    .argument('[arguments...]', 'JSON object or array, key=value pairs, values by position, or - for standard input')
    .option('-t, --timeout <duration>', 'give the call so long, such as 2s')
    .option('--tags <tags>', 'prefer pools with these tags (comma separated)')
    .option('--key <key>', 'sticky key: equal keys go to the same version')
    .option('--repeat <times>', 'make the call so many times, one after the other')
    .option('-v, --verbose', 'tell the version that answered and its times on standard error')
    .action(async (method: string, args: string[], options: CallCommandOptions) =>
      ended(await runCall(surroundings, method, args, options)),
    )
    .addHelpText(
      'after',
      examples(
        'katamari call Calculator.add num1=2 num2=40',
        'katamari call Calculator@1.0.0.add 2 40',
        `katamari call Calculator.calculate '{"logid": 1, "w": {"num1": 6, "num2": 7, "op": "MULTIPLY"}}'`,
        'echo \'{"num1": 2, "num2": 40}\' | katamari call Calculator.add -',
      ),
    );
}

function addBench(program: Command, surroundings: CliContext, ended: Ended): void {
  withMesh(command(program, 'bench', 'measure how fast a method answers under load'))
    .argument('<method>', 'Service.method or Service@version.method')
    .argument('[arguments...]', 'as for `katamari call`, or @file.json')
    .option('--rate <calls>', 'open loop: so many calls a second at given instants, whatever becomes of those before')
    .option('--concurrency <callers>', 'closed loop: so many callers that wait for their answers (default: 16)')
    .option('--seconds <seconds>', 'measure for so long; with --compare each version', '10')
    .option('--warm-up <seconds>', 'before each round, not counted', '1')
    .option('-t, --timeout <duration>', 'give each call so long, such as 2s')
    .option('--version <version>', 'this version only')
    .option('--compare <versions>', 'two versions, such as 1.0.0,2.0.0, by turns, and their ratio')
    .option('--from <file>', 'one call a line, its arguments as JSON, in turn')
    .option('--tags <tags>', 'prefer pools with these tags (comma separated)')
    .option('--key <key>', 'sticky key of all calls')
    .option('--connections <count>', 'how many (default: one a caller up to 256; 64 with --rate)')
    .option('--in-flight-max <calls>', 'with --rate: at most so many under way, the others wait (default: 1024)')
    .option('--thrift <host:port>', 'the Thrift port, if the mesh does not tell')
    .option('--max-errors <share>', 'end with 1 when more calls fail, such as 1%')
    .option('--p99 <duration>', 'end with 1 when fewer than 99 % of the calls are answered within it, such as 20ms')
    .option('--json', 'print one JSON document')
    .action(async (method: string, args: string[], options: BenchOptions) =>
      ended(await (await import('./bench/bench.ts')).runBench(surroundings, method, args, options)),
    )
    .addHelpText(
      'after',
      `
The method is really called, all those times. Ctrl-C ends early and tells what there is.
${examples(
  'katamari bench Calculator.add num1=2 num2=40 --rate 500',
  'katamari bench Calculator.add 2 40 --concurrency 64 --seconds 30',
  'katamari bench Search.find --from queries.ndjson --rate 200 --compare 1.0.0,2.0.0',
  'katamari bench Search.find @query.json --rate 200 --max-errors 0.1% --p99 20ms',
)}`,
    );
}

function addEvents(program: Command, surroundings: CliContext, ended: Ended): void {
  withMesh(command(program, 'events', 'show what happened in a running mesh'))
    .option('-f, --follow', 'go on with what happens')
    .option('-n, --last <count>', 'only the last so many')
    .option('--after <seq>', 'only what came after the event of this number')
    .option('--json', 'print one JSON object a line')
    .action(async (options: EventsOptions) => ended(await runEvents(surroundings, options)))
    .addHelpText(
      'after',
      examples(
        'katamari events -n 20',
        'katamari events --follow',
        'katamari events --json | jq \'select(.kind == "resource_ended")\'',
      ),
    );
}

function addTop(program: Command, surroundings: CliContext, ended: Ended): void {
  withMesh(command(program, 'top', 'watch processes and pools live, the busiest first'))
    .option('--sort <figure>', 'rate, busy, queue, p99, errors, restarts or name', 'rate')
    .option('--json', 'print JSON, once')
    .action(async (options: TopOptions) => ended(await runTop(surroundings, options)))
    .addHelpText(
      'after',
      examples('katamari top', 'katamari top --sort p99', 'katamari top --mesh http://faceplate-2:9080'),
    );
}

function addDeploy(program: Command, surroundings: CliContext, ended: Ended): void {
  withWait(withMesh(command(program, 'deploy', 'give deployments of a configuration to the mesh')))
    .argument(
      '[what...]',
      'the file that has them (default: the configuration), then which: Service or Service@version',
    )
    .option('--count <copies>', 'so many copies in the whole mesh, whatever the file says')
    .action(async (words: string[], options: DeployOptions) =>
      ended(await (await import('./commands/deploy.ts')).runDeploy(surroundings, words, options)),
    )
    .addHelpText(
      'after',
      examples(
        'katamari deploy',
        'katamari deploy search.yaml',
        'katamari deploy search.yaml Search@2.0.0 --count 6 --wait 10m',
      ),
    );
}

function addScale(program: Command, surroundings: CliContext, ended: Ended): void {
  withWait(withMesh(command(program, 'scale', 'change how many copies of a deployment the mesh runs')))
    .argument('<what>', 'Service@version')
    .argument('<copies>', 'how many in the whole mesh')
    .action(async (what: string, copies: string, options: ScaleOptions) =>
      ended(await (await import('./commands/scale.ts')).runScale(surroundings, what, copies, options)),
    )
    .addHelpText('after', examples('katamari scale Search@2.0.0 12', 'katamari scale Search@1.0.0 0 --no-wait'));
}

function addUndeploy(program: Command, surroundings: CliContext, ended: Ended): void {
  withWait(withMesh(command(program, 'undeploy', 'take a deployment away from the mesh')))
    .argument('<what>', 'Service@version')
    .action(async (what: string, options: ScaleOptions) =>
      ended(await (await import('./commands/scale.ts')).runUndeploy(surroundings, what, options)),
    )
    .addHelpText('after', examples('katamari undeploy Search@1.0.0'));
}

function addRoute(program: Command, surroundings: CliContext, ended: Ended): void {
  withMesh(command(program, 'route', 'show or set which share of the calls each version of a service gets'))
    .argument('<service>', 'its name')
    .argument('[shares...]', 'version=weight of each version that is to get calls')
    .option('--reset', 'back to what the configuration says')
    .option('--json', 'print JSON')
    .action(async (service: string, shares: string[], options: RouteOptions) =>
      ended(await runRoute(surroundings, service, shares, options)),
    )
    .addHelpText(
      'after',
      examples('katamari route Search', 'katamari route Search 1.0.0=90 2.0.0=10', 'katamari route Search --reset'),
    );
}

function addDrain(program: Command, surroundings: CliContext, ended: Ended): void {
  withWait(withMesh(command(program, 'drain', 'let a manager run nothing any more, losing no call')))
    .argument('<manager>', 'its name, as katamari status shows it')
    .action(async (manager: string, options: DrainOptions) => ended(await runDrain(surroundings, manager, options)))
    .addHelpText('after', examples('katamari drain machine-3', 'katamari drain machine-3 --no-wait'));
}

function addUndrain(program: Command, surroundings: CliContext, ended: Ended): void {
  withMesh(command(program, 'undrain', 'let a drained manager run copies again'))
    .argument('<manager>', 'its name')
    .action(async (manager: string, options: ClientOptions) => ended(await runUndrain(surroundings, manager, options)))
    .addHelpText('after', examples('katamari undrain machine-3'));
}

function addRestart(program: Command, surroundings: CliContext, ended: Ended): void {
  withWait(withMesh(command(program, 'restart', 'replace the processes of a pool one after the other, losing no call')))
    .argument(
      '<what>',
      'Service, Service@version, or one resource: Service@version/index, manager:Service@version/index',
    )
    .action(async (what: string, options: RestartOptions) => ended(await runRestart(surroundings, what, options)))
    .addHelpText(
      'after',
      examples(
        'katamari restart Calculator',
        'katamari restart Calculator@1.0.0',
        'katamari restart Calculator@1.0.0/2 --no-wait',
      ),
    );
}

function addConfig(program: Command, surroundings: CliContext, ended: Ended): void {
  const flags: FlagValue[] = [];
  withSettings(command(program, 'config', 'print the effective configuration and where each value came from'), flags)
    .argument('[key]', 'only this key and what is below it')
    .option('--json', 'print JSON')
    .action((key: string | undefined, options: { config?: string; json?: boolean }) =>
      ended(runConfig(surroundings, key, { ...options, flags })),
    )
    .addHelpText(
      'after',
      examples(
        'katamari config',
        'katamari config limits',
        "katamari config 'deployments[0]' --config mesh/katamari.yaml",
      ),
    );
}

function addDoctor(program: Command, surroundings: CliContext, ended: Ended): void {
  const flags: FlagValue[] = [];
  withSettings(command(program, 'doctor', 'check that this machine can run the mesh, and say what to do if not'), flags)
    .option('--json', 'print JSON')
    .action(async (options: { config?: string; json?: boolean }) =>
      ended(await (await import('./doctor/doctor.ts')).runDoctor(surroundings, { ...options, flags })),
    )
    .addHelpText('after', examples('katamari doctor', 'katamari doctor --config mesh/katamari.yaml'));
}

function addTypes(program: Command, surroundings: CliContext, ended: Ended): void {
  command(program, 'types', 'write the TypeScript types of an interface')
    .argument('<file>', 'a .thrift file')
    .option('-o, --out <file>', 'write to a file instead of standard output')
    .option('--i64 <type>', 'what i64 is in TypeScript: bigint, number', 'bigint')
    .action(async (file: string, options: TypesCommandOptions) =>
      ended((await import('./commands/types.ts')).runTypes(surroundings, file, options)),
    )
    .addHelpText(
      'after',
      examples(
        'katamari types calculator.thrift',
        'katamari types calculator.thrift --out calculator-types.ts --i64 number',
      ),
    );
}

function addIdl(program: Command, surroundings: CliContext, ended: Ended): void {
  const group = command(program, 'idl', 'compare interfaces').addHelpText(
    'after',
    examples('katamari idl diff calculator.thrift calculator-2.thrift'),
  );
  command(
    group,
    'diff',
    'say whether callers and chassis of two states of an interface understand each other, and why not',
  )
    .argument('<old>', 'a .thrift file')
    .argument('<new>', 'a .thrift file')
    .option('--service <name>', 'only this service; all of the old file unless told')
    .option('--json', 'print JSON')
    .action(async (older: string, newer: string, options: IdlDiffOptions) =>
      ended((await import('./commands/idl.ts')).runIdlDiff(surroundings, older, newer, options)),
    )
    .addHelpText(
      'after',
      examples(
        'katamari idl diff calculator.thrift calculator-2.thrift',
        'katamari idl diff old.thrift new.thrift --service Calculator --json',
      ),
    );
}

function addConform(program: Command, surroundings: CliContext, ended: Ended): void {
  command(
    program,
    'conform',
    'check that a chassis, in whatever language, does what the mesh needs, and say what it does not',
  )
    .argument(
      '<command...>',
      'what starts it, after --; {listen}, {path}, {host} and {port} stand for where it is to listen',
    )
    .option('--call <words...>', 'call this method, too: Service.method, then its arguments as JSON if need be')
    .option('--skip <methods...>', 'do not call these methods')
    .option('-t, --timeout <duration>', 'how long each answer may take', '10s')
    .option('--start-timeout <duration>', 'how long it may take until it listens', '30s')
    .option('--tcp', 'check that it listens at a TCP port as well')
    .option('--only <checks...>', 'only these checks, by the ids that --json shows, beside those of the start')
    .option('--json', 'print JSON')
    .action(async (words: string[], options: ConformOptions) =>
      ended(await (await import('./conform/conform.ts')).runConform(surroundings, words, options)),
    )
    .addHelpText(
      'after',
      `
Methods that are not said to be read-only or idempotent are not called, unless --call names them.
${examples(
  'katamari conform -- node shop.js',
  `katamari conform --call Shop.order '{"order": {"item": "tea"}}' -- python3 shop.py`,
  'katamari conform --tcp --json -- ./shop | jq \'.checks[] | select(.verdict == "failed")\'',
)}`,
    );
}

function command(program: Command, name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .helpOption('-h, --help', 'print this help')
    .showHelpAfterError(`(see \`katamari ${name} --help\`)`);
}

/** Options of commands that read the configuration; values go to `flags` in the order they are given, the last one wins. */
function withSettings(of: Command, flags: FlagValue[]): Command {
  of.option('-c, --config <file>', 'the configuration (default: katamari.yaml in the working directory)');
  for (const [name, key, what] of NAMED_FLAGS) {
    of.addOption(
      new Option(`--${name} <value>`, what).argParser(
        (value: string) => void flags.push({ flag: `--${name}`, key, value }),
      ),
    );
  }
  return of.addOption(
    new Option('--set <key=value...>', 'any setting by its key, such as limits.frame=32MiB').argParser(
      (text: string) => {
        const [, key, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
        if (key === undefined || value === undefined) {
          throw new ExitError(
            EXIT.usage,
            `--set: found ${JSON.stringify(text)}, expected key=value such as limits.frame=32MiB`,
          );
        }
        flags.push({ flag: `--set ${key}`, key, value });
      },
    ),
  );
}

/** Options of commands that give an order and follow it. */
function withWait(of: Command): Command {
  return of.option('--wait <duration>', 'follow it for so long', '5m').option('--no-wait', 'only give the order');
}

/** Options of commands that are clients of a running mesh. */
function withMesh(of: Command): Command {
  return of
    .option(
      '-m, --mesh <url>',
      'the JSON-RPC address of the mesh (default: KATAMARI_URL, else what the configuration says)',
    )
    .option('--token <token>', 'the admin token (default: KATAMARI_TOKEN, else the file in the data directory)')
    .option('-c, --config <file>', 'the configuration the mesh runs by');
}

function examples(...lines: string[]): string {
  return `\nExamples:\n${lines.map((line) => `  $ ${line}`).join('\n')}`;
}

const ROLE_COMMANDS = [
  {
    role: 'master',
    what: 'run a master: stands for election, and leads while elected',
    example: '--set master.rank=1',
  },
  {
    role: 'manager',
    what: 'run a resource manager: launches, checks and restarts chassis on this machine',
    example: '--host 10.0.0.7 --set link.secretFile=/etc/katamari.secret',
  },
  {
    role: 'faceplate',
    what: 'run a faceplate: takes the calls of clients and finds a free chassis on any machine',
    example: '--host 0.0.0.0 --also master',
  },
] as const;

const NAMED_FLAGS: readonly (readonly [flag: string, key: string, what: string])[] = [
  ['mesh-name', 'mesh', 'name of the mesh'],
  ['name', 'name', 'name of this process'],
  ['machine', 'machine', 'machine it runs on'],
  ['advertise', 'advertise', 'address that other machines reach it at'],
  ['data-dir', 'dataDir', 'where it keeps its data'],
  ['host', 'host', 'address to listen on'],
  ['thrift-port', 'ports.thrift', 'port of the Thrift faceplate'],
  ['json-rpc-port', 'ports.jsonRpc', 'port of the JSON-RPC faceplate'],
  ['stats-port', 'ports.stats', 'port of the stats faceplate'],
  ['link-port', 'ports.link', 'port of the manager link'],
  ['consul-port', 'ports.consul', 'port of the embedded Consul'],
  ['consul', 'consul.address', 'use this Consul instead of the embedded one'],
  ['timeout', 'timeout', 'global timeout, such as 10s'],
];

const HELP_COLUMNS_MAX = 100;

const PROGRAM_NOTES = `
Examples:
  $ katamari up                                    run the mesh that katamari.yaml describes
  $ katamari call Calculator.add num1=2 num2=40    call one of its methods
  $ katamari status --watch                        see how it is
  $ katamari manager --consul 10.0.0.5:8500         one of many machines; see docs/cluster.md

Exit codes: 0 done, 1 failed, 2 wrong command line, 69 no mesh there, 78 wrong configuration.
Flags beat KATAMARI_* variables, which beat the file. NO_COLOR is honoured.`;
