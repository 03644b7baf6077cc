// Faults of a start that every further start of the deployment would have too: a missing program, an IDL that cannot
// be parsed, a chassis that says it is something else. Such a fault is reported once, and no copy is started again
// until something that the fault may depend on has changed: the deployment, its program, a file that the command, the
// environment or the reported reason names. Their identity is compared at the back-off interval of the deployment.
//
// Everything else is temporary and retried with back-off, because a server that the chassis needs may come back.

import type { Clock } from '../../core/mod.ts';
import type { Deployment } from '../mesh/mod.ts';
import { statSync } from 'node:fs';
import path from 'node:path';

/** Thrown by the readiness check for a fault that every further start would have. */
export class PermanentFault extends Error {
  override readonly name = 'PermanentFault';
}

/** Faults of the deployments of one manager, shared by the copies of each. */
export class PermanentFaults {
  readonly #clock: Clock;
  /** By the deployment object. A changed deployment is another object and starts without a fault. */
  readonly #faults = new WeakMap<Deployment, KnownFault>();
  /** The fault before, of a deployment that is started again. */
  readonly #before = new WeakMap<Deployment, KnownFault>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get(deployment: Deployment): KnownFault | undefined {
    return this.#faults.get(deployment);
  }

  /**
   * Remembers a fault. A later one of the same deployment, from a copy that started at the same time, adds nothing.
   * @param startedAtMs wall clock time of the start that failed
   * @returns whether the fault is new and has to be reported
   */
  add(deployment: Deployment, text: string, lines: readonly string[], startedAtMs: number): boolean {
    if (this.#faults.has(deployment)) return false;
    const last = this.#before.get(deployment);
    const same = last?.text === text ? last : undefined;
    const files = filesOf(deployment, [text, ...lines]);
    // A program may write to one of its files at each start, so the pauses grow on.
    const facts = { text, files, startedAtMs, deployment, clock: this.#clock, checks: same?.checks ?? 0 };
    const known = new KnownFault(facts, () => {
      this.#faults.delete(deployment);
      this.#before.set(deployment, known);
    });
    this.#faults.set(deployment, known);
    return same?.isStale !== true;
  }

  /** Forgets the fault, because an operator asks for a start. */
  clear(deployment: Deployment): void {
    this.#faults.get(deployment)?.clear();
    this.#before.delete(deployment);
  }
}

interface FaultFacts {
  readonly text: string;
  /** Files and directories that the fault may depend on. */
  readonly files: ReadonlySet<string>;
  readonly startedAtMs: number;
  readonly deployment: Deployment;
  readonly clock: Clock;
  /** Checks of the same fault before. */
  readonly checks: number;
}

export class KnownFault {
  readonly #facts: FaultFacts;
  readonly #before: ReadonlyMap<string, string>;
  /** Whether a file was written while the failed start may have read it: then the first check starts the copies. */
  readonly isStale: boolean;
  readonly #onCleared: () => void;
  readonly #waiting = new Set<() => void>();
  #checks: number;
  #stopTimer: (() => void) | undefined;

  constructor(facts: FaultFacts, onCleared: () => void) {
    this.#facts = facts;
    this.#onCleared = onCleared;
    this.#before = new Map([...facts.files].map((file) => [file, identityOf(file)]));
    this.#checks = facts.checks;
    this.isStale = [...facts.files].some((file) => changedAtMs(file) > facts.startedAtMs - CLOCK_STEP_MS);
  }

  get text(): string {
    return this.#facts.text;
  }

  get checks(): number {
    return this.#checks;
  }

  /** Calls `start` once when something has changed. Returns a function that ends the wait. */
  wait(start: () => void): () => void {
    this.#waiting.add(start);
    this.#stopTimer ??= this.#checkLater();
    return () => {
      this.#waiting.delete(start);
      if (this.#waiting.size > 0) return;
      this.#stopTimer?.();
      this.#stopTimer = undefined;
    };
  }

  clear(): void {
    this.#stopTimer?.();
    this.#onCleared();
    const starts = [...this.#waiting];
    this.#waiting.clear();
    for (const start of starts) start();
  }

  #checkLater(): () => void {
    const { clock, deployment } = this.#facts;
    const { backoffFirstMs, backoffMaxMs } = deployment.restart;
    const pauseMs = Math.min(backoffMaxMs, backoffFirstMs * 2 ** Math.min(this.#checks++, DOUBLINGS_MAX));
    return clock.after(pauseMs, () => {
      if (this.isStale || [...this.#before].some(([file, before]) => identityOf(file) !== before)) this.clear();
      else this.#stopTimer = this.#checkLater();
    });
  }
}

/**
 * Returns the files and directories that a start of the deployment uses, as far as the mesh can know: those that its
 * command and environment name, its program in every directory of PATH, and those in the text of the fault.
 */
function filesOf({ command, cwd, env }: Deployment, texts: readonly string[]): ReadonlySet<string> {
  const base = path.resolve(cwd);
  const [program = '', ...words] = command;
  const files = new Set([base]);
  const add = (name: string): void => {
    if (files.size < FILES_MAX) files.add(name);
  };
  if (program.includes('/')) add(path.resolve(base, program));
  else {
    for (const folder of (env['PATH'] ?? process.env['PATH'] ?? '').split(':').filter((one) => path.isAbsolute(one)))
      add(path.join(folder, program));
  }
  // A word may be a path, or an option such as --idl=PATH.
  const named = [...words, ...Object.values(env)].flatMap((word) => [word, word.slice(word.indexOf('=') + 1)]);
  const folders = new Set([base]);
  for (const word of named) {
    if (word === '' || word.length > WORD_MAX || word.includes('\n')) continue;
    const file = path.resolve(base, word);
    const isThere = identityOf(file) !== 'ENOENT';
    if (isThere || word.includes('/')) add(file);
    if (isThere) folders.add(path.dirname(file));
  }
  for (const word of texts.flatMap((text) => pathsIn(text.slice(0, TEXT_MAX)))) {
    if (path.isAbsolute(word)) {
      add(word);
      folders.add(path.dirname(word));
      continue;
    }
    // Messages name included files relative to the first one: `shared.thrift:3:1: ...`.
    for (const folder of folders) {
      const file = path.join(folder, word);
      if (identityOf(file) !== 'ENOENT') add(file);
    }
  }
  return files;
}

/**
 * Returns the words with a slash or a dot in them, without the line and column that may follow, and without the full
 * stop of a sentence. One pass, because the text is that of another program.
 */
function pathsIn(text: string): string[] {
  return text.split(BETWEEN_WORDS).flatMap((word) => {
    let end = word.length;
    while (word[end - 1] === '.') end--;
    const path = word.slice(0, end);
    return /[./]/.test(path.slice(0, -1)) ? [path] : [];
  });
}

/** Changes when the file is written, replaced, removed, or gets another owner or mode. */
function identityOf(file: string): string {
  try {
    const stats = statSync(file);
    const { dev, ino, mode, uid, gid, size, mtimeMs, ctimeMs } = stats;
    // A directory changes with every file in it, so only its own identity counts.
    const content = stats.isDirectory() ? '' : `${size} ${mtimeMs} ${ctimeMs}`;
    return `${dev} ${ino} ${mode} ${uid} ${gid} ${content}`;
  } catch (error) {
    const { code = 'unreadable' } = error as NodeJS.ErrnoException;
    return code === 'ENOTDIR' ? 'ENOENT' : code;
  }
}

function changedAtMs(file: string): number {
  try {
    const stats = statSync(file);
    return stats.isDirectory() ? 0 : stats.ctimeMs;
  } catch {
    return 0;
  }
}

const FILES_MAX = 200;
const WORD_MAX = 4_096;
/** Characters of one line of output that are searched for paths. */
const TEXT_MAX = 4_096;
const BETWEEN_WORDS = /[\s'"`()[\]{}<>,;:|]/;
/** File systems round times to the tick of the kernel. */
const CLOCK_STEP_MS = 20;
const DOUBLINGS_MAX = 20;
