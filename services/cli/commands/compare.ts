// `katamari compare` compares the calls of two versions: how they end and how long they take, what callers have
// reported about them, and which differences are certain.

import { EXIT, ExitError, type ExitCode } from '../../config/mod.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { formatTable, printable, type Column, type Terminal } from '../kit/terminal.ts';

export interface ComparisonOptions extends ClientOptions {
  /** Shows the verdicts of this method. */
  readonly method?: string | undefined;
  readonly json?: boolean | undefined;
}

/** Struct VersionComparison of idl/versions.thrift. */
interface VersionsCompared {
  readonly serviceName: string;
  readonly first: string;
  readonly second: string;
  readonly splitIndex: number;
  readonly sinceMs?: number;
  readonly methods: readonly MethodCompared[];
  readonly outcomes: readonly OutcomeCompared[];
  readonly missing: readonly string[];
}

interface MethodCompared {
  readonly method: string;
  readonly first: FiguresOfVersion;
  readonly second: FiguresOfVersion;
  readonly verdicts: readonly VerdictShown[];
}

interface FiguresOfVersion {
  readonly calls: number;
  readonly exceptions: number;
  readonly failures: number;
  readonly timeouts: number;
  readonly refusals: number;
  readonly cancelled: number;
  readonly p50Ms?: number;
  readonly p90Ms?: number;
  readonly p99Ms?: number;
  readonly queueP50Ms?: number;
  readonly queueP99Ms?: number;
}

interface VerdictShown {
  readonly metric: string;
  readonly first?: number;
  readonly second?: number;
  readonly isDifferent: boolean;
  readonly text: string;
}

interface OutcomeCompared {
  readonly metric: string;
  readonly firstCount: number;
  readonly secondCount: number;
  readonly verdict: VerdictShown;
}

export async function runCompare(
  context: CliContext,
  service: string,
  versions: readonly string[],
  options: ComparisonOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  if (versions.length === 1 || versions.length > 2)
    throw new ExitError(EXIT.usage, `Found ${versions.length} versions, expected two, or none for those of the route`);
  const [first = '', second = ''] = versions;
  const params = { serviceName: service, first, second };
  const compared = (await connect(context, options).versions('compareVersions', params, WAIT_MS)) as VersionsCompared;
  if (options.json === true) {
    terminal.write(`${JSON.stringify(compared)}\n`);
    return EXIT.done;
  }
  for (const name of compared.missing) terminal.writeError(`${printable(name)} could not be asked.\n`);
  const [all, ...methods] = compared.methods as readonly [MethodCompared, ...MethodCompared[]];
  const { method = '' } = options;
  const shown = method === '' ? all : methods.find((one) => one.method === method);
  if (shown === undefined) {
    const known = methods.map((one) => one.method).join(', ') || 'none';
    throw new ExitError(EXIT.failed, `--method: no call of ${method} was counted; methods are ${known}`);
  }
  const lines = [
    headline(compared, shown),
    '',
    ...figureLines(terminal, compared, shown),
    ...(method === '' ? [...methodLines(terminal, compared, methods), ...outcomeLines(terminal, compared)] : []),
  ];
  terminal.write(`${lines.map((line) => line.trimEnd()).join('\n')}\n`);
  return EXIT.done;
}

/** `Search: 1.0.0 against 2.0.0, 12,340 calls since change 7 of its route, 2026-12-01T10:00:00.000Z` */
function headline(compared: VersionsCompared, { method, first, second }: MethodCompared): string {
  const { serviceName, splitIndex, sinceMs } = compared;
  const name = method === '' ? serviceName : `${serviceName}.${method}`;
  const calls = whole(first.calls + second.calls);
  const since = splitIndex === 0 ? 'the start of its route' : `change ${splitIndex} of its route`;
  const at = sinceMs === undefined ? '' : `, ${new Date(sinceMs).toISOString()}`;
  return printable(`${name}: ${compared.first} against ${compared.second}, ${calls} calls since ${since}${at}`);
}

interface FigureRow {
  readonly name: string;
  readonly first: string;
  readonly second: string;
  readonly verdict: string;
}

function figureLines(terminal: Terminal, { first, second }: VersionsCompared, shown: MethodCompared): string[] {
  const verdictOf = (metric: string): string => shown.verdicts.find((one) => one.metric === metric)?.text ?? '';
  const row = (name: string, text: (figures: FiguresOfVersion) => string): FigureRow => ({
    name,
    first: text(shown.first),
    second: text(shown.second),
    verdict: verdictOf(name),
  });
  /** A part of the errors; nothing if there is none. */
  const part = (name: string, read: (figures: FiguresOfVersion) => number): FigureRow[] =>
    read(shown.first) + read(shown.second) === 0 ? [] : [row(name, (figures) => whole(read(figures)))];
  const rows = [
    row('calls', ({ calls }) => whole(calls)),
    row('errors', (figures) => rate(errorsOf(figures), figures)),
    ...part('  failures', ({ failures }) => failures),
    ...part('  timeouts', ({ timeouts }) => timeouts),
    ...part('  refusals', ({ refusals }) => refusals),
    row('exceptions', (figures) => rate(figures.exceptions, figures)),
    ...part('cancelled', ({ cancelled }) => cancelled),
    row('p50', ({ p50Ms }) => duration(p50Ms)),
    row('p90', ({ p90Ms }) => duration(p90Ms)),
    row('p99', ({ p99Ms }) => duration(p99Ms)),
    row('queue p50', ({ queueP50Ms }) => duration(queueP50Ms)),
    row('queue p99', ({ queueP99Ms }) => duration(queueP99Ms)),
  ];
  return formatTable(terminal, columnsOf(first, second), rows);
}

function columnsOf(first: string, second: string): readonly Column<FigureRow>[] {
  return [
    { head: '', text: ({ name }) => name },
    { head: first, isNumber: true, text: (row) => row.first },
    { head: second, isNumber: true, text: (row) => row.second },
    { head: 'VERDICT', text: ({ verdict }) => printable(verdict) },
  ];
}

/** One line for each method; the verdicts that found a difference. */
function methodLines(
  terminal: Terminal,
  { first, second }: VersionsCompared,
  methods: readonly MethodCompared[],
): string[] {
  if (methods.length < 2) return [];
  const pair = (one: string, other: string): string => (one === other ? one : `${one} / ${other}`);
  const columns: readonly Column<MethodCompared>[] = [
    { head: `METHOD (${first} / ${second})`, text: ({ method }) => printable(method) },
    { head: 'CALLS', isNumber: true, text: (one) => pair(whole(one.first.calls), whole(one.second.calls)) },
    {
      head: 'ERRORS',
      isNumber: true,
      text: (one) => pair(rate(errorsOf(one.first), one.first), rate(errorsOf(one.second), one.second)),
    },
    { head: 'P50', isNumber: true, text: (one) => pair(duration(one.first.p50Ms), duration(one.second.p50Ms)) },
    { head: 'P99', isNumber: true, text: (one) => pair(duration(one.first.p99Ms), duration(one.second.p99Ms)) },
    { head: 'DIFFERENT', text: ({ verdicts }) => differences(verdicts) },
  ];
  return ['', ...formatTable(terminal, columns, methods)];
}

function differences(verdicts: readonly VerdictShown[]): string {
  return verdicts.flatMap(({ metric, isDifferent }) => (isDifferent ? [metric] : [])).join(', ') || '-';
}

function outcomeLines(terminal: Terminal, { first, second, outcomes }: VersionsCompared): string[] {
  if (outcomes.length === 0) return [];
  const number = (value: number | undefined): string =>
    value === undefined ? '-' : value.toLocaleString('en-US', { maximumSignificantDigits: 4 });
  const columns: readonly Column<OutcomeCompared>[] = [
    { head: 'OUTCOME', text: ({ metric }) => printable(metric) },
    { head: first, isNumber: true, text: ({ verdict }) => number(verdict.first) },
    { head: second, isNumber: true, text: ({ verdict }) => number(verdict.second) },
    { head: 'VALUES', isNumber: true, text: (one) => `${whole(one.firstCount)} / ${whole(one.secondCount)}` },
    { head: 'VERDICT', text: ({ verdict }) => printable(verdict.text) },
  ];
  return ['', ...formatTable(terminal, columns, outcomes)];
}

function errorsOf({ failures, timeouts, refusals }: FiguresOfVersion): number {
  return failures + timeouts + refusals;
}

/** Percentage of the calls whose caller has waited for the end. */
function rate(hits: number, { calls, cancelled }: FiguresOfVersion): string {
  if (calls === cancelled) return '-';
  return `${((100 * hits) / (calls - cancelled)).toLocaleString('en-US', { maximumSignificantDigits: 3 })} %`;
}

function duration(ms: number | undefined): string {
  return ms === undefined ? '-' : `${ms.toLocaleString('en-US', { maximumSignificantDigits: 3 })} ms`;
}

function whole(count: number): string {
  return count.toLocaleString('en-US');
}

/** Verdicts on many methods take a while, in slices beside the calls of the faceplate. */
const WAIT_MS = 30_000;
