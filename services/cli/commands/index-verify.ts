// `katamari index verify`: has all managers check the files of an index, shows the progress, then a table of what was
// found. It fails when a file was damaged, or when a replica could not be checked.

import { describeDuration, describeSize, sleep } from '../../../core/mod.ts';
import { EXIT, ExitError, type ExitCode } from '../../config/mod.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { IndexClient, type IndexVerification, type VerifiedReplica } from '../kit/index-client.ts';
import {
  cut,
  formatBar,
  formatTable,
  LiveLines,
  printable,
  type Color,
  type Column,
  type Terminal,
} from '../kit/terminal.ts';
import { describeCount, readWait } from '../kit/wait-for-rollout.ts';

export interface IndexVerifyOptions extends ClientOptions {
  readonly wait: string;
  readonly json?: boolean | undefined;
}

export async function runIndexVerify(
  context: CliContext,
  index: string,
  shard: string | undefined,
  options: IndexVerifyOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const waitMs = readWait(options.wait);
  const [name = '', version = ''] = index.split('@');
  const client = new IndexClient(connect(context, options));
  const started = await client.verify(name, version, shard ?? '');
  // They have not been asked to check, and are not later.
  const { silent } = started;
  const replicas = await untilChecked(terminal, client, index, started, waitMs, options.json !== true);
  if (options.json === true) terminal.write(`${JSON.stringify({ replicas, silent })}\n`);
  else report(terminal, index, replicas, silent);
  const isWhole = replicas.length > 0 && replicas.every(({ state }) => state === 'INTACT') && silent.length === 0;
  return isWhole ? EXIT.done : EXIT.failed;
}

/** @throws ExitError when replicas are not checked after `waitMs` */
async function untilChecked(
  terminal: Terminal,
  client: IndexClient,
  index: string,
  started: IndexVerification,
  waitMs: number,
  isShown: boolean,
): Promise<readonly VerifiedReplica[]> {
  const end = performance.now() + waitMs;
  const live = new LiveLines(terminal);
  let replicas = started.replicas;
  let printed = '';
  for (;;) {
    const open = replicas.filter(isOpen);
    const line = progressLine(index, replicas, open.length);
    if (isShown && terminal.isScreen) live.draw([cut(`${line}  ${barOf(terminal, replicas)}`, terminal.columns())]);
    else if (isShown && line !== printed) terminal.write(`${line}\n`);
    printed = line;
    if (open.length === 0) {
      live.clear();
      return replicas;
    }
    if (performance.now() > end) throw notChecked(index, open, waitMs);
    await sleep(POLL_EVERY_MS);
    replicas = merged(replicas, await client.verification(started.id));
  }
}

/** What is known now. A manager that does not answer is asked again; one that has restarted has forgotten the check. */
function merged(before: readonly VerifiedReplica[], { replicas, silent }: IndexVerification): VerifiedReplica[] {
  const told = new Map(replicas.map((one) => [keyOf(one), one]));
  return before.map((one) => {
    const now = told.get(keyOf(one));
    if (now !== undefined || silent.includes(one.manager) || !isOpen(one)) return now ?? one;
    return { ...one, state: 'UNKNOWN', why: 'its manager has restarted or left meanwhile', replica: 'gone' };
  });
}

function isOpen({ state }: VerifiedReplica): boolean {
  return state === 'WAITING' || state === 'CHECKING';
}

function progressLine(index: string, replicas: readonly VerifiedReplica[], open: number): string {
  return `${index}: ${replicas.length - open} of ${describeCount(replicas.length, 'replica', 'replicas')} checked`;
}

function barOf(terminal: Terminal, replicas: readonly VerifiedReplica[]): string {
  const bytes = replicas.reduce((sum, one) => sum + one.bytes, 0);
  const done = replicas.reduce((sum, one) => sum + Math.min(one.bytes, doneOf(one)), 0);
  return `${formatBar(terminal, done, bytes, BAR_WIDTH)}  ${describeSize(done)} of ${describeSize(bytes)}`;
}

function doneOf(replica: VerifiedReplica): number {
  return isOpen(replica) ? replica.bytesDone : replica.bytes;
}

function report(
  terminal: Terminal,
  index: string,
  replicas: readonly VerifiedReplica[],
  silent: readonly string[],
): void {
  if (replicas.length === 0) terminal.writeError(`No manager holds shards of ${index} to check.\n`);
  else terminal.write(`${formatTable(terminal, COLUMNS, replicas).join('\n')}\n`);
  for (const { shard, manager, why } of replicas.filter((one) => one.why !== ''))
    terminal.write(`! ${printable(`${shard} on ${manager}: ${why}`)}\n`);
  for (const manager of silent)
    terminal.write(`! ${printable(manager)} does not answer, so its shards are not checked\n`);
}

function notChecked(index: string, open: readonly VerifiedReplica[], waitMs: number): ExitError {
  const lines = open
    .slice(0, LINES_MAX)
    .map(({ shard, manager, state }) => `  ${printable(`${shard} on ${manager}`)} is ${state.toLowerCase()}`);
  return new ExitError(
    EXIT.failed,
    [
      `${index} is not checked after ${describeDuration(waitMs)}: ${describeCount(open.length, 'replica is', 'replicas are')} left. ` +
        'The managers go on; events tell of damage (katamari events). Wait longer with --wait.',
      ...lines,
      ...(open.length > LINES_MAX ? [`  ... and ${open.length - LINES_MAX} more`] : []),
    ].join('\n'),
  );
}

/** What a manager does about a damaged shard. */
function actionOf({ state, replica }: VerifiedReplica): string {
  if (state !== 'DAMAGED') return '-';
  return ACTIONS[replica] ?? 'withdrawn, is fetched again';
}

function keyOf({ shard, manager }: VerifiedReplica): string {
  return `${shard} ${manager}`;
}

const ACTIONS: Readonly<Record<string, string>> = {
  serving: 'fetched again, served',
  opening: 'fetched again, is opened',
  leaving: 'withdrawn, given up',
  gone: 'withdrawn, given up',
};
const RESULTS: Readonly<Record<VerifiedReplica['state'], { readonly word: string; readonly color: Color }>> = {
  WAITING: { word: 'waiting', color: 'dim' },
  CHECKING: { word: 'checking', color: 'dim' },
  INTACT: { word: 'ok', color: 'green' },
  DAMAGED: { word: 'damaged', color: 'red' },
  UNKNOWN: { word: 'not checked', color: 'yellow' },
};
const COLUMNS: readonly Column<VerifiedReplica>[] = [
  { head: 'SHARD', text: ({ shard }) => shard },
  { head: 'MANAGER', text: ({ manager }) => manager },
  { head: 'SIZE', isNumber: true, text: ({ bytes }) => describeSize(bytes) },
  { head: 'RESULT', text: ({ state }) => RESULTS[state].word, color: ({ state }) => RESULTS[state].color },
  { head: 'ACTION', text: actionOf },
];
const POLL_EVERY_MS = 300;
const BAR_WIDTH = 20;
const LINES_MAX = 10;
