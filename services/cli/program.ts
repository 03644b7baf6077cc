// The command line of `katamari`: all commands and options, their help with examples, and their exit codes. Each
// command is a function in a file of its own. Commands with large dependencies (mesh, logs, Consul) are loaded when
// they run.

import { ExitError, EXIT, type ExitCode, type FlagValue, VERSION } from '../config/mod.ts';
import type { BenchOptions } from './bench/plan.ts';
import type { AccessOptions, ExplainOptions, ShowOptions } from './commands/access.ts';
import { runCall, type CallCommandOptions } from './commands/call.ts';
import type { DeployOptions } from './commands/deploy.ts';
import { runDrain, runUndrain, type DrainOptions } from './commands/drain.ts';
import { runEvents, type EventsOptions } from './commands/events.ts';
import type { IdlDiffOptions } from './commands/idl.ts';
import { runRestart, type RestartOptions } from './commands/restart.ts';
import type { ComparisonOptions } from './commands/compare.ts';
import type { DiffOptions } from './commands/diff.ts';
import type { RolloutOptions } from './commands/rollout.ts';
import { runRoute, type RouteOptions } from './commands/route.ts';
import type { ScaleOptions } from './commands/scale.ts';
import { runConsulToken } from './commands/consul-token.ts';
import type { AuditOptions, AuditVerifyOptions } from './commands/audit.ts';
import { runConfig } from './commands/show-config.ts';
import { runStatus, type StatusOptions } from './commands/status.ts';
import { runTop, type TopOptions } from './commands/top.ts';
import type { TokenCreateOptions, TokenListOptions } from './commands/token.ts';
import type { TypesCommandOptions } from './commands/types.ts';
import type { ConformOptions } from './conform/conform.ts';
import type { DoctorOptions } from './doctor/doctor.ts';
import { addContentServer, addIndexCommands } from './index-commands.ts';
import { command, examples, type SetExitCode, withMesh, withSettings, withWait } from './kit/command-options.ts';
import type { ClientOptions, CliContext } from './kit/context.ts';
import { paint, printable } from './kit/terminal.ts';
import { Command, CommanderError } from 'commander';

/** Runs one command line (without the program and script) and returns the exit code. Never throws. */
export async function runProgram(args: readonly string[], context: CliContext): Promise<number> {
  const { terminal } = context;
  let exitCode: ExitCode = EXIT.done;
  const program = describeProgram(context, (code) => (exitCode = code));
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
    if (error instanceof ExitError) {
      terminal.writeError(`${paint(terminal, 'red', 'katamari:')} ${error.message}\n`);
      return error.exitCode;
    }
    const failure = error instanceof Error ? error : new Error(String(error));
    const detail = context.env['KATAMARI_DEBUG'] ? `\n${failure.stack}` : '';
    terminal.writeError(`${paint(terminal, 'red', 'katamari:')} ${printable(failure.message)}${detail}\n`);
    return EXIT.failed;
  }
}

function describeProgram(context: CliContext, setExitCode: SetExitCode): Command {
  const { terminal } = context;
  const program = new Command('katamari')
    .description('Turns single-threaded, crash-prone code in any language into a reliable, distributed API.')
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .exitOverride()
    // --version prints our version only before a command. After a command it may be an option of that command.
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
  addUp(program, context, setExitCode);
  for (const role of ROLE_COMMANDS) addRole(program, context, setExitCode, role);
  addStatus(program, context, setExitCode);
  addCall(program, context, setExitCode);
  addBench(program, context, setExitCode);
  addEvents(program, context, setExitCode);
  addTop(program, context, setExitCode);
  addDeploy(program, context, setExitCode);
  addScale(program, context, setExitCode);
  addUndeploy(program, context, setExitCode);
  addRoute(program, context, setExitCode);
  addCompare(program, context, setExitCode);
  addDiff(program, context, setExitCode);
  addRollout(program, context, setExitCode);
  addAccess(program, context, setExitCode);
  addRestart(program, context, setExitCode);
  addDrain(program, context, setExitCode);
  addUndrain(program, context, setExitCode);
  addIndexCommands(program, context, setExitCode);
  addContentServer(program, setExitCode);
  addToken(program, context, setExitCode);
  addAudit(program, context, setExitCode);
  addConfig(program, context, setExitCode);
  addConsulToken(program, context, setExitCode);
  addDoctor(program, context, setExitCode);
  addTypes(program, context, setExitCode);
  addIdl(program, context, setExitCode);
  addConform(program, context, setExitCode);
  return program;
}

function addUp(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  const flags: FlagValue[] = [];
  withSettings(command(program, 'up', 'run the whole mesh in this process'), flags)
    .option('--log <format>', 'how to log: pretty, json', 'pretty')
    .option('--log-level <level>', 'what to log: debug, info, warn, error', 'info')
    .option('--index <name=folder...>', 'serve a folder of shards as an index, with the content server that it needs')
    .action(async (options: { config?: string; log: string; logLevel: string; index?: string[] }) =>
      setExitCode(await (await import('./commands/up.ts')).runUp(context, { ...options, flags })),
    )
    .addHelpText(
      'after',
      examples(
        'katamari up',
        'katamari up --config mesh/katamari.yaml --thrift-port 0',
        'katamari up --set limits.frame=32MiB --log json',
        'katamari up --index wiki=./wiki',
      ),
    );
}

/** Adds `master`, `manager` or `faceplate`. */
function addRole(
  program: Command,
  context: CliContext,
  setExitCode: SetExitCode,
  { role, what, example }: (typeof ROLE_COMMANDS)[number],
): void {
  const flags: FlagValue[] = [];
  withSettings(command(program, role, what), flags)
    .option('--also <roles>', 'more roles in the same process, comma separated')
    .option('--log <format>', 'how to log: pretty, json', 'pretty')
    .option('--log-level <level>', 'what to log: debug, info, warn, error', 'info')
    .action(async (options: { config?: string; also?: string; log: string; logLevel: string }) =>
      setExitCode(await (await import('./commands/up.ts')).runRole(context, role, { ...options, flags })),
    )
    .addHelpText(
      'after',
      examples(`katamari ${role} --config /etc/katamari.yaml`, `katamari ${role} --consul 10.0.0.5:8500 ${example}`),
    );
}

function addStatus(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  withMesh(command(program, 'status', 'show the processes and the pools of a running mesh'))
    .option('-v, --verbose', 'also show the resources')
    .option('-w, --watch', 'update every second')
    .option('--json', 'print JSON')
    .action(async (options: StatusOptions) => setExitCode(await runStatus(context, options)))
    .addHelpText(
      'after',
      examples('katamari status -v', 'katamari status --watch', "katamari status --json | jq '.pools[].id'"),
    );
}

function addCall(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  withMesh(command(program, 'call', 'call a method and print its result as JSON'))
    .argument('<method>', 'Service.method or Service@version.method')
    .argument('[arguments...]', 'JSON object or array, key=value pairs, values by position, or - for standard input')
    .option('-t, --timeout <duration>', 'timeout of the call, such as 2s')
    .option('--tags <tags>', 'prefer pools with these tags (comma separated)')
    .option('--key <key>', 'sticky key: calls with the same key go to the same version')
    .option('--min-coverage <share>', 'share of the shards of an index that must be in the answer, such as 0.9')
    .option('--repeat <times>', 'make the call this many times, one after the other')
    .option('-v, --verbose', 'print version, shards, queue time and service time on standard error')
    .action(async (method: string, args: string[], options: CallCommandOptions) =>
      setExitCode(await runCall(context, method, args, options)),
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

function addBench(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  withMesh(command(program, 'bench', 'load-test a method: latency, throughput, errors'))
    .argument('<method>', 'Service.method or Service@version.method')
    .argument('[arguments...]', 'as for `katamari call`, or @file.json')
    .option('--rate <calls>', 'open loop: calls per second at fixed times, even if earlier ones are slow')
    .option('--concurrency <callers>', 'closed loop: callers that each wait for their reply (default: 16)')
    .option('--seconds <seconds>', 'duration of the measurement; with --compare, of each version', '10')
    .option('--warm-up <seconds>', 'warm-up before each measurement, not counted', '1')
    .option('-t, --timeout <duration>', 'timeout of each call, such as 2s')
    .option('--version <version>', 'call only this version')
    .option('--compare <versions>', 'measure two versions in turn, such as 1.0.0,2.0.0, and print their ratio')
    .option('--from <file>', 'file with the arguments of one call per line, as JSON')
    .option('--tags <tags>', 'prefer pools with these tags (comma separated)')
    .option('--key <key>', 'sticky key of all calls')
    .option('--connections <count>', 'number of connections (default: one per caller up to 256; 64 with --rate)')
    .option('--in-flight-max <calls>', 'with --rate: limit of calls in flight, others wait (default: 1024)')
    .option('--thrift <host:port>', 'Thrift port, if the mesh does not report it')
    .option('--max-errors <share>', 'exit with 1 if a larger share of the calls fails, such as 1%')
    .option(
      '--p99 <duration>',
      'exit with 1 if fewer than 99 % of the calls get a reply within this time, such as 20ms',
    )
    .option('--json', 'print one JSON document')
    .action(async (method: string, args: string[], options: BenchOptions) =>
      setExitCode(await (await import('./bench/bench.ts')).runBench(context, method, args, options)),
    )
    .addHelpText(
      'after',
      `
This makes real calls. Ctrl-C stops early and prints the results so far.
${examples(
  'katamari bench Calculator.add num1=2 num2=40 --rate 500',
  'katamari bench Calculator.add 2 40 --concurrency 64 --seconds 30',
  'katamari bench Search.find --from queries.ndjson --rate 200 --compare 1.0.0,2.0.0',
  'katamari bench Search.find @query.json --rate 200 --max-errors 0.1% --p99 20ms',
)}`,
    );
}

function addEvents(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  withMesh(command(program, 'events', 'show the events of a running mesh'))
    .option('-f, --follow', 'wait for new events')
    .option('-n, --last <count>', 'print only this many past events, the newest')
    .option('--after <seq>', 'only events after this sequence number')
    .option('--json', 'print one JSON object per line')
    .action(async (options: EventsOptions) => setExitCode(await runEvents(context, options)))
    .addHelpText(
      'after',
      examples(
        'katamari events -n 20',
        'katamari events --follow',
        'katamari events --json | jq \'select(.kind == "resource_ended")\'',
      ),
    );
}

function addTop(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  withMesh(command(program, 'top', 'watch processes and pools live, the busiest first'))
    .option('--sort <figure>', 'rate, busy, queue, p99, errors, restarts or name', 'rate')
    .option('--json', 'print JSON, once')
    .action(async (options: TopOptions) => setExitCode(await runTop(context, options)))
    .addHelpText(
      'after',
      examples('katamari top', 'katamari top --sort p99', 'katamari top --mesh http://faceplate-2:9080'),
    );
}

function addDeploy(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  withWait(withMesh(command(program, 'deploy', 'send deployments of a configuration to the mesh')))
    .argument(
      '[what...]',
      'file with the deployments (default: the configuration), then Service or Service@version to select',
    )
    .option('--count <copies>', 'copies in the whole mesh, instead of the count in the file')
    .action(async (words: string[], options: DeployOptions) =>
      setExitCode(await (await import('./commands/deploy.ts')).runDeploy(context, words, options)),
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

function addScale(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  withWait(withMesh(command(program, 'scale', 'change how many copies of a deployment the mesh runs')))
    .argument('<what>', 'Service@version')
    .argument('<copies>', 'number of copies in the whole mesh')
    .action(async (what: string, copies: string, options: ScaleOptions) =>
      setExitCode(await (await import('./commands/scale.ts')).runScale(context, what, copies, options)),
    )
    .addHelpText('after', examples('katamari scale Search@2.0.0 12', 'katamari scale Search@1.0.0 0 --no-wait'));
}

function addUndeploy(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  withWait(withMesh(command(program, 'undeploy', 'remove a deployment from the mesh')))
    .argument('<what>', 'Service@version')
    .action(async (what: string, options: ScaleOptions) =>
      setExitCode(await (await import('./commands/scale.ts')).runUndeploy(context, what, options)),
    )
    .addHelpText('after', examples('katamari undeploy Search@1.0.0'));
}

function addRoute(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  withMesh(command(program, 'route', 'show or set which version of a service gets which of its calls'))
    .argument('<service>', 'name of the service')
    .argument('[shares...]', 'version=weight for each version that gets calls')
    .option('--file <file>', 'set the whole route from a file with rules, as in katamari.yaml; - for standard input')
    .option('--mirror <version>', 'copy calls to a version and compare the answers: 2.0.0=10 for 10 %, off for none')
    .option(
      '--hedge <method=percentile...>',
      'send a second copy of slow calls: search=p95, p95 for all methods, or off',
    )
    .option('--majority <method=votes...>', "ask several copies at once: score='2 of 3', or off")
    .option('--sticky <argument>', 'find sticky keys in an argument, such as args.user.id; "" for headers only')
    .option('--reset', 'restore the route of the configuration')
    .option('--history', 'list the last changes of the route: who, when and what')
    .option('--undo [change]', 'undo the last change, or the one with this number and all since')
    .option('--expect <change>', 'refuse the change if the route is not that of this change any more; 0: as configured')
    .option('--force', 'also with versions that do not exist yet, to write a route before its deployment')
    .option('--yaml', 'print the route as a file for --file')
    .option('--explain', 'say which version a call would get, and why; the options below describe the call')
    .option('--method <name>', 'its method')
    .option('--key <key>', 'its sticky key')
    .option('--caller <name>', 'name of its caller (default: anonymous)')
    .option('--roles <roles>', 'roles of its caller (comma separated)')
    .option('--header <name=value...>', 'its headers')
    .option('--tags <tags>', 'its tags (comma separated)')
    .option('--version <version>', 'the version that it asks for')
    .option('--json', 'print JSON')
    .action(async (service: string, shares: string[], options: RouteOptions) =>
      setExitCode(await runRoute(context, service, shares, options)),
    )
    .addHelpText(
      'after',
      examples(
        'katamari route Search',
        'katamari route Search 1.0.0=90 2.0.0=10',
        'katamari route Search 2.0.0=95 3.0.0=5 --force',
        'katamari route Search --mirror 2.0.0=10',
        "katamari route Search --hedge search=p95 --majority score='2 of 3'",
        'katamari route Search --sticky args.user.id',
        'katamari route Search --yaml > route.yaml',
        'katamari route Search --file route.yaml',
        'katamari route Search --explain --key ada --header x-beta=yes',
        'katamari route Search --history',
        'katamari route Search --undo',
        'katamari route Search --reset',
      ),
    );
}

function addRollout(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  withMesh(command(program, 'rollout', 'give a version the calls of another one in steps, while guards watch it'))
    .argument('<service>', 'name of the service')
    .argument('[version]', 'the new version; without it, the rollout of the service is shown or changed')
    .option('--from <version>', 'the version that gives up its calls (default: the one with the highest weight)')
    .option('--steps <shares>', 'percentages of the calls, rising to 100', '1,5,25,50,100')
    .option('--hold <duration>', 'how long each share is held', '2m')
    .option(
      '--guard <guard>',
      "what reverts it, once for each: 'errors +0.5pt', 'p99 x1.3', 'queue p99 x2', 'diff < 1%'",
      (guard: string, before: readonly string[] | undefined) => [...(before ?? []), guard],
    )
    .option('--copies <how>', 'follow: the number of copies follows the share; fixed: it stays', 'fixed')
    .option('--keep <duration>', 'how long the old copies stay after the last step, if copies follow', '10m')
    .option('--start-within <duration>', 'how long the copies for a step may take to come up', '2m')
    .option('--force', 'also if callers of the old version cannot call the new one')
    .option('--pause', 'keep the share as it is; the guards still watch it')
    .option('--resume', 'go on')
    .option('--promote', 'go to the last step without holding those between')
    .option('--abort', 'give the calls back to the old version')
    .option('-w, --watch', 'show the progress until it ends; exit with 1 if it is reverted or aborted')
    .option('--json', 'print JSON')
    .action(async (service: string, version: string | undefined, options: RolloutOptions) =>
      setExitCode(await (await import('./commands/rollout.ts')).runRollout(context, service, version, options)),
    )
    .addHelpText(
      'after',
      examples(
        "katamari rollout Search 2.0.0 --guard 'errors +0.5pt' --guard 'p99 x1.3' --watch",
        'katamari rollout Search 2.0.0 --steps 5,50,100 --hold 10m --copies follow',
        'katamari rollout Search',
        'katamari rollout Search --watch',
        'katamari rollout Search --pause',
        'katamari rollout Search --abort',
      ),
    );
}

function addCompare(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  withMesh(
    command(program, 'compare', 'compare how calls of two versions end, how long they take, and what they achieve'),
  )
    .argument('<service>', 'name of a service with a route')
    .argument('[versions...]', 'two versions (default: those with the highest weights)')
    .option('--method <method>', 'show one method instead of all together')
    .option('--json', 'print one line of JSON')
    .action(async (service: string, versions: readonly string[], options: ComparisonOptions) =>
      setExitCode(await (await import('./commands/compare.ts')).runCompare(context, service, versions, options)),
    )
    .addHelpText(
      'after',
      examples(
        'katamari compare Search',
        'katamari compare Search 1.0.0 2.0.0',
        'katamari compare Search --method search',
      ),
    );
}

function addDiff(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  withMesh(command(program, 'diff', 'show how the answers of the version that the mirror of a route calls differ'))
    .argument('<service>', 'name of the service')
    .option('--calls <count>', 'show the last calls whose answers differ (default: 3)')
    .option('--json', 'print JSON')
    .action(async (service: string, options: DiffOptions) =>
      setExitCode(await (await import('./commands/diff.ts')).runDiff(context, service, options)),
    )
    .addHelpText(
      'after',
      examples('katamari diff Search', 'katamari diff Search --calls 20', 'katamari diff Search --json'),
    );
}

function addAccess(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  const group = command(program, 'access', 'show, change and explain who may call what').addHelpText(
    'after',
    examples(
      'katamari access show',
      'katamari access apply policy.yaml',
      'katamari access explain alice Orders.get --roles support',
    ),
  );
  withMesh(command(group, 'show', 'print the access policy'))
    .option('--version <number>', 'an earlier version, as katamari access history lists it')
    .option('--json', 'print JSON')
    .action(async (options: ShowOptions) =>
      setExitCode(await (await import('./commands/access.ts')).runAccessShow(context, options)),
    )
    .addHelpText('after', examples('katamari access show > policy.yaml', 'katamari access show --version 3'));
  withMesh(command(group, 'apply', 'replace the access policy of the mesh'))
    .argument('<file>', 'the policy in YAML, or - for standard input')
    .option('--json', 'print JSON')
    .action(async (file: string, options: AccessOptions) =>
      setExitCode(await (await import('./commands/access.ts')).runAccessApply(context, file, options)),
    )
    .addHelpText(
      'after',
      examples('katamari access apply policy.yaml', 'katamari access show --version 3 | katamari access apply -'),
    );
  withMesh(command(group, 'remove', 'remove the access policy: accepted callers may call everything'))
    .option('--json', 'print JSON')
    .action(async (options: AccessOptions) =>
      setExitCode(await (await import('./commands/access.ts')).runAccessRemove(context, options)),
    )
    .addHelpText('after', examples('katamari access remove'));
  withMesh(command(group, 'history', 'list the versions of the access policy'))
    .option('--json', 'print one JSON object per line')
    .action(async (options: AccessOptions) =>
      setExitCode(await (await import('./commands/access.ts')).runAccessHistory(context, options)),
    )
    .addHelpText('after', examples('katamari access history'));
  withMesh(command(group, 'explain', 'say whether a caller may call a method, and why'))
    .argument('<caller>', 'name of the caller, anonymous or chassis; mtls:NAME, token:NAME or jwt:NAME')
    .argument('<target>', 'Service.method or Service@version.method')
    .option('--roles <roles>', 'roles that the token of the caller has (comma separated)')
    .option('--pool-roles <roles>', 'roles of the pool that the call requests (comma separated)')
    .option('--json', 'print JSON')
    .action(async (caller: string, target: string, options: ExplainOptions) =>
      setExitCode(await (await import('./commands/access.ts')).runAccessExplain(context, caller, target, options)),
    )
    .addHelpText(
      'after',
      `
The exit code is 1 if the caller may not.
${examples(
  'katamari access explain alice Orders.get --roles support',
  'katamari access explain spiffe://example.org/billing Orders@1.2.0.pay',
  'katamari access explain anonymous Status.read',
)}`,
    );
}

function addDrain(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  withWait(withMesh(command(program, 'drain', 'move all copies away from a manager without losing calls')))
    .argument('<manager>', 'name of the manager, as katamari status shows it')
    .action(async (manager: string, options: DrainOptions) => setExitCode(await runDrain(context, manager, options)))
    .addHelpText('after', examples('katamari drain machine-3', 'katamari drain machine-3 --no-wait'));
}

function addUndrain(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  withMesh(command(program, 'undrain', 'let a drained manager run copies again'))
    .argument('<manager>', 'name of the manager')
    .action(async (manager: string, options: ClientOptions) => setExitCode(await runUndrain(context, manager, options)))
    .addHelpText('after', examples('katamari undrain machine-3'));
}

function addRestart(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  withWait(
    withMesh(command(program, 'restart', 'replace the processes of a pool one after the other without losing calls')),
  )
    .argument(
      '<what>',
      'Service, Service@version, or one resource: Service@version/index, manager:Service@version/index',
    )
    .action(async (what: string, options: RestartOptions) => setExitCode(await runRestart(context, what, options)))
    .addHelpText(
      'after',
      examples(
        'katamari restart Calculator',
        'katamari restart Calculator@1.0.0',
        'katamari restart Calculator@1.0.0/2 --no-wait',
      ),
    );
}

function addToken(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  const group = command(program, 'token', 'create, list and revoke admin tokens').addHelpText(
    'after',
    examples('katamari token create ci --scopes read,deploy --expires 30d', 'katamari token revoke ci'),
  );
  withMesh(command(group, 'create', 'create an admin token and print it once'))
    .argument('<name>', 'name of its owner, as the audit log shows it')
    .requiredOption('--scopes <scopes>', 'comma separated: read, operate, deploy')
    .option('--roles <roles>', 'roles in access policies, comma separated')
    .option('--expires <duration>', 'how long it is valid, such as 12h or 30d (default: until it is revoked)')
    .action(async (name: string, options: TokenCreateOptions) =>
      setExitCode(await (await import('./commands/token.ts')).runTokenCreate(context, name, options)),
    )
    .addHelpText(
      'after',
      `
Scopes: read shows status and events; operate restarts, scales, drains and changes routes; deploy runs commands.
${examples('katamari token create monitoring --scopes read', 'katamari token create ci --scopes read,deploy --expires 30d')}`,
    );
  withMesh(command(group, 'list', 'list the admin tokens, without their values'))
    .option('--json', 'print JSON')
    .action(async (options: TokenListOptions) =>
      setExitCode(await (await import('./commands/token.ts')).runTokenList(context, options)),
    )
    .addHelpText('after', examples('katamari token list'));
  withMesh(command(group, 'revoke', 'make an admin token invalid, at once and in every process'))
    .argument('<name>', 'name of the token')
    .action(async (name: string, options: ClientOptions) =>
      setExitCode(await (await import('./commands/token.ts')).runTokenRevoke(context, name, options)),
    )
    .addHelpText('after', examples('katamari token revoke ci'));
}

function addAudit(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  const group = command(program, 'audit', 'show the audit log of this machine, or check it');
  const flags: FlagValue[] = [];
  withSettings(group, flags)
    .option('--since <time>', 'only lines after this time: 2h for the last two hours, or a date in ISO 8601')
    .option('-n, --limit <count>', 'only this many lines, the newest', '1000')
    .option('--json', 'print the lines as they are')
    .action(async (options: Omit<AuditOptions, 'flags'>) =>
      setExitCode(await (await import('./commands/audit.ts')).runAudit(context, { ...options, flags })),
    )
    .addHelpText(
      'after',
      examples(
        'katamari audit --since 2h',
        'katamari audit --json | jq \'select(.result == "refused")\'',
        'katamari audit verify',
      ),
    );
  const verifyFlags: FlagValue[] = [];
  withSettings(command(group, 'verify', 'check the hash chain, and name the first line that is wrong'), verifyFlags)
    .argument('[files...]', 'files of the log, the oldest first (default: all of the data directory)')
    .option('--head <sha256>', 'hash of a line that the log must contain, as an earlier verify printed it')
    .option('--json', 'print JSON')
    .action(async (files: string[], options: Omit<AuditVerifyOptions, 'flags'>, sub: Command) => {
      const { json, config } = sub.optsWithGlobals<{ json?: boolean; config?: string }>();
      const all = { ...options, json, config, flags: [...flags, ...verifyFlags] };
      setExitCode(await (await import('./commands/audit.ts')).runAuditVerify(context, files, all));
    })
    .addHelpText(
      'after',
      examples('katamari audit verify', 'katamari audit verify /backup/audit-000001.jsonl /backup/audit-000002.jsonl'),
    );
}

function addConfig(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  const flags: FlagValue[] = [];
  withSettings(command(program, 'config', 'print the effective configuration and where each value came from'), flags)
    .argument('[key]', 'only this key and the keys below it')
    .option('--json', 'print JSON')
    .action((key: string | undefined, options: { config?: string; json?: boolean }) =>
      setExitCode(runConfig(context, key, { ...options, flags })),
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

function addConsulToken(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  const flags: FlagValue[] = [];
  withSettings(command(program, 'consul-token', 'print the token of the embedded Consul'), flags)
    .action((options: { config?: string }) => setExitCode(runConsulToken(context, { ...options, flags })))
    .addHelpText(
      'after',
      examples(
        'katamari consul-token',
        'CONSUL_HTTP_ADDR=127.0.0.1:9085 CONSUL_HTTP_TOKEN=$(katamari consul-token) consul kv get -recurse katamari/',
      ),
    );
}

function addDoctor(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  const flags: FlagValue[] = [];
  withSettings(command(program, 'doctor', 'check that this machine can run the mesh, with advice'), flags)
    .option('--security', 'check how well the mesh is protected instead')
    .option('--json', 'print JSON')
    .action(async (options: Omit<DoctorOptions, 'flags'>) =>
      setExitCode(await (await import('./doctor/doctor.ts')).runDoctor(context, { ...options, flags })),
    )
    .addHelpText(
      'after',
      examples('katamari doctor', 'katamari doctor --config mesh/katamari.yaml', 'katamari doctor --security'),
    );
}

function addTypes(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  command(program, 'types', 'generate the TypeScript types of an interface')
    .argument('<file>', 'a .thrift file')
    .option('-o, --out <file>', 'write to a file instead of standard output')
    .option('--i64 <type>', 'TypeScript type of i64: bigint, number', 'bigint')
    .option(...INCLUDE_OPTION)
    .action(async (file: string, options: TypesCommandOptions) =>
      setExitCode((await import('./commands/types.ts')).runTypes(context, file, options)),
    )
    .addHelpText(
      'after',
      examples(
        'katamari types calculator.thrift',
        'katamari types calculator.thrift --out calculator-types.ts --i64 number',
        'katamari types -I /opt/interfaces calculator.thrift',
      ),
    );
}

function addIdl(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  const group = command(program, 'idl', 'compare interfaces').addHelpText(
    'after',
    examples('katamari idl diff calculator.thrift calculator-2.thrift'),
  );
  command(group, 'diff', 'check whether two versions of an interface are compatible, and show why not')
    .argument('<old>', 'a .thrift file')
    .argument('<new>', 'a .thrift file')
    .option('--service <name>', 'only this service (default: all of the old file)')
    .option(...INCLUDE_OPTION)
    .option('--json', 'print JSON')
    .action(async (older: string, newer: string, options: IdlDiffOptions) =>
      setExitCode((await import('./commands/idl.ts')).runIdlDiff(context, older, newer, options)),
    )
    .addHelpText(
      'after',
      examples(
        'katamari idl diff calculator.thrift calculator-2.thrift',
        'katamari idl diff old.thrift new.thrift --service Calculator --json',
      ),
    );
}

function addConform(program: Command, context: CliContext, setExitCode: SetExitCode): void {
  command(program, 'conform', 'test that a chassis in any language implements the protocol of the mesh')
    .argument(
      '<command...>',
      'command that starts the chassis, after --; {listen}, {path}, {host} and {port} become its address',
    )
    .option('--call <words...>', 'also call this method: Service.method, then its arguments as JSON')
    .option('--skip <methods...>', 'do not call these methods')
    .option('-t, --timeout <duration>', 'timeout of each answer', '10s')
    .option('--start-timeout <duration>', 'timeout until the chassis listens', '30s')
    .option('--tcp', 'also check that the chassis listens on a TCP port')
    .option('--content <shard>', 'also check a content server, with this shard: a file or folder that it can open')
    .option('--damaged <shard>', 'with --content: a shard whose files are damaged')
    .option('--only <checks...>', 'only these checks, by the ids that --json shows; start-up checks always run')
    .option('--json', 'print JSON')
    .action(async (words: string[], options: ConformOptions) =>
      setExitCode(await (await import('./conform/conform.ts')).runConform(context, words, options)),
    )
    .addHelpText(
      'after',
      `
Methods without a read-only or idempotent annotation are not called, unless --call names them.
${examples(
  'katamari conform -- node shop.js',
  `katamari conform --call Shop.order '{"order": {"item": "tea"}}' -- python3 shop.py`,
  'katamari conform --content ./wiki/part-0 --damaged ./half-a-shard -- python3 search.py',
  'katamari conform --tcp --json -- ./shop | jq \'.checks[] | select(.verdict == "failed")\'',
)}`,
    );
}

/** An option that can be given several times. */
const INCLUDE_OPTION: readonly [
  flags: string,
  description: string,
  add: (folder: string, before?: string[]) => string[],
] = [
  '-I, --include <folder>',
  'folder with included files, searched after that of the including file; can be given several times',
  (folder, before = []) => [...before, folder],
];

const ROLE_COMMANDS = [
  {
    role: 'master',
    what: 'run a master: takes part in the election and leads while elected',
    example: '--set master.rank=1',
  },
  {
    role: 'manager',
    what: 'run a resource manager: launches, checks and restarts chassis on this machine',
    example: '--host 10.0.0.7 --set link.secretFile=/etc/katamari.secret',
  },
  {
    role: 'faceplate',
    what: 'run a faceplate: accepts calls of clients and routes each to a free chassis on any machine',
    example: '--host 0.0.0.0 --also master',
  },
] as const;

const HELP_COLUMNS_MAX = 100;

const PROGRAM_NOTES = `
Examples:
  $ katamari up                                    run the mesh that katamari.yaml describes
  $ katamari call Calculator.add num1=2 num2=40    call one of its methods
  $ katamari status --watch                        show its state
  $ katamari manager --consul 10.0.0.5:8500        run a manager on one of many machines; see docs/cluster.md

Exit codes: 0 success, 1 failed, 2 wrong command line, 69 no mesh answers, 78 wrong configuration.
Flags override KATAMARI_* variables, which override the file. NO_COLOR turns colors off.`;
