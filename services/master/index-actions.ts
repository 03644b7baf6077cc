// What the admin service for indices needs of its process: Consul, the managers over links, and the router.

import type { Clock } from '../../core/mod.ts';
import type {
  AssignmentRecord,
  CheckFacts,
  CheckTarget,
  HoldingsRecord,
  ManagerRecord,
  ManifestRecord,
  ReplicaFacts,
  Route,
  Routes,
  SourceFacts,
} from '../mesh/mod.ts';
import type { IndexStore } from './index-store.ts';

/** What the mesh orders and holds. */
export interface MeshHoldings {
  readonly managers: ReadonlyMap<string, ManagerRecord>;
  readonly drained: ReadonlySet<string>;
  readonly holdings: ReadonlyMap<string, HoldingsRecord>;
  readonly orders: ReadonlyMap<string, AssignmentRecord>;
}

/** What the managers say about a check of files. */
export interface ManagerChecks {
  readonly checks: ReadonlyMap<string, readonly CheckFacts[]>;
  /** Managers that have not answered. */
  readonly silent: readonly string[];
}

export interface IndexActions {
  readonly store: IndexStore;
  /** @throws Error when it cannot be read */
  readonly manifest: (sha256: string) => Promise<ManifestRecord>;
  readonly managers: () => ReadonlyMap<string, ManagerRecord>;
  /** Lists a source on a manager. @throws KatamariError bad_request that says what is wrong with the source */
  readonly inspect: (manager: string, source: string) => Promise<SourceFacts>;
  /** What the managers say about the shards of an index, or of all for ''; without those that do not answer. */
  readonly replicas: (index: string) => Promise<ReadonlyMap<string, readonly ReplicaFacts[]>>;
  /** Has all managers check the files of an index. */
  readonly verify: (id: string, target: CheckTarget) => Promise<ManagerChecks>;
  /** What they have found so far. */
  readonly verification: (id: string) => Promise<ManagerChecks>;
  readonly readHoldings: () => Promise<MeshHoldings>;
  /** Whether a service that is no index has this name. */
  readonly isService: (name: string) => boolean;
  readonly routes: () => Routes;
  /** Refuses when another client changes the route at the same time. */
  readonly setRoute: (service: string, route: Route | undefined, by: string) => Promise<void>;
  /** `change` gets the route that is in force, again after a change of another client; undefined leaves it. */
  readonly changeRoute: (service: string, by: string, change: (route: Route) => Route | undefined) => Promise<void>;
  /** Removes the history of the routes of an index that is gone. */
  readonly forgetRoutes: (service: string) => Promise<void>;
  /** Share of the calls of an index that a version gets, from 0 to 1. */
  readonly shareOf: (name: string, version: string) => number;
  readonly clock: Clock;
}
