// What a screen can do and how things look on it: colour only for terminals that want it, tables that fit, bars that fill.
// Text that comes from chassis and meshes is stripped of control characters before it is shown: output is not allowed to move the cursor.

/** Where a command writes. Tests hand in strings; main.ts hands in the process's own streams. */
export interface Terminal {
  write(text: string): void;
  writeError(text: string): void;
  /** Standard output is a screen: things may move and be redrawn. */
  readonly isScreen: boolean;
  readonly hasColour: boolean;
  /** The screen can show more than ASCII. */
  readonly hasUnicode: boolean;
  columns(): number;
  rows(): number;
}

export type Color = keyof typeof COLOURS;

/** The process's own streams. NO_COLOR, TERM=dumb and a pipe each switch colour off. */
export function processTerminal(env: NodeJS.ProcessEnv): Terminal {
  const { stdout, stderr } = process;
  const isScreen = stdout.isTTY === true && env['TERM'] !== 'dumb';
  const locale = env['LC_ALL'] || env['LC_CTYPE'] || env['LANG'] || '';
  return {
    write: (text) => void stdout.write(text),
    writeError: (text) => void stderr.write(text),
    isScreen,
    hasColour: isScreen && !env['NO_COLOR'],
    hasUnicode: /utf-?8/i.test(locale),
    columns: () => stdout.columns ?? 80,
    rows: () => stdout.rows ?? 24,
  };
}

export function paint(terminal: Terminal, colour: Color, text: string): string {
  return terminal.hasColour && text !== '' ? `\x1b[${COLOURS[colour]}m${text}\x1b[0m` : text;
}

/** One column of a table. Of columns that do not fit on the screen, those with the highest `dropOrder` go first; 0 never goes. */
export interface Column<Row> {
  readonly head: string;
  readonly isNumber?: boolean;
  readonly dropOrder?: number;
  readonly text: (row: Row) => string;
  readonly colour?: (row: Row) => Color | undefined;
}

/** Lines of a table: text to the left, numbers to the right, two spaces between, cut to the screen; no trailing spaces. */
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
  const total = (): number => table.reduce((sum, { width }) => sum + width + 2, -2);
  while (total() > limit) {
    const order = Math.max(...table.map(({ column }) => column.dropOrder ?? 0));
    if (order === 0) break;
    table = table.filter(({ column }) => column.dropOrder !== order);
  }
  return [undefined, ...rows].map((row, line) => {
    const shown = table.map(({ column, texts, width }, index) => {
      const text = texts[line] as string;
      const pad = ' '.repeat(width - widthOf(text));
      const colour: Color | undefined = row === undefined ? 'dim' : column.colour?.(row);
      const painted = colour === undefined ? text : paint(terminal, colour, text);
      if (column.isNumber === true) return pad + painted;
      return index === table.length - 1 ? painted : painted + pad;
    });
    return cut(`${indent}${shown.join('  ')}`, limit + indent.length);
  });
}

/** `▰▰▰▱▱` for 3 of 5, never wider than `width`; any progress shows, and only all of it fills the bar. */
export function formatBar(terminal: Terminal, done: number, wanted: number, width: number): string {
  const places = Math.max(1, Math.min(width, wanted));
  const share = wanted === 0 ? 1 : Math.min(1, done / wanted);
  const full = share === 1 ? places : Math.min(places - 1, Math.ceil(share * places));
  const [on, off] = terminal.hasUnicode ? ['▰', '▱'] : ['#', '.'];
  return (
    paint(terminal, share === 1 ? 'green' : 'yellow', on.repeat(full)) +
    paint(terminal, 'dim', off.repeat(places - full))
  );
}

/** Text from outside, safe to show: escape sequences taken out, other control characters made visible as spaces. */
export function printable(text: string): string {
  return text.replace(ESCAPES, '').replace(CONTROLS, ' ');
}

/** Cuts a line to `columns` places, leaving escape sequences whole. */
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

/** A sentence in lines that fit on the screen, broken between words; one line where there is no screen. */
export function wrapped(terminal: Terminal, text: string): string[] {
  if (!terminal.isScreen) return [text];
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last === undefined || widthOf(last) + 1 + widthOf(word) > terminal.columns()) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

/** Redraws a few lines in place while things go on; plain output may be put above them. */
export class LiveLines {
  readonly #terminal: Terminal;
  #shown = 0;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** Shows these lines instead of the ones before; more than the screen has are cut to what fits. */
  draw(lines: readonly string[]): void {
    const room = Math.max(1, this.#terminal.rows() - 2);
    const fitting =
      lines.length <= room ? lines : [...lines.slice(0, room - 1), `... and ${lines.length - room + 1} more`];
    const columns = this.#terminal.columns() - 1;
    this.#terminal.write(this.#back() + fitting.map((line) => `${cut(line, columns)}\x1b[K\n`).join('') + '\x1b[J');
    this.#shown = fitting.length;
  }

  /** Takes the lines off the screen. */
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

const COLOURS = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
const SGR = /\x1b\[\d+m/g; // oxlint-disable-line no-control-regex -- escape sequences are what it looks for
const SGR_SPLIT = /(\x1b\[\d+m)/; // oxlint-disable-line no-control-regex -- as above
const ESCAPES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])/g; // oxlint-disable-line no-control-regex -- as above
const CONTROLS = /[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g; // oxlint-disable-line no-control-regex -- as above
