// `katamari drain` and `katamari undrain`: empties a manager, so that its machine can be worked on, and gives it back.

import { ExitError, EXIT, type ExitCode, didYouMean } from '../../config/mod.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { copiesOf, countOf, ending } from '../kit/rollout.ts';
import { printable } from '../kit/terminal.ts';
import { waitForRollout, readWait } from '../kit/wait-for-rollout.ts';

export interface DrainOptions extends ClientOptions {
  /** As commander has `--wait` and `--no-wait`: a duration, or false. */
  readonly wait: string | false;
}

export async function runDrain(surroundings: CliContext, manager: string, options: DrainOptions): Promise<ExitCode> {
  const { terminal } = surroundings;
  const waitMs = readWait(options.wait);
  const client = connect(surroundings, options);
  const before = await client.status();
  const managers = before.processes.filter(({ role }) => role === 'manager').map(({ name }) => name);
  // The service says whether it is one; here it is only about words for a slip of the finger.
  if (managers.length > 0 && !managers.includes(manager)) {
    const hint = didYouMean(manager, managers) || `; there are ${managers.map(printable).join(', ')}`;
    throw new ExitError(EXIT.failed, `No manager is called ${JSON.stringify(manager)}${hint}`);
  }
  const living = countOf(copiesOf(before, { manager }));
  await client.drain(manager);
  if (waitMs === 0) {
    terminal.write(`Draining ${manager}.\n`);
    return EXIT.done;
  }
  await waitForRollout(terminal, client, waitMs, (status) => [ending(status, { manager }, living, 0)]);
  terminal.write(`Nothing runs on ${manager} any more. \`katamari undrain ${manager}\` gives it back.\n`);
  return EXIT.done;
}

export async function runUndrain(surroundings: CliContext, manager: string, options: ClientOptions): Promise<ExitCode> {
  await connect(surroundings, options).undrain(manager);
  surroundings.terminal.write(`${manager} may run copies again.\n`);
  return EXIT.done;
}
