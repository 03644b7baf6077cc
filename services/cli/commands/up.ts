// `katamari up` runs all roles in one process; `katamari master`, `manager` and `faceplate` run one or several. It
// shows the pools as they fill, then addresses and example commands, then events. The first SIGTERM or SIGINT starts
// a graceful shutdown; the second exits at once.

import { sleep, describeDuration, DURATION_MS_MAX } from '../../../core/mod.ts';
import {
  ExitError,
  EXIT,
  type ExitCode,
  compareConfigs,
  desiredDeployment,
  type Config,
  type LoadedConfig,
  portsOf,
  keyText,
  ROLES,
  type Role,
  didYouMean,
} from '../../config/mod.ts';
import type { MeshHooks } from '../../process/mod.ts';
import { AdminClient } from '../kit/admin-client.ts';
import { loadFor, type ConfigOptions, type MeshHandle, type CliContext } from '../kit/context.ts';
import { LOG_LEVELS } from '../kit/event-lines.ts';
import { paint, printable } from '../kit/terminal.ts';
import { readUpIndices, serveUpIndices, settingsFor, type UpIndex } from '../kit/up-indices.ts';
import { httpUrl, exampleCommands } from './example-commands.ts';
import { formatPools } from './status.ts';
import { jsonLog, prettyLog, type UpLog } from './up-log.ts';
import { UpProgress } from './up-progress.ts';

export interface UpOptions extends ConfigOptions {
  readonly log: string;
  readonly logLevel: string;
  /** Values of `--index`. */
  readonly index?: readonly string[] | undefined;
}

export async function runUp(context: CliContext, options: UpOptions): Promise<ExitCode> {
  const indices = await readUpIndices(context.cwd, options.index ?? []);
  const load = (): LoadedConfig => {
    const { config } = loadFor(context, options);
    return loadFor(context, options, settingsFor(indices, new Set(config.deployments.map(({ service }) => service))));
  };
  const first = load();
  if (first.file === undefined && indices.length === 0) {
    throw new ExitError(
      EXIT.badConfiguration,
      `No katamari.yaml in ${context.cwd}: write one, or name one with --config FILE or KATAMARI_CONFIG. A minimal example:\n\n` +
        'deployments:\n  - service: Calculator\n    version: "1.0.0"\n    script: calculator.ts\n    count: 2',
    );
  }
  return await runProcess(context, { first, load, roles: undefined, indices }, options);
}

/** @param role the first role; `options.also` lists more */
export async function runRole(
  context: CliContext,
  role: Role,
  options: UpOptions & { readonly also?: string },
): Promise<ExitCode> {
  const also = (options.also ?? '').split(',').flatMap((name) => (name.trim() === '' ? [] : [name.trim()]));
  const roles = [role, ...also.map((name) => readChoice(name, ROLES, '--also'))];
  // Separate processes find each other through a Consul server that all can reach.
  const flags = [{ flag: `katamari ${role}`, key: 'consul.embedded', value: 'false' }, ...options.flags];
  const load = (): LoadedConfig => loadFor(context, { config: options.config, flags });
  return await runProcess(context, { first: load(), load, roles, indices: [] }, options);
}

interface Loaded {
  readonly first: LoadedConfig;
  /** Reads the configuration again. @throws ExitError */
  readonly load: () => LoadedConfig;
  /** Undefined means all roles. */
  readonly roles: readonly Role[] | undefined;
  /** Indices to serve. */
  readonly indices: readonly UpIndex[];
}

async function runProcess(
  given: CliContext,
  loaded: Loaded,
  { log: logFormat, logLevel }: UpOptions,
): Promise<ExitCode> {
  const level = readChoice(logLevel, LOG_LEVELS, '--log-level');
  const format = readChoice(logFormat, ['pretty', 'json'] as const, '--log');
  const context = { ...given, terminal: given.serverTerminal?.(noticeIn(format)) ?? given.terminal };
  const log = format === 'json' ? jsonLog(context, loaded.first.config, level) : prettyLog(context, level);
  for (const warning of loaded.first.warnings) log.warn(warning);
  // Most timers of a mesh are unref'ed. During a drain they may be all that is left, and the process would exit.
  const keepAlive = setInterval(() => undefined, DURATION_MS_MAX);
  try {
    return await run(context, loaded, log);
  } finally {
    clearInterval(keepAlive);
  }
}

/** Returns the text that reports lines of output that could not be written, in the format of the log. */
function noticeIn(format: 'pretty' | 'json'): (lines: number) => string {
  const textOf = (lines: number): string =>
    `${lines} lines of this output are missing: it was not read, or not written`;
  return format === 'pretty'
    ? (lines) => `${textOf(lines)}\n`
    : (lines) =>
        `${JSON.stringify({ level: 40, time: new Date().toISOString(), droppedLines: lines, msg: textOf(lines) })}\n`;
}

async function run(context: CliContext, loaded: Loaded, log: UpLog): Promise<ExitCode> {
  const { config } = loaded.first;
  const startedAt = performance.now();
  const progress = new UpProgress(context.terminal, config, log.isForPeople);
  const stop = stopRequest(context, log, loaded);
  const hooks: MeshHooks = {
    onEvent: (event) => progress.around(() => log.event(event)),
    onLine: (resource, line) => progress.around(() => log.line(resource, line)),
    onWarning: (text) => progress.around(() => log.warn(text)),
  };
  if (loaded.roles === undefined) progress.begin();
  const uncaught = uncaughtErrors(context, log);
  const reload = reloadOnHangup(context, loaded, log, stop.isRequested);
  const mesh = await start(context, loaded, hooks, progress);
  uncaught.passTo(mesh);
  reload.passTo(mesh);
  let exitCode: ExitCode = EXIT.done;
  const failed = (mesh.whenFatal ?? new Promise<never>(() => undefined)).then(() => {
    exitCode = EXIT.defect;
    stop.request();
  });
  await Promise.race([waitUntilReady(mesh, config, progress, stop.isRequested), stop.requested, failed]);
  progress.end();
  if (!stop.isRequested()) {
    await serveIndices(context, mesh, loaded, log);
    const seconds = (performance.now() - startedAt) / 1_000;
    await log.up(mesh, () => announce(context, mesh, loaded, seconds));
    await stop.requested;
  }
  await mesh.drain(stop.delayMs());
  await mesh.close();
  log.info('Stopped.');
  return exitCode;
}

/** Serves the indices of `--index`. A failure leaves the mesh up: the services of the file may be needed. */
async function serveIndices(context: CliContext, mesh: MeshHandle, loaded: Loaded, log: UpLog): Promise<void> {
  if (loaded.indices.length === 0) return;
  // The token of this process, wherever flags and variables put it.
  const { token, tokenFile } = loaded.first.config.admin;
  const url = httpUrl(mesh.addresses.jsonRpc);
  const admin = new AdminClient({ url, from: 'up', bearer: '', findToken: () => ({ token, from: tokenFile }) });
  try {
    const lines = await serveUpIndices(admin, loaded.indices);
    for (const line of lines) log.info(line);
  } catch (error) {
    log.warn(`--index: ${(error as Error).message}`);
  }
}

/** SIGHUP applies the changed file. It never ends the process; one that comes before the mesh has started waits. */
function reloadOnHangup(
  { onHangup }: CliContext,
  { first, load }: Loaded,
  log: UpLog,
  isStopping: () => boolean,
): { readonly passTo: (mesh: MeshHandle) => void } {
  let mesh: MeshHandle | undefined;
  let applied = first;
  let isWaiting = false;
  const reload = (): void => {
    isWaiting = mesh === undefined;
    if (mesh === undefined || isStopping()) return;
    try {
      const next = load();
      if (next.file === undefined && first.file !== undefined)
        throw new ExitError(EXIT.badConfiguration, `there is no ${first.file}`);
      checkDeployments(next);
      const { live, restart } = compareConfigs(first, applied, next);
      const overridden = mesh.reload?.(next.config) ?? [];
      applied = next;
      for (const warning of next.warnings) log.warn(warning);
      log.info(describeReload(live, restart, overridden));
    } catch (error) {
      log.warn(
        `SIGHUP: the changed configuration is refused, and the old one stays in force: ${(error as Error).message}`,
      );
    }
  };
  onHangup?.(reload);
  return {
    passTo(started) {
      mesh = started;
      if (isWaiting) reload();
    },
  };
}

/** @throws ExitError with the location of a deployment that cannot be applied, for example because of its IDL */
function checkDeployments({ config, where }: LoadedConfig): void {
  for (const [index, deployment] of config.deployments.entries()) {
    try {
      desiredDeployment(deployment);
    } catch (error) {
      throw new ExitError(
        EXIT.badConfiguration,
        `${where(['deployments', index])}: ${(error as Error).message}`,
        error,
      );
    }
  }
}

function describeReload(live: readonly string[], restart: readonly string[], overridden: readonly string[]): string {
  const parts = [
    live.length === 0 ? '' : `applied ${live.join(', ')}`,
    overridden.length === 0
      ? ''
      : `${overridden.join(', ')} of the file ${overridden.length === 1 ? 'has' : 'have'} no effect, because the mesh was given other values by a command`,
    restart.length === 0
      ? ''
      : `${restart.join(', ')} ${restart.length === 1 ? 'needs' : 'need'} a restart of this process`,
  ].filter((part) => part !== '');
  return `SIGHUP: ${parts.length === 0 ? 'the configuration has not changed' : parts.join('; ')}`;
}

/** Errors that nothing has handled: the mesh records them, and the log those before the mesh has started. */
function uncaughtErrors({ onUncaught }: CliContext, log: UpLog): { readonly passTo: (mesh: MeshHandle) => void } {
  let record = (error: unknown): void => log.warn(`uncaught ${error instanceof Error ? error.stack : String(error)}`);
  onUncaught?.((error) => {
    try {
      record(error);
    } catch (second) {
      log.warn(`an uncaught error could not be recorded: ${String(second)}`);
    }
  });
  return {
    passTo(mesh) {
      record = (error) => mesh.recordDefect?.(error);
    },
  };
}

async function start(
  { startMesh }: CliContext,
  { first: { config }, roles }: Loaded,
  hooks: MeshHooks,
  progress: UpProgress,
): Promise<MeshHandle> {
  try {
    return await startMesh(config, hooks, roles);
  } catch (error) {
    progress.end();
    const { code, port } = error as NodeJS.ErrnoException & { port?: number };
    if (code !== 'EADDRINUSE') throw error;
    const found = portsOf(config).find((one) => one.port === port)?.path ?? ['ports', 'NAME'];
    const key = keyText(found);
    throw new ExitError(
      EXIT.failed,
      `Port ${port} (${key}) is in use. Is another mesh running? \`katamari doctor\` shows which process uses it. Choose another port with --set ${key}=PORT (0 for any free port).`,
      error,
    );
  }
}

/** Waits until every pool is complete, but no longer than the longest start timeout plus a margin. */
async function waitUntilReady(
  mesh: MeshHandle,
  config: Config,
  progress: UpProgress,
  isStopping: () => boolean,
): Promise<void> {
  const waitMs = Math.max(0, ...config.deployments.map(({ startTimeoutMs }) => startTimeoutMs)) + READY_MARGIN_MS;
  const end = performance.now() + waitMs;
  const state = { isReady: false };
  const ready = mesh.whenReady.then(() => (state.isReady = true));
  while (!state.isReady && !isStopping() && performance.now() < end) {
    progress.show(mesh.status());
    await Promise.race([ready, sleep(DRAW_INTERVAL_MS)]);
  }
  if (!isStopping()) progress.show(mesh.status());
}

/** Prints addresses, pools and example commands. */
async function announce(
  context: CliContext,
  mesh: MeshHandle,
  { first: { config, file = '' }, roles, indices }: Loaded,
  seconds: number,
): Promise<void> {
  const { terminal } = context;
  const status = mesh.status();
  const { addresses } = mesh;
  const bold = (text: string): string => paint(terminal, 'bold', text);
  const missing = status.isReady
    ? ''
    : paint(terminal, 'yellow', `, but not complete yet${status.note === '' ? '' : `: ${printable(status.note)}`}`);
  const rows = [
    ['Thrift', addresses.thrift],
    ['JSON-RPC', addresses.jsonRpc === '' ? '' : `${httpUrl(addresses.jsonRpc)}/rpc`],
    ['Web', addresses.web === '' ? '' : `${httpUrl(addresses.web)}/`],
    ...Object.entries(mesh.added),
    ['Stats', `${httpUrl(addresses.stats)}/`],
    ['Link', addresses.link],
    ['Consul', `${httpUrl(addresses.consul)}${config.consul.embedded ? '  (embedded)' : ''}`],
  ].filter(([, address]) => address !== '');
  const what =
    roles === undefined ? `Mesh ${config.mesh}` : `${config.name} (${roles.join(', ')}) of mesh ${config.mesh}`;
  const took = `${bold(`${what} is up`)} after ${describeDuration(seconds * 1_000)}${missing}`;
  if (roles !== undefined) {
    const shown = rows.map(
      ([name, address]) => `  ${(name as string).padEnd(9)} ${paint(terminal, 'cyan', address as string)}`,
    );
    terminal.write(
      `${['', took, '', ...shown, '', paint(terminal, 'dim', 'Ctrl-C drains and stops.'), ''].join('\n')}\n`,
    );
    return;
  }
  const texts = indices.filter(({ server }) => server === 'TextSearch').map(({ name }) => name);
  const commands = await exampleCommands(context, mesh, config, file, texts);
  const lines = [
    '',
    took,
    '',
    ...rows.map(([name, address]) => `  ${(name as string).padEnd(9)} ${paint(terminal, 'cyan', address as string)}`),
    '',
    ...(status.pools.length === 0
      ? ['No pools: the configuration has no deployments.']
      : formatPools(terminal, status.pools)),
    '',
    `${bold('Try it')} (each is one line to paste):`,
    '',
    ...commands.flatMap(({ what, line }) => [`  ${paint(terminal, 'dim', `# ${what}`)}`, `  ${line}`]),
    '',
    paint(terminal, 'dim', 'Ctrl-C drains and stops.'),
    '',
  ];
  terminal.write(`${lines.join('\n')}\n`);
}

interface StopRequest {
  readonly requested: Promise<void>;
  readonly isRequested: () => boolean;
  /** Starts a shutdown without a signal, because the process must end. */
  readonly request: () => void;
  /** How long the ports serve on: after SIGTERM, which supervisors send. Ctrl-C is from a person, who waits. */
  readonly delayMs: () => number;
}

/** Handles stop signals: the first starts a graceful shutdown, the second exits at once. */
function stopRequest(
  { onStopSignal, exitNow }: CliContext,
  log: UpLog,
  { first: { config }, roles }: Loaded,
): StopRequest {
  let delayMs: number | undefined;
  let request = (): void => undefined;
  const requested = new Promise<void>((resolve) => {
    request = () => {
      delayMs ??= 0;
      resolve();
    };
    onStopSignal((signal) => {
      if (delayMs !== undefined) exitNow(signal === 'SIGINT' ? 130 : 143);
      const hasFaceplates = roles === undefined || roles.includes('faceplate');
      delayMs = signal === 'SIGTERM' && hasFaceplates ? config.shutdownDelayMs : 0;
      const serving = `/readyz fails now, and the ports serve for ${describeDuration(delayMs)} more (shutdownDelay). Then calls`;
      log.info(
        `Draining: ${delayMs === 0 ? 'calls' : serving} in progress finish, new calls are refused. A second signal stops at once.`,
      );
      resolve();
    });
  });
  return { requested, isRequested: () => delayMs !== undefined, request, delayMs: () => delayMs ?? 0 };
}

function readChoice<Choice extends string>(text: string, choices: readonly Choice[], flag: string): Choice {
  const choice = choices.find((one) => one === text);
  if (choice !== undefined) return choice;
  throw new ExitError(
    EXIT.usage,
    `${flag}: found ${JSON.stringify(text)}, expected one of ${choices.join(', ')}${didYouMean(text, choices)}`,
  );
}

const DRAW_INTERVAL_MS = 100;
/** Margin beyond the longest start timeout, for the launch and the readiness check. */
const READY_MARGIN_MS = 3_000;
