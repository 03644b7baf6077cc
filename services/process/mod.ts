// The door of services/process: what other rooms may import.

export { advertisedHost, linkSecurityOf } from './link-settings.ts';
export type { MeshHooks } from './process-base.ts';
export type { Mesh } from './process.ts';
export { VERSION } from './version.ts';
