// `katamari index list`, `status` and `check`: the versions of indices, and their shards by manager.

import { describeSize } from '../../../core/mod.ts';
import { EXIT, ExitError, type ExitCode } from '../../config/mod.ts';
import { IndexClient, type IndexSummary, type ShardSummary } from '../kit/index-client.ts';
import { holdersText, indexColumns } from '../kit/index-table.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { formatTable, printable, type Color, type Column, type Terminal } from '../kit/terminal.ts';

export interface IndexStatusOptions extends ClientOptions {
  readonly json?: boolean | undefined;
}

export async function runIndexList(context: CliContext, options: IndexStatusOptions): Promise<ExitCode> {
  const { terminal } = context;
  const indices = await new IndexClient(connect(context, options)).status('', false);
  if (options.json === true) terminal.write(`${JSON.stringify(indices)}\n`);
  else if (indices.length === 0) terminal.writeError(NO_INDICES);
  else terminal.write(`${formatTable(terminal, indexColumns(indices), indices).join('\n')}\n`);
  return EXIT.done;
}

export async function runIndexStatus(
  context: CliContext,
  index: string,
  options: IndexStatusOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const found = await readIndexStatus(context, index, options);
  if (options.json === true) terminal.write(`${JSON.stringify(found)}\n`);
  else terminal.write(`${found.flatMap((one) => describe(terminal, one)).join('\n')}\n`);
  return EXIT.done;
}

/** Fails unless every shard of the index has its replicas. */
export async function runIndexCheck(
  context: CliContext,
  index: string | undefined,
  options: IndexStatusOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const found = await readIndexStatus(context, index ?? '', options);
  if (options.json === true) terminal.write(`${JSON.stringify(found)}\n`);
  const lacking = found.filter(({ state }) => state !== 'COMPLETE');
  if (options.json !== true) {
    if (found.length === 0) terminal.writeError(NO_INDICES);
    for (const one of found) {
      terminal.write(`${one.name}@${one.version} ${one.state.toLowerCase()}: ${progressOf(one)}\n`);
      for (const condition of conditionsOf(one)) terminal.write(`  ${printable(condition)}\n`);
    }
  }
  return lacking.length === 0 ? EXIT.done : EXIT.failed;
}

/** @throws ExitError for an unknown version */
export async function readIndexStatus(
  context: CliContext,
  index: string,
  options: IndexStatusOptions,
): Promise<IndexSummary[]> {
  const [name = '', version] = index.split('@');
  const all = await new IndexClient(connect(context, options)).status(name, true);
  const found = version === undefined ? all : all.filter((one) => one.version === version);
  if (found.length > 0 || index === '') return found;
  const versions = all.map((one) => one.version).join(', ');
  throw new ExitError(EXIT.failed, `There is no index ${index}; versions of ${name} are ${versions}`);
}

function describe(terminal: Terminal, index: IndexSummary): string[] {
  const { name, version, state, source, contentService, share, addedBy, addedAtMs, pinnedTo } = index;
  const ready = index.readyInMs === undefined ? '' : `, ready after ${(index.readyInMs / 1_000).toFixed(1)} s`;
  const managers = [
    ...new Set(index.shardList.flatMap((shard) => shard.replicas.map(({ manager }) => manager))),
  ].sort();
  return [
    `${name}@${version}  ${state.toLowerCase()}  ${Math.round(share * 100)}% of the calls`,
    `  source    ${printable(source)}`,
    `  service   ${printable(contentService)}, ${replicasText(index)}`,
    ...(pinnedTo.length === 0 ? [] : [`  pinned    to ${printable(pinnedTo.join(', '))}`]),
    `  content   ${index.entries} entries, ${index.shards} shards, ${describeSize(index.bytes)}`,
    `  added     by ${printable(addedBy)} at ${new Date(addedAtMs).toISOString()}${ready}`,
    `  progress  ${progressOf(index)}`,
    ...conditionsOf(index).map((condition) => `  ! ${printable(condition)}`),
    '',
    ...formatTable(terminal, shardColumns(managers), index.shardList).map((line) => `  ${line}`),
    '',
  ];
}

/** What is wrong with an index. A manager that does not answer tells nothing of its shards. */
function conditionsOf({ state, conditions }: IndexSummary): readonly string[] {
  if (conditions.length > 0 || state === 'COMPLETE' || state === 'LOADING') return conditions;
  return ['some managers do not serve its shards now; katamari index nodes shows the managers'];
}

export function replicasText(index: IndexSummary): string {
  const { replicas, replicasServed, holders } = index;
  const noun = replicas === 1 ? 'replica' : 'replicas';
  if (replicasServed >= replicas) return `${replicas} ${noun}`;
  return `${replicasServed} of ${replicas} ${noun}${holders < replicas ? `: ${holdersText(index)}` : ''}`;
}

export function progressOf({ served, shards, bytesDone, bytesWanted }: IndexSummary): string {
  return `${served} of ${shards} shards served, ${describeSize(bytesDone)} of ${describeSize(bytesWanted)} on the managers`;
}

/** A column for each manager, with the state of its replica. */
function shardColumns(managers: readonly string[]): readonly Column<ShardSummary>[] {
  return [
    { head: 'SHARD', text: ({ name }) => name },
    { head: 'SIZE', isNumber: true, text: ({ bytes }) => describeSize(bytes) },
    { head: 'ENTRIES', isNumber: true, text: ({ entries }) => String(entries) },
    ...managers.map((manager): Column<ShardSummary> => {
      const stateOf = (shard: ShardSummary): string | undefined =>
        shard.replicas.find((one) => one.manager === manager)?.state;
      return {
        head: manager.toUpperCase(),
        text: (shard) => stateOf(shard)?.toLowerCase().replace('_', ' ') ?? '-',
        color: (shard) => REPLICA_COLORS[stateOf(shard) ?? ''],
      };
    }),
  ];
}

const NO_INDICES = 'No indices. `katamari index add NAME@VERSION SOURCE --service SERVICE` adds one.\n';
const REPLICA_COLORS: Readonly<Record<string, Color>> = { SERVING: 'green', BACKING_OFF: 'red', FETCHING: 'yellow' };
