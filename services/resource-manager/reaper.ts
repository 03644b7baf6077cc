// Ensures that no chassis outlives its resource manager, even when the manager is killed with SIGKILL. A small shell
// process in its own session reads a pipe from the manager and knows every process group that was launched. When the
// pipe closes, for whatever reason, the shell kills all groups.

import { spawn, type ChildProcess } from 'node:child_process';

export class Reaper {
  readonly #directory: string;
  #shell: ChildProcess | undefined;
  readonly #groups = new Set<number>();
  #isClosed = false;

  /** @param directory the shell removes it at the end, because after a SIGKILL the manager cannot */
  constructor(directory: string) {
    this.#directory = directory;
    this.#start();
  }

  /** Process id of the shell; 0 when it could not be started. */
  get pid(): number {
    return this.#shell?.pid ?? 0;
  }

  /** Adds a process group that must end with this process. */
  watch(group: number): void {
    this.#groups.add(group);
    this.#write(`+${group}`);
  }

  /** Removes a group that has ended: the kernel may reuse its number. */
  forget(group: number): void {
    this.#groups.delete(group);
    this.#write(`-${group}`);
  }

  /** Ends the shell, which kills the remaining groups. Resolves when it has exited. */
  close(): Promise<void> {
    this.#isClosed = true;
    const shell = this.#shell;
    if (shell === undefined || shell.exitCode !== null || shell.signalCode !== null) return Promise.resolve();
    return new Promise((resolve) => {
      shell.once('exit', () => resolve());
      shell.stdin?.end();
    });
  }

  #start(): void {
    // A replacement shell gets all groups as arguments, so that it knows them before it reads a line.
    const groups = [...this.#groups].map(String);
    const shell = spawn('/bin/sh', ['-c', SCRIPT, 'katamari-reaper', this.#directory, ...groups], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    this.#shell = shell;
    shell.stdin?.on('error', () => undefined);
    shell.on('error', () => undefined);
    shell.on('exit', () => {
      // The shell was killed from outside.
      if (!this.#isClosed && this.#shell === shell) this.#start();
    });
    shell.unref();
    (shell.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  }

  #write(line: string): void {
    this.#shell?.stdin?.write(`${line}\n`);
  }
}

/**
 * Arguments: a directory and process groups. Reads `+PGID` and `-PGID` lines. At the end of its input it kills the
 * remaining groups and removes the directory. Ignores the signals of a terminal.
 */
const SCRIPT = `
trap '' INT TERM HUP
directory=$1
shift
groups=" $* "
while read -r line; do
  group=\${line#?}
  case $line in
    +*) groups="$groups$group " ;;
    -*) groups="\${groups%% "$group" *} \${groups#* "$group" }" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
rm -rf -- "$directory"
`;
