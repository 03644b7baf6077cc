// The door of services/master: what other rooms may import.

export { adminOffer } from './admin-service.ts';
export { changedFields, DeploymentStore, type DeployOutcome, describeChange } from './deployment-store.ts';
export { Election } from './election.ts';
export { Leader } from './leader.ts';
