// The arguments that every command takes, and how a command finds the address of a running mesh. Terminal,
// environment and signals are parameters, so tests can call a command as a function.

import { dialAddress, urlOf } from '../../../core/mod.ts';
import {
  type Config,
  loadConfig,
  type LoadedConfig,
  type MoreSettings,
  ExitError,
  EXIT,
  type FlagValue,
  type Role,
} from '../../config/mod.ts';
import type { RunningMesh, MeshHooks } from '../../process/mod.ts';
import { AdminClient, type AdminToken, type MeshAddress } from './admin-client.ts';
import type { Terminal } from './terminal.ts';

/** The part of a running mesh that `up` uses. */
export type MeshHandle = Pick<RunningMesh, 'addresses' | 'added' | 'whenReady' | 'status' | 'drain' | 'close'> &
  Partial<Pick<RunningMesh, 'recordDefect' | 'reload' | 'whenFatal'>>;

/** Everything a command uses of the process around it; main.ts passes the real ones. */
export interface CliContext {
  readonly terminal: Terminal;
  /**
   * Returns a terminal for a process that serves calls: it never blocks, and drops text that nobody reads. Undefined
   * in tests that collect the output.
   * @param notice returns the text that reports dropped lines
   */
  readonly serverTerminal?: (notice: (lines: number) => string) => Terminal;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  /** The command line that started this program, for example commands to paste. */
  readonly program: readonly string[];
  /** Reads standard input to its end. */
  readonly readInput: () => Promise<string>;
  /** Starts the mesh that `up` runs, or only the given roles of it. */
  readonly startMesh: (config: Config, hooks: MeshHooks, roles?: readonly Role[]) => Promise<MeshHandle>;
  /** Calls `act` on each SIGHUP; the signal then no longer ends the process. */
  readonly onHangup?: (act: () => void) => void;
  /** Calls `act` with each error that nothing has handled; such errors then no longer end the process. */
  readonly onUncaught?: (act: (error: unknown) => void) => void;
  /** Calls `act` on each SIGTERM or SIGINT; the signals then no longer end the process. */
  readonly onStopSignal: (act: (signal: 'SIGTERM' | 'SIGINT') => void) => void;
  /**
   * Calls `act` with each key that is pressed, until the returned function is called. Undefined if standard input is
   * not a terminal.
   */
  readonly onKey?: ((act: (key: string) => void) => () => void) | undefined;
  /** Ends the process at once, without cleanup. */
  readonly exitNow: (code: number) => void;
}

/** Options of commands that read the whole configuration. */
export interface ConfigOptions {
  readonly config?: string | undefined;
  /** Values from `--set` and from flags such as `--host`, in order of the command line. */
  readonly flags: readonly FlagValue[];
}

/** Options of commands that talk to a running mesh. */
export interface ClientOptions {
  readonly config?: string | undefined;
  readonly mesh?: string | undefined;
  readonly token?: string | undefined;
}

export function loadFor(context: CliContext, options: ConfigOptions, more?: MoreSettings): LoadedConfig {
  const { env, cwd } = context;
  return loadConfig({ file: options.config, env, cwd, flags: options.flags, more });
}

/** Returns a client of the mesh at `--mesh`, else at KATAMARI_URL, else at the address in the configuration. */
export function connect(context: CliContext, options: ClientOptions): AdminClient {
  return new AdminClient(findMesh(context, options));
}

function findMesh(context: CliContext, options: ClientOptions): MeshAddress {
  const { env } = context;
  let loaded: LoadedConfig | undefined;
  // Load the configuration only if an option is missing. An invalid file in this directory must not prevent calls to
  // another mesh.
  const load = (): LoadedConfig => (loaded ??= loadFor(context, { config: options.config, flags: [] }));
  const bearer = options.token ?? '';
  return { ...findUrl(options, env, load), bearer, findToken: () => findToken(options, env, load) };
}

function findUrl(
  options: ClientOptions,
  env: NodeJS.ProcessEnv,
  load: () => LoadedConfig,
): { url: string; from: string } {
  if (options.mesh !== undefined) return { url: checkUrl(options.mesh, '--mesh'), from: '--mesh' };
  if (env['KATAMARI_URL']) return { url: checkUrl(env['KATAMARI_URL'], 'KATAMARI_URL'), from: 'KATAMARI_URL' };
  const { config, settings } = load();
  if (config.ports.jsonRpc === 0) {
    throw new ExitError(
      EXIT.usage,
      'ports.jsonRpc of the configuration is 0 (any free port). Pass the address that `katamari up` printed with --mesh URL or KATAMARI_URL.',
    );
  }
  const from = settings.find(({ key }) => key === 'ports.jsonRpc')?.from ?? 'default';
  return {
    url: urlOf(dialAddress({ host: config.host, port: config.ports.jsonRpc }), config.jsonRpc.tls.certFile !== ''),
    from,
  };
}

function findToken(options: ClientOptions, env: NodeJS.ProcessEnv, load: () => LoadedConfig): AdminToken {
  if (options.token) return { token: options.token, from: '--token' };
  if (env['KATAMARI_TOKEN']) return { token: env['KATAMARI_TOKEN'], from: 'KATAMARI_TOKEN' };
  const { admin } = load().config;
  return { token: admin.token, from: admin.token === '' ? admin.tokenFile : 'the configuration' };
}

function checkUrl(text: string, source: string): string {
  const withScheme = text.includes('://') ? text : `http://${text}`;
  if (URL.canParse(withScheme) && /^https?:$/.test(new URL(withScheme).protocol)) return new URL(withScheme).origin;
  throw new ExitError(
    EXIT.usage,
    `${source}: found ${JSON.stringify(text)}, expected an address such as "http://127.0.0.1:9080"`,
  );
}
