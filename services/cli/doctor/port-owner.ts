// Who listens on a TCP port, as far as this account may know: Linux tells it under /proc. Elsewhere nobody is named.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface PortOwner {
  readonly pid: number;
  /** Its name, as the system has it. */
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

/** Rows are `sl local_address rem_address st ... inode`; addresses in hex, state 0A is listening. */
function listenersIn(table: string, port: number): string[] {
  const wanted = port.toString(16).toUpperCase().padStart(4, '0');
  return table
    .split('\n')
    .map((row) => row.trim().split(/\s+/))
    .filter((row) => row[3] === '0A' && row[1]?.endsWith(`:${wanted}`) === true)
    .flatMap((row) => row[9] ?? []);
}

// Processes come and go while they are looked at, and other accounts' are closed to us: what cannot be read counts as empty.

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
