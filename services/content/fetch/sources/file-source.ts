// Shards in a folder of this machine, or of a file system that it has mounted.

import { constants } from 'node:fs';
import { copyFile, lstat, open, readdir, rm, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { canCloneFiles, FINISHED_MARK, isNoShard, SHARDS_MAX } from '../../../../core/mod.ts';
import { SHARD_DEPTH_MAX, SHARD_FILES_MAX } from '../../limits.ts';
import { SourceError, type FoundShard, type ListedFile, type OpenedFile, type ShardSource } from '../shard-source.ts';

export class FileSource implements ShardSource {
  async listShards(source: string): Promise<readonly FoundShard[]> {
    const folder = fileURLToPath(source);
    const names = (await readFolder(folder)).filter((name) => !isNoShard(name));
    if (names.length > SHARDS_MAX)
      throw new SourceError(`${folder} has ${names.length} shards, the limit is ${SHARDS_MAX}`);
    const shards: FoundShard[] = [];
    for (const name of names) shards.push({ name, files: await filesAt(path.join(folder, name)) });
    return shards;
  }

  async finishedAtMs(source: string): Promise<number | undefined> {
    const facts = await lstat(path.join(fileURLToPath(source), FINISHED_MARK)).catch(() => undefined);
    return facts?.mtimeMs;
  }

  async listFiles(shard: string): Promise<readonly ListedFile[]> {
    return await filesAt(fileURLToPath(shard));
  }

  async open(shard: string, file: ListedFile, from: number): Promise<OpenedFile> {
    return { chunks: readFrom(await openFile(fileOf(shard, file)), from) };
  }

  /** Shares the blocks of the file, on file systems that can (Btrfs, XFS, APFS). */
  async clone(shard: string, file: ListedFile, to: string): Promise<boolean> {
    // Only Linux opens a file by its descriptor, which cannot be a link.
    if (process.platform !== 'linux' || !canCloneFiles()) return false;
    const from = await openFile(fileOf(shard, file));
    try {
      await copyFile(`/proc/self/fd/${from.fd}`, to, constants.COPYFILE_FICLONE_FORCE);
      return true;
    } catch {
      await rm(to, { force: true });
      return false;
    } finally {
      await from.close();
    }
  }
}

async function filesAt(shard: string): Promise<readonly ListedFile[]> {
  const files: ListedFile[] = [];
  await listFiles(shard, '', 0, files);
  return files;
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

function fileOf(shard: string, { path: relative }: ListedFile): string {
  return path.join(fileURLToPath(shard), relative);
}

async function openFile(file: string): Promise<FileHandle> {
  return await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch((error: unknown) =>
    unreadable(file, error),
  );
}

async function* readFrom(input: FileHandle, from: number): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  let position = from;
  try {
    for (;;) {
      const { bytesRead } = await input.read(buffer, 0, CHUNK_BYTES, position);
      if (bytesRead === 0) return;
      position += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await input.close();
  }
}

async function readFolder(folder: string): Promise<readonly string[]> {
  return await readdir(folder).catch((error: unknown) => unreadable(folder, error));
}

function unreadable(at: string, error: unknown): never {
  const { code } = error as NodeJS.ErrnoException;
  // A name that is not UTF-8 is read with this mark in it, and is not found by it.
  if (code === 'ENOENT' && at.includes('\uFFFD'))
    throw new SourceError(`${at} has a name that is not UTF-8; rename it`);
  const why: Readonly<Record<string, string>> = {
    ENOENT: 'does not exist',
    ENOTDIR: 'is a file, expected a folder of shards',
    EACCES: 'cannot be read by the user of this manager',
  };
  throw new SourceError(`${at} ${why[code ?? ''] ?? `cannot be read: ${code ?? String(error)}`}`);
}

const CHUNK_BYTES = 256 * 1024;
