// `katamari top` shows processes and pools on the screen, updates every second, and sorts by a selectable column.
// Rows that do not fit the screen are counted. Without a terminal it prints once. If the mesh does not answer, it
// keeps the last data and tries again.

import { sleep, describeDuration } from '../../../core/mod.ts';
import { type MeshStatus, mergePools, type MergedPool } from '../../../core/rpc/mod.ts';
import { ExitError, EXIT, type ExitCode, didYouMean } from '../../config/mod.ts';
import type { AdminClient } from '../kit/admin-client.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { cut, formatTable, paint, printable, type Column, type Terminal } from '../kit/terminal.ts';
import {
  aliveColor,
  describeState,
  gatherRoles,
  hasManyProcesses,
  milliseconds,
  PROCESS_STATE_COLORS,
  restartsOf,
  type ProcessLine,
} from './status.ts';

export interface TopOptions extends ClientOptions {
  readonly sort?: string | undefined;
  readonly json?: boolean | undefined;
}

export async function runTop(context: CliContext, options: TopOptions): Promise<ExitCode> {
  const { terminal } = context;
  const sort = readSort(options.sort);
  const client = connect(context, options);
  const status = await client.status();
  if (options.json === true) {
    terminal.write(`${JSON.stringify({ processes: status.processes, pools: sorted(poolRows(status), sort) })}\n`);
  } else if (!terminal.isScreen || context.onKey === undefined) {
    terminal.write(
      `${formatTop(terminal, { status, url: client.url, sort, lost: '' }, Number.POSITIVE_INFINITY).join('\n')}\n`,
    );
  } else await new Screen(context, client, sort, status).run();
  return EXIT.done;
}

/** What a screen shows. */
interface View {
  readonly status: MeshStatus;
  readonly url: string;
  readonly sort: Sort;
  /** Message while the mesh does not answer and the data is old; '' otherwise. */
  readonly lost: string;
}

/** Uses the alternate screen of the terminal, so that the previous content returns at the end. */
class Screen {
  readonly #context: CliContext;
  readonly #client: AdminClient;
  #status: MeshStatus;
  #sort: Sort;
  #lost = '';
  #end: () => void = () => undefined;
  /** Resolves when the user quits, also while a request is pending. */
  readonly #ended: Promise<undefined> = new Promise((resolve) => {
    this.#end = () => resolve(undefined);
  });

  constructor(context: CliContext, client: AdminClient, sort: Sort, status: MeshStatus) {
    this.#context = context;
    this.#client = client;
    this.#sort = sort;
    this.#status = status;
  }

  async run(): Promise<void> {
    const { terminal, onKey, onStopSignal } = this.#context;
    onStopSignal(() => this.#end());
    const stopKeys = onKey?.((key) => this.#onKey(key));
    terminal.write('\x1b[?1049h\x1b[?25l');
    try {
      await this.#show();
    } finally {
      stopKeys?.();
      terminal.write('\x1b[?25h\x1b[?1049l');
    }
  }

  async #show(): Promise<void> {
    for (;;) {
      this.#draw();
      if ((await Promise.race([sleep(REFRESH_INTERVAL_MS).then(() => true), this.#ended])) === undefined) return;
      try {
        const status = await Promise.race([this.#client.status(), this.#ended]);
        if (status === undefined) return;
        this.#status = status;
        this.#lost = '';
      } catch (error) {
        if (!(error instanceof ExitError) || error.exitCode !== EXIT.unreachable) throw error;
        this.#lost = 'no answer, trying again';
      }
    }
  }

  #draw(): void {
    const { terminal } = this.#context;
    const view = { status: this.#status, url: this.#client.url, sort: this.#sort, lost: this.#lost };
    const columns = terminal.columns();
    const lines = formatTop(terminal, view, terminal.rows() - 1).map((line) => cut(line, columns));
    // Overwrite each line in place and clear the rest, so that the screen does not flicker.
    terminal.write(`\x1b[H${lines.map((line) => `${line}\x1b[K\r\n`).join('')}\x1b[J`);
  }

  #onKey(key: string): void {
    if (key === 'q' || key === CTRL_C) return this.#end();
    const step = NEXT_KEYS.includes(key) ? 1 : PREVIOUS_KEYS.includes(key) ? -1 : 0;
    const neighbor = SORTS[(SORTS.indexOf(this.#sort) + step + SORTS.length) % SORTS.length] as Sort;
    this.#sort = SORTS.find((one) => one.key === key) ?? neighbor;
    this.#draw();
  }
}

/** Returns at most `rows` lines. */
export function formatTop(terminal: Terminal, view: View, rows: number): string[] {
  const { status, sort, url, lost } = view;
  const pools = sorted(poolRows(status), sort);
  const processes = hasManyProcesses(status) ? sorted(processRows(status), sort) : [];
  const head = [
    `Mesh ${printable(status.mesh)} at ${url}: ${lost === '' ? describeState(terminal, status) : paint(terminal, 'red', lost)}`,
    describeSums(status),
    '',
  ];
  const foot = terminal.isScreen ? ['', keyLine(terminal, sort)] : [];
  const linesMax = rows - head.length - foot.length;
  // Pools have priority. Processes get the remaining lines, at least a third.
  const gap = processes.length > 0 ? 1 : 0;
  const ofPools = Math.min(
    pools.length + 1,
    Math.max(linesMax - gap - processes.length - 1, Math.ceil((linesMax * 2) / 3)),
  );
  const shown = processes.length === 0 ? [] : fitted(terminal, PROCESS_COLUMNS, processes, linesMax - gap - ofPools);
  return [
    ...head,
    ...shown,
    ...(shown.length > 0 ? [''] : []),
    ...(pools.length === 0 ? ['No pools yet.'] : fitted(terminal, POOL_COLUMNS, pools, Math.max(2, ofPools))),
    ...foot,
  ].slice(0, rows);
}

/** Returns a table of at most `rows` lines; the last line counts the rows that do not fit. */
function fitted<Row>(terminal: Terminal, columns: readonly Column<Row>[], all: readonly Row[], rows: number): string[] {
  if (rows < 2) return [];
  const lines = formatTable(terminal, columns, all);
  if (lines.length <= rows) return lines;
  return [...lines.slice(0, rows - 1), paint(terminal, 'dim', `... and ${lines.length - rows + 1} more`)];
}

/** Columns of both tables. */
interface TopFigures {
  readonly name: string;
  readonly ratePerS: number;
  readonly busy: number;
  readonly alive: number;
  readonly wanted: number;
  readonly queued: number;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  readonly errors: number;
  readonly restarts: number;
}

interface PoolRow extends TopFigures {
  readonly note: string;
}

interface ProcessRow extends TopFigures {
  readonly process: ProcessLine;
}

function poolRows({ pools }: MeshStatus): PoolRow[] {
  return mergePools(pools).map(rowOf);
}

function rowOf(pool: MergedPool): PoolRow {
  const { id, ratePerS, alive, wanted, queued, p50Ms, p99Ms, errors, note, resources } = pool;
  const busy = resources.filter(({ state }) => state === 'busy').length;
  return { name: id, ratePerS, busy, alive, wanted, queued, p50Ms, p99Ms, errors, restarts: restartsOf(pool), note };
}

/** Rows of all processes. Managers show the sums of their pools; other processes show no figures. */
function processRows({ processes, pools }: MeshStatus): ProcessRow[] {
  return gatherRoles(processes).map((process) => {
    const own = process.isManager ? pools.filter(({ manager }) => manager === process.name) : [];
    const rows = mergePools(own).map(rowOf);
    const sum = (figure: (row: PoolRow) => number): number => rows.reduce((total, row) => total + figure(row), 0);
    const worst = (figures: readonly (number | null)[]): number | null =>
      figures.reduce((most, one) => (one === null ? most : Math.max(most ?? 0, one)), null);
    return {
      process,
      name: process.name,
      ratePerS: sum(({ ratePerS }) => ratePerS),
      busy: sum(({ busy }) => busy),
      alive: sum(({ alive }) => alive),
      wanted: sum(({ wanted }) => wanted),
      queued: sum(({ queued }) => queued),
      p50Ms: worst(rows.map(({ p50Ms }) => p50Ms)),
      p99Ms: worst(rows.map(({ p99Ms }) => p99Ms)),
      errors: sum(({ errors }) => errors),
      restarts: sum(({ restarts }) => restarts),
    };
  });
}

function describeSums(status: MeshStatus): string {
  const pools = mergePools(status.pools).map(rowOf);
  const sum = (figure: (row: PoolRow) => number): number => pools.reduce((total, row) => total + figure(row), 0);
  const leader = status.leader === '' ? '' : `, ${printable(status.leader)} leads (term ${status.term})`;
  return (
    `Up ${describeDuration(status.uptimeMs)}${leader}: ${sum(({ ratePerS }) => ratePerS).toFixed(1)} calls/s, ` +
    `${sum(({ busy }) => busy)} busy of ${sum(({ alive }) => alive)}, ${sum(({ queued }) => queued)} queued`
  );
}

/** A sort order: largest figure first, or by name. */
interface Sort {
  readonly name: string;
  readonly key: string;
  readonly figure?: (row: TopFigures) => number;
}

const SORTS: readonly Sort[] = [
  { name: 'rate', key: 'c', figure: ({ ratePerS }) => ratePerS },
  { name: 'busy', key: 'b', figure: ({ busy }) => busy },
  { name: 'queue', key: 'u', figure: ({ queued }) => queued },
  { name: 'p99', key: 'p', figure: ({ p99Ms }) => p99Ms ?? -1 },
  { name: 'errors', key: 'e', figure: ({ errors }) => errors },
  { name: 'restarts', key: 'r', figure: ({ restarts }) => restarts },
  { name: 'name', key: 'n' },
];

function sorted<Row extends TopFigures>(rows: readonly Row[], { figure }: Sort): Row[] {
  const byName = (a: Row, b: Row): number => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
  return [...rows].sort((a, b) => (figure === undefined ? 0 : figure(b) - figure(a)) || byName(a, b));
}

function readSort(text: string | undefined): Sort {
  const names = SORTS.map(({ name }) => name);
  const found = text === undefined ? SORTS[0] : SORTS.find(({ name }) => name === text);
  if (found !== undefined) return found;
  throw new ExitError(
    EXIT.usage,
    `--sort: found ${JSON.stringify(text)}, expected one of ${names.join(', ')}${didYouMean(text ?? '', names)}`,
  );
}

function keyLine(terminal: Terminal, sort: Sort): string {
  const keys = SORTS.map((one) =>
    one === sort ? paint(terminal, 'bold', `[${one.key} ${one.name}]`) : `${one.key} ${one.name}`,
  );
  return `q quit  ${paint(terminal, 'dim', 'sort:')} ${keys.join('  ')}`;
}

const FIGURES: readonly Column<TopFigures>[] = [
  { head: 'CALLS/S', isNumber: true, text: ({ ratePerS }) => ratePerS.toFixed(1) },
  { head: 'BUSY', isNumber: true, text: ({ busy, alive }) => `${busy}/${alive}`, color: aliveColor },
  {
    head: 'QUEUE',
    isNumber: true,
    text: ({ queued }) => String(queued),
    color: ({ queued }) => (queued > 0 ? 'yellow' : undefined),
  },
  { head: 'P50 MS', isNumber: true, dropOrder: 3, text: ({ p50Ms }) => milliseconds(p50Ms) },
  { head: 'P99 MS', isNumber: true, dropOrder: 2, text: ({ p99Ms }) => milliseconds(p99Ms) },
  {
    head: 'ERRORS',
    isNumber: true,
    text: ({ errors }) => String(errors),
    color: ({ errors }) => (errors > 0 ? 'red' : undefined),
  },
  { head: 'RESTARTS', isNumber: true, dropOrder: 1, text: ({ restarts }) => String(restarts) },
];

const POOL_COLUMNS: readonly Column<PoolRow>[] = [
  { head: 'POOL', text: ({ name }) => name },
  ...FIGURES,
  { head: 'NOTE', text: ({ note }) => note, color: () => 'yellow' },
];

const PROCESS_COLUMNS: readonly Column<ProcessRow>[] = [
  { head: 'PROCESS', text: ({ name }) => name },
  { head: 'ROLES', dropOrder: 4, text: ({ process }) => process.roles },
  { head: 'MACHINE', dropOrder: 5, text: ({ process }) => process.machine },
  {
    head: 'STATE',
    text: ({ process }) => process.state,
    color: ({ process }) => PROCESS_STATE_COLORS[process.state],
  },
  ...FIGURES.map((column) => ({
    ...column,
    text: (row: ProcessRow) => (row.process.isManager ? column.text(row) : '-'),
    color: (row: ProcessRow) => (row.process.isManager ? column.color?.(row) : undefined),
  })),
];

const REFRESH_INTERVAL_MS = 1_000;
const CTRL_C = '\x03';
/** Arrow keys right and down select the next sort order, left and up the previous one. */
const NEXT_KEYS: readonly string[] = ['\x1b[C', '\x1b[B'];
const PREVIOUS_KEYS: readonly string[] = ['\x1b[D', '\x1b[A'];
