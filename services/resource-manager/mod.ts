// The door of services/resource-manager: what other rooms may import.

export { ResourceManager } from './manager.ts';
export { Orders } from './orders.ts';
export type { KnownInterface } from './pool-set.ts';
