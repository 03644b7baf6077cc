// `katamari restart`: replaces the processes of a pool one after the other, or one resource, and shows how far it has come. What has
// been replaced is told by the process ids, so it is right whatever else happens to the pool meanwhile.

import type { MeshStatus, PoolStatus, PlacedResource } from '../../../core/rpc/mod.ts';
import { EXIT, type ExitCode } from '../../config/mod.ts';
import { connect, type ClientOptions, type CliContext } from '../kit/context.ts';
import { parseTargetName, poolNames, unknownTarget, type TargetName } from '../kit/target-name.ts';
import { describeCount, describeResources, waitForRollout, readWait, type Step } from '../kit/wait-for-rollout.ts';

export interface RestartOptions extends ClientOptions {
  /** As commander has `--wait` and `--no-wait`: a duration, or false. */
  readonly wait: string | false;
}

export async function runRestart(surroundings: CliContext, target: string, options: RestartOptions): Promise<ExitCode> {
  const { terminal } = surroundings;
  const waitMs = readWait(options.wait);
  const client = connect(surroundings, options);
  const before = await client.status();
  const { service, version, resource } = parseTargetName(target);
  const concerned = findConcerned(before, { service, version, resource });
  if (concerned.length === 0) throw unknownTarget(target, resource === '' ? poolNames(before) : resourceNames(before));
  if (waitMs === 0) {
    // A refusal comes at once; a roll takes its time.
    await client.restart(service, version, resource, REFUSAL_MS);
    terminal.write(`Restarting ${describeResourceCount(concerned.length)} of ${target}.\n`);
    return EXIT.done;
  }
  const old = new Map(concerned.map((one) => [placeOf(one), one.pid]));
  const order = client.restart(service, version, resource);
  await Promise.all([order, waitForRollout(terminal, client, waitMs, (status) => [stepOf(target, status, old)])]);
  terminal.write(`Restarted ${describeResourceCount(old.size)} of ${target}.\n`);
  return EXIT.done;
}

/** By place, because names of resources repeat on each machine. A place that is gone meanwhile is not waited for. */
function stepOf(name: string, status: MeshStatus, old: ReadonlyMap<string, number>): Step {
  const waitingFor = placed(status).filter((one) => {
    const pid = old.get(placeOf(one));
    return pid !== undefined && !(one.pid !== pid && (one.state === 'idle' || one.state === 'busy'));
  });
  return {
    name,
    done: old.size - waitingFor.length,
    wanted: old.size,
    word: 'replaced',
    isDone: waitingFor.length === 0,
    note: '',
    missing: describeResources(waitingFor),
  };
}

function findConcerned(status: MeshStatus, { service, version, resource }: TargetName): PlacedResource[] {
  const isMeant = (pool: PoolStatus): boolean =>
    pool.service === service && (version === '' || pool.version === version);
  return resource === ''
    ? status.pools.filter(isMeant).flatMap(placedOf)
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
