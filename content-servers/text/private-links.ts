// Symbolic links in a folder of this process, below the folder for temporary files. The folder exists as long as there
// are links in it. A process that is killed leaves it behind; the next process that makes a link removes it.

import { mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export class PrivateLinks {
  readonly #prefix: string;
  readonly #links = new Set<string>();
  readonly #onExit = (): void => this.#removeFolder();
  #folder: string | undefined;
  #lastLink = 0;

  /** @param prefix beginning of the name of the folder; the process id follows */
  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  /** Makes a link to a file. */
  linkTo(file: string): string {
    if (this.#folder === undefined) {
      this.#removeFoldersOfTheDead();
      this.#folder = mkdtempSync(path.join(os.tmpdir(), `${this.#prefix}${process.pid}-`));
      process.once('exit', this.#onExit);
    }
    const link = path.join(this.#folder, `${++this.#lastLink}`);
    symlinkSync(file, link);
    this.#links.add(link);
    return link;
  }

  /** Removes a link and the files that have been made beside it, whose names begin with its name and one of `rests`. */
  remove(link: string, rests: readonly string[]): void {
    if (!this.#links.delete(link)) return;
    for (const rest of ['', ...rests]) rmSync(`${link}${rest}`, { recursive: true, force: true });
    if (this.#links.size > 0) return;
    process.off('exit', this.#onExit);
    this.#removeFolder();
  }

  #removeFolder(): void {
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = undefined;
  }

  #removeFoldersOfTheDead(): void {
    for (const name of readdirSync(os.tmpdir())) {
      const pid = name.startsWith(this.#prefix) ? Number.parseInt(name.slice(this.#prefix.length), 10) : Number.NaN;
      if (Number.isNaN(pid) || isAlive(pid)) continue;
      try {
        rmSync(path.join(os.tmpdir(), name), { recursive: true, force: true });
      } catch {
        // It is of another user, or another process removes it at the same time.
      }
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
