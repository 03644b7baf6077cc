// Exports of services/master; other modules import only from here.

export type { AccessActions } from './access-handlers.ts';
export { adminOffers } from './admin-service.ts';
export type { IndexActions, ManagerChecks, MeshHoldings } from './index-actions.ts';
export { readIndices } from './index-reports.ts';
export type { ThriftIndexStatus } from './index-status.ts';
export { IndexStore } from './index-store.ts';
export { changedFields, DeploymentStore, type DeployOutcome, describeChange } from './deployment-store.ts';
export { chooseVersions, compareChosen } from './version-admin.ts';
export { Election } from './election.ts';
export { Leader } from './leader.ts';
export { RolloutStore } from './rollout-store.ts';
