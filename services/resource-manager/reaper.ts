// Ensures that no chassis and no descendant of one outlives its resource manager, even when the manager is killed with
// SIGKILL. A small shell process in its own session reads a pipe from the manager and knows every process group that
// was launched. When the pipe closes, for whatever reason, the shell kills what is left.
//
// A descendant may have left the process group: with `setsid`, a double fork, or as a daemon that belongs to process
// 1. So each chassis and what it starts form a family, which the shell finds in two ways: by a control group, where
// the system has one (control-group.ts), and by the text in KATAMARI_FAMILY, which nobody can guess, in the
// environment of each process (/proc, Linux alone). The shell looks when a chassis has ended, and at its own end.

import { ControlGroups } from './control-group.ts';
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';

/** A chassis with all that it starts. */
export interface Family {
  readonly id: string;
  /** Value of FAMILY_VARIABLE in the environment of the chassis. Adds to that of an outer mesh, which may look too. */
  readonly mark: string;
}

export const FAMILY_VARIABLE = 'KATAMARI_FAMILY';

export class Reaper {
  readonly #directory: string;
  /** Prefix of the marks of all families of this manager. */
  readonly #secret: string = randomBytes(16).toString('hex');
  readonly #controlGroups: ControlGroups | undefined = ControlGroups.open(`katamari-${this.#secret.slice(0, 12)}`);
  #shell: ChildProcess | undefined;
  #families = 0;
  readonly #groups = new Set<number>();
  /** Families whose chassis has ended, by id, until the shell has looked for the rest of them. */
  readonly #ending = new Map<string, (left: number) => void>();
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

  /** Whether descendants are found by control groups, not only by their environment. */
  get hasControlGroups(): boolean {
    return this.#controlGroups !== undefined;
  }

  newFamily(): Family {
    const id = String(++this.#families);
    return { id, mark: `${process.env[FAMILY_VARIABLE] ?? ''}${this.#secret}.${id};` };
  }

  /** Adds a process group that must end with this process, and its leader to its family. */
  watch(group: number, family?: Family): void {
    this.#groups.add(group);
    if (family !== undefined) this.#controlGroups?.add(family.id, group);
    this.#write(`+ ${group}`);
  }

  /**
   * Removes a group that has ended: the kernel may reuse its number. Ends the rest of its family. Resolves with the
   * number of processes that were left; with 0 when the shell cannot say within 2 s.
   */
  async forget(group: number, family?: Family): Promise<number> {
    this.#groups.delete(group);
    this.#write(`- ${group}`);
    if (family === undefined) return 0;
    return await new Promise((resolve) => {
      const settle = (left: number): void => {
        clearTimeout(timer);
        this.#ending.delete(family.id);
        resolve(left);
      };
      const timer = setTimeout(() => settle(0), ANSWER_WITHIN_MS).unref();
      this.#ending.set(family.id, settle);
      this.#write(`? ${family.id}`);
    });
  }

  /** Ends the shell, which kills what is left of all families. Resolves when it has exited. */
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
    const args = [this.#directory, this.#controlGroups?.directory ?? '', ...groups];
    let shell: ChildProcess;
    try {
      shell = spawn('/bin/sh', ['-c', SCRIPT, 'katamari-reaper', ...args], {
        detached: true,
        stdio: ['pipe', 'pipe', 'ignore'],
      });
    } catch {
      this.#onLost();
      return;
    }
    this.#shell = shell;
    let answers = '';
    shell.stdout?.setEncoding('latin1').on('data', (text: string) => {
      const lines = (answers + text).split('\n');
      answers = lines.pop() ?? '';
      for (const line of lines) this.#onAnswer(line);
    });
    for (const stream of [shell.stdin, shell.stdout]) {
      stream?.on('error', () => undefined);
      (stream as unknown as { unref?: () => void } | null)?.unref?.();
    }
    shell.on('error', () => {
      if (shell.pid === undefined) this.#onLost();
    });
    shell.on('exit', () => this.#onLost());
    shell.unref();
    // Not as an argument, which every user can read.
    this.#write(this.#secret);
    for (const id of this.#ending.keys()) this.#write(`? ${id}`);
  }

  #onAnswer(line: string): void {
    const [id = '', left = ''] = line.split(' ');
    this.#ending.get(id)?.(Number(left));
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
 * Arguments: a directory, that of the control groups (may be ''), process groups. Reads the prefix of all marks, then
 * lines: `+ PGID` and `- PGID` add and remove a process group, `? ID` kills what is left of a family and is answered
 * with `ID COUNT`. At the end of its input it kills the remaining groups and families and removes the directories.
 * Ignores the signals of a terminal. Runs under dash and the shell of busybox too.
 */
const SCRIPT = `
trap '' INT TERM HUP PIPE
directory=$1
control=$2
shift 2
groups=" $* "
read -r secret || secret=

# Kills all processes with the text $1 in their environment or in the control groups $2, until none is found.
end_family() {
  seen=' '
  count=0
  rounds=0
  while [ "$rounds" -lt 200 ]; do
    rounds=$((rounds + 1))
    found=
    for group in $2; do
      [ -r "$group/cgroup.procs" ] && while read -r pid; do found="$found $pid"; done <"$group/cgroup.procs"
    done
    for file in $([ -n "$secret" ] && printf '%s\\n' "$1" | grep -lsF -f - /proc/[0-9]*/environ); do
      file=\${file#/proc/}
      found="$found \${file%/environ}"
    done
    [ -n "$found" ] || break
    for pid in $found; do
      kill -s KILL "$pid"
      case $seen in
        *" $pid "*) ;;
        *) seen="$seen$pid " count=$((count + 1)) ;;
      esac
    done
    sleep 0.02 || sleep 1
  done
  # A process that is about to end is in no list any more, but keeps its group for a moment.
  for group in $2; do
    tries=0
    until rmdir "$group" || [ ! -d "$group" ] || [ "$tries" -ge 10 ]; do
      tries=$((tries + 1))
      sleep 0.02 || sleep 1
    done
  done
} 2>/dev/null

while read -r order id; do
  case $order in
    +) groups="$groups$id " ;;
    -) groups="\${groups%% "$id" *} \${groups#* "$id" }" ;;
    \\?)
      end_family "$secret.$id;" "\${control:+$control/$id}"
      echo "$id $count"
      ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
# A process has no environment for a moment while it starts a program, so look twice.
for look in 1 2; do
  control_groups=
  [ -n "$control" ] && for group in "$control"/*/; do control_groups="$control_groups \${group%/}"; done
  end_family "$secret." "$control_groups"
  [ "$count" -eq 0 ] && break
done
[ -n "$control" ] && rmdir "$control" 2>/dev/null
rm -rf -- "$directory"
`;

const RESTART_EVERY_MS = 1_000;
const ANSWER_WITHIN_MS = 2_000;
