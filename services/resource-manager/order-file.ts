// The last assignment on disk, so that a manager that starts without Consul runs what it ran before. Each write is
// atomic and synced before the next. A file that cannot be read, or that belongs to another manager, is moved aside
// and reported, and never applied.

import { readFile, rename } from 'node:fs/promises';
import { ASSIGNMENT, readRecord, type AssignmentRecord } from '../mesh/mod.ts';
import path from 'node:path';
import { z } from 'zod';
import { replaceFile } from '../../core/mod.ts';

export interface SavedOrder {
  readonly mesh: string;
  /** Name of the manager that the assignment is for. */
  readonly manager: string;
  /** CreateIndex of the leader's key; terms with another CreateIndex do not compare. 0: unknown. */
  readonly history: number;
  readonly order: AssignmentRecord;
}

export interface OrderFileOptions {
  readonly dataDir: string;
  readonly mesh: string;
  readonly manager: string;
  /** Called with a text about the file when it cannot be used. */
  readonly onTrouble: (text: string) => void;
}

export class OrderFile {
  readonly #options: OrderFileOptions;
  readonly path: string;
  #writing: Promise<void> = Promise.resolve();
  #due: SavedOrder | undefined;

  constructor(options: OrderFileOptions) {
    this.#options = options;
    this.path = path.join(options.dataDir, 'orders.json');
  }

  /** Returns the saved assignment; undefined when there is none that can be used. */
  async read(): Promise<SavedOrder | undefined> {
    let text: string;
    try {
      text = await readFile(this.path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        this.#options.onTrouble(`cannot be read: ${(error as Error).message}; waiting for Consul`);
      return undefined;
    }
    const found = readRecord(SAVED, text);
    const { mesh, manager } = this.#options;
    if (found instanceof Error) return await this.#moveAside(found.message);
    if (found.mesh !== mesh || found.manager !== manager)
      return await this.#moveAside(`it is for manager ${found.manager} of mesh ${found.mesh}`);
    return found;
  }

  /** Writes soon. Only the last of several pending writes is made. */
  write(order: SavedOrder): void {
    const isWaiting = this.#due !== undefined;
    this.#due = order;
    if (!isWaiting) this.#writing = this.#writing.then(() => this.#writeDue());
  }

  /** Resolves when pending writes are done. */
  async close(): Promise<void> {
    await this.#writing;
  }

  async #writeDue(): Promise<void> {
    const text = JSON.stringify(this.#due);
    this.#due = undefined;
    try {
      await replaceFile(this.path, text);
    } catch (error) {
      const why = `cannot be written: ${(error as Error).message}; after a start without Consul this manager would run an older assignment`;
      this.#options.onTrouble(why);
    }
  }

  async #moveAside(why: string): Promise<undefined> {
    const aside = `${this.path}.broken`;
    const where = await rename(this.path, aside).then(
      () => `kept as ${aside}`,
      (error: Error) => `cannot be moved: ${error.message}`,
    );
    this.#options.onTrouble(`is not used (${where}), waiting for Consul: ${why}`);
    return undefined;
  }
}

const SAVED: z.ZodType<SavedOrder> = z.object({
  mesh: z.string(),
  manager: z.string(),
  history: z.int().min(0),
  order: ASSIGNMENT,
});
