// The last order on disk, so that a manager that starts while Consul is away runs what it ran. Written whole or not at all, and safe on the
// disk before the next one. A file that cannot be read, or that is another manager's, is set aside and reported, never obeyed.

import { readFile, rename } from 'node:fs/promises';
import { ASSIGNMENT, readRecord, replaceFile, type AssignmentRecord } from '../mesh/mod.ts';
import path from 'node:path';
import { z } from 'zod';

export interface SavedOrder {
  readonly mesh: string;
  /** Name of the manager it was for. */
  readonly manager: string;
  /** CreateIndex of the leader's key: terms of another one cannot be compared. 0: not known. */
  readonly history: number;
  readonly order: AssignmentRecord;
}

export interface OrderFileOptions {
  readonly dataDir: string;
  readonly mesh: string;
  readonly manager: string;
  /** Something is wrong with it, for people. */
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

  /** undefined: there is none that counts. */
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
    if (found instanceof Error) return await this.#setAside(found.message);
    if (found.mesh !== mesh || found.manager !== manager)
      return await this.#setAside(`it is for manager ${found.manager} of mesh ${found.mesh}`);
    return found;
  }

  /** Writes it soon; of several at once the last one. */
  write(order: SavedOrder): void {
    const isWaiting = this.#due !== undefined;
    this.#due = order;
    if (!isWaiting) this.#writing = this.#writing.then(() => this.#writeDue());
  }

  /** Resolves when all is written. */
  async close(): Promise<void> {
    await this.#writing;
  }

  async #writeDue(): Promise<void> {
    const text = JSON.stringify(this.#due);
    this.#due = undefined;
    try {
      await replaceFile(this.path, text);
    } catch (error) {
      const why = `cannot be written: ${(error as Error).message}; started without Consul, this manager would run an older order`;
      this.#options.onTrouble(why);
    }
  }

  async #setAside(why: string): Promise<undefined> {
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
