// `katamari deploy` sends deployments of a configuration to the mesh, prints what changed, and waits until the
// copies are alive. The leader spreads the copies over the managers. Paths and programs are resolved on this
// machine, so they must exist at the same place on the machines of the managers.
import { KatamariError } from '../../../core/mod.ts';
import type { MeshStatus } from '../../../core/rpc/mod.ts';
import { ExitError, EXIT, type ExitCode, desiredDeployment, CONFIG_FILE_NAMES, didYouMean } from '../../config/mod.ts';
import { changedFields, describeChange, type DeployOutcome } from '../../master/mod.ts';
import { deploymentId, type Deployment } from '../../mesh/mod.ts';
import type { AdminClient } from '../kit/admin-client.ts';
import { connect, loadFor, type ClientOptions, type CliContext } from '../kit/context.ts';
import { copiesOf, placeOf, startStep } from '../kit/rollout.ts';
import { parseTargetName } from '../kit/target-name.ts';
import { paint, type Color } from '../kit/terminal.ts';
import { describeCount, waitForRollout, readWait } from '../kit/wait-for-rollout.ts';
import { existsSync } from 'node:fs';
import path from 'node:path';

export interface DeployOptions extends ClientOptions {
  readonly count?: string | undefined;
  /** Value of `--wait`, or false for `--no-wait`. */
  readonly wait: string | false;
}

/** @param words a file with deployments (optional), then names of deployments: `Service` or `Service@version` */
export async function runDeploy(
  context: CliContext,
  words: readonly string[],
  options: DeployOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const waitMs = readWait(options.wait);
  const count = options.count === undefined ? undefined : readCopies(options.count, '--count');
  const [first] = words;
  const file = first !== undefined && isFile(first, context.cwd) ? first : undefined;
  const deployments = readDeployments(context, file ?? options.config, words.slice(file === undefined ? 0 : 1), count);
  const client = connect(context, { ...options, config: configOfMesh(context, options, file) });
  const before = new Map((await client.deployments()).map((one) => [deploymentId(one), one]));
  const status = await client.status();
  const width = Math.max(...deployments.map((one) => deploymentId(one).length));
  for (const deployment of deployments) {
    const id = deploymentId(deployment);
    const outcome = await client.deploy(deployment);
    const what = describeOutcome(outcome, before.get(id), deployment);
    terminal.write(`${id.padEnd(width)}  ${paint(terminal, OUTCOME_COLORS[outcome], what)}\n`);
  }
  if (waitMs === 0) return EXIT.done;
  const old = new Map(deployments.map((one) => [one, oldPlaces(status, before.get(deploymentId(one)), one)]));
  const managers = deployments.some(({ perManager }) => perManager === true) ? await openManagers(client, status) : 0;
  const copiesWanted = ({ count: each, perManager }: Deployment): number =>
    perManager === true ? each * managers : each;
  await waitForRollout(terminal, client, waitMs, (now) =>
    deployments.map((one) => startStep(now, one, copiesWanted(one), old.get(one))),
  );
  const copies = deployments.reduce((sum, one) => sum + copiesWanted(one), 0);
  terminal.write(`${describeCount(copies, 'copy is', 'copies are')} alive.\n`);
  return EXIT.done;
}

/** The number of managers that may run copies. */
async function openManagers(client: AdminClient, { processes }: MeshStatus): Promise<number> {
  const drained = new Set(await client.drained());
  return processes.filter(({ role, name, state }) => role === 'manager' && state === 'up' && !drained.has(name)).length;
}

/** Parses a number of copies; `what` names the flag or argument in the error. */
export function readCopies(text: string, what: string): number {
  if (/^\d{1,5}$/.test(text) && Number(text) <= COPIES_MAX) return Number(text);
  throw new ExitError(
    EXIT.usage,
    `${what}: found ${JSON.stringify(text)}, expected a whole number of copies, 0 to ${COPIES_MAX}`,
  );
}

function readDeployments(
  context: CliContext,
  named: string | undefined,
  names: readonly string[],
  count: number | undefined,
): Deployment[] {
  const { config, file } = loadFor(context, { config: named, flags: [] });
  if (file === undefined) {
    throw new ExitError(
      EXIT.usage,
      `No katamari.yaml in ${context.cwd}: name the file with the deployments, as in \`katamari deploy search.yaml\``,
    );
  }
  const ids = config.deployments.map(({ id }) => id);
  if (ids.length === 0)
    throw new ExitError(EXIT.badConfiguration, `${file} has no deployments; add one under the key deployments`);
  const isSelected = (name: string, { service, version }: { service: string; version: string }): boolean => {
    const target = parseTargetName(name);
    return target.service === service && (target.version === '' || target.version === version);
  };
  for (const name of names) {
    if (config.deployments.some((one) => isSelected(name, one))) continue;
    const known = [...ids, ...config.deployments.map(({ service }) => service)];
    const hint = didYouMean(name, known) || `; there are ${ids.join(', ')}`;
    throw new ExitError(EXIT.usage, `${file} has no deployment ${JSON.stringify(name)}${hint}`);
  }
  const selected = config.deployments.filter(
    (one) => names.length === 0 || names.some((name) => isSelected(name, one)),
  );
  try {
    return selected.map((one) => ({ ...desiredDeployment(one), ...(count === undefined ? {} : { count }) }));
  } catch (error) {
    if (error instanceof KatamariError) throw new ExitError(EXIT.badConfiguration, error.message, error);
    throw error;
  }
}

/** Returns the configuration with the address of the mesh: the usual one, else the file with the deployments. */
function configOfMesh(
  { cwd, env }: CliContext,
  { config }: DeployOptions,
  file: string | undefined,
): string | undefined {
  if (config !== undefined || env['KATAMARI_CONFIG']) return config;
  return CONFIG_FILE_NAMES.some((name) => existsSync(path.join(cwd, name))) ? undefined : file;
}

/** Whether a word is a file: it ends in .yaml, .yml or .json, contains a slash, or exists and has no `@`. */
function isFile(word: string, cwd: string): boolean {
  return (
    /\.(ya?ml|json)$/.test(word) || word.includes('/') || (!word.includes('@') && existsSync(path.join(cwd, word)))
  );
}

/** Returns the processes that a change replaces; empty if they can keep running. */
function oldPlaces(status: MeshStatus, before: Deployment | undefined, after: Deployment): ReadonlySet<string> {
  const isObsolete =
    before !== undefined && changedFields(before, after).some((field) => PROCESS_FIELDS.includes(field));
  return new Set(isObsolete ? copiesOf(status, after).living.map(placeOf) : []);
}

function describeOutcome(outcome: DeployOutcome, before: Deployment | undefined, after: Deployment): string {
  const copies = describeCount(after.count, 'copy', 'copies');
  switch (outcome) {
    case 'created':
      return `new, ${copies}`;
    case 'unchanged':
      return `the same, ${copies}`;
    case 'changed':
      return `changed: ${before === undefined ? 'the stored deployment was invalid' : describeChange(before, after)}`;
  }
}

const OUTCOME_COLORS: Readonly<Record<DeployOutcome, Color>> = {
  created: 'green',
  changed: 'yellow',
  unchanged: 'dim',
};
/** A change of one of these fields replaces the processes. */
const PROCESS_FIELDS: readonly (keyof Deployment)[] = [
  'command',
  'cwd',
  'env',
  'listen',
  'roles',
  'tags',
  'more',
  'idl',
  'transport',
  'protocol',
  'healthCheck',
  'concurrency',
];
const COPIES_MAX = 10_000;
