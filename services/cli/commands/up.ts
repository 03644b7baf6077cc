// `katamari up`: all roles in one process; `katamari master`, `manager`, `faceplate`: one of them, or several. Shows the pools filling, then where everything is and one line to try for each
// faceplate, then what happens. The first SIGTERM or SIGINT drains, the second ends at once.

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

export async function runUp(surroundings: CliContext, options: UpOptions): Promise<ExitCode> {
  const { config, file, warnings } = loadFor(surroundings, options);
  if (file === undefined) {
    throw new ExitError(
      EXIT.badConfiguration,
      `No katamari.yaml in ${surroundings.cwd}: write one, or name one with --config FILE or KATAMARI_CONFIG. The shortest:\n\n` +
        'deployments:\n  - service: Calculator\n    version: "1.0.0"\n    script: calculator.ts\n    count: 2',
    );
  }
  return await runProcess(surroundings, { config, file, warnings, roles: undefined }, options);
}

/** @param role the first role; `options.also` names further ones */
export async function runRole(
  surroundings: CliContext,
  role: Role,
  options: UpOptions & { readonly also?: string },
): Promise<ExitCode> {
  const also = (options.also ?? '').split(',').flatMap((name) => (name.trim() === '' ? [] : [name.trim()]));
  const roles = [role, ...also.map((name) => readChoice(name, ROLES, '--also'))];
  // Processes of their own find each other through a Consul that all of them reach.
  const flags = [{ flag: `katamari ${role}`, key: 'consul.embedded', value: 'false' }, ...options.flags];
  const { config, file = '', warnings } = loadFor(surroundings, { config: options.config, flags });
  return await runProcess(surroundings, { config, file, warnings, roles }, options);
}

interface Loaded {
  readonly config: Config;
  readonly file: string;
  readonly warnings: readonly string[];
  /** undefined: all, as `up` does. */
  readonly roles: readonly Role[] | undefined;
}

async function runProcess(
  surroundings: CliContext,
  loaded: Loaded,
  { log: logFormat, logLevel }: UpOptions,
): Promise<ExitCode> {
  const level = readChoice(logLevel, LOG_LEVELS, '--log-level');
  const format = readChoice(logFormat, ['pretty', 'json'] as const, '--log');
  const log = format === 'json' ? jsonLog(surroundings, loaded.config, level) : prettyLog(surroundings, level);
  for (const warning of loaded.warnings) log.warn(warning);
  // Much of a mesh waits on timers that keep no process alive; while it drains there may be nothing else left to.
  const alive = setInterval(() => undefined, DURATION_MS_MAX);
  try {
    return await run(surroundings, loaded, log);
  } finally {
    clearInterval(alive);
  }
}

async function run(surroundings: CliContext, loaded: Loaded, log: UpLog): Promise<ExitCode> {
  const { config } = loaded;
  const startedAt = performance.now();
  const progress = new UpProgress(surroundings.terminal, config, log.isForPeople);
  const stop = stopRequest(surroundings, log);
  const hooks: MeshHooks = {
    onEvent: (event) => progress.around(() => log.event(event)),
    onLine: (resource, line) => progress.around(() => log.line(resource, line)),
  };
  if (loaded.roles === undefined) progress.begin();
  const mesh = await start(surroundings, loaded, hooks, progress);
  await Promise.race([comingUp(mesh, config, progress, stop.isRequested), stop.requested]);
  progress.end();
  if (!stop.isRequested()) {
    const seconds = (performance.now() - startedAt) / 1_000;
    await log.up(mesh, () => announce(surroundings, mesh, loaded, seconds));
    await stop.requested;
  }
  await mesh.drain();
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
    const found = portsOf(config).find((one) => one.port === port)?.path ?? ['ports', 'of one faceplate'];
    const key = keyText(found);
    throw new ExitError(
      EXIT.failed,
      `Port ${port} (${key}) is taken; is another mesh up? \`katamari doctor\` tells who holds it. Choose another with --set ${key}=PORT, 0 for any.`,
      error,
    );
  }
}

/** Until every pool is whole, or for as long as a healthy chassis may take to start: then the rest is told as it stands. */
async function comingUp(
  mesh: MeshHandle,
  config: Config,
  progress: UpProgress,
  isStopping: () => boolean,
): Promise<void> {
  const patienceMs = Math.max(0, ...config.deployments.map(({ startTimeoutMs }) => startTimeoutMs)) + PATIENCE_MS;
  const end = performance.now() + patienceMs;
  const state = { isReady: false };
  const ready = mesh.whenReady.then(() => (state.isReady = true));
  while (!state.isReady && !isStopping() && performance.now() < end) {
    progress.show(mesh.status());
    await Promise.race([ready, sleep(DRAW_EVERY_MS)]);
  }
  if (!isStopping()) progress.show(mesh.status());
}

/** What a person wants to know once the mesh is up. */
async function announce(
  surroundings: CliContext,
  mesh: MeshHandle,
  { config, file, roles }: Loaded,
  seconds: number,
): Promise<void> {
  const { terminal } = surroundings;
  const status = mesh.status();
  const { addresses } = mesh;
  const bold = (text: string): string => paint(terminal, 'bold', text);
  const missing = status.isReady
    ? ''
    : paint(terminal, 'yellow', `, but not whole yet${status.note === '' ? '' : `: ${printable(status.note)}`}`);
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
  const tries = await exampleCommands(surroundings, mesh, config, file);
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
    ...tries.flatMap(({ what, line }) => [`  ${paint(terminal, 'dim', `# ${what}`)}`, `  ${line}`]),
    '',
    paint(terminal, 'dim', 'Ctrl-C drains and stops.'),
    '',
  ];
  terminal.write(`${lines.join('\n')}\n`);
}

/** The first signal asks for an orderly end; the second does not wait for it. */
function stopRequest(
  { onStopSignal, exitNow }: CliContext,
  log: UpLog,
): { requested: Promise<void>; readonly isRequested: () => boolean } {
  let isRequested = false;
  const requested = new Promise<void>((resolve) => {
    onStopSignal((signal) => {
      if (isRequested) exitNow(signal === 'SIGINT' ? 130 : 143);
      isRequested = true;
      log.info('Draining: calls under way are finished, no new ones are taken. Once more ends at once.');
      resolve();
    });
  });
  return { requested, isRequested: () => isRequested };
}

function readChoice<Choice extends string>(text: string, choices: readonly Choice[], flag: string): Choice {
  const choice = choices.find((one) => one === text);
  if (choice !== undefined) return choice;
  throw new ExitError(
    EXIT.usage,
    `${flag}: found ${JSON.stringify(text)}, expected one of ${choices.join(', ')}${didYouMean(text, choices)}`,
  );
}

const DRAW_EVERY_MS = 100;
/** Beyond the longest start timeout: for the launch itself and the first introduction. */
const PATIENCE_MS = 3_000;
