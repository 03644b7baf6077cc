// Programs of tests that take long to build. Cached in node_modules/.cache under a hash of all inputs, so only the
// first run after a change builds them.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { REPOSITORY } from './repository.ts';

/**
 * Returns a folder that `build` has filled.
 *
 * @param name of the cache
 * @param inputs files and folders, relative to the repository
 */
export async function builtOnce(
  name: string,
  inputs: readonly string[],
  build: (folder: string) => Promise<void>,
): Promise<string> {
  const hash = createHash('sha256');
  for (const file of inputs.flatMap((input) => filesBelow(path.join(REPOSITORY, input))))
    if (!file.endsWith('.md')) hash.update(file.slice(REPOSITORY.length)).update(readFileSync(file));
  const cache = path.join(REPOSITORY, 'node_modules', '.cache', `katamari-${name}`);
  const folder = path.join(cache, hash.digest('hex').slice(0, 16));
  if (existsSync(folder)) return folder;
  mkdirSync(cache, { recursive: true });
  const unfinished = mkdtempSync(path.join(cache, 'unfinished-'));
  try {
    await build(unfinished);
    renameSync(unfinished, folder);
  } catch (error) {
    // A concurrent run was faster.
    if (!existsSync(folder)) throw error;
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return folder;
}

/** Skips build folders that somebody made there by hand. */
function filesBelow(at: string): string[] {
  if (!statSync(at).isDirectory()) return [at];
  return readdirSync(at)
    .filter((name) => name !== 'build')
    .flatMap((name) => filesBelow(path.join(at, name)))
    .sort();
}
