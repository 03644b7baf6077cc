// Report of `katamari conform`: one line for each check as soon as it is done; below a failed check the expected
// and the actual behavior and the fix; at the end the counts. With --json the same as one JSON object.

import type { ChassisDetails } from '../../../core/rpc/mod.ts';
import { paint, printable, type Terminal } from '../kit/terminal.ts';

export type CheckVerdict = 'ok' | 'failed' | 'skipped';

/** Result of one check. */
export interface Result {
  readonly id: string;
  readonly what: string;
  readonly verdict: CheckVerdict;
  readonly tookMs: number;
  /** Remark on a passed check, or the reason why it was skipped; '' for none. */
  readonly note: string;
  /** These three are '' unless the check failed. */
  readonly expected: string;
  readonly came: string;
  readonly advice: string;
}

export interface Summary {
  readonly isConformant: boolean;
  readonly chassis: Pick<ChassisDetails, 'serviceName' | 'version' | 'concurrency' | 'sdk'> | null;
  readonly counts: Readonly<Record<CheckVerdict, number>>;
  /** Methods of its service that were not called. */
  readonly leftAlone: readonly string[];
  readonly checks: readonly Result[];
}

export function summaryOf(
  results: readonly Result[],
  described: ChassisDetails | undefined,
  leftAlone: readonly string[],
): Summary {
  const count = (verdict: CheckVerdict): number => results.filter((result) => result.verdict === verdict).length;
  const counts = { ok: count('ok'), failed: count('failed'), skipped: count('skipped') };
  const chassis =
    described === undefined
      ? null
      : {
          serviceName: described.serviceName,
          version: described.version,
          concurrency: described.concurrency,
          sdk: described.sdk,
        };
  return { isConformant: counts.failed === 0, chassis, counts, leftAlone, checks: results };
}

export class ConformReport {
  readonly #terminal: Terminal;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  title(text: string): void {
    this.#line(`\n${paint(this.#terminal, 'bold', text)}`);
  }

  result({ verdict, what, note, expected, came, advice }: Result): void {
    const word = paint(this.#terminal, COLOR[verdict], verdict.padEnd(VERDICT_WIDTH));
    this.#line(`  ${word}  ${what}`);
    if (note !== '') this.#detail('', note);
    if (verdict !== 'failed') return;
    this.#detail('expected', expected);
    this.#detail('got', came);
    this.#detail('fix', advice);
  }

  /** Reports checks that were skipped for the same reason. */
  skipped(results: readonly Result[], why: string): void {
    const word = paint(this.#terminal, COLOR.skipped, 'skipped'.padEnd(VERDICT_WIDTH));
    const [first = '', ...others] = wrap(
      `${countOf(results.length, 'check')}: ${why}`,
      this.#columns() - VERDICT_WIDTH - 4,
    );
    this.#line(`  ${word}  ${first}`);
    for (const line of others) this.#line(`${' '.repeat(VERDICT_WIDTH + 4)}${line}`);
    this.#detail('', results.map(({ id }) => id).join(', '));
  }

  warning(text: string): void {
    this.#line('');
    for (const line of wrap(printable(text), this.#columns())) this.#line(paint(this.#terminal, 'yellow', line));
  }

  summary({ isConformant, chassis, counts, checks }: Summary): void {
    const what =
      chassis === null ? 'This chassis' : printable(`${chassis.serviceName}@${chassis.version} (${chassis.sdk})`);
    const verdict = isConformant
      ? paint(this.#terminal, 'green', 'conforms')
      : paint(this.#terminal, 'red', 'does not conform');
    const parts = [
      `${counts.ok} ok`,
      ...(counts.failed > 0 ? [`${counts.failed} failed`] : []),
      ...(counts.skipped > 0 ? [`${counts.skipped} skipped`] : []),
    ];
    this.#line(`\n${what} ${verdict}: ${countOf(checks.length, 'check')}, ${parts.join(', ')}.`);
  }

  /** Prints one detail of a result in its column. */
  #detail(name: string, text: string): void {
    const indent = ' '.repeat(VERDICT_WIDTH + 4);
    const lines = text
      .split('\n')
      .flatMap((line) => wrap(printable(line), this.#columns() - indent.length - NAME_WIDTH));
    for (const [i, line] of lines.entries()) {
      const head = name === '' ? '' : (i === 0 ? name : '').padEnd(NAME_WIDTH);
      this.#line(
        `${indent}${paint(this.#terminal, 'dim', head)}${name === '' ? paint(this.#terminal, 'dim', line) : line}`,
      );
    }
  }

  #columns(): number {
    return this.#terminal.isScreen ? this.#terminal.columns() : Number.POSITIVE_INFINITY;
  }

  #line(text: string): void {
    this.#terminal.write(`${text}\n`);
  }
}

/** Wraps text between words into lines of at most `columns`. */
function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= columns) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

function countOf(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

const COLOR = { ok: 'green', failed: 'red', skipped: 'yellow' } as const;
const VERDICT_WIDTH = 7;
const NAME_WIDTH = 10;
