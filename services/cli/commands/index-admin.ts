// `katamari index add`, `plan`, `replicate`, `promote` and `remove`. A source may be a path: it is sent as a URL, and
// the managers read it.

import { stat } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { describeSize } from '../../../core/mod.ts';
import { EXIT, ExitError, type ExitCode } from '../../config/mod.ts';
import { IndexClient, type IndexSummary, type NewIndex } from '../kit/index-client.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { formatTable, printable, type Column, type Terminal } from '../kit/terminal.ts';
import { readWait } from '../kit/wait-for-rollout.ts';
import { waitForIndex } from '../kit/wait-for-index.ts';

export interface IndexAddOptions extends ClientOptions {
  readonly service: string;
  readonly replicas?: string | undefined;
  /** Replicas with which it gets the calls; false for `--no-promote`. */
  readonly promote?: string | false | undefined;
  readonly wait?: string | false;
  readonly json?: boolean | undefined;
}

/** Options of commands that change a version. */
export interface IndexChangeOptions extends ClientOptions {
  readonly json?: boolean | undefined;
}

export interface IndexPinOptions extends IndexChangeOptions {
  readonly clear?: boolean | undefined;
  /** Also managers that are not known, because they are off. */
  readonly force?: boolean | undefined;
}

export async function runIndexAdd(
  context: CliContext,
  index: string,
  source: string,
  options: IndexAddOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const waitMs = readWait(options.wait ?? false);
  const asked = await readIndex(context, index, source, options);
  const client = new IndexClient(connect(context, options));
  let left = `Stopped. ${index} may have been added: katamari index status ${index} shows it.`;
  context.onStopSignal(() => {
    terminal.writeError(`${left}\n`);
    context.exitNow(EXIT.failed);
  });
  const { status, isNew, warnings } = await client.add(asked);
  left = `Stopped waiting. The mesh goes on with ${index}: katamari index status ${index} shows how far it is.`;
  writeWarnings(terminal, warnings);
  if (options.json !== true) {
    const size = `${status.shards} ${status.shards === 1 ? 'shard' : 'shards'}, ${describeSize(status.bytes)}`;
    terminal.write(
      isNew ? `Added ${index}: ${size}, ${replicasText(status)}.\n` : `${index} is there already: unchanged.\n`,
    );
  }
  const end =
    waitMs === 0 ? status : await waitForIndex(options.json === true ? undefined : terminal, client, asked, waitMs);
  if (options.json === true) terminal.write(`${JSON.stringify({ ...end, isNew, warnings })}\n`);
  return EXIT.done;
}

export async function runIndexPlan(
  context: CliContext,
  index: string,
  source: string,
  options: IndexAddOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const client = new IndexClient(connect(context, options));
  const { managers, conditions } = await client.plan(await readIndex(context, index, source, options));
  if (options.json === true) {
    terminal.write(`${JSON.stringify({ managers, conditions })}\n`);
    return EXIT.done;
  }
  terminal.write(`${formatTable(terminal, PLAN_COLUMNS, managers).join('\n')}\n`);
  for (const condition of conditions) terminal.write(`${printable(condition)}\n`);
  return conditions.length === 0 ? EXIT.done : EXIT.failed;
}

export async function runIndexReplicate(
  context: CliContext,
  index: string,
  replicas: string,
  options: IndexChangeOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const { name, version } = exactIndex(index);
  const client = new IndexClient(connect(context, options));
  const { status, warnings } = await client.replicate(name, version, countOf(replicas, 'the number of replicas'));
  writeWarnings(terminal, warnings);
  if (options.json === true) terminal.write(`${JSON.stringify({ ...status, warnings })}\n`);
  else terminal.write(`${index} is to have ${replicasText(status)}.\n`);
  return EXIT.done;
}

export async function runIndexPin(
  context: CliContext,
  index: string,
  managers: readonly string[],
  options: IndexPinOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const { name, version } = exactIndex(index);
  if (managers.length > 0 === (options.clear === true)) {
    const found = managers.length === 0 ? 'neither managers nor' : 'both managers and';
    throw new ExitError(EXIT.usage, `Found ${found} --clear, expected one of them`);
  }
  const client = new IndexClient(connect(context, options));
  const { status, warnings } = await client.pin(name, version, managers, options.force === true);
  writeWarnings(terminal, warnings);
  if (options.json === true) terminal.write(`${JSON.stringify({ ...status, warnings })}\n`);
  else if (managers.length === 0) terminal.write(`${index} may be on any manager.\n`);
  else terminal.write(`${index} is pinned to ${printable(status.pinnedTo.join(', '))}: no other manager gets it.\n`);
  return EXIT.done;
}

export async function runIndexPromote(
  context: CliContext,
  index: string,
  options: IndexChangeOptions & { readonly force?: boolean | undefined },
): Promise<ExitCode> {
  const { terminal } = context;
  const { name, version } = exactIndex(index);
  const client = new IndexClient(connect(context, options));
  const { status, warnings } = await client.promote(name, version, options.force === true);
  writeWarnings(terminal, warnings);
  if (options.json === true) terminal.write(`${JSON.stringify({ ...status, warnings })}\n`);
  else terminal.write(`Calls of ${name} that name no version go to ${version}.\n`);
  return EXIT.done;
}

export async function runIndexRemove(
  context: CliContext,
  index: string,
  options: IndexChangeOptions,
): Promise<ExitCode> {
  const { name, version } = exactIndex(index);
  await new IndexClient(connect(context, options)).remove(name, version);
  context.terminal.write(
    options.json === true
      ? `${JSON.stringify({ name, version })}\n`
      : `${index} is removed. Managers finish its calls, and keep its files for an hour or until they need the space.\n`,
  );
  return EXIT.done;
}

/** Reads `wiki@3.0.0`. @throws ExitError */
export function exactIndex(text: string): { readonly name: string; readonly version: string } {
  const [, name, version] = /^([^@]+)@([^@]+)$/.exec(text) ?? [];
  if (name !== undefined && version !== undefined) return { name, version };
  throw new ExitError(EXIT.usage, `Found ${JSON.stringify(text)}, expected a name and a version such as wiki@3.0.0`);
}

async function readIndex(
  context: CliContext,
  index: string,
  source: string,
  options: IndexAddOptions,
): Promise<NewIndex> {
  const { promote, replicas } = options;
  return {
    ...exactIndex(index),
    source: await sourceUrl(context, source),
    contentService: options.service,
    ...(replicas === undefined ? {} : { replicas: countOf(replicas, '--replicas') }),
    promoteAtReplicas: promote === false ? 0 : promote === undefined ? 1 : countOf(promote, '--promote'),
  };
}

/** A path becomes a `file:` URL. @throws ExitError for a path that does not exist here */
async function sourceUrl({ cwd }: CliContext, source: string): Promise<string> {
  if (/^[a-z][a-z0-9]+:/i.test(source)) return source;
  const file = path.resolve(cwd, source);
  const found = await stat(file).catch(() => undefined);
  if (found?.isDirectory() === true) return pathToFileURL(file).href;
  const why = found === undefined ? 'does not exist' : 'is a file, expected a folder in which each entry is a shard';
  throw new ExitError(EXIT.failed, `${file} ${why}; name the folder of shards, or a URL that managers can read`);
}

function writeWarnings(terminal: Terminal, warnings: readonly string[]): void {
  for (const warning of warnings) terminal.writeError(`Warning: ${printable(warning)}\n`);
}

function countOf(text: string, what: string): number {
  if (/^\d{1,4}$/.test(text)) return Number(text);
  throw new ExitError(EXIT.usage, `${what}: found ${JSON.stringify(text)}, expected 1 to 1000`);
}

function replicasText({ replicas }: IndexSummary): string {
  return `${replicas} ${replicas === 1 ? 'replica' : 'replicas'} of each shard`;
}

const PLAN_COLUMNS: readonly Column<{ manager: string; shards: readonly string[]; bytes: number }>[] = [
  { head: 'MANAGER', text: ({ manager }) => manager },
  { head: 'SHARDS', isNumber: true, text: ({ shards }) => String(shards.length) },
  { head: 'SIZE', isNumber: true, text: ({ bytes }) => describeSize(bytes) },
  {
    head: 'NAMES',
    text: ({ shards }) => `${shards.slice(0, 8).join(' ')}${shards.length > 8 ? ' ...' : ''}`,
    dropOrder: 2,
  },
];
