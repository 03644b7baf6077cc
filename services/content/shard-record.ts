// The record of the files of a fetched shard, `shard.json` beside them: what each file was when it was fetched.

import { readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { CONTENT, RECORD } from './shard-folder.ts';

/** The files of a fetched shard. */
export interface ShardRecord {
  /** Digest of the listing of the source. */
  readonly digest: string;
  readonly files: readonly FileRecord[];
}

export interface FileRecord {
  /** Relative to the shard; '' when the shard is this file. */
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

const SHARD_RECORD: z.ZodType<ShardRecord> = z.object({
  digest: z.string(),
  files: z.array(z.object({ path: z.string(), bytes: z.int().nonnegative(), sha256: z.string() })),
});

/** The record in the folder of a shard; undefined when there is none that can be read. */
export function readShardRecord(folder: string): ShardRecord | undefined {
  try {
    return SHARD_RECORD.parse(JSON.parse(readFileSync(path.join(folder, RECORD), 'utf8')));
  } catch {
    return undefined;
  }
}

/**
 * Looks for a file that is missing or has another size. It reads no content.
 * @returns what is wrong; '' when nothing is
 * @throws the error of the system when it cannot be told
 */
export async function findOddFile(folder: string, { files }: ShardRecord): Promise<string> {
  for (const file of files) {
    const name = nameOfFile(file);
    try {
      const found = await stat(path.join(folder, CONTENT, file.path));
      if (!found.isFile()) return `${name} is not a file any more`;
      if (found.size !== file.bytes)
        return `${name} has ${found.size} bytes, and had ${file.bytes} when it was fetched`;
    } catch (error) {
      return damageBehind(name, error);
    }
  }
  return '';
}

/** What an error says about a file. @throws the error when the file may be as it was, for example without memory */
export function damageBehind(name: string, error: unknown): string {
  const { code = '', message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ENOTDIR') return `${name} is missing`;
  if (code === 'EIO' || code === 'EISDIR') return `${name} cannot be read: ${message}`;
  throw error;
}

/** The name of a file in messages. */
export function nameOfFile(file: FileRecord): string {
  return file.path === '' ? 'its file' : file.path;
}
