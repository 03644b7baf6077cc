// `katamari up` runs all roles in one process; `katamari master`, `manager` and `faceplate` run one or several. It
// shows the pools as they fill, then addresses and example commands, then events. The first SIGTERM or SIGINT starts
// a graceful shutdown; the second exits at once.

import { sleep } from '../../../core/mod.ts';
import {
  ExitError,
  EXIT,
  type ExitCode,
  type Config,
  portsOf,
  keyText,
  ROLES,
  type Role,
  didYouMean,
  describeDuration,
  DURATION_MS_MAX,
} from '../../config/mod.ts';
import type { MeshHooks } from '../../process/mod.ts';
import { loadFor, type ConfigOptions, type MeshHandle, type CliContext } from '../kit/context.ts';
import { LOG_LEVELS } from '../kit/event-lines.ts';
import { paint, printable } from '../kit/terminal.ts';
import { httpUrl, exampleCommands } from './example-commands.ts';
import { formatPools } from './status.ts';
import { jsonLog, prettyLog, type UpLog } from './up-log.ts';
import { UpProgress } from './up-progress.ts';

export interface UpOptions extends ConfigOptions {
  readonly log: string;
  readonly logLevel: string;
}

export async function runUp(context: CliContext, options: UpOptions): Promise<ExitCode> {
  const { config, file, warnings } = loadFor(context, options);
  if (file === undefined) {
    throw new ExitError(
      EXIT.badConfiguration,
      `No katamari.yaml in ${context.cwd}: write one, or name one with --config FILE or KATAMARI_CONFIG. A minimal example:\n\n` +
        'deployments:\n  - service: Calculator\n    version: "1.0.0"\n    script: calculator.ts\n    count: 2',
    );
  }
  return await runProcess(context, { config, file, warnings, roles: undefined }, options);
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
  const { config, file = '', warnings } = loadFor(context, { config: options.config, flags });
  return await runProcess(context, { config, file, warnings, roles }, options);
}

interface Loaded {
  readonly config: Config;
  readonly file: string;
  readonly warnings: readonly string[];
  /** Undefined means all roles. */
  readonly roles: readonly Role[] | undefined;
}

async function runProcess(
  given: CliContext,
  loaded: Loaded,
  { log: logFormat, logLevel }: UpOptions,
): Promise<ExitCode> {
  const level = readChoice(logLevel, LOG_LEVELS, '--log-level');
  const format = readChoice(logFormat, ['pretty', 'json'] as const, '--log');
  const context = { ...given, terminal: given.serverTerminal?.(noticeIn(format)) ?? given.terminal };
  const log = format === 'json' ? jsonLog(context, loaded.config, level) : prettyLog(context, level);
  for (const warning of loaded.warnings) log.warn(warning);
  context.onHangup?.(() => log.info('SIGHUP: the mesh keeps running. Restart it to apply a changed configuration.'));
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
  const { config } = loaded;
  const startedAt = performance.now();
  const progress = new UpProgress(context.terminal, config, log.isForPeople);
  const stop = stopRequest(context, log, loaded);
  const hooks: MeshHooks = {
    onEvent: (event) => progress.around(() => log.event(event)),
    onLine: (resource, line) => progress.around(() => log.line(resource, line)),
  };
  if (loaded.roles === undefined) progress.begin();
  const mesh = await start(context, loaded, hooks, progress);
  await Promise.race([waitUntilReady(mesh, config, progress, stop.isRequested), stop.requested]);
  progress.end();
  if (!stop.isRequested()) {
    const seconds = (performance.now() - startedAt) / 1_000;
    await log.up(mesh, () => announce(context, mesh, loaded, seconds));
    await stop.requested;
  }
  await mesh.drain(stop.delayMs());
  await mesh.close();
  log.info('Stopped.');
  return EXIT.done;
}

async function start(
  { startMesh }: CliContext,
  { config, roles }: Loaded,
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
  { config, file, roles }: Loaded,
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
  const commands = await exampleCommands(context, mesh, config, file);
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
  /** How long the ports serve on: after SIGTERM, which supervisors send. Ctrl-C is from a person, who waits. */
  readonly delayMs: () => number;
}

/** Handles stop signals: the first starts a graceful shutdown, the second exits at once. */
function stopRequest({ onStopSignal, exitNow }: CliContext, log: UpLog, { config, roles }: Loaded): StopRequest {
  let delayMs: number | undefined;
  const requested = new Promise<void>((resolve) => {
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
  return { requested, isRequested: () => delayMs !== undefined, delayMs: () => delayMs ?? 0 };
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
