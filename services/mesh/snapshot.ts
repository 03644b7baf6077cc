// The last known state of the mesh on disk, so that this process can start without Consul: managers with their pools,
// the interfaces of those pools, settings and routes. It is written atomically, half a second after a
// change. An unreadable snapshot is reported and ignored.

import { readFile } from 'node:fs/promises';
import { type Clock, replaceFile, reportDefect } from '../../core/mod.ts';
import type { IdlSource } from '../../core/thrift/mod.ts';
import type { EventLog } from './event-log.ts';
import { INDEX, type IndexRecord } from './index-records.ts';
import { MANAGER, readRecord, type ManagerRecord } from './records.ts';
import { ROUTE, type Route } from './route.ts';
import path from 'node:path';
import { z } from 'zod';

export interface Snapshot {
  readonly managers: Readonly<Record<string, ManagerRecord>>;
  /** IDL by the id of the interface. */
  readonly interfaces: Readonly<Record<string, { readonly service: string; readonly source: IdlSource }>>;
  readonly timeoutMs: number;
  /** ISO 8601 time; informative only. */
  readonly takenAt: string;
  readonly routes: Readonly<Record<string, Route>>;
  /** By `name@version`. */
  readonly indices?: Readonly<Record<string, IndexRecord>> | undefined;
}

export interface SnapshotOptions {
  readonly dataDir: string;
  readonly events: EventLog;
  readonly clock: Clock;
  /** Returns the current state. */
  readonly take: () => Snapshot;
}

export class SnapshotFile {
  readonly #options: SnapshotOptions;
  readonly #file: string;
  #stop: (() => void) | undefined;
  #isEnabled = false;
  #writing: Promise<void> = Promise.resolve();
  #written = '';

  constructor(options: SnapshotOptions) {
    this.#options = options;
    this.#file = path.join(options.dataDir, 'snapshot.json');
  }

  /** Returns the snapshot, or undefined if there is none or it is invalid. */
  async read(): Promise<Snapshot | undefined> {
    let text: string;
    try {
      text = await readFile(this.#file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#report((error as Error).message);
      return undefined;
    }
    const found = readRecord(SNAPSHOT, text);
    if (!(found instanceof Error)) return found;
    this.#report(found.message);
    return undefined;
  }

  /**
   * Enables writing. Until the first response of Consul the current state is empty, and writing it would destroy the
   * snapshot that the next start may need.
   */
  enable(): void {
    this.#isEnabled = true;
    this.changed();
  }

  /** Schedules a write after a change. */
  changed(): void {
    if (!this.#isEnabled) return;
    this.#stop ??= this.#options.clock.after(GATHER_MS, () => {
      this.#stop = undefined;
      this.#writing = this.#writing.then(() => this.#write()).catch(reportDefect);
    });
  }

  /** Writes a scheduled snapshot now; resolves when it is on disk. */
  async close(): Promise<void> {
    if (this.#stop !== undefined) {
      this.#stop();
      this.#stop = undefined;
      this.#writing = this.#writing.then(() => this.#write()).catch(reportDefect);
    }
    await this.#writing;
  }

  async #write(): Promise<void> {
    const { takenAt, ...known } = this.#options.take();
    const content = JSON.stringify(known);
    if (content === this.#written) return;
    const text = JSON.stringify({ takenAt, ...known });
    try {
      await replaceFile(this.#file, text);
      this.#written = content;
    } catch (error) {
      this.#options.events.add('consul_lost', this.#file, `cannot be written: ${(error as Error).message}`);
    }
  }

  #report(why: string): void {
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
  routes: z.record(z.string(), ROUTE),
  indices: z.record(z.string(), INDEX).optional(),
});
const GATHER_MS = 500;
