// Exports of services/mesh; other modules import only from here.

export type {
  AccessPolicy,
  AccessRights,
  AccessTarget,
  CallQuotas,
  DenialReason,
  QuotaShare,
} from './access-filter.ts';
export { shownName } from './access-filter.ts';
export { bestVersion } from './choose-version.ts';
export {
  type ChassisTimes,
  type Deployment,
  type Isolation,
  DEPLOYMENT,
  deploymentId,
  PLAIN_CONCURRENCY_MAX,
  type RecycleRules,
  type RestartRules,
  whyNoHealthCheck,
} from './deployment.ts';
export { DOCUMENT_BYTES_MAX, documentSigner } from './document-signer.ts';
export { type DeployedService, mergeDeployed } from './deployed.ts';
export { EventGatherer } from './event-gatherer.ts';
export { EventLog } from './event-log.ts';
export { Fleet } from './fleet.ts';
export {
  type CheckFacts,
  type CheckTarget,
  type Holding,
  type Holdings,
  ManagerClient,
  type ReplicaFacts,
  type SourceFacts,
  withManagerService,
} from './manager-service.ts';
export type { Offer } from './offer.ts';
export { Peer } from './peer.ts';
export { type PoolSetEntry, poolSetOf } from './pool-set.ts';
export {
  HOLDINGS,
  INDEX,
  INDEX_NAME,
  type FailedShard,
  type HoldingsRecord,
  type IndexRecord,
  type ManifestRecord,
  type ManifestShard,
  type ShardsOrder,
} from './index-records.ts';
export { idOfPath, indexIdOf, indexPathOf, pathOfId } from './index-name.ts';
export { ManifestCache, manifestHash } from './manifest-cache.ts';
export type { JoiningChassis, PrepareChassis } from './joining-chassis.ts';
export { formatPlaces, parsePlaces } from './places.ts';
export { fillPlaceholders } from './placeholders.ts';
export { type ListenAddress, Presence, sessionCheckEveryMs } from './presence.ts';
export { Reachability } from './reachability.ts';
export {
  ASSIGNMENT,
  type AssignmentRecord,
  FACEPLATE,
  type FaceplateRecord,
  type Keys,
  keysOf,
  LEADER,
  type LeaderRecord,
  MANAGER,
  type ManagerRecord,
  MASTER,
  type MasterRecord,
  POLICY,
  type PolicyRecord,
  type PoolRecord,
  BACKUP_REVISION,
  type BackupRevision,
  readEntry,
  readRecord,
  readRecords,
  type RecordCache,
} from './records.ts';
export type { RouteExplanation } from './explain-route.ts';
export {
  mergeMirrorReports,
  type MirrorCount,
  type MirrorDifference,
  type MirrorPathCount,
  type MirrorReport,
} from './mirror-report.ts';
export type { RouteMirror } from './route-mirror.ts';
export {
  COPIED_METHOD,
  HEDGE_VALUE,
  HEDGE_OR_OFF,
  MAJORITY_OR_OFF,
  MAJORITY_VALUE,
  methodsOfRobustness,
} from './route-robustness.ts';
export {
  changedRoute,
  isNoRoute,
  mergeRoute,
  problemsOfRoute,
  ROUTE,
  RULE_HEADER,
  RULE_NAME,
  versionsOfRoute,
  wholeRoute,
  type Route,
  type RouteChange,
  type RouteRule,
  type Routes,
} from './route.ts';
export {
  copiesFor,
  isActive,
  ROLLOUT,
  rolloutName,
  shareOfStep,
  weightsBefore,
  weightsFor,
  type PassedStep,
  type Rollout,
  type RolloutPlan,
  type RolloutState,
} from './rollout.ts';
export { formatGuard, parseGuard, quantileOf, type RolloutGuard } from './rollout-guard.ts';
export { RouteStore, routeIn } from './route-store.ts';
export { AssignmentLog } from './assignment-log.ts';
export { Router } from './router.ts';
export { SharedState } from './shared-state.ts';
export { type Snapshot, SnapshotFile } from './snapshot.ts';
export { ADMIN_SCOPES, type AdminScope, isTokenName, type KnownToken, sha256Of, TokenStore } from './token-store.ts';
export { thriftStatus } from './thrift-status.ts';
export {
  mergeVersionReports,
  type ObservedVersions,
  type OutcomeCount,
  sumOfMethods,
  type VersionCount,
  type VersionReport,
} from './version-count.ts';
export { pointOf } from './version-split.ts';
export { isVersionMatch, isVersionRange } from './version-match.ts';
export { VersionReports } from './version-reports.ts';
export { withStats } from './with-stats.ts';
