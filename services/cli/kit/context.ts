// What every command is given: its surroundings as arguments, so that a command is a function that tests can call, and how the
// address of a mesh is found when a command is a client of one.

import { urlOf, dialable } from '../../../core/mod.ts';
import {
  type Config,
  loadConfig,
  type LoadedConfig,
  ExitError,
  EXIT,
  type FlagValue,
  type Role,
} from '../../config/mod.ts';
import type { RunningMesh, MeshHooks } from '../../process/mod.ts';
import { AdminClient, type AdminToken, type MeshAddress } from './admin-client.ts';
import type { Terminal } from './terminal.ts';

/** What `up` needs of the mesh that it runs. */
export type MeshHandle = Pick<RunningMesh, 'addresses' | 'added' | 'whenReady' | 'status' | 'drain' | 'close'>;

/** The world outside; main.ts fills it with the process's own. */
export interface CliContext {
  readonly terminal: Terminal;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  /** The command line that runs this program, for lines to paste. */
  readonly program: readonly string[];
  /** All of standard input as text. */
  readonly readInput: () => Promise<string>;
  /** Starts the mesh that `up` runs, or the roles of it that are named. */
  readonly startMesh: (config: Config, hooks: MeshHooks, roles?: readonly Role[]) => Promise<MeshHandle>;
  /** Calls `act` at each SIGTERM or SIGINT, instead of their ending the process. */
  readonly onStopSignal: (act: (signal: 'SIGTERM' | 'SIGINT') => void) => void;
  /** Hands over each key as it is pressed, until the returned function is called; undefined when input is no keyboard. */
  readonly onKey?: ((act: (key: string) => void) => () => void) | undefined;
  /** Ends the process now, whatever is under way. */
  readonly exitNow: (code: number) => void;
}

/** Options of commands that read the whole configuration. */
export interface ConfigOptions {
  readonly config?: string | undefined;
  /** By key; collected from `--set` and the flags that have a name of their own. */
  readonly flags: readonly FlagValue[];
}

/** Options of commands that talk to a running mesh. */
export interface ClientOptions {
  readonly config?: string | undefined;
  readonly mesh?: string | undefined;
  readonly token?: string | undefined;
}

export function loadFor(surroundings: CliContext, options: ConfigOptions): LoadedConfig {
  const { env, cwd } = surroundings;
  return loadConfig({ file: options.config, env, cwd, flags: options.flags });
}

/** A client of the mesh that is meant: `--mesh`, KATAMARI_URL, else where the configuration found here says it listens. */
export function connect(surroundings: CliContext, options: ClientOptions): AdminClient {
  return new AdminClient(findMesh(surroundings, options));
}

function findMesh(surroundings: CliContext, options: ClientOptions): MeshAddress {
  const { env } = surroundings;
  let loaded: LoadedConfig | undefined;
  // Only when something is left to be told by it: a wrong file here is no reason not to call a mesh elsewhere.
  const load = (): LoadedConfig => (loaded ??= loadFor(surroundings, { config: options.config, flags: [] }));
  return { ...findUrl(options, env, load), findToken: () => findToken(options, env, load) };
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
      'The configuration leaves ports.jsonRpc to chance (0); name the address that `katamari up` printed with --mesh URL or KATAMARI_URL.',
    );
  }
  const from = settings.find(({ key }) => key === 'ports.jsonRpc')?.from ?? 'default';
  return { url: urlOf(dialable(config.host), config.ports.jsonRpc), from };
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
