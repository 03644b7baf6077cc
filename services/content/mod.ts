// Sharded content: the shards of indices on this manager. Other modules import only from here.

export { Fetcher } from './fetch/fetcher.ts';
export { SourceInspector } from './source-inspector.ts';
export { ShardOrders } from './shard-orders.ts';
export { Keeper, type KeeperOptions } from './keeper.ts';
export type { ReplicaState, ReplicaStatus } from './replica-status.ts';
export type { ShardOrder } from './shard.ts';
export { ShardStore } from './shard-store.ts';
