// A process that has joined the mesh: its `ProcessContext` and what `joinMesh` adds. All roles use it.

import type { PolicyStore } from '../access/mod.ts';
import type { ConsulClient } from '../consul/mod.ts';
import type { Fleet, ManifestCache, Reachability, SharedState, VersionReports } from '../mesh/mod.ts';
import type { Gatherer } from '../gather/mod.ts';
import type { ConsulMetrics } from './consul.ts';
import type { ProcessContext } from './process-context.ts';
import type { StatusReporter } from './status-reporter.ts';
import type { VersionObserver } from './version-observer.ts';

/** A process that has joined the mesh. */
export interface ProcessBase extends ProcessContext {
  readonly client: ConsulClient;
  readonly consulMetrics: ConsulMetrics;
  readonly reachability: Reachability;
  readonly shared: SharedState;
  readonly fleet: Fleet;
  /** Gathers the calls of indices. */
  readonly gatherer: Gatherer;
  readonly manifests: ManifestCache;
  /** The access policy of the mesh. */
  readonly policy: PolicyStore;
  /** What calls to versions have come to: in this process and in those that told it, and in the whole mesh. */
  readonly versions: VersionReports;
  readonly observer: VersionObserver;
  /** Status of this process alone. */
  readonly status: StatusReporter;
}
