// What should run in the mesh, whether or not a copy is up. The router lets a call for a deployed service wait until
// its first copy is up. A service that is not deployed, such as a misspelled one, is refused at once, and so is one
// whose copies cannot start until something changes.

import { isVersionMatch } from './version-match.ts';

/** One version of a service that should have copies. */
export interface DeployedService {
  readonly service: string;
  readonly version: string;
  /** Roles of the deployment. The chassis may add others. */
  readonly roles: readonly string[];
  /** Most calls that may wait for its first copy. */
  readonly queueMax: number;
  /** Why no copy can start until something changes; '' while one may come up. */
  readonly failure: string;
  /** Whether it is an index version that is being loaded; `failure` says how far. */
  readonly isLoading?: boolean;
}

/** A call, as far as it matters for the choice of a deployment. */
interface DeploymentQuery {
  readonly version: string;
  readonly roles: readonly string[];
}

/**
 * Merges what managers run with the desired state. A deployment has failed if it has failed on every manager that
 * runs it.
 * @param running the deployments of the managers, one for each manager
 * @param desired the deployments in Consul, which may have no manager yet
 */
export function mergeDeployed(
  running: readonly DeployedService[],
  desired: readonly DeployedService[],
): readonly DeployedService[] {
  const merged = new Map<string, DeployedService>();
  for (const one of running) {
    const before = merged.get(keyOf(one));
    merged.set(keyOf(one), before === undefined ? one : mergeTwo(before, one));
  }
  for (const one of desired) if (!merged.has(keyOf(one))) merged.set(keyOf(one), one);
  return [...merged.values()];
}

/**
 * Returns the deployments that a call could use once they have a copy.
 * @param deployed the deployments of one service
 * @param offers the pools of this service
 */
export function awaitedBy(
  query: DeploymentQuery,
  deployed: readonly DeployedService[],
  offers: readonly { readonly details: DeploymentQuery }[],
): readonly DeployedService[] {
  return deployed.filter(
    (one) =>
      isVersionMatch(one.version, query.version) &&
      isPart(one.roles, query.roles) &&
      !offers.some(({ details }) => details.version === one.version && isPart(one.roles, details.roles)),
  );
}

function mergeTwo(one: DeployedService, other: DeployedService): DeployedService {
  const failure = one.failure === '' || other.failure === '' ? '' : one.failure;
  return { ...one, queueMax: one.queueMax + other.queueMax, failure };
}

function keyOf({ service, version, roles }: DeployedService): string {
  return JSON.stringify([service, version, [...roles].sort()]);
}

function isPart(some: readonly string[], all: readonly string[]): boolean {
  return some.every((one) => all.includes(one));
}
