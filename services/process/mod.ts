// Exports of services/process; other modules import only from here.

export type { MeshHooks } from './process-context.ts';
export { startMesh, type RunningMesh } from './process.ts';
