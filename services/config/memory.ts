// Defaults of the sums in `limits`: how many bytes clients may make this process hold. They are shares of the memory
// that the process may use, which containers limit.

import os from 'node:os';

export interface MemoryLimits {
  readonly memory: number;
  readonly callerMemory: number;
  readonly connectionMemory: number;
}

/**
 * Fills in the sums that are not set. By default the process gets a quarter of the memory, at most MEMORY_BYTES_MAX; a
 * caller half of that, and a connection an eighth. A few messages of the largest size always fit.
 */
export function memoryLimits(
  set: { readonly [Key in keyof MemoryLimits]?: number | undefined },
  frameBytesMax: number,
  foundBytes: number = usableMemory(),
): MemoryLimits {
  const share = Math.floor(Math.min(MEMORY_BYTES_MAX, foundBytes / 4) / MIB) * MIB;
  const memory = set.memory ?? Math.max(share, 4 * frameBytesMax);
  const callerMemory = set.callerMemory ?? memory / 2;
  const connectionMemory = set.connectionMemory ?? Math.min(callerMemory, Math.max(memory / 8, 2 * frameBytesMax));
  return {
    memory,
    callerMemory: Math.floor(callerMemory),
    connectionMemory: Math.floor(connectionMemory),
  };
}

/** Memory of the machine, or of the container (cgroup) if that is less. */
function usableMemory(): number {
  // 0 or a huge number without a limit; not every runtime has the function.
  const { constrainedMemory } = process as { constrainedMemory?: () => number | undefined };
  const constrained = constrainedMemory?.call(process) ?? 0;
  return constrained > 0 ? Math.min(constrained, os.totalmem()) : os.totalmem();
}

const MIB = 1024 * 1024;
const MEMORY_BYTES_MAX = 1024 * MIB;
