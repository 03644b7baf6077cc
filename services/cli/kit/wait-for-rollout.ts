// What a command that gave an order shows until the order is carried out: a bar for each subject on a screen, a line for each step in a pipe.
// It asks for the status again and again, at most for as long as it was told, then says what is missing and why; the mesh goes on either way.

import { sleep } from '../../../core/mod.ts';
import type { MeshStatus, ResourceStatus } from '../../../core/rpc/mod.ts';
import { ExitError, EXIT, describeDuration, parseDuration } from '../../config/mod.ts';
import type { AdminClient } from './admin-client.ts';
import { cut, formatBar, LiveLines, paint, printable, type Terminal } from './terminal.ts';

/** How far one subject of the order has come. */
export interface Step {
  readonly name: string;
  readonly done: number;
  readonly wanted: number;
  /** What becomes of each: `alive`, `replaced`, `ended`. */
  readonly word: string;
  /** It may need more than the count says. */
  readonly isDone: boolean;
  /** What is in the way, for people; '' when nothing is known to be. */
  readonly note: string;
  /** Lines for the end, when it did not come to be. */
  readonly missing: readonly string[];
}

/** @throws CliError when some step is not done after `waitMs` */
export async function waitForRollout(
  terminal: Terminal,
  client: AdminClient,
  waitMs: number,
  look: (status: MeshStatus) => readonly Step[],
): Promise<void> {
  const end = performance.now() + waitMs;
  const live = new LiveLines(terminal);
  const said = new Map<string, string>();
  for (;;) {
    const steps = look(await client.status());
    if (terminal.isScreen) live.draw(steps.map((step) => barLine(terminal, step)));
    else sayChanges(terminal, steps, said);
    const missing = steps.filter(({ isDone }) => !isDone);
    if (missing.length === 0) return live.clear();
    if (performance.now() > end) throw notDone(missing, waitMs);
    await sleep(LOOK_EVERY_MS);
  }
}

/** `--wait 5m`, `--no-wait`: how long to follow, 0 for not at all. */
export function readWait(text: string | false): number {
  if (text === false) return 0;
  const parsed = parseDuration(text);
  if (parsed.ok) return parsed.value;
  throw new ExitError(EXIT.usage, `--wait: found ${JSON.stringify(text)}, expected ${parsed.expected}`);
}

/** A line for each resource that is not well, for `missing`. */
export function describeResources(resources: readonly (ResourceStatus & { readonly manager?: string })[]): string[] {
  const lines = resources.map(({ name, state, note, manager }) => {
    const where = manager === undefined ? '' : ` on ${printable(manager)}`;
    return `${printable(name)}${where} is ${state.replace('_', ' ')}${note === '' ? '' : `: ${printable(note)}`}`;
  });
  return lines.length <= RESOURCES_MAX
    ? lines
    : [...lines.slice(0, RESOURCES_MAX), `... and ${lines.length - RESOURCES_MAX} more`];
}

export function describeCount(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}

function barLine(terminal: Terminal, { name, done, wanted, word, note }: Step): string {
  const figures = `${printable(name)}  ${formatBar(terminal, done, wanted, BAR_WIDTH)}  ${done}/${wanted} ${word}`;
  return note === '' ? figures : `${figures}  ${paint(terminal, 'yellow', cut(printable(note), NOTE_WIDTH))}`;
}

function sayChanges(terminal: Terminal, steps: readonly Step[], said: Map<string, string>): void {
  for (const { name, done, wanted, word, note } of steps) {
    const line = `${printable(name)}: ${done} of ${wanted} ${word}${note === '' ? '' : `; ${printable(note)}`}`;
    if (said.get(name) === line || wanted === 0) continue;
    said.set(name, line);
    terminal.write(`${line}\n`);
  }
}

function notDone(steps: readonly Step[], waitMs: number): ExitError {
  const lines = steps.flatMap(({ name, done, wanted, word, note, missing }) => [
    `  ${printable(name)}: ${done} of ${wanted} ${word}${note === '' ? '' : `; ${printable(note)}`}`,
    ...missing.map((line) => `    ${line}`),
  ]);
  return new ExitError(
    EXIT.failed,
    `Not done after ${describeDuration(waitMs)}; the mesh goes on trying (see \`katamari events\`):\n${lines.join('\n')}`,
  );
}

const LOOK_EVERY_MS = 150;
const BAR_WIDTH = 30;
const NOTE_WIDTH = 120;
const RESOURCES_MAX = 10;
