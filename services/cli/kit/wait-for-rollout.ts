// Waits until a rollout is complete and shows its progress: a bar for each deployment on a terminal, one line per
// change in a pipe. It polls the status up to a time limit, then reports what is missing and why. The rollout
// continues after the limit.

import { sleep, describeDuration, parseDuration } from '../../../core/mod.ts';
import type { MeshStatus, ResourceStatus } from '../../../core/rpc/mod.ts';
import { ExitError, EXIT } from '../../config/mod.ts';
import type { AdminClient } from './admin-client.ts';
import { cut, formatBar, LiveLines, paint, printable, type Terminal } from './terminal.ts';

/** Progress of one deployment or manager. */
export interface Step {
  readonly name: string;
  readonly done: number;
  readonly desired: number;
  /** What happens to each copy: `alive`, `replaced`, `ended`. */
  readonly word: string;
  /** May be false although the count is reached, for example while old processes still run. */
  readonly isDone: boolean;
  /** What prevents progress; '' if nothing is known. */
  readonly note: string;
  /** Lines about the copies that are not done, for the error after the time limit. */
  readonly missing: readonly string[];
}

/** @throws ExitError if a step is not done after `waitMs` */
export async function waitForRollout(
  terminal: Terminal,
  client: AdminClient,
  waitMs: number,
  stepsOf: (status: MeshStatus) => readonly Step[],
): Promise<void> {
  const end = performance.now() + waitMs;
  const live = new LiveLines(terminal);
  const printed = new Map<string, string>();
  for (;;) {
    const steps = stepsOf(await client.status());
    if (terminal.isScreen) live.draw(steps.map((step) => barLine(terminal, step)));
    else printChanges(terminal, steps, printed);
    const missing = steps.filter(({ isDone }) => !isDone);
    if (missing.length === 0) return live.clear();
    if (performance.now() > end) throw notDone(missing, waitMs);
    await sleep(POLL_INTERVAL_MS);
  }
}

/** Parses `--wait 5m` and `--no-wait`. Returns milliseconds; 0 means not to wait. */
export function readWait(text: string | false): number {
  if (text === false) return 0;
  const parsed = parseDuration(text);
  if (parsed.ok) return parsed.value;
  throw new ExitError(EXIT.usage, `--wait: found ${JSON.stringify(text)}, expected ${parsed.expected}`);
}

/** Returns one line per resource, for `missing`; at most RESOURCES_MAX and a count of the rest. */
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

function barLine(terminal: Terminal, { name, done, desired, word, note }: Step): string {
  const figures = `${printable(name)}  ${formatBar(terminal, done, desired, BAR_WIDTH)}  ${done}/${desired} ${word}`;
  return note === '' ? figures : `${figures}  ${paint(terminal, 'yellow', cut(printable(note), NOTE_WIDTH))}`;
}

function printChanges(terminal: Terminal, steps: readonly Step[], printed: Map<string, string>): void {
  for (const { name, done, desired, word, note } of steps) {
    const line = `${printable(name)}: ${done} of ${desired} ${word}${note === '' ? '' : `; ${printable(note)}`}`;
    if (printed.get(name) === line || desired === 0) continue;
    printed.set(name, line);
    terminal.write(`${line}\n`);
  }
}

function notDone(steps: readonly Step[], waitMs: number): ExitError {
  const lines = steps.flatMap(({ name, done, desired, word, note, missing }) => [
    `  ${printable(name)}: ${done} of ${desired} ${word}${note === '' ? '' : `; ${printable(note)}`}`,
    ...missing.map((line) => `    ${line}`),
  ]);
  return new ExitError(
    EXIT.failed,
    `Not done after ${describeDuration(waitMs)}; the mesh continues to try (see \`katamari events\`):\n${lines.join('\n')}`,
  );
}

const POLL_INTERVAL_MS = 150;
const BAR_WIDTH = 30;
const NOTE_WIDTH = 120;
const RESOURCES_MAX = 10;
