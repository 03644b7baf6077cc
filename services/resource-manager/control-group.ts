// A control group of Linux (cgroup) for the processes of each chassis. A process cannot leave its group by starting a
// session, by a double fork or by clearing its environment, so the group finds every descendant. It needs a part of
// the hierarchy that this process may write: as root, in a systemd unit with `Delegate=yes`, or in a container with a
// writable /sys/fs/cgroup. Elsewhere, and for the moment before a process has joined its group, the reaper looks for
// descendants by their environment.

import { accessSync, constants, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export class ControlGroups {
  /** Directory of the groups of this manager. */
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  /** @param name unique on this machine. @returns undefined where no group can be made */
  static open(name: string): ControlGroups | undefined {
    for (const own of ownGroups()) {
      const directory = path.join(own, name);
      try {
        mkdirSync(directory, { mode: 0o700 });
      } catch {
        continue;
      }
      const groups = new ControlGroups(directory);
      if (groups.#works) return groups;
      groups.#remove();
    }
    return undefined;
  }

  /** Moves a process to its own group. */
  add(group: string, pid: number): void {
    const directory = path.join(this.directory, group);
    try {
      mkdirSync(directory, { mode: 0o700 });
      writeFileSync(path.join(directory, PROCESSES), String(pid));
    } catch {
      // The process has ended, or the group is gone. The environment of the process still identifies it.
    }
  }

  /** A directory that is no control group has no list of processes. */
  get #works(): boolean {
    try {
      accessSync(path.join(this.directory, PROCESSES), constants.W_OK);
      return true;
    } catch {
      return false;
    }
  }

  #remove(): void {
    try {
      rmdirSync(this.directory);
    } catch {
      // An empty directory is left behind.
    }
  }
}

/** Directories of the groups of this process: the unified hierarchy (v2), then those of v1 that limit nothing. */
function ownGroups(): string[] {
  try {
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map(parseMount);
    const paths = readFileSync('/proc/self/cgroup', 'utf8')
      .split('\n')
      .map((line) => /^(\d+):([^:]*):(.*)$/.exec(line));
    return [UNIFIED, ...NEUTRAL].flatMap((controller) => {
      const own = paths.find((match) => match?.[2] === controller)?.[3];
      const mount = mounts.find(
        (one) =>
          one !== undefined &&
          (controller === UNIFIED ? one.kind === 'cgroup2' : one.kind === 'cgroup' && one.options.includes(controller)),
      );
      if (own === undefined || mount === undefined) return [];
      return [path.join(mount.at, path.relative(mount.root, own))];
    });
  } catch {
    // Not Linux, or no /proc.
    return [];
  }
}

interface Mount {
  readonly root: string;
  readonly at: string;
  readonly kind: string;
  readonly options: readonly string[];
}

/** Parses a line of mountinfo: `ID PARENT DEVICE ROOT MOUNT-POINT OPTIONS ... - KIND SOURCE SUPER-OPTIONS`. */
function parseMount(line: string): Mount | undefined {
  const [before = '', after] = line.split(' - ');
  const [, , , root, at] = before.split(' ');
  if (root === undefined || at === undefined || after === undefined) return undefined;
  const [kind = '', , options = ''] = after.split(' ');
  return { root, at, kind, options: options.split(',') };
}

const PROCESSES = 'cgroup.procs';
const UNIFIED = '';
const NEUTRAL = ['name=systemd', 'freezer'];
