// Records of a small mesh with an index: four shards, and managers with its content service.

import type { HoldingsRecord, IndexRecord, ManagerRecord, ShardsOrder } from '../../../services/mesh/mod.ts';

export const MANIFEST: string = 'a'.repeat(64);

export const indexOf = (version: string, change: Partial<IndexRecord> = {}): [string, IndexRecord] => [
  `wiki@${version}`,
  {
    name: 'wiki',
    version,
    source: 'file:///srv/wiki',
    contentService: 'Words',
    contentRange: '^1',
    replicas: 1,
    promoteAtReplicas: 1,
    manifest: MANIFEST,
    shards: 4,
    bytes: 40,
    by: 'admin',
    atMs: 0,
    readyAtMs: 0,
    promotedAtMs: 0,
    ...change,
  },
];

export const managerOf = (name: string, change: Partial<ManagerRecord> = {}): [string, ManagerRecord] => [
  name,
  {
    address: '127.0.0.1:1',
    machine: name,
    capacity: 1,
    isDraining: false,
    stats: '',
    starting: [],
    pools: [{ id: 'p', service: 'Words', version: '1.0.0', roles: [], tags: [], more: {}, interfaceId: 'i', alive: 1 }],
    ...change,
  },
];

export const holdingOf = (change: Partial<HoldingsRecord> = {}): HoldingsRecord => ({
  serving: {},
  onDisk: {},
  failed: [],
  freeBytes: 1_000,
  ...change,
});

/** `{ manager: ['wiki@1.0.0 0-1'] }` */
export function shown(orders: ReadonlyMap<string, readonly ShardsOrder[]>): Record<string, string[]> {
  return Object.fromEntries(
    [...orders].map(([name, own]) => [name, own.map((one) => `${one.indexVersion} ${one.places}`)]),
  );
}
