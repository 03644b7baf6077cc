// Secrets and certificates in files, read anew when the files change. New content is used only if it is complete and
// valid; otherwise the old content stays in use and an event says why. A key and its certificate are often replaced
// one after the other, so a change is read once the files have stayed the same for a whole interval.

import { untilNextTurnMs, type Clock } from '../../core/mod.ts';
import type { EventLog } from '../mesh/mod.ts';
import { statSync, type Stats } from 'node:fs';
import { stat } from 'node:fs/promises';

export interface CredentialSource {
  /** Section of the configuration, for events: `link`, `consul`. */
  readonly name: string;
  /** Paths; '' is left out. */
  readonly files: readonly string[];
  /** Reads the files and puts them to use. @throws Error when the content cannot be used */
  readonly load: () => void;
}

interface WatchedSource extends CredentialSource {
  /** State of the files that was loaded or refused. */
  settled: string;
  /** State of the files at the last look. */
  seen: string;
}

export class CredentialFiles {
  readonly #clock: Clock;
  readonly #events: EventLog;
  readonly #sources: WatchedSource[] = [];
  #stopTimer: () => void = () => undefined;
  #isClosed = false;

  constructor(clock: Clock, events: EventLog) {
    this.#clock = clock;
    this.#events = events;
  }

  /** Loads a source, and again whenever its files change. @throws what the first `load` throws */
  add(source: CredentialSource): void {
    const files = source.files.filter((file) => file !== '');
    const state = files.map((file) => describe(statSync(file, { throwIfNoEntry: false }))).join(' ');
    source.load();
    if (files.length === 0) return;
    this.#sources.push({ ...source, files, settled: state, seen: state });
    if (this.#sources.length === 1) this.#schedule();
  }

  /** Looks at all files now, and loads those that have changed since they were loaded. */
  async refresh(): Promise<void> {
    for (const source of this.#sources) await this.#look(source, true);
  }

  close(): void {
    this.#isClosed = true;
    this.#stopTimer();
  }

  #schedule(): void {
    if (this.#isClosed) return;
    this.#stopTimer = this.#clock.after(untilNextTurnMs(this.#clock.nowMs(), LOOK_EVERY_MS), () => {
      void Promise.all(this.#sources.map((source) => this.#look(source, false))).then(() => this.#schedule());
    });
  }

  async #look(source: WatchedSource, isUrgent: boolean): Promise<void> {
    const state = (await Promise.all(source.files.map(stateOf))).join(' ');
    const isCalm = isUrgent || state === source.seen;
    source.seen = state;
    if (!this.#isClosed && isCalm && state !== source.settled) this.#load(source, state);
  }

  #load(source: WatchedSource, state: string): void {
    source.settled = state;
    try {
      source.load();
      this.#events.add('credentials_changed', source.name, 'read anew, in use from now on');
    } catch (error) {
      const text = `changed on disk and cannot be used; the old content stays in use: ${(error as Error).message}`;
      this.#events.add('credentials_changed', source.name, text);
    }
  }
}

async function stateOf(file: string): Promise<string> {
  return describe(await stat(file).catch(() => undefined));
}

/** Differs when the file was written or replaced, also through a symbolic link. */
function describe(facts: Stats | undefined): string {
  return facts === undefined ? 'missing' : `${facts.ino}:${facts.size}:${facts.mtimeMs}:${facts.ctimeMs}`;
}

const LOOK_EVERY_MS = 1_000;
