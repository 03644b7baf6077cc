// The processes that this one has started, from /proc.

import { readdirSync, readFileSync } from 'node:fs';

/** Process ids of the children of this process whose command line matches. */
export function childPids(command: RegExp): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      const parent = procFile(pid, 'stat')
        .replace(/^.*\) . /s, '')
        .split(' ')[0];
      return Number(parent) === process.pid && command.test(procFile(pid, 'cmdline'));
    });
}

/** A file of a process in /proc; '' when the process has ended. */
export function procFile(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'latin1');
  } catch {
    return '';
  }
}
