// No chassis outlives its resource manager, even one killed with SIGKILL: a tiny shell process of its own session holds the end of a pipe
// from the manager and knows every process group that was launched. When the pipe ends, for whatever reason, it kills them all.

import { spawn, type ChildProcess } from 'node:child_process';

export class Reaper {
  readonly #directory: string;
  #shell: ChildProcess | undefined;
  readonly #groups = new Set<number>();
  #isClosed = false;

  /** @param directory removed at the end: nobody else is left to do it after a SIGKILL */
  constructor(directory: string) {
    this.#directory = directory;
    this.#start();
  }

  /** Pid of the shell, for tests that kill it. */
  get pid(): number {
    return this.#shell?.pid ?? 0;
  }

  /** From now on the process group dies with this process. */
  watch(group: number): void {
    this.#groups.add(group);
    this.#tell(`+${group}`);
  }

  /** The group has ended and its number may be given to somebody else. */
  forget(group: number): void {
    this.#groups.delete(group);
    this.#tell(`-${group}`);
  }

  /** Kills what is left and ends the shell. */
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
    // One that takes the place of another knows all from its first moment, before it reads a line.
    const groups = [...this.#groups].map(String);
    const shell = spawn('/bin/sh', ['-c', SCRIPT, 'katamari-reaper', this.#directory, ...groups], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    this.#shell = shell;
    shell.stdin?.on('error', () => undefined);
    shell.on('error', () => undefined);
    shell.on('exit', () => {
      // Somebody killed it.
      if (!this.#isClosed && this.#shell === shell) this.#start();
    });
    shell.unref();
    (shell.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  }

  #tell(line: string): void {
    this.#shell?.stdin?.write(`${line}\n`);
  }
}

/**
 * Is given a directory and groups, reads `+PGID` and `-PGID` lines; at the end of its input kills every group that is left and removes the
 * directory. Ignores the signals of a terminal.
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
