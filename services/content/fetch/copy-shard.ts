// Copies the files of a shard into a folder, with a digest of each. A file under its final name is complete, so an
// interrupted fetch resumes with the next file.

import { createHash } from 'node:crypto';
import { constants, createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { mkdir, open, rename, rm, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { sleep } from '../../../core/mod.ts';
import { replaceFile } from '../../mesh/mod.ts';
import { CONTENT, RECORD, type FileRecord, type ShardRecord } from '../shard-store.ts';
import type { FetchJob } from './job.ts';
import { folderOf, listShard, SourceError, type ListedFile } from './source-listing.ts';

/**
 * @param onBytes called with the sum of bytes that are in the folder
 * @throws SourceError that says what to change; an error of the system
 */
export async function copyShard(job: FetchJob, onBytes: (bytesDone: number) => void): Promise<void> {
  const { files } = await listUnchanged(job);
  await prepareFolder(job);
  const rate = new ByteRate(job.bytesPerS);
  const records: FileRecord[] = [];
  let bytesDone = 0;
  for (const file of files) {
    const added = (bytes: number): void => onBytes((bytesDone += bytes));
    records.push(await copyFile(job, file, rate, added));
  }
  await listUnchanged(job);
  const record: ShardRecord = { digest: job.digest, files: records };
  await replaceFile(path.join(job.into, RECORD), JSON.stringify(record));
}

/**
 * Whether the files in the folder of a shard have the digests of their record.
 * @param onBytes called with the sum of bytes that were read
 */
export async function isIntact(folder: string, onBytes: (bytesDone: number) => void): Promise<boolean> {
  let bytesDone = 0;
  const { files } = JSON.parse(readFileSync(path.join(folder, RECORD), 'utf8')) as ShardRecord;
  for (const file of files) {
    const hash = createHash('sha256');
    try {
      for await (const chunk of createReadStream(path.join(folder, CONTENT, file.path)) as AsyncIterable<Buffer>) {
        hash.update(chunk);
        onBytes((bytesDone += chunk.length));
      }
    } catch {
      return false;
    }
    if (hash.digest('hex') !== file.sha256) return false;
  }
  return true;
}

async function listUnchanged({ shard, source, digest }: FetchJob): ReturnType<typeof listShard> {
  const listing = await listShard(shard, source);
  if (listing.digest === digest) return listing;
  const version = shard.split('/')[0];
  throw new SourceError(`${source} has changed since ${version} was added; add the new content as a new version`);
}

/** Keeps what an earlier try for the same digest has left. */
async function prepareFolder({ into, digest }: FetchJob): Promise<void> {
  const note = path.join(into, 'digest');
  if (existsSync(note) && readFileSync(note, 'utf8') === digest) return;
  await rm(into, { recursive: true, force: true });
  await mkdir(into, { recursive: true, mode: 0o700 });
  await replaceFile(note, digest);
}

async function copyFile(
  { source, into }: FetchJob,
  file: ListedFile,
  rate: ByteRate,
  onBytes: (bytes: number) => void,
): Promise<FileRecord> {
  const from = path.join(folderOf(source), file.path);
  const to = path.join(into, CONTENT, file.path);
  const isHere = existsSync(to) && statSync(to).size === file.bytes;
  const hash = createHash('sha256');
  await mkdir(path.dirname(to), { recursive: true, mode: 0o700 });
  const input = await open(isHere ? to : from, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  // Beside the content, whose files may have any name.
  const temporary = path.join(into, 'unfinished');
  let output: FileHandle | undefined;
  let bytes = 0;
  try {
    if (!isHere) output = await open(temporary, 'w', 0o600);
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    for (;;) {
      const { bytesRead } = await input.read(buffer, 0, CHUNK_BYTES, bytes);
      // A file that grows is read no further.
      if (bytesRead === 0 || bytes > file.bytes) break;
      const chunk = buffer.subarray(0, bytesRead);
      hash.update(chunk);
      await output?.writeFile(chunk);
      bytes += bytesRead;
      onBytes(bytesRead);
      if (output !== undefined) await rate.spend(bytesRead, () => onBytes(0));
    }
    await output?.sync();
  } finally {
    await input.close();
    await output?.close();
  }
  if (bytes !== file.bytes)
    throw new SourceError(`${from} had ${file.bytes} bytes when it was listed and has ${bytes} now`);
  if (!isHere) await rename(temporary, to);
  return { path: file.path, bytes, sha256: hash.digest('hex') };
}

/** Keeps to a number of bytes per second; 0 for any. */
class ByteRate {
  readonly #bytesPerS: number;
  readonly #startedAtMs = performance.now();
  #bytes = 0;

  constructor(bytesPerS: number) {
    this.#bytesPerS = bytesPerS;
  }

  /** @param onWait called each second of a wait: the process is not stuck */
  async spend(bytes: number, onWait: () => void): Promise<void> {
    if (this.#bytesPerS === 0) return;
    this.#bytes += bytes;
    for (;;) {
      const earlyMs = (this.#bytes / this.#bytesPerS) * 1_000 - (performance.now() - this.#startedAtMs);
      if (earlyMs <= 0) return;
      await sleep(Math.min(earlyMs, 1_000));
      onWait();
    }
  }
}

const CHUNK_BYTES = 256 * 1024;
