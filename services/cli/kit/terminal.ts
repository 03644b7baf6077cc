// Terminal output: colors only where they are supported, tables that fit the width, progress bars. Text from chassis
// and meshes is printed without control characters, so it cannot move the cursor.

/** Where a command writes. Tests collect strings; main.ts passes standard output and error. */
export interface Terminal {
  write(text: string): void;
  writeError(text: string): void;
  /** Standard output is a terminal, so lines can be redrawn. */
  readonly isScreen: boolean;
  readonly hasColor: boolean;
  /** The locale is UTF-8, so bars use block characters. */
  readonly hasUnicode: boolean;
  columns(): number;
  rows(): number;
}

export type Color = keyof typeof COLORS;

/** Terminal on the streams of the process. NO_COLOR, TERM=dumb and a pipe each turn colors off. */
export function processTerminal(env: NodeJS.ProcessEnv): Terminal {
  const { stdout, stderr } = process;
  const isScreen = stdout.isTTY === true && env['TERM'] !== 'dumb';
  const locale = env['LC_ALL'] || env['LC_CTYPE'] || env['LANG'] || '';
  return {
    write: (text) => void stdout.write(text),
    writeError: (text) => void stderr.write(text),
    isScreen,
    hasColor: isScreen && !env['NO_COLOR'],
    hasUnicode: /utf-?8/i.test(locale),
    columns: () => stdout.columns ?? 80,
    rows: () => stdout.rows ?? 24,
  };
}

export function paint(terminal: Terminal, color: Color, text: string): string {
  return terminal.hasColor && text !== '' ? `\x1b[${COLORS[color]}m${text}\x1b[0m` : text;
}

/**
 * One column of a table. If the table is too wide, columns with the highest `dropOrder` are dropped first; 0 is never
 * dropped. Column NOTE is dropped if it is empty.
 */
export interface Column<Row> {
  readonly head: string;
  readonly isNumber?: boolean;
  readonly dropOrder?: number;
  readonly text: (row: Row) => string;
  readonly color?: (row: Row) => Color | undefined;
}

/**
 * Returns the lines of a table: text left-aligned, numbers right-aligned, two spaces between columns, cut to the
 * width of the terminal, no trailing spaces.
 */
export function formatTable<Row>(
  terminal: Terminal,
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  indent = '',
): string[] {
  const filled = columns.filter(({ head, text }) => head !== 'NOTE' || rows.some((row) => text(row) !== ''));
  const cells = (column: Column<Row>): string[] => [column.head, ...rows.map((row) => printable(column.text(row)))];
  let table = filled.map((column) => {
    const texts = cells(column);
    return { column, texts, width: Math.max(...texts.map(widthOf)) };
  });
  const limit = terminal.isScreen ? terminal.columns() - indent.length : Number.POSITIVE_INFINITY;
  const totalWidth = (): number => table.reduce((sum, { width }) => sum + width + 2, -2);
  while (totalWidth() > limit) {
    const order = Math.max(...table.map(({ column }) => column.dropOrder ?? 0));
    if (order === 0) break;
    table = table.filter(({ column }) => column.dropOrder !== order);
  }
  return [undefined, ...rows].map((row, line) => {
    const shown = table.map(({ column, texts, width }, index) => {
      const text = texts[line] as string;
      const pad = ' '.repeat(width - widthOf(text));
      const color: Color | undefined = row === undefined ? 'dim' : column.color?.(row);
      const painted = color === undefined ? text : paint(terminal, color, text);
      if (column.isNumber === true) return pad + painted;
      return index === table.length - 1 ? painted : painted + pad;
    });
    return cut(`${indent}${shown.join('  ')}`, limit + indent.length);
  });
}

/**
 * Returns `▰▰▰▱▱` for 3 of 5, at most `width` characters. Any progress shows at least one block; the bar is full only
 * when all are done.
 */
export function formatBar(terminal: Terminal, done: number, total: number, width: number): string {
  const places = Math.max(1, Math.min(width, total));
  const share = total === 0 ? 1 : Math.min(1, done / total);
  const full = share === 1 ? places : Math.min(places - 1, Math.ceil(share * places));
  const [on, off] = terminal.hasUnicode ? ['▰', '▱'] : ['#', '.'];
  return (
    paint(terminal, share === 1 ? 'green' : 'yellow', on.repeat(full)) +
    paint(terminal, 'dim', off.repeat(places - full))
  );
}

/** Returns the text without escape sequences; other control characters become spaces. */
export function printable(text: string): string {
  return text.replace(ESCAPES, '').replace(CONTROLS, ' ');
}

/** Cuts a line to `columns` characters. Escape sequences stay whole and do not count. */
export function cut(line: string, columns: number): string {
  if (widthOf(line) <= columns) return line;
  let width = 0;
  let kept = '';
  let isPainted = false;
  for (const part of line.split(SGR_SPLIT)) {
    if (part.startsWith('\x1b[')) {
      kept += part;
      isPainted = part !== '\x1b[0m';
      continue;
    }
    for (const letter of part) {
      if (width >= columns - 1) return `${kept}${isPainted ? '\x1b[0m' : ''}>`;
      kept += letter;
      width++;
    }
  }
  return kept;
}

/**
 * Breaks a sentence between words into lines that fit the terminal; one line if there is no terminal.
 * @param indent columns that the caller puts before each line
 */
export function wrapped(terminal: Terminal, text: string, indent = 0): string[] {
  if (!terminal.isScreen) return [text];
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last === undefined || indent + widthOf(last) + 1 + widthOf(word) > terminal.columns()) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

/** Redraws a block of lines in place. Other output can be printed above it after clear(). */
export class LiveLines {
  readonly #terminal: Terminal;
  #shown = 0;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** Replaces the block. Lines that do not fit the height of the terminal are replaced by a count. */
  draw(lines: readonly string[]): void {
    const linesMax = Math.max(1, this.#terminal.rows() - 2);
    const fitting =
      lines.length <= linesMax
        ? lines
        : [...lines.slice(0, linesMax - 1), `... and ${lines.length - linesMax + 1} more`];
    const columns = this.#terminal.columns() - 1;
    this.#terminal.write(this.#back() + fitting.map((line) => `${cut(line, columns)}\x1b[K\n`).join('') + '\x1b[J');
    this.#shown = fitting.length;
  }

  /** Removes the block from the terminal. */
  clear(): void {
    if (this.#shown > 0) this.#terminal.write(`${this.#back()}\x1b[J`);
    this.#shown = 0;
  }

  #back(): string {
    return this.#shown > 0 ? `\x1b[${this.#shown}A\r` : '';
  }
}

function widthOf(text: string): number {
  return Array.from(text.replace(SGR, '')).length;
}

const COLORS = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
const SGR = /\x1b\[\d+m/g; // oxlint-disable-line no-control-regex -- matches escape sequences
const SGR_SPLIT = /(\x1b\[\d+m)/; // oxlint-disable-line no-control-regex -- as above
// oxlint-disable-next-line no-control-regex -- as above
const ESCAPES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])/g;
const CONTROLS = /[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g; // oxlint-disable-line no-control-regex -- as above
