// What this process knew last of its mesh, on disk, so that it can start while Consul is away: the managers with their pools, the interfaces
// of those, settings and routes. Written a moment after a change, whole or not at all. One that cannot be read counts as none, and is said.

import { readFile } from 'node:fs/promises';
import type { Clock } from '../../core/mod.ts';
import type { IdlSource } from '../../core/thrift/mod.ts';
import type { EventLog } from './event-log.ts';
import { MANAGER, readRecord, type ManagerRecord } from './records.ts';
import { replaceFile } from './replace-file.ts';
import path from 'node:path';
import { z } from 'zod';

export interface Snapshot {
  readonly managers: Readonly<Record<string, ManagerRecord>>;
  /** Texts by the id of the interface. */
  readonly interfaces: Readonly<Record<string, { readonly service: string; readonly source: IdlSource }>>;
  readonly timeoutMs: number;
  /** ISO time, for people. */
  readonly takenAt: string;
  readonly routes: Readonly<Record<string, { readonly weights: Readonly<Record<string, number>> }>>;
}

export interface SnapshotOptions {
  readonly dataDir: string;
  readonly events: EventLog;
  readonly clock: Clock;
  /** What is true now. */
  readonly take: () => Snapshot;
}

export class SnapshotFile {
  readonly #options: SnapshotOptions;
  readonly #file: string;
  #stop: (() => void) | undefined;
  #isBegun = false;
  #writing: Promise<void> = Promise.resolve();
  #written = '';

  constructor(options: SnapshotOptions) {
    this.#options = options;
    this.#file = path.join(options.dataDir, 'snapshot.json');
  }

  /** undefined: there is none that can be used. */
  async read(): Promise<Snapshot | undefined> {
    let text: string;
    try {
      text = await readFile(this.#file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#complain((error as Error).message);
      return undefined;
    }
    const found = readRecord(SNAPSHOT, text);
    if (!(found instanceof Error)) return found;
    this.#complain(found.message);
    return undefined;
  }

  /**
   * What this process knows is worth keeping from now on. Before, while it has not heard of anybody, it would only replace what it knew last
   * by nothing: and need it at once, if it is restarted again.
   */
  begin(): void {
    this.#isBegun = true;
    this.changed();
  }

  /** Something in it has changed: it is written in a moment. */
  changed(): void {
    if (!this.#isBegun) return;
    this.#stop ??= this.#options.clock.after(GATHER_MS, () => {
      this.#stop = undefined;
      this.#writing = this.#writing.then(() => this.#write());
    });
  }

  /** Writes what is due and ends. */
  async close(): Promise<void> {
    if (this.#stop !== undefined) {
      this.#stop();
      this.#stop = undefined;
      this.#writing = this.#writing.then(() => this.#write());
    }
    await this.#writing;
  }

  async #write(): Promise<void> {
    const { takenAt, ...known } = this.#options.take();
    const what = JSON.stringify(known);
    if (what === this.#written) return;
    const text = JSON.stringify({ takenAt, ...known });
    try {
      await replaceFile(this.#file, text);
      this.#written = what;
    } catch (error) {
      this.#options.events.add('consul_lost', this.#file, `cannot be written: ${(error as Error).message}`);
    }
  }

  #complain(why: string): void {
    this.#options.events.add('consul_lost', this.#file, `is not used: ${why}`);
  }
}

const SNAPSHOT: z.ZodType<Snapshot> = z.object({
  managers: z.record(z.string(), MANAGER),
  interfaces: z.record(
    z.string(),
    z.object({
      service: z.string(),
      source: z.object({ main: z.string(), files: z.record(z.string(), z.string()) }),
    }),
  ),
  timeoutMs: z.int().min(1),
  takenAt: z.string(),
  routes: z.record(z.string(), z.object({ weights: z.record(z.string(), z.int().min(0)) })),
});
const GATHER_MS = 500;
