// The door of the mesh room for the processes that stand on it.

export {
  consulClient,
  ConsulError,
  consulOptionsOf,
  type ConsulClient,
  type ConsulClientOptions,
  type ConsulEntry,
  type ProcessCheck,
  type TransactionStep,
} from '../consul/client.ts';
export {
  DEPLOYMENT,
  deploymentId,
  PLAIN_CONCURRENCY_MAX,
  whyNoHealthCheck,
  type ChassisTimes,
  type Deployment,
  type RecycleRules,
  type RestartRules,
} from './deployment.ts';
export { EventLog } from './event-log.ts';
export { measured } from './with-stats.ts';
export type { Offer } from './offer.ts';
export { isWantedVersion, Router, type Route, type RouterOptions } from './router.ts';
export { SharedState, type SharedStateOptions } from './shared-state.ts';
export {
  ASSIGNMENT,
  FACEPLATE,
  keysOf,
  LEADER,
  MANAGER,
  MASTER,
  readRecord,
  readRecords,
  type AssignmentRecord,
  type DrainedRecord,
  type FaceplateRecord,
  type Keys,
  type LeaderRecord,
  type ManagerRecord,
  type MasterRecord,
  type PoolRecord,
} from './records.ts';
export { ConsulSession, type ConsulSessionOptions, type SessionStats } from '../consul/session.ts';
export { watchPrefix, type Watch, type WatchedEntries, type WatchStats } from '../consul/watch.ts';
export { Backoff } from '../../core/backoff.ts';
export { pause, within } from '../consul/pause.ts';
export { replaceFile } from './replace-file.ts';
export { Fleet, type FleetOptions } from './fleet.ts';
export { Presence, type Listener } from './presence.ts';
export { Reachability } from './reachability.ts';
export { SnapshotFile, type Snapshot } from './snapshot.ts';
export { EventGatherer } from './event-gatherer.ts';
export { ManagerClient, withManagerService } from './manager-service.ts';
export type { Peer } from './peer.ts';
export { thriftStatus } from './thrift-status.ts';
export { poolSetOf, type PoolPart, type PoolSetEntry } from './pool-set.ts';
