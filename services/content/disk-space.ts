// Makes room for a shard on the disk of this manager.

import { DISK_RESERVE_BYTES } from './limits.ts';
import type { ShardStore } from './shard-store.ts';

/** Deletes removed shards when their space is needed. @throws Error that says what is missing */
export async function makeRoom(store: ShardStore, bytes: number): Promise<void> {
  const needed = bytes + DISK_RESERVE_BYTES;
  if ((await store.freeBytes()) >= needed) return;
  await store.sweepOld(Date.now(), true);
  const free = await store.freeBytes();
  if (free < needed)
    throw new Error(
      `the disk has ${inMiB(free)} free, and the shard needs ${inMiB(bytes)} beside a reserve of ${inMiB(DISK_RESERVE_BYTES)}; free space on this machine`,
    );
}

function inMiB(bytes: number): string {
  return `${Math.ceil(bytes / 1024 / 1024)} MiB`;
}
