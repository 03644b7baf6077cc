// `katamari deploy`: sends deployments of a configuration to the mesh, which spreads their copies over its managers, tells what each
// changed, and follows until they are up. Paths and programs go as they are here; they have to be the same on the machines of the managers.
import { KatamariError } from '../../../core/mod.ts';
import type { MeshStatus } from '../../../core/rpc/mod.ts';
import { ExitError, EXIT, type ExitCode, desiredDeployment, CONFIG_FILE_NAMES, didYouMean } from '../../config/mod.ts';
import { changedFields, describeChange, type DeployOutcome } from '../../master/mod.ts';
import { deploymentId, type Deployment } from '../../mesh/mod.ts';
import { connect, loadFor, type ClientOptions, type CliContext } from '../kit/context.ts';
import { comingUp, copiesOf, placeOf } from '../kit/rollout.ts';
import { parseTargetName } from '../kit/target-name.ts';
import { paint, type Color } from '../kit/terminal.ts';
import { describeCount, waitForRollout, readWait } from '../kit/wait-for-rollout.ts';
import { existsSync } from 'node:fs';
import path from 'node:path';

export interface DeployOptions extends ClientOptions {
  readonly count?: string | undefined;
  /** As commander has `--wait` and `--no-wait`: a duration, or false. */
  readonly wait: string | false;
}

/** @param words a file of deployments, then which of them: `Service` or `Service@version` */
export async function runDeploy(
  surroundings: CliContext,
  words: readonly string[],
  options: DeployOptions,
): Promise<ExitCode> {
  const { terminal } = surroundings;
  const waitMs = readWait(options.wait);
  const count = options.count === undefined ? undefined : readCopies(options.count, '--count');
  const [first] = words;
  const file = first !== undefined && isFile(first, surroundings.cwd) ? first : undefined;
  const wanted = readWanted(surroundings, file ?? options.config, words.slice(file === undefined ? 0 : 1), count);
  const client = connect(surroundings, { ...options, config: configOfMesh(surroundings, options, file) });
  const before = new Map((await client.deployments()).map((one) => [deploymentId(one), one]));
  const status = await client.status();
  const width = Math.max(...wanted.map((one) => deploymentId(one).length));
  for (const deployment of wanted) {
    const id = deploymentId(deployment);
    const outcome = await client.deploy(deployment);
    const what = describeOutcome(outcome, before.get(id), deployment);
    terminal.write(`${id.padEnd(width)}  ${paint(terminal, OUTCOME_COLOURS[outcome], what)}\n`);
  }
  if (waitMs === 0) return EXIT.done;
  const old = new Map(wanted.map((one) => [one, oldPlaces(status, before.get(deploymentId(one)), one)]));
  await waitForRollout(terminal, client, waitMs, (now) =>
    wanted.map((one) => comingUp(now, one, one.count, old.get(one))),
  );
  const copies = wanted.reduce((sum, one) => sum + one.count, 0);
  terminal.write(`${describeCount(copies, 'copy is', 'copies are')} alive.\n`);
  return EXIT.done;
}

/** `3`, `0`; for flags and arguments that say how many copies. */
export function readCopies(text: string, what: string): number {
  if (/^\d{1,5}$/.test(text) && Number(text) <= COPIES_MAX) return Number(text);
  throw new ExitError(
    EXIT.usage,
    `${what}: found ${JSON.stringify(text)}, expected a whole number of copies, 0 to ${COPIES_MAX}`,
  );
}

function readWanted(
  surroundings: CliContext,
  named: string | undefined,
  subjects: readonly string[],
  count: number | undefined,
): Deployment[] {
  const { config, file } = loadFor(surroundings, { config: named, flags: [] });
  if (file === undefined) {
    throw new ExitError(
      EXIT.usage,
      `No katamari.yaml in ${surroundings.cwd}: name the file with the deployments, as in \`katamari deploy search.yaml\``,
    );
  }
  const ids = config.deployments.map(({ id }) => id);
  if (ids.length === 0)
    throw new ExitError(EXIT.badConfiguration, `${file} has no deployments; add some under the key deployments`);
  const isMeant = (subject: string, { service, version }: { service: string; version: string }): boolean => {
    const meant = parseTargetName(subject);
    return meant.service === service && (meant.version === '' || meant.version === version);
  };
  for (const subject of subjects) {
    if (config.deployments.some((one) => isMeant(subject, one))) continue;
    const names = [...ids, ...config.deployments.map(({ service }) => service)];
    const hint = didYouMean(subject, names) || `; there are ${ids.join(', ')}`;
    throw new ExitError(EXIT.usage, `${file} has no deployment ${JSON.stringify(subject)}${hint}`);
  }
  const meant = config.deployments.filter(
    (one) => subjects.length === 0 || subjects.some((subject) => isMeant(subject, one)),
  );
  try {
    return meant.map((one) => ({ ...desiredDeployment(one), ...(count === undefined ? {} : { count }) }));
  } catch (error) {
    if (error instanceof KatamariError) throw new ExitError(EXIT.badConfiguration, error.message, error);
    throw error;
  }
}

/** The file of deployments tells where the mesh is, too, when nothing else does. */
function configOfMesh(
  { cwd, env }: CliContext,
  { config }: DeployOptions,
  file: string | undefined,
): string | undefined {
  if (config !== undefined || env['KATAMARI_CONFIG']) return config;
  return CONFIG_FILE_NAMES.some((name) => existsSync(path.join(cwd, name))) ? undefined : file;
}

/** A service has dots in its name at most; what ends like a configuration, or is a path, is a file. */
function isFile(word: string, cwd: string): boolean {
  return (
    /\.(ya?ml|json)$/.test(word) || word.includes('/') || (!word.includes('@') && existsSync(path.join(cwd, word)))
  );
}

/** Processes that a change makes obsolete; none when they may stay as they are. */
function oldPlaces(status: MeshStatus, before: Deployment | undefined, after: Deployment): ReadonlySet<string> {
  const isObsolete =
    before !== undefined && changedFields(before, after).some((field) => OF_THE_PROCESS.includes(field));
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
      return `changed: ${before === undefined ? 'what was there made no sense' : describeChange(before, after)}`;
  }
}

const OUTCOME_COLOURS: Readonly<Record<DeployOutcome, Color>> = {
  created: 'green',
  changed: 'yellow',
  unchanged: 'dim',
};
/** A change of one of these wants other processes. */
const OF_THE_PROCESS: readonly (keyof Deployment)[] = [
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
