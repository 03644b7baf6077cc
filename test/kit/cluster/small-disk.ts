// A small file system of its own for one process, which can be filled up and emptied again. Needs root.

import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export class SmallDisk {
  readonly directory: string;
  readonly #ballast: string;

  /** Mounts it at `directory`. It uses memory for what is written. */
  constructor(directory: string, sizeMiB: number = SIZE_MIB) {
    this.directory = directory;
    this.#ballast = path.join(directory, 'ballast');
    mkdirSync(directory, { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMiB}m,mode=0700`, 'katamari-test', directory]);
    mounted.add(this);
  }

  /** Leaves no free block. */
  fill(): void {
    const block = Buffer.alloc(4_096);
    try {
      for (;;) {
        const { bavail, bsize } = statfsSync(this.directory);
        const size = Math.min(bavail * bsize, PIECE_BYTES);
        writeFileSync(this.#ballast, size > block.length ? Buffer.alloc(size) : block, { flag: 'a' });
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    }
  }

  empty(): void {
    rmSync(this.#ballast, { force: true });
  }

  /** Unmounts it; its files are lost. */
  end(): void {
    if (!mounted.delete(this)) return;
    execFileSync('umount', ['--lazy', this.directory]);
  }
}

const SIZE_MIB = 64;
const PIECE_BYTES = 64 * 1024 * 1024;
/** Unmounted at the latest with this process. */
const mounted = new Set<SmallDisk>();
process.once('exit', () => {
  for (const disk of mounted) disk.end();
});
