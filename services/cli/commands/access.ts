// `katamari access`: shows, replaces and explains the access policy of the mesh.

import path from 'node:path';
import { compilePolicy } from '../../access/mod.ts';
import { ExitError, EXIT, type ExitCode } from '../../config/mod.ts';
import type { PolicyVersion } from '../kit/admin-client.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { listOf, readText } from '../kit/words.ts';
import { formatTable, paint, printable, type Column } from '../kit/terminal.ts';

export interface AccessOptions extends ClientOptions {
  readonly json?: boolean | undefined;
}

export interface ShowOptions extends AccessOptions {
  /** Number of an earlier version. */
  readonly version?: string | undefined;
}

export interface ExplainOptions extends AccessOptions {
  readonly roles?: string | undefined;
  readonly poolRoles?: string | undefined;
}

/** Prints the policy in force, or an earlier version. */
export async function runAccessShow(context: CliContext, options: ShowOptions): Promise<ExitCode> {
  const { terminal } = context;
  const client = connect(context, options);
  const policy =
    options.version === undefined
      ? await client.accessPolicy()
      : findVersion(await client.accessHistory(), options.version);
  if (options.json === true) {
    terminal.write(`${JSON.stringify(policy)}\n`);
    return EXIT.done;
  }
  if (policy.text === '') {
    const removed = policy.version === 0 ? '' : ` Version ${policy.version} removed it: ${describeAuthor(policy)}.`;
    terminal.writeError(
      `The mesh has no access policy; every accepted caller may call everything.${removed}\n` +
        'katamari access apply FILE sets one; docs/access.md has an example.\n',
    );
    return EXIT.done;
  }
  // The document alone goes to standard output, so that it can be edited and applied again.
  terminal.writeError(`${paint(terminal, 'dim', `# version ${policy.version}, ${describeAuthor(policy)}`)}\n`);
  terminal.write(policy.text.endsWith('\n') ? policy.text : `${policy.text}\n`);
  return EXIT.done;
}

/** Replaces the policy by a file, or by standard input for `-`. */
export async function runAccessApply(context: CliContext, file: string, options: AccessOptions): Promise<ExitCode> {
  const text = file === '-' ? await context.readInput() : readText(path.resolve(context.cwd, file), file);
  if (text.trim() === '') {
    throw new ExitError(EXIT.usage, `${file}: it is empty. katamari access remove removes the policy`);
  }
  // Checked here too, so that a problem is found without a mesh and named with its file.
  const checked = compilePolicy(text);
  if (checked instanceof Error) {
    const lines = checked.message.split('\n').map((line) => `${file}: ${line}`);
    throw new ExitError(EXIT.badConfiguration, lines.join('\n'));
  }
  const client = connect(context, options);
  const before = await client.accessPolicy();
  if (before.text === text) return report(context, before, options, 'unchanged');
  return report(context, await client.setAccessPolicy(text, before.version), options, 'in force');
}

/** Removes the policy: every accepted caller may then call everything. */
export async function runAccessRemove(context: CliContext, options: AccessOptions): Promise<ExitCode> {
  const client = connect(context, options);
  const before = await client.accessPolicy();
  if (before.text === '') return report(context, before, options, 'unchanged, there is none');
  return report(context, await client.setAccessPolicy('', before.version), options, 'removed');
}

/** Lists the versions of the policy, the newest first. */
export async function runAccessHistory(context: CliContext, options: AccessOptions): Promise<ExitCode> {
  const { terminal } = context;
  const policies = await connect(context, options).accessHistory();
  if (options.json === true) terminal.write(policies.map((policy) => `${JSON.stringify(policy)}\n`).join(''));
  else if (policies.length === 0) terminal.writeError('The mesh never had an access policy.\n');
  else terminal.write(`${formatTable(terminal, COLUMNS, policies).join('\n')}\n`);
  return EXIT.done;
}

/** Says whether a caller may call a method, and why. The exit code is 1 if it may not. */
export async function runAccessExplain(
  context: CliContext,
  caller: string,
  target: string,
  options: ExplainOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const client = connect(context, options);
  const found = await client.explainAccess(caller, listOf(options.roles), target, listOf(options.poolRoles));
  if (options.json === true) terminal.write(`${JSON.stringify({ caller, target, ...found })}\n`);
  else {
    const word = found.isAllowed ? paint(terminal, 'green', 'allowed') : paint(terminal, 'red', 'denied');
    terminal.write(`${word}: ${printable(found.why)}\n`);
  }
  return found.isAllowed ? EXIT.done : EXIT.failed;
}

function report({ terminal }: CliContext, policy: PolicyVersion, { json }: AccessOptions, what: string): ExitCode {
  terminal.write(
    json === true ? `${JSON.stringify(policy)}\n` : `Version ${policy.version} of the access policy: ${what}.\n`,
  );
  return EXIT.done;
}

function findVersion(policies: readonly PolicyVersion[], version: string): PolicyVersion {
  const found = policies.find((policy) => String(policy.version) === version);
  if (found !== undefined) return found;
  const known = policies.map((policy) => policy.version).join(', ') || 'none';
  throw new ExitError(EXIT.usage, `--version: found ${JSON.stringify(version)}, versions of the policy are ${known}`);
}

function describeAuthor({ changedBy, changedAtMs }: PolicyVersion): string {
  return `by ${printable(changedBy)} at ${new Date(changedAtMs).toISOString()}`;
}

const COLUMNS: readonly Column<PolicyVersion>[] = [
  { head: 'VERSION', isNumber: true, text: ({ version }) => String(version) },
  { head: 'CHANGED', text: ({ changedAtMs }) => new Date(changedAtMs).toISOString() },
  { head: 'BY', text: ({ changedBy }) => printable(changedBy) },
  {
    head: 'LINES',
    isNumber: true,
    text: ({ text }) => (text === '' ? 'removed' : String(text.trimEnd().split('\n').length)),
  },
];
