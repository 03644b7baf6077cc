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
  /** Share of the shards that must be in the answer. */
  readonly minCoverage?: string | undefined;
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
  const names = index.split(',');
  for (const one of names) checkName(one);
  const isMany = /[,*]/.test(index);
  const [name = '', version] = isMany ? ['KatamariSearch'] : index.split('@');
  const count = /^\d{1,5}$/.test(options.count) ? Number(options.count) : COUNT_MAX + 1;
  if (count > COUNT_MAX) {
    const found = JSON.stringify(options.count);
    throw new ExitError(
      EXIT.usage,
      `--count: found ${found}, expected 0 to ${COUNT_MAX}; --after gets the hits after them`,
    );
  }
  const params = {
    ...(isMany ? { indices: names } : {}),
    query,
    count,
    fields: (options.fields ?? '*').split(','),
    filter: options.filter ?? '',
    after: options.after ?? '',
    ...(options.sort === undefined ? {} : { sort: options.sort.split(',').map(sortKey) }),
    ...(options.minCoverage === undefined ? {} : { minCoverage: coverageOf(options.minCoverage) }),
  };
  const headers: Record<string, string> = version === undefined ? {} : { 'katamari-version': version };
  const client = connect(context, options);
  const answer = await client.call(`/rpc/${name}`, 'search', JSON.stringify(params), headers, WAIT_MS);
  if (answer.error !== undefined)
    throw new ExitError(EXIT.failed, failureText(query, options.filter ?? '', answer.error));
  const found = answer.result as FoundJson;
  for (const field of missingFields(found, options.fields))
    terminal.writeError(`No hit has a stored field ${JSON.stringify(field)}.\n`);
  if (options.json === true) terminal.write(`${JSON.stringify(found)}\n`);
  else terminal.write(`${describe(terminal, found, query, isMany ? '' : answer.version).join('\n')}\n`);
  return EXIT.done;
}

/** Reads `price` or `-price`. */
function sortKey(text: string): { readonly field: string; readonly descending: boolean } {
  return text.startsWith('-') ? { field: text.slice(1), descending: true } : { field: text, descending: false };
}

/** @throws ExitError for a text that names no index, such as one with a space */
function checkName(text: string): void {
  if (/^[A-Za-z_*][\w.*]*(@[^@,]+)?$/.test(text)) return;
  const found = JSON.stringify(text);
  throw new ExitError(
    EXIT.usage,
    `Found ${found}, expected the name of an index, also with a version: wiki, wiki@3.0.0, news_*`,
  );
}

function coverageOf(text: string): number {
  const share = Number(text);
  if (text.trim() !== '' && share >= 0 && share <= 1) return share;
  throw new ExitError(EXIT.usage, `--min-coverage: found ${JSON.stringify(text)}, expected 0 to 1`);
}

/** The fields that were asked for and that no hit has, so that a misspelled one is seen. */
function missingFields({ hits }: FoundJson, fields: string | undefined): string[] {
  if (fields === undefined || hits.length === 0) return [];
  return fields.split(',').filter((name) => name !== '*' && !hits.some((hit) => Object.hasOwn(hit.fields ?? {}, name)));
}

/** Shows the place in a query, or in a filter, that cannot be read. */
function failureText(
  query: string,
  filter: string,
  { message, data }: { message: string; data?: Readonly<Record<string, unknown>> | undefined },
): string {
  const { why, at } = data ?? {};
  if (data?.['exception'] !== 'BadQuery') return printable(message);
  const read = String(why).startsWith('in the filter: ') ? filter : query;
  const place = typeof at === 'number' && at >= 0 && read !== '' ? `\n  ${printable(read)}\n  ${' '.repeat(at)}^` : '';
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
  const noun = coverage.shards === 1 ? 'shard' : 'shards';
  const shards = `${isWhole ? '' : `only ${coverage.complete} of `}${coverage.shards} ${noun}`;
  return [
    ...lines,
    ...(lines.length === 0 ? [] : ['']),
    `${total} ${total === 1 ? 'document' : 'documents'} of ${shards}${version === '' ? '' : `, version ${version}`}`,
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
  const whole = `       ${name}: ${printable(text)}`;
  // A program that reads a pipe gets the whole text.
  const line = terminal.isScreen ? cut(whole, terminal.columns()) : whole;
  if (!terminal.hasColor || words.length === 0) return line;
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(${words.join('|')})(?![\\p{L}\\p{N}])`, 'giu');
  return line.replace(pattern, (word) => paint(terminal, 'bold', word));
}

const WAIT_MS = 30_000;
const COUNT_MAX = 10_000;
