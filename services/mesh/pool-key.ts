// The key of a pool. Two pools are the same if their details and their interface are equal; the order of roles, tags
// and keys does not matter.

import type { PoolDetails } from '../../core/rpc/mod.ts';

export function poolKey({ service, version, roles, tags, more }: PoolDetails, interfaceId: string): string {
  const sorted = Object.entries(more).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([service, version, [...roles].sort(), [...tags].sort(), sorted, interfaceId]);
}
