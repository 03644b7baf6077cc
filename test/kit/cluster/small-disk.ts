// A small file system of its own for one process, which can be filled up and emptied again. Needs root.

import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export class SmallDisk {
  readonly directory: string;
  readonly #ballast: string;

  /** Mounts it at `directory`. */
  constructor(directory: string) {
    this.directory = directory;
    this.#ballast = path.join(directory, 'ballast');
    mkdirSync(directory, { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m,mode=0700', 'katamari-test', directory]);
    mounted.add(this);
  }

  /** Leaves no free block. */
  fill(): void {
    const block = Buffer.alloc(4_096);
    try {
      for (;;) {
        const { bavail, bsize } = statfsSync(this.directory);
        const size = bavail * bsize;
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

/** Unmounted at the latest with this process. */
const mounted = new Set<SmallDisk>();
process.once('exit', () => {
  for (const disk of mounted) disk.end();
});
