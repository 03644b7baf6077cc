// Waits until every shard of an index version has its replicas, or as many as there are managers that may hold them.
// Shows the bytes that are fetched and what fails: live on a terminal, one line per change in a pipe.

import { describeDuration, describeSize, sleep } from '../../../core/mod.ts';
import { EXIT, ExitError } from '../../config/mod.ts';
import type { IndexClient, IndexSummary } from './index-client.ts';
import { holdersText } from './index-table.ts';
import { cut, formatBar, LiveLines, printable, type Terminal } from './terminal.ts';

/**
 * @param terminal undefined to show nothing
 * @throws ExitError that says what is missing after `waitMs`
 */
export async function waitForIndex(
  terminal: Terminal | undefined,
  client: IndexClient,
  { name, version }: { readonly name: string; readonly version: string },
  waitMs: number,
): Promise<IndexSummary> {
  const end = performance.now() + waitMs;
  const live = terminal === undefined ? undefined : new LiveLines(terminal);
  let printed = '';
  const told = new Set<string>();
  for (;;) {
    const status = (await client.status(name, false)).find((one) => one.version === version);
    if (status === undefined) throw new ExitError(EXIT.failed, `${name}@${version} has been removed`);
    const line = progressLine(status);
    // A shard that is refused keeps the command waiting, so its reason is shown at once.
    const problems = status.conditions.slice(0, PROBLEMS_SHOWN_MAX).map((one) => `  ${printable(one)}`);
    if (terminal?.isScreen === true) {
      const bar = formatBar(terminal, status.bytesDone, status.bytesWanted, 20);
      live?.draw([`${line}  ${bar}`, ...problems].map((one) => cut(one, terminal.columns())));
    } else {
      if (line !== printed) terminal?.write(`${line}\n`);
      for (const problem of problems.map(withoutTries).filter((one) => !told.has(one))) {
        told.add(problem);
        terminal?.write(`${problem}\n`);
      }
    }
    printed = line;
    if (status.state === 'COMPLETE') {
      live?.clear();
      const took =
        status.readyInMs === undefined ? '' : ` ${(status.readyInMs / 1_000).toFixed(1)} s after it was added`;
      if (terminal?.isScreen === true) terminal.write(`${name}@${version} is complete${took}.\n`);
      return status;
    }
    if (hasAllThatFit(status)) {
      live?.clear();
      const { replicasServed, replicas } = status;
      terminal?.write(`${name}@${version} has ${replicasServed} of ${replicas} replicas: ${holdersText(status)}.\n`);
      return status;
    }
    if (performance.now() > end) throw notComplete(status, waitMs);
    await sleep(POLL_EVERY_MS);
  }
}

/** The problem of a shard without the number of tries, which grows. */
function withoutTries(problem: string): string {
  return problem.replace(/ \(\d+ (try|tries)\)$/, '');
}

/** Whether it lacks only managers. More may join, which nobody waits for. */
function hasAllThatFit({ state, served, shards, replicasServed, holders }: IndexSummary): boolean {
  return state !== 'LOADING' && served === shards && holders > 0 && replicasServed >= holders;
}

function progressLine({ name, version, state, served, shards, bytesDone, bytesWanted }: IndexSummary): string {
  const bytes = bytesWanted === 0 ? '' : `, ${describeSize(bytesDone)} of ${describeSize(bytesWanted)}`;
  return `${name}@${version} ${state.toLowerCase()}: ${served} of ${shards} shards served${bytes}`;
}

function notComplete(status: IndexSummary, waitMs: number): ExitError {
  const { name, version, conditions } = status;
  return new ExitError(
    EXIT.failed,
    [
      `${name}@${version} is not complete after ${describeDuration(waitMs)}. The managers go on; see katamari index status ${name}`,
      progressLine(status),
      ...conditions.map(printable),
    ].join('\n  '),
  );
}

const POLL_EVERY_MS = 300;
const PROBLEMS_SHOWN_MAX = 4;
