// `katamari drain` moves all copies away from a manager, so that its machine can be maintained. `katamari undrain`
// lets it run copies again.

import { ExitError, EXIT, type ExitCode, didYouMean } from '../../config/mod.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { copiesOf, countOf, stopStep } from '../kit/rollout.ts';
import { printable } from '../kit/terminal.ts';
import { waitForRollout, readWait } from '../kit/wait-for-rollout.ts';

export interface DrainOptions extends ClientOptions {
  /** Value of `--wait`, or false for `--no-wait`. */
  readonly wait: string | false;
}

export async function runDrain(context: CliContext, manager: string, options: DrainOptions): Promise<ExitCode> {
  const { terminal } = context;
  const waitMs = readWait(options.wait);
  const client = connect(context, options);
  const before = await client.status();
  const managers = before.processes.filter(({ role }) => role === 'manager').map(({ name }) => name);
  // The admin service also checks the name. This check adds a suggestion for a typing error.
  if (managers.length > 0 && !managers.includes(manager)) {
    const hint = didYouMean(manager, managers) || `; there are ${managers.map(printable).join(', ')}`;
    throw new ExitError(EXIT.failed, `No manager is called ${JSON.stringify(manager)}${hint}`);
  }
  const copiesBefore = countOf(copiesOf(before, { manager }));
  await client.drain(manager);
  if (waitMs === 0) {
    terminal.write(`Draining ${manager}.\n`);
    return EXIT.done;
  }
  await waitForRollout(terminal, client, waitMs, (status) => [stopStep(status, { manager }, copiesBefore, 0)]);
  terminal.write(`Nothing runs on ${manager} any more. \`katamari undrain ${manager}\` lets it run copies again.\n`);
  return EXIT.done;
}

export async function runUndrain(context: CliContext, manager: string, options: ClientOptions): Promise<ExitCode> {
  await connect(context, options).undrain(manager);
  context.terminal.write(`${manager} may run copies again.\n`);
  return EXIT.done;
}
