// `katamari index search` searches an index and prints the hits for people, the words of the query in bold.

import { EXIT, ExitError, type ExitCode } from '../../config/mod.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { cut, paint, printable, type Terminal } from '../kit/terminal.ts';

export interface IndexSearchOptions extends ClientOptions {
  readonly count: string;
  readonly fields?: string | undefined;
  readonly filter?: string | undefined;
  readonly sort?: string | undefined;
  readonly after?: string | undefined;
  readonly json?: boolean | undefined;
}

/** Struct Found of idl/search.thrift, as JSON. */
interface FoundJson {
  readonly total: number;
  readonly hits: readonly {
    readonly shard: string;
    readonly document: number;
    readonly score: number | string;
    readonly fields?: Readonly<Record<string, readonly Readonly<Record<string, unknown>>[]>>;
  }[];
  readonly cursor: string;
  readonly coverage: {
    readonly shards: number;
    readonly complete: number;
    readonly missing: readonly { readonly shard: string; readonly lack: string; readonly why: string }[];
  };
}

export async function runIndexSearch(
  context: CliContext,
  index: string,
  query: string,
  options: IndexSearchOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const isMany = /[,*]/.test(index);
  const [name = '', version] = isMany ? ['KatamariSearch'] : index.split('@');
  const count = /^\d{1,5}$/.test(options.count) ? Number(options.count) : -1;
  if (count < 0)
    throw new ExitError(EXIT.usage, `--count: found ${JSON.stringify(options.count)}, expected 0 to 10000`);
  const params = {
    ...(isMany ? { indices: index.split(',') } : {}),
    query,
    count,
    fields: (options.fields ?? '*').split(','),
    filter: options.filter ?? '',
    after: options.after ?? '',
    ...(options.sort === undefined ? {} : { sort: options.sort.split(',').map(sortKey) }),
  };
  const headers: Record<string, string> = version === undefined ? {} : { 'katamari-version': version };
  const client = connect(context, options);
  const answer = await client.call(`/rpc/${name}`, 'search', JSON.stringify(params), headers, WAIT_MS);
  if (answer.error !== undefined) throw new ExitError(EXIT.failed, failureText(query, answer.error));
  const found = answer.result as FoundJson;
  if (options.json === true) terminal.write(`${JSON.stringify(found)}\n`);
  else terminal.write(`${describe(terminal, found, query, answer.version).join('\n')}\n`);
  return EXIT.done;
}

/** Reads `price` or `-price`. */
function sortKey(text: string): { readonly field: string; readonly descending: boolean } {
  return text.startsWith('-') ? { field: text.slice(1), descending: true } : { field: text, descending: false };
}

/** Shows the place in a query that cannot be read. */
function failureText(
  query: string,
  { message, data }: { message: string; data?: Readonly<Record<string, unknown>> | undefined },
): string {
  const { why, at } = data ?? {};
  if (data?.['exception'] !== 'BadQuery') return printable(message);
  const place = typeof at === 'number' && at >= 0 ? `\n  ${printable(query)}\n  ${' '.repeat(at)}^` : '';
  return `${printable(String(why))}${place}`;
}

function describe(terminal: Terminal, found: FoundJson, query: string, version: string): string[] {
  const { total, hits, cursor, coverage } = found;
  const words = query.match(/[\p{L}\p{N}]+/gu) ?? [];
  const lines = hits.flatMap(({ shard, document, score, fields = {} }) => [
    `${paint(terminal, 'bold', scoreText(score))}  ${paint(terminal, 'dim', `${printable(shard)} ${document}`)}`,
    ...Object.entries(fields).map(([name, values]) => fieldLine(terminal, name, values, words)),
  ]);
  const isWhole = coverage.complete === coverage.shards;
  const shards = isWhole ? `${coverage.shards} shards` : `only ${coverage.complete} of ${coverage.shards} shards`;
  return [
    ...lines,
    ...(lines.length === 0 ? [] : ['']),
    `${total} ${total === 1 ? 'document' : 'documents'} of ${shards}, version ${version}`,
    ...coverage.missing.map(({ shard, lack, why }) => `${printable(shard)} is missing: ${lack} ${printable(why)}`),
    ...(cursor === '' ? [] : [`More: --after ${cursor}`]),
  ];
}

function scoreText(score: number | string): string {
  return typeof score === 'number' ? score.toFixed(3) : '-';
}

function fieldLine(
  terminal: Terminal,
  name: string,
  values: readonly Readonly<Record<string, unknown>>[],
  words: readonly string[],
): string {
  const text = values
    .flatMap((value) => Object.values(value))
    .map((value) => (typeof value === 'string' ? value : JSON.stringify(value)).replace(/\s+/g, ' '))
    .join(', ');
  const line = cut(`       ${name}: ${printable(text)}`, terminal.columns());
  if (!terminal.hasColor || words.length === 0) return line;
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(${words.join('|')})(?![\\p{L}\\p{N}])`, 'giu');
  return line.replace(pattern, (word) => paint(terminal, 'bold', word));
}

const WAIT_MS = 30_000;
