// The door of services/process: what other rooms may import.

export type { MeshHooks } from './process-context.ts';
export { startMesh, type RunningMesh } from './process.ts';
