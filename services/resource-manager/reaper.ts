// Ensures that no chassis outlives its resource manager, even when the manager is killed with SIGKILL. A small shell
// process in its own session reads a pipe from the manager and knows every process group that was launched. When the
// pipe closes, for whatever reason, the shell kills all groups.

import { spawn, type ChildProcess } from 'node:child_process';

export class Reaper {
  readonly #directory: string;
  #shell: ChildProcess | undefined;
  readonly #groups = new Set<number>();
  #restartedAtMs = Number.NEGATIVE_INFINITY;
  #restart: NodeJS.Timeout | undefined;
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
    clearTimeout(this.#restart);
    const shell = this.#shell;
    if (shell?.pid === undefined || shell.exitCode !== null || shell.signalCode !== null) return Promise.resolve();
    return new Promise((resolve) => {
      shell.once('exit', () => resolve());
      shell.stdin?.end();
    });
  }

  #start(): void {
    // A replacement shell gets all groups as arguments, so that it knows them before it reads a line.
    const groups = [...this.#groups].map(String);
    let shell: ChildProcess;
    try {
      shell = spawn('/bin/sh', ['-c', SCRIPT, 'katamari-reaper', this.#directory, ...groups], {
        detached: true,
        stdio: ['pipe', 'ignore', 'ignore'],
      });
    } catch {
      this.#onLost();
      return;
    }
    this.#shell = shell;
    shell.stdin?.on('error', () => undefined);
    shell.on('error', () => {
      if (shell.pid === undefined) this.#onLost();
    });
    shell.on('exit', () => this.#onLost());
    shell.unref();
    (shell.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  }

  /** The shell was killed from outside, or could not be started. Starts another, at most one a second. */
  #onLost(): void {
    if (this.#isClosed) return;
    this.#shell = undefined;
    const nowMs = performance.now();
    const pauseMs = Math.max(0, this.#restartedAtMs + RESTART_EVERY_MS - nowMs);
    this.#restartedAtMs = nowMs + pauseMs;
    if (pauseMs === 0) this.#start();
    else this.#restart = setTimeout(() => this.#start(), pauseMs).unref();
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

const RESTART_EVERY_MS = 1_000;
