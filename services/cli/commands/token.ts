// `katamari token` creates, lists and revokes admin tokens. The value of a new token goes to standard output alone,
// so that a script can keep it; what it may do goes to standard error.

import { EXIT, ExitError, type ExitCode } from '../../config/mod.ts';
import type { KnownToken } from '../../mesh/mod.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { parseLongDuration } from '../kit/long-duration.ts';
import { formatTable, printable, type Column } from '../kit/terminal.ts';

export interface TokenCreateOptions extends ClientOptions {
  readonly scopes: string;
  readonly roles?: string | undefined;
  readonly expires?: string | undefined;
}

export interface TokenListOptions extends ClientOptions {
  readonly json?: boolean | undefined;
}

export async function runTokenCreate(
  context: CliContext,
  name: string,
  options: TokenCreateOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const scopes = wordsOf(options.scopes);
  const roles = wordsOf(options.roles ?? '');
  const expiresInMs = options.expires === undefined ? undefined : readLifetime(options.expires);
  const token = await connect(context, options).createToken(name, scopes, roles, expiresInMs);
  const end = expiresInMs === undefined ? 'until it is revoked' : `until ${dateOf(Date.now() + expiresInMs)}`;
  terminal.write(`${token}\n`);
  terminal.writeError(
    `The token ${printable(name)} has the scopes ${printable(scopes.join(', '))} and is valid ${end}.\n` +
      'Keep it now: the mesh stores only its hash. Pass it with --token or KATAMARI_TOKEN.\n',
  );
  return EXIT.done;
}

export async function runTokenList(context: CliContext, options: TokenListOptions): Promise<ExitCode> {
  const { terminal } = context;
  const tokens = await connect(context, options).tokens();
  if (options.json === true) terminal.write(`${JSON.stringify(tokens)}\n`);
  else if (tokens.length === 0)
    terminal.writeError('No tokens beside the root token. `katamari token create NAME --scopes read` creates one.\n');
  else terminal.write(`${formatTable(terminal, COLUMNS, tokens).join('\n')}\n`);
  return EXIT.done;
}

export async function runTokenRevoke(context: CliContext, name: string, options: ClientOptions): Promise<ExitCode> {
  await connect(context, options).revokeToken(name);
  context.terminal.write(`The token ${printable(name)} is revoked.\n`);
  return EXIT.done;
}

function wordsOf(text: string): string[] {
  return text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

function readLifetime(text: string): number {
  const ms = parseLongDuration(text);
  if (ms !== undefined && ms <= LIFETIME_MS_MAX) return ms;
  throw new ExitError(
    EXIT.usage,
    `--expires: found ${JSON.stringify(text)}, expected a duration such as "12h" or "30d", at most 3650d`,
  );
}

function dateOf(atMs: number): string {
  return new Date(atMs).toISOString().replace(/:\d\d\.\d+Z$/, 'Z');
}

const COLUMNS: readonly Column<KnownToken>[] = [
  { head: 'NAME', text: ({ name }) => name },
  { head: 'SCOPES', text: ({ scopes }) => scopes.join(',') || '-' },
  { head: 'ROLES', text: ({ roles }) => roles.join(',') || '-', dropOrder: 2 },
  { head: 'CREATED', text: ({ createdAtMs }) => dateOf(createdAtMs), dropOrder: 3 },
  { head: 'BY', text: ({ createdBy }) => createdBy, dropOrder: 4 },
  {
    head: 'EXPIRES',
    text: ({ expiresAtMs }) =>
      expiresAtMs === undefined ? 'never' : `${dateOf(expiresAtMs)}${expiresAtMs <= Date.now() ? ' (expired)' : ''}`,
    color: ({ expiresAtMs }) => (expiresAtMs !== undefined && expiresAtMs <= Date.now() ? 'red' : undefined),
  },
];
/** Ten years, the limit of the admin service. */
const LIFETIME_MS_MAX = 315_360_000_000;
