// Turns a move of a rollout into the steps of one transaction. Each step is a check-and-set against what the move was
// decided from, so that a move is made once or not at all, by whichever process.

import type { ConsulClient, ConsulEntry, TransactionStep } from '../consul/mod.ts';
import {
  changedRoute,
  DEPLOYMENT,
  keysOf,
  pathOfId,
  deploymentId,
  readEntry,
  ROLLOUT,
  routeIn,
  RouteStore,
  type Deployment,
  type Keys,
  type Rollout,
  type Route,
} from '../mesh/mod.ts';
import type { RolloutMove } from './rollout-move.ts';

/** What Consul has of a rollout. */
export interface StoredRollout {
  readonly entry: ConsulEntry;
  readonly rollout: Rollout;
  readonly routeEntry: ConsulEntry | undefined;
  readonly route: Route | undefined;
  /** Deployments of the mesh, by version. */
  readonly deployments: ReadonlyMap<string, StoredCopies>;
}

interface StoredCopies {
  readonly entry: ConsulEntry;
  readonly deployment: Deployment;
}

/** @returns undefined if there is no rollout, or an Error that says why it cannot be read @throws ConsulError */
export async function readRollout(
  client: ConsulClient,
  mesh: string,
  service: string,
  signal?: AbortSignal,
): Promise<StoredRollout | Error | undefined> {
  const keys = keysOf(mesh);
  const entry = await client.get(keys.rollouts + service, signal);
  const rollout = entry === undefined ? undefined : readEntry(ROLLOUT, entry);
  if (entry === undefined || rollout === undefined || rollout instanceof Error) return rollout as Error | undefined;
  const versions = rollout.copies === 'follow' ? [rollout.from, rollout.to] : [];
  const [routeEntry, ...found] = await Promise.all([
    client.get(keys.routes + service, signal),
    ...versions.map((version) => client.get(keyOfDeployment(keys, service, version), signal)),
  ]);
  const deployments = new Map<string, StoredCopies>();
  for (const [at, version] of versions.entries()) {
    const read = found[at] === undefined ? undefined : readEntry(DEPLOYMENT, found[at]);
    if (read === undefined || read instanceof Error) continue;
    deployments.set(version, { entry: found[at] as ConsulEntry, deployment: read });
  }
  return { entry, rollout, routeEntry, route: routeIn(routeEntry), deployments };
}

/** Copies that a rollout may scale; undefined if there is no deployment, or each manager has a number of its own. */
export function scalableCopies({ deployments }: StoredRollout, version: string): number | undefined {
  const found = deployments.get(version)?.deployment;
  return found === undefined || found.perManager === true ? undefined : found.count;
}

/**
 * The steps that make a move, and the rollout as it is then. A route that is replaced is written to its history first.
 * @param change who makes it, and when
 * @throws ConsulError
 */
export async function stepsOf(
  move: Exclude<RolloutMove, { kind: 'wait' }>,
  stored: StoredRollout,
  { client, mesh, by, nowMs }: { client: ConsulClient; mesh: string; by: string; nowMs: number },
): Promise<{ readonly steps: readonly TransactionStep[]; readonly rollout: Rollout }> {
  const { entry, routeEntry, route: now, rollout } = stored;
  const keys = keysOf(mesh);
  const record = (next: Rollout): TransactionStep => ({
    verb: 'cas',
    key: entry.key,
    value: JSON.stringify(next),
    index: entry.modifyIndex,
  });
  switch (move.kind) {
    case 'record':
      return { steps: [record(move.next)], rollout: move.next };
    case 'scale': {
      const own: TransactionStep =
        move.next === undefined ? { verb: 'check-index', key: entry.key, index: entry.modifyIndex } : record(move.next);
      const found = stored.deployments.get(move.version);
      const scaled =
        found === undefined
          ? []
          : [
              {
                verb: 'cas',
                key: keyOfDeployment(keys, rollout.service, move.version),
                value: JSON.stringify({ ...found.deployment, count: move.copies }),
                index: found.entry.modifyIndex,
              } as const,
            ];
      return { steps: [own, ...scaled], rollout: move.next ?? rollout };
    }
    case 'route': {
      const index = await new RouteStore(client, mesh).keep(rollout.service, now);
      const base = now ?? rollout.routeBefore;
      const route = changedRoute(now, { ...base, weights: move.weights }, { index, by, atMs: nowMs });
      const next: Rollout = { ...move.next, splitIndex: route.splitIndex ?? 0 };
      const key = keys.routes + rollout.service;
      const set = { verb: 'cas', key, value: JSON.stringify(route), index: routeEntry?.modifyIndex ?? 0 } as const;
      return { steps: [record(next), set], rollout: next };
    }
  }
}

function keyOfDeployment(keys: Keys, service: string, version: string): string {
  return keys.deployments + pathOfId(deploymentId({ service, version }));
}
