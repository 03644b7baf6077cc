// `katamari scale` and `katamari undeploy`: how many copies of one version the mesh runs, down to none at all.

import { EXIT, type ExitCode } from '../../config/mod.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { comingUp, copiesOf, countOf, ending } from '../kit/rollout.ts';
import { parseVersion } from '../kit/target-name.ts';
import { describeCount, waitForRollout, readWait } from '../kit/wait-for-rollout.ts';
import { readCopies } from './deploy.ts';

export interface ScaleOptions extends ClientOptions {
  /** As commander has `--wait` and `--no-wait`: a duration, or false. */
  readonly wait: string | false;
}

export async function runScale(
  surroundings: CliContext,
  target: string,
  text: string,
  options: ScaleOptions,
): Promise<ExitCode> {
  const { terminal } = surroundings;
  const waitMs = readWait(options.wait);
  const which = parseVersion(target);
  const count = readCopies(text, 'How many');
  const client = connect(surroundings, options);
  const living = countOf(copiesOf(await client.status(), which));
  const { service, version } = which;
  await client.scale(service, version, count);
  if (waitMs === 0) {
    terminal.write(`${target} is to have ${describeCount(count, 'copy', 'copies')}.\n`);
    return EXIT.done;
  }
  await waitForRollout(terminal, client, waitMs, (status) => [
    living > count ? ending(status, which, living, count) : comingUp(status, which, count),
  ]);
  terminal.write(`${target} has ${describeCount(count, 'copy', 'copies')}.\n`);
  return EXIT.done;
}

export async function runUndeploy(surroundings: CliContext, target: string, options: ScaleOptions): Promise<ExitCode> {
  const { terminal } = surroundings;
  const waitMs = readWait(options.wait);
  const which = parseVersion(target);
  const client = connect(surroundings, options);
  const living = countOf(copiesOf(await client.status(), which));
  await client.undeploy(which.service, which.version);
  if (waitMs > 0) await waitForRollout(terminal, client, waitMs, (status) => [ending(status, which, living, 0)]);
  terminal.write(waitMs > 0 ? `${target} is gone.\n` : `${target} is being taken away.\n`);
  return EXIT.done;
}
