// CPU use of processes, from /proc. Linux.

import { readFileSync } from 'node:fs';

/** User and system time of a process so far, in ms. @throws when the process has ended */
export function cpuMsOf(pid: number): number {
  // The name of the program, in parentheses, may hold spaces.
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/** How often the main thread of a process has waited for something so far. @throws when the process has ended */
export function wakeUpsOf(pid: number): number {
  return Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]);
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

/** The unit of CPU times in /proc. */
const TICK_MS = 10;
