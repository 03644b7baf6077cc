// `katamari index show`: all that is known about one version, and with --raw its documents as they stand in Consul.

import { describeSize } from '../../../core/mod.ts';
import { EXIT, ExitError, type ExitCode } from '../../config/mod.ts';
import { connect, type CliContext } from '../kit/context.ts';
import { IndexClient, type IndexSummary, type ShardSummary } from '../kit/index-client.ts';
import { formatTable, printable, type Column, type Terminal } from '../kit/terminal.ts';
import { exactIndex } from './index-admin.ts';
import { progressOf, readIndexStatus, replicasText, type IndexStatusOptions } from './index-status.ts';

export interface IndexShowOptions extends IndexStatusOptions {
  readonly raw?: boolean | undefined;
}

export async function runIndexShow(context: CliContext, index: string, options: IndexShowOptions): Promise<ExitCode> {
  const { terminal } = context;
  const { name, version } = exactIndex(index);
  if (options.raw === true) {
    const documents = await new IndexClient(connect(context, options)).documents(name, version);
    const shown = documents.map(({ text, ...document }) => ({ ...document, value: readJson(text) }));
    terminal.write(`${JSON.stringify(shown, undefined, 2)}\n`);
    return EXIT.done;
  }
  const [found] = await readIndexStatus(context, index, options);
  if (found === undefined) throw new ExitError(EXIT.failed, `There is no index ${index}`);
  if (options.json === true) terminal.write(`${JSON.stringify(found)}\n`);
  else terminal.write(`${describe(terminal, found).join('\n')}\n`);
  return EXIT.done;
}

/** A document that cannot be read is shown as its text. */
function readJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

function describe(terminal: Terminal, index: IndexSummary): string[] {
  const { name, version, state, source, contentService, share, manifest, conditions, shardList } = index;
  const { addedBy, addedAtMs, readyInMs, pinnedTo } = index;
  const ready = readyInMs === undefined ? 'not yet' : `${(readyInMs / 1_000).toFixed(1)} s after it was added`;
  return [
    `${name}@${version}  ${state.toLowerCase()}  ${Math.round(share * 100)}% of the calls`,
    `  source     ${printable(source)}`,
    `  service    ${printable(contentService)}`,
    `  replicas   ${replicasText(index)}`,
    `  pinned     ${pinnedTo.length === 0 ? 'to no manager' : `to ${printable(pinnedTo.join(', '))}`}`,
    `  promotion  ${promotionText(index)}`,
    `  content    ${index.entries} entries, ${index.shards} shards, ${describeSize(index.bytes)}`,
    `  manifest   ${printable(manifest)}`,
    `  added      by ${printable(addedBy)} at ${new Date(addedAtMs).toISOString()}`,
    `  ready      ${ready}`,
    `  progress   ${progressOf(index)}`,
    ...conditions.map((condition) => `  ! ${printable(condition)}`),
    '',
    ...formatTable(terminal, SHARD_COLUMNS, shardList).map((line) => `  ${line}`),
  ];
}

function promotionText({ promoteAtReplicas }: IndexSummary): string {
  if (promoteAtReplicas === 0) return 'by katamari index promote';
  const replicas = promoteAtReplicas === 1 ? '1 replica' : `${promoteAtReplicas} replicas`;
  return `by itself, once, when each shard has ${replicas}`;
}

const SHARD_COLUMNS: readonly Column<ShardSummary>[] = [
  { head: 'SHARD', text: ({ name }) => name },
  { head: 'SIZE', isNumber: true, text: ({ bytes }) => describeSize(bytes) },
  { head: 'ENTRIES', isNumber: true, text: ({ entries }) => String(entries) },
  { head: 'DIGEST', text: ({ digest }) => digest, dropOrder: 2 },
  {
    head: 'HELD BY',
    text: ({ replicas }) =>
      replicas.map(({ manager, state }) => `${manager} ${state.toLowerCase().replace('_', ' ')}`).join(', ') || '-',
    color: ({ replicas }) => (replicas.some(({ state }) => state === 'SERVING') ? undefined : 'red'),
  },
];
