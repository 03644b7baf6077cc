// The door of the master room.

export { adminOffer, type AdminActions } from './admin-service.ts';
export {
  changedFields,
  DeploymentStore,
  describeChange,
  type DeployOutcome,
  type DeploymentStoreOptions,
} from './deployment-store.ts';
export { Election, type ElectionOptions } from './election.ts';
export { Leader, type LeaderOptions } from './leader.ts';
