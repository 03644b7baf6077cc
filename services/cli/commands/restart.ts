// `katamari restart` replaces the processes of a pool one after the other, or one resource, and shows the progress.
// It compares process ids, so other restarts of the pool do not disturb the count.

import type { MeshStatus, PoolStatus, PlacedResource } from '../../../core/rpc/mod.ts';
import { EXIT, type ExitCode } from '../../config/mod.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { parseTargetName, poolNames, unknownTarget, type TargetName } from '../kit/target-name.ts';
import { describeCount, describeResources, waitForRollout, readWait, type Step } from '../kit/wait-for-rollout.ts';

export interface RestartOptions extends ClientOptions {
  /** Value of `--wait`, or false for `--no-wait`. */
  readonly wait: string | false;
}

export async function runRestart(context: CliContext, target: string, options: RestartOptions): Promise<ExitCode> {
  const { terminal } = context;
  const waitMs = readWait(options.wait);
  const client = connect(context, options);
  const before = await client.status();
  const { service, version, resource } = parseTargetName(target);
  const affected = findAffected(before, { service, version, resource });
  if (affected.length === 0) throw unknownTarget(target, resource === '' ? poolNames(before) : resourceNames(before));
  if (waitMs === 0) {
    // The mesh reports a refusal at once. A rolling restart takes longer and continues without this command.
    await client.restart(service, version, resource, REFUSAL_MS);
    terminal.write(`Restarting ${describeResourceCount(affected.length)} of ${target}.\n`);
    return EXIT.done;
  }
  const old = new Map(affected.map((one) => [placeOf(one), one.pid]));
  const restarted = client.restart(service, version, resource);
  await Promise.all([restarted, waitForRollout(terminal, client, waitMs, (status) => [stepOf(target, status, old)])]);
  terminal.write(`Restarted ${describeResourceCount(old.size)} of ${target}.\n`);
  return EXIT.done;
}

/**
 * Identifies resources by manager and name, because managers use the same names. A resource that was removed counts
 * as done.
 */
function stepOf(name: string, status: MeshStatus, old: ReadonlyMap<string, number>): Step {
  const waitingFor = placed(status).filter((one) => {
    const pid = old.get(placeOf(one));
    return pid !== undefined && !(one.pid !== pid && (one.state === 'idle' || one.state === 'busy'));
  });
  return {
    name,
    done: old.size - waitingFor.length,
    desired: old.size,
    word: 'replaced',
    isDone: waitingFor.length === 0,
    note: '',
    missing: describeResources(waitingFor),
  };
}

function findAffected(status: MeshStatus, { service, version, resource }: TargetName): PlacedResource[] {
  const isSelected = (pool: PoolStatus): boolean =>
    pool.service === service && (version === '' || pool.version === version);
  return resource === ''
    ? status.pools.filter(isSelected).flatMap(placedOf)
    : placed(status).filter(({ name, manager }) => name === resource || `${manager}:${name}` === resource);
}

function placed({ pools }: MeshStatus): PlacedResource[] {
  return pools.flatMap(placedOf);
}

function placedOf({ manager, resources }: PoolStatus): PlacedResource[] {
  return resources.map((resource) => ({ ...resource, manager }));
}

function placeOf({ manager, name }: PlacedResource): string {
  return `${manager}:${name}`;
}

function resourceNames(status: MeshStatus): string[] {
  return placed(status).flatMap((one) => [one.name, placeOf(one)]);
}

function describeResourceCount(count: number): string {
  return describeCount(count, 'resource', 'resources');
}

const REFUSAL_MS = 1_000;
