// Finds the process that listens on a TCP port, through /proc on Linux. Returns nothing on other systems, or if the
// process belongs to another account.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface PortOwner {
  readonly pid: number;
  /** Name of the process, from /proc/PID/comm. */
  readonly command: string;
}

export function findListener(port: number): PortOwner | undefined {
  const inodes = new Set(['/proc/net/tcp', '/proc/net/tcp6'].flatMap((table) => listenersIn(readOr(table), port)));
  if (inodes.size === 0) return undefined;
  for (const pid of namesIn('/proc').filter((name) => /^\d+$/.test(name))) {
    for (const fd of namesIn(`/proc/${pid}/fd`)) {
      const [, inode] = /^socket:\[(\d+)\]$/.exec(linkOf(`/proc/${pid}/fd/${fd}`)) ?? [];
      if (inode !== undefined && inodes.has(inode))
        return { pid: Number(pid), command: readOr(`/proc/${pid}/comm`).trim() };
    }
  }
  return undefined;
}

/** Rows are `sl local_address rem_address st ... inode`. Addresses are hexadecimal; state 0A means listening. */
function listenersIn(table: string, port: number): string[] {
  const portHex = port.toString(16).toUpperCase().padStart(4, '0');
  return table
    .split('\n')
    .map((row) => row.trim().split(/\s+/))
    .filter((row) => row[3] === '0A' && row[1]?.endsWith(`:${portHex}`) === true)
    .flatMap((row) => row[9] ?? []);
}

// Processes may end while /proc is read, and those of other accounts are not readable. Errors count as empty.

function readOr(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function linkOf(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return '';
  }
}
