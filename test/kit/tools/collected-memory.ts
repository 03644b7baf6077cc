// Memory in use after a garbage collection, on each runtime.

import { setTimeout as pause } from 'node:timers/promises';
import v8 from 'node:v8';
import vm from 'node:vm';

/** In bytes. */
export interface CollectedMemory {
  readonly heapBytes: number;
  readonly rssBytes: number;
}

/** Collects garbage, if the runtime can be asked for it, and returns what is left. */
export async function collectedMemory(): Promise<CollectedMemory> {
  const runtime = globalThis as { gc?: () => void; Bun?: { gc(isSync: boolean): void } };
  let collect = runtime.gc ?? (runtime.Bun === undefined ? undefined : (): void => runtime.Bun?.gc(true));
  if (collect === undefined) {
    v8.setFlagsFromString('--expose-gc');
    collect = vm.runInNewContext('typeof gc === "function" ? gc : undefined') as (() => void) | undefined;
  }
  // Finalizers run between the collections, and free more.
  for (let i = 0; i < 4; i++) {
    collect?.();
    await pause(20);
  }
  const { heapUsed, external, rss } = process.memoryUsage();
  return { heapBytes: heapUsed + external, rssBytes: rss };
}
