// Checks the audit log in a folder: all its files, or the newest ones up to a number of bytes. The process may write
// the log meanwhile, so the note of the last line is read before the files are listed, and a log that looks broken is
// read once more: a line that is half written, or a file that was removed because there were too many, is no break.

import { stat } from 'node:fs/promises';
import { verifyChain, type Verdict } from './chain.ts';
import { auditFiles, readHead } from './files.ts';

export interface LogCheck {
  /** Undefined if the folder has no files of an audit log. */
  readonly verdict: Verdict | undefined;
  /** Whether the note of the last line exists, without which lines that were removed at the end are not noticed. */
  readonly hasHead: boolean;
  /** Older files that were not read because of `bytesMax`. */
  readonly filesSkipped: number;
}

/**
 * Rejects with the error of the system.
 * @param options.head hash of a line that the log must contain
 * @param options.bytesMax bytes that are read at most
 */
export async function verifyLog(
  folder: string,
  options: { readonly head?: string | undefined; readonly bytesMax?: number } = {},
): Promise<LogCheck> {
  try {
    const first = await verifyOnce(folder, options);
    if (first.verdict?.isIntact !== false) return first;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  return verifyOnce(folder, options);
}

async function verifyOnce(
  folder: string,
  { head, bytesMax = Number.POSITIVE_INFINITY }: NonNullable<Parameters<typeof verifyLog>[1]>,
): Promise<LogCheck> {
  const note = await readHead(folder);
  const all = await auditFiles(folder);
  const files = bytesMax === Number.POSITIVE_INFINITY ? all : await newestOf(all, bytesMax);
  const hasHead = note !== undefined;
  const filesSkipped = all.length - files.length;
  if (files.length === 0) return { verdict: undefined, hasHead, filesSkipped };
  const known = [head, note?.hash].filter((hash) => hash !== undefined);
  const verdict = await verifyChain(files, { isWhole: filesSkipped === 0, known, bytesMax });
  return { verdict, hasHead, filesSkipped };
}

/** The newest files that together have at most `bytesMax` bytes, but at least one. */
async function newestOf(files: readonly string[], bytesMax: number): Promise<readonly string[]> {
  let bytes = 0;
  for (const [index, file] of [...files.entries()].reverse()) {
    bytes += (await stat(file)).size;
    if (bytes > bytesMax) return files.slice(Math.min(index + 1, files.length - 1));
  }
  return files;
}
