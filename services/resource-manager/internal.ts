// The door of the resource manager for the main programs that compose a process.

export { ResourceManager, type DeploymentSource, type ManagerOptions } from './manager.ts';
export type { KnownInterface } from './pool-set.ts';
export { Orders, type OrdersOptions, type OrdersStats } from './orders.ts';
