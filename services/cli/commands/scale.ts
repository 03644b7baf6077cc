// `katamari scale` changes the number of copies of one version. `katamari undeploy` removes the version.

import { EXIT, type ExitCode } from '../../config/mod.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { copiesOf, countOf, startStep, stopStep } from '../kit/rollout.ts';
import { parseVersion } from '../kit/target-name.ts';
import { describeCount, waitForRollout, readWait } from '../kit/wait-for-rollout.ts';
import { readCopies } from './deploy.ts';

export interface ScaleOptions extends ClientOptions {
  /** Value of `--wait`, or false for `--no-wait`. */
  readonly wait: string | false;
}

export async function runScale(
  context: CliContext,
  target: string,
  text: string,
  options: ScaleOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const waitMs = readWait(options.wait);
  const which = parseVersion(target);
  const count = readCopies(text, 'copies');
  const client = connect(context, options);
  const copiesBefore = countOf(copiesOf(await client.status(), which));
  const { service, version } = which;
  await client.scale(service, version, count);
  if (waitMs === 0) {
    terminal.write(`Scaling ${target} to ${describeCount(count, 'copy', 'copies')}.\n`);
    return EXIT.done;
  }
  await waitForRollout(terminal, client, waitMs, (status) => [
    copiesBefore > count ? stopStep(status, which, copiesBefore, count) : startStep(status, which, count),
  ]);
  terminal.write(`${target} has ${describeCount(count, 'copy', 'copies')}.\n`);
  return EXIT.done;
}

export async function runUndeploy(context: CliContext, target: string, options: ScaleOptions): Promise<ExitCode> {
  const { terminal } = context;
  const waitMs = readWait(options.wait);
  const which = parseVersion(target);
  const client = connect(context, options);
  const copiesBefore = countOf(copiesOf(await client.status(), which));
  await client.undeploy(which.service, which.version);
  if (waitMs > 0)
    await waitForRollout(terminal, client, waitMs, (status) => [stopStep(status, which, copiesBefore, 0)]);
  terminal.write(waitMs > 0 ? `${target} is gone.\n` : `Removing ${target}.\n`);
  return EXIT.done;
}
