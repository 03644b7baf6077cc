// `katamari audit` shows the audit log of a process from its data directory, and `katamari audit verify` checks its
// hash chain. Both read the files, so they need no mesh; each process has a log of its own.

import path from 'node:path';
import { auditFiles, linesOf, verifyChain, verifyLog, type Verdict } from '../../audit/mod.ts';
import { EXIT, ExitError, type ExitCode } from '../../config/mod.ts';
import { loadFor, type CliContext, type ConfigOptions } from '../kit/context.ts';
import { parseLongDuration } from '../kit/long-duration.ts';
import { paint, printable, type Color, type Terminal } from '../kit/terminal.ts';

export interface AuditOptions extends ConfigOptions {
  readonly since?: string | undefined;
  readonly limit: string;
  readonly json?: boolean | undefined;
}

export interface AuditVerifyOptions extends ConfigOptions {
  readonly head?: string | undefined;
  readonly json?: boolean | undefined;
}

/** A line of the log; text in the place of a line that cannot be read. */
type ShownLine = Readonly<Record<string, unknown>>;

export async function runAudit(context: CliContext, options: AuditOptions): Promise<ExitCode> {
  const { terminal } = context;
  const sinceMs = options.since === undefined ? Number.NEGATIVE_INFINITY : readSince(options.since);
  const limit = readLimit(options.limit);
  const folder = folderOf(context, options);
  const files = await reading(folder, () => auditFiles(folder));
  // The newest lines, as a ring would keep them.
  let kept: string[] = [];
  for (const file of files) {
    await reading(file, async () => {
      for await (const { bytes } of linesOf(file)) {
        const text = bytes.toString('utf8');
        const atMs = Date.parse(String(parse(text)['at']));
        // A line without a time is damaged, and shown.
        if (atMs <= sinceMs) continue;
        kept.push(text);
        if (kept.length >= 2 * limit) kept = kept.slice(-limit);
      }
    });
  }
  for (const text of limit === 0 ? [] : kept.slice(-limit)) {
    terminal.write(options.json === true ? `${printable(text)}\n` : `${formatLine(terminal, parse(text))}\n`);
  }
  if (kept.length === 0 && options.json !== true) terminal.writeError(`No lines in ${folder}.\n`);
  return EXIT.done;
}

export async function runAuditVerify(
  context: CliContext,
  named: readonly string[],
  options: AuditVerifyOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const { head } = options;
  if (head !== undefined && !/^[0-9a-f]{64}$/.test(head)) {
    throw new ExitError(EXIT.usage, `--head: found ${JSON.stringify(head)}, expected a hash of 64 hexadecimal digits`);
  }
  const isWhole = named.length === 0;
  const { verdict, hasHead } = isWhole
    ? await verifyFolder(folderOf(context, options), head)
    : await verifyFiles(
        named.map((file) => path.resolve(context.cwd, file)),
        head,
      );
  if (options.json === true) terminal.write(`${JSON.stringify(verdict)}\n`);
  if (!verdict.isIntact) {
    const { file, line, why } = verdict;
    if (options.json !== true) terminal.writeError(`${file}:${line}: ${why}\n`);
    return EXIT.failed;
  }
  if (options.json === true) return EXIT.done;
  const { lines, firstSeq, lastSeq, repaired, lost } = verdict;
  const notes = [
    `${lines} lines in ${verdict.files} ${verdict.files === 1 ? 'file' : 'files'} are intact, number ${firstSeq} to ${lastSeq}.`,
    ...(repaired > 0 ? [`${repaired} of them report a line that a crash cut off.`] : []),
    ...(lost > 0 ? [`${lost} entries were lost while the log could not be written.`] : []),
    ...(isWhole && !hasHead ? ['head.json is missing: lines that were removed at the end are not noticed.'] : []),
    `head ${verdict.head}`,
  ];
  terminal.write(`${notes.join('\n')}\n`);
  return EXIT.done;
}

async function verifyFolder(
  folder: string,
  head: string | undefined,
): Promise<{ readonly verdict: Verdict; readonly hasHead: boolean }> {
  const { verdict, hasHead } = await reading(folder, () => verifyLog(folder, { head }));
  if (verdict !== undefined) return { verdict, hasHead };
  throw new ExitError(EXIT.failed, `${folder} has no files of an audit log, so there is nothing to check`);
}

async function verifyFiles(
  files: readonly string[],
  head: string | undefined,
): Promise<{ readonly verdict: Verdict; readonly hasHead: boolean }> {
  const known = head === undefined ? [] : [head];
  return { verdict: await reading(files[0] as string, () => verifyChain(files, { known })), hasHead: false };
}

function folderOf(context: CliContext, options: ConfigOptions): string {
  return path.join(loadFor(context, options).config.dataDir, 'audit');
}

async function reading<T>(file: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof ExitError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    const hint = code === 'ENOENT' ? '. Pass the configuration of the mesh with --config FILE, or --data-dir' : '';
    throw new ExitError(EXIT.failed, `Cannot read the audit log ${file}: ${message}${hint}`, error);
  }
}

function formatLine(terminal: Terminal, line: ShownLine): string {
  const text = (name: string): string => printable(typeof line[name] === 'string' ? line[name] : '');
  if (typeof line['damaged'] === 'string') return paint(terminal, 'red', `damaged: ${printable(line['damaged'])}`);
  const result = text('result');
  const who = text('who') || 'unknown';
  const from = text('from') === '' ? '' : ` (${text('from')})`;
  const code = text('code') === '' ? '' : ` ${text('code')}`;
  const change = 'before' in line || 'after' in line ? `  ${short(line['before'])} -> ${short(line['after'])}` : '';
  const reason = text('reason') === '' ? '' : `  ${text('reason')}`;
  const shown = `${result}${code}`;
  return `${paint(terminal, 'dim', text('at'))}  ${text('process')}  ${who}${from}  ${text('action')} ${text('subject')}  ${paint(terminal, RESULT_COLORS.get(result) ?? 'dim', shown)}${reason}${change}`;
}

function short(document: unknown): string {
  const text = printable(JSON.stringify(document) ?? '-');
  return text.length > DOCUMENT_CHARS_MAX ? `${text.slice(0, DOCUMENT_CHARS_MAX)}...` : text;
}

function parse(text: string): ShownLine {
  try {
    const found: unknown = JSON.parse(text);
    if (typeof found === 'object' && found !== null) return found as ShownLine;
  } catch {
    // Not a line of the log; verify says more.
  }
  return { damaged: text.slice(0, DOCUMENT_CHARS_MAX) };
}

/** Returns Unix time in ms. */
function readSince(text: string): number {
  const agoMs = parseLongDuration(text);
  if (agoMs !== undefined) return Date.now() - agoMs;
  const atMs = /^\d{4}-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(atMs)) return atMs;
  throw new ExitError(
    EXIT.usage,
    `--since: found ${JSON.stringify(text)}, expected a duration such as "2h", or a date such as "2026-05-01" or "2026-05-01T08:00:00Z"`,
  );
}

function readLimit(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new ExitError(EXIT.usage, `--limit: found ${JSON.stringify(text)}, expected a whole number`);
}

const RESULT_COLORS: ReadonlyMap<string, Color> = new Map([
  ['done', 'green'],
  ['refused', 'red'],
  ['failed', 'yellow'],
  ['started', 'cyan'],
]);
const DOCUMENT_CHARS_MAX = 200;
