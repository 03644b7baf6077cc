// Fetches the files of a shard into a folder, with a digest of each. A file under its final name is complete, and an
// unfinished one is named after what it will be. So a fetch that was interrupted goes on where it was.

import { createHash, type Hash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { chmod, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { replaceFile, sleep } from '../../../core/mod.ts';
import { CONTENT, FILE_MODE, FOLDER_MODE, RECORD } from '../shard-folder.ts';
import type { FileRecord, ShardRecord } from '../shard-record.ts';
import { ByteRate } from './byte-rate.ts';
import type { FetchJob } from './job.ts';
import { listShard } from './source-listing.ts';
import { SourceError, type ListedFile, type ShardSource } from './shard-source.ts';

/**
 * @param onBytes called with the sum of bytes that are in the folder
 * @throws SourceError that says what to change; an error of the system
 */
export async function copyShard(
  job: FetchJob,
  source: ShardSource,
  onBytes: (bytesDone: number) => void,
  rate: ByteRate = new ByteRate(job.bytesPerS),
): Promise<void> {
  const { files } = await listUnchanged(job, source);
  await prepareFolder(job, files);
  const content = path.join(job.into, CONTENT);
  const spool = path.join(job.into, 'spool.zip');
  const records: FileRecord[] = [];
  let bytesDone = 0;
  const added = (bytes: number): void => onBytes((bytesDone += bytes));
  try {
    for (const file of files) {
      const to = isZip(job, files) ? spool : path.join(content, file.path);
      const sha256 = await fetchFile({ job, source, file, to, rate, added });
      records.push({ path: file.path, bytes: file.bytes, sha256 });
    }
    if (source.listsDigests !== true) await listUnchanged(job, source);
    if (isZip(job, files)) {
      const { unzip } = await import('./unzip.ts');
      // The size of the shard is that of the archive. These reports only show that the fetch makes progress.
      records.splice(0, 1, ...(await unzip(spool, job.source, content, () => added(0))));
      await rm(spool);
    }
  } catch (error) {
    throw await withoutSpace(error, job.into);
  }
  const record: ShardRecord = { digest: job.digest, files: records };
  await replaceFile(path.join(job.into, RECORD), JSON.stringify(record));
}

/** Whether the shard is one archive, which is unpacked here. */
function isZip({ source }: FetchJob, files: readonly ListedFile[]): boolean {
  return files[0]?.path === '' && /\.zip$/i.test(source);
}

async function listUnchanged({ shard, source, digest }: FetchJob, reader: ShardSource): ReturnType<typeof listShard> {
  const listing = await listShard(shard, source, reader);
  if (listing.digest === digest) return listing;
  const version = shard.split('/')[0];
  throw new SourceError(
    `the source of ${version} has changed since it was added: make it a new version (found other files at ${source})`,
  );
}

/** Keeps the files of an earlier try for the same digest, without unfinished ones that are not needed. */
async function prepareFolder({ into, digest }: FetchJob, files: readonly ListedFile[]): Promise<void> {
  const note = path.join(into, 'digest');
  if (existsSync(note) && readFileSync(note, 'utf8') === digest) {
    const wanted = new Set(files.map(unfinishedName));
    for (const name of await readdir(into))
      if (name.startsWith(UNFINISHED) && !wanted.has(name)) await rm(path.join(into, name), { force: true });
    return;
  }
  await rm(into, { recursive: true, force: true });
  await mkdir(into, { recursive: true, mode: FOLDER_MODE });
  await replaceFile(note, digest);
}

interface FileFetch {
  readonly job: FetchJob;
  readonly source: ShardSource;
  readonly file: ListedFile;
  /** Path of the whole file. */
  readonly to: string;
  readonly rate: ByteRate;
  /** Called with bytes that have come into the folder, or 0 while the rate has the fetch wait. */
  readonly added: (bytes: number) => void;
}

/** Returns the SHA-256 of the file. */
async function fetchFile(fetch: FileFetch): Promise<string> {
  const { job, source, file, to, added } = fetch;
  const temporary = path.join(job.into, unfinishedName(file));
  await mkdir(path.dirname(to), { recursive: true, mode: FOLDER_MODE });
  const isHere = sizeOf(to) === file.bytes;
  const isCloned =
    !isHere &&
    job.bytesPerS === 0 &&
    sizeOf(temporary) === undefined &&
    (await source.clone?.(job.source, file, temporary)) === true;
  if (isCloned && sizeOf(temporary) !== file.bytes) {
    await rm(temporary, { force: true });
    throw new SourceError(`${nameOf(job, file)} had ${file.bytes} bytes when it was listed, and has another size now`);
  }
  const hash = createHash('sha256');
  if (isHere) await hashFile(to, hash, added);
  const told = isHere ? undefined : await receive(fetch, temporary, hash);
  const sha256 = hash.digest('hex');
  const expected = file.sha256 ?? told;
  if (expected !== undefined && expected !== sha256) {
    // The next try begins anew.
    await rm(isHere ? to : temporary, { force: true });
    throw new SourceError(
      `${nameOf(job, file)} has the SHA-256 ${sha256}, and its source says ${expected}; see whether the file is damaged`,
    );
  }
  if (!isHere) {
    await chmod(temporary, FILE_MODE);
    await rename(temporary, to);
  }
  return sha256;
}

/** Adds what is missing to the unfinished file, and hashes all of it. Returns the SHA-256 that the source told. */
async function receive(
  { job, source, file, rate, added }: FileFetch,
  temporary: string,
  hash: Hash,
): Promise<string | undefined> {
  let bytes = sizeOf(temporary) ?? 0;
  if (bytes > file.bytes) {
    await rm(temporary);
    bytes = 0;
  }
  if (bytes > 0) await hashFile(temporary, hash, added);
  const output = await open(temporary, 'a', 0o600);
  let told: string | undefined;
  let failures = 0;
  try {
    while (bytes < file.bytes) {
      const before = bytes;
      try {
        const opened = await source.open(job.source, file, bytes);
        told = opened.sha256 ?? told;
        for await (const chunk of opened.chunks) {
          if (bytes + chunk.length > file.bytes)
            throw new SourceError(`${nameOf(job, file)} has more than the ${file.bytes} bytes that were listed`);
          hash.update(chunk);
          await output.appendFile(chunk);
          bytes += chunk.length;
          added(chunk.length);
          await rate.spend(chunk.length, () => added(0));
        }
        if (bytes < file.bytes)
          throw new SourceError(
            `${nameOf(job, file)} ended after ${bytes} of the ${file.bytes} bytes that were listed`,
            {
              canPass: true,
            },
          );
      } catch (error) {
        failures = bytes > before ? 1 : failures + 1;
        if (!(error instanceof SourceError) || !error.canPass || failures >= TRIES_MAX) throw error;
        await sleep(RETRY_FIRST_MS * 2 ** (failures - 1));
      }
    }
    await output.sync();
    return told;
  } finally {
    await output.close();
  }
}

/** Adds the content of a file to a hash. */
async function hashFile(file: string, hash: Hash, onBytes: (bytes: number) => void): Promise<void> {
  for await (const chunk of createReadStream(file, { highWaterMark: CHUNK_BYTES }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    onBytes(chunk.length);
  }
}

/** Returns the error for a full disk, after it has deleted what this fetch wrote; other errors as they are. */
async function withoutSpace(error: unknown, into: string): Promise<unknown> {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error;
  await rm(into, { recursive: true, force: true }).catch(() => undefined);
  return new Error('the disk of this manager is full; free space on it, or make the quota of its user larger');
}

function sizeOf(file: string): number | undefined {
  return statSync(file, { throwIfNoEntry: false })?.size;
}

/** URL of a file for messages. */
function nameOf({ source }: FetchJob, file: Pick<ListedFile, 'path'>): string {
  return file.path === '' ? source : `${source}/${file.path}`;
}

/**
 * Name of a file of which a part is here, beside the content, whose files may have any name. After a restart of the
 * machine the part may have holes, so the name changes with it.
 */
function unfinishedName(file: ListedFile): string {
  const parts = JSON.stringify([bootId(), file.path, file.bytes, file.stamp]);
  return `${UNFINISHED}${createHash('sha256').update(parts).digest('hex').slice(0, 24)}`;
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8');
  } catch {
    return '';
  }
}

const UNFINISHED = 'unfinished-';
const CHUNK_BYTES = 256 * 1024;
/** Requests for a file that fail one after the other, without a byte between them. */
const TRIES_MAX = 4;
const RETRY_FIRST_MS = 500;
