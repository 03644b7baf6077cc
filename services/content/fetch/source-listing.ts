// Lists the shards of a source. A source is a folder; each file or folder in it is a shard. A digest of names, sizes
// and times tells later whether a shard is still the one that was listed.

import { createHash } from 'node:crypto';
import { lstat, readdir } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { SHARDS_MAX } from '../../mesh/mod.ts';
import { SHARD_DEPTH_MAX, SHARD_FILES_MAX } from '../limits.ts';
import { whyNoShardName } from '../shard.ts';

/** A file of a shard. */
export interface ListedFile {
  /** Relative to the shard, with `/`; '' when the shard is this file. */
  readonly path: string;
  readonly bytes: number;
  /** Changes when the file does. */
  readonly stamp: string;
}

export interface ListedShard {
  readonly name: string;
  /** URL of the shard. */
  readonly source: string;
  readonly bytes: number;
  readonly digest: string;
  readonly files: readonly ListedFile[];
}

/** Something about a source that its owner has to change. */
export class SourceError extends Error {
  override readonly name = 'SourceError';
}

/** Lists all shards of a source, in order of their names. @throws SourceError that says what to change */
export async function listSource(source: string): Promise<readonly ListedShard[]> {
  const folder = folderOf(source);
  const entries = await readFolder(folder);
  const names = entries.filter((name) => !name.startsWith('.')).sort();
  if (names.length === 0)
    throw new SourceError(`${folder} is empty, expected a folder in which each folder or file is a shard`);
  if (names.length > SHARDS_MAX)
    throw new SourceError(`${folder} has ${names.length} shards, the limit is ${SHARDS_MAX}`);
  const shards: ListedShard[] = [];
  for (const name of names) {
    const why = whyNoShardName(name);
    if (why !== undefined) throw new SourceError(`${JSON.stringify(name)} in ${folder} cannot be a shard: ${why}`);
    shards.push(await listShard(name, pathToFileURL(path.join(folder, name)).href));
  }
  return shards;
}

/** Lists one shard. @throws SourceError that says what to change */
export async function listShard(name: string, source: string): Promise<ListedShard> {
  const files: ListedFile[] = [];
  await listFiles(folderOf(source), '', 0, files);
  if (files.length === 0) throw new SourceError(`${source} has no files`);
  files.sort((a, b) => (a.path < b.path ? -1 : 1));
  const digest = createHash('sha256');
  for (const file of files) digest.update(JSON.stringify([file.path, file.bytes, file.stamp]));
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  return { name, source, bytes, digest: digest.digest('hex').slice(0, DIGEST_LENGTH), files };
}

/** The path of a `file:` URL. @throws SourceError for other schemes */
export function folderOf(source: string): string {
  const { protocol } = URL.canParse(source) ? new URL(source) : { protocol: '' };
  if (protocol !== 'file:')
    throw new SourceError(`found the source "${source}", expected a URL such as file:///srv/indices/wiki`);
  return fileURLToPath(source);
}

async function listFiles(at: string, relative: string, depth: number, found: ListedFile[]): Promise<void> {
  const facts = await lstat(at).catch((error: unknown) => unreadable(at, error));
  if (facts.isFile()) {
    if (found.length === SHARD_FILES_MAX)
      throw new SourceError(`${at} is one of more than ${SHARD_FILES_MAX} files of one shard`);
    found.push({ path: relative, bytes: facts.size, stamp: String(Math.floor(facts.mtimeMs)) });
    return;
  }
  // A link could name any file of the machine, and a pipe would hang the fetch.
  if (!facts.isDirectory())
    throw new SourceError(`${at} is neither a file nor a folder; replace links by what they name`);
  if (depth === SHARD_DEPTH_MAX) throw new SourceError(`${at} is more than ${SHARD_DEPTH_MAX} folders deep`);
  for (const name of await readFolder(at))
    await listFiles(path.join(at, name), relative === '' ? name : `${relative}/${name}`, depth + 1, found);
}

async function readFolder(folder: string): Promise<readonly string[]> {
  return await readdir(folder).catch((error: unknown) => unreadable(folder, error));
}

function unreadable(at: string, error: unknown): never {
  const { code } = error as NodeJS.ErrnoException;
  const why: Readonly<Record<string, string>> = {
    ENOENT: 'does not exist',
    ENOTDIR: 'is a file, expected a folder of shards',
    EACCES: 'cannot be read by the user of this manager',
  };
  throw new SourceError(`${at} ${why[code ?? ''] ?? `cannot be read: ${code ?? String(error)}`}`);
}

/** Characters of a digest: 96 bits. */
const DIGEST_LENGTH = 24;
