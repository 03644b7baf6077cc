// A file system whose writes hang until it is thawed, as on a disk or a file server that does not answer. Needs root.

import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { toolPath } from '../tools/tools.ts';

export class FrozenDisk {
  readonly directory: string;
  readonly #image: string;
  #isFrozen = false;

  /** Mounts a file at `directory`. */
  constructor(directory: string) {
    this.directory = directory;
    this.#image = `${directory}.image`;
    mkdirSync(directory, { recursive: true });
    writeFileSync(this.#image, '');
    truncateSync(this.#image, IMAGE_BYTES);
    run('mkfs.ext4', '-q', this.#image);
    run('mount', '-o', 'loop', this.#image, directory);
    mounted.add(this);
  }

  /** From now on a write does not return, and its process cannot be killed. */
  freeze(): void {
    run('fsfreeze', '--freeze', this.directory);
    this.#isFrozen = true;
  }

  thaw(): void {
    if (!this.#isFrozen) return;
    run('fsfreeze', '--unfreeze', this.directory);
    this.#isFrozen = false;
  }

  /** Unmounts it; its files are lost. */
  end(): void {
    if (!mounted.delete(this)) return;
    this.thaw();
    run('umount', '--lazy', this.directory);
    rmSync(this.#image, { force: true });
  }
}

function run(tool: string, ...args: readonly string[]): void {
  execFileSync(toolPath(tool), args, { stdio: 'pipe' });
}

/** Thawed and unmounted at the latest with this process. */
const mounted = new Set<FrozenDisk>();
process.once('exit', () => {
  for (const disk of mounted) disk.end();
});
const IMAGE_BYTES = 32 * 1024 * 1024;
