// Exports of services/resource-manager; other modules import only from here.

export { ResourceManager } from './manager.ts';
export { Orders } from './orders.ts';
export type { KnownInterface } from './pool-set.ts';
export type { Identity } from './isolation.ts';
