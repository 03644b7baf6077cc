// Unpacks a shard that is one zip archive. What the archive says of itself is checked before a byte is written, and
// what comes out is compared with it, so a hostile archive costs at most the limits.

import { createHash } from 'node:crypto';
import { mkdir, open, rename, rm, stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { crc32 } from 'node:zlib';
import { type Entry, openPromise, type ZipFile } from 'yauzl';
import { DISK_RESERVE_BYTES, UNZIPPED_BYTES_MAX, UNZIPPED_RATIO_MAX, SHARD_FILES_MAX } from '../limits.ts';
import type { FileRecord } from '../shard-record.ts';
import { FILE_MODE, FOLDER_MODE } from '../shard-folder.ts';
import { whyNoFiles } from './source-listing.ts';
import { SourceError } from './shard-source.ts';

/**
 * @param to folder that appears whole
 * @param onBytes called with bytes that were unpacked
 * @throws SourceError that says what is wrong with the archive; an error of the system
 */
export async function unzip(
  archive: string,
  shown: string,
  to: string,
  onBytes: (bytes: number) => void,
): Promise<readonly FileRecord[]> {
  const temporary = `${to}.unpacking`;
  await rm(temporary, { recursive: true, force: true });
  const zip = await openPromise(archive, { lazyEntries: true, strictFileNames: true, autoClose: false }).catch(
    (error: Error) => refuse(shown, error.message),
  );
  try {
    const entries = await entriesOf(zip, shown);
    check(entries, shown, (await stat(archive)).size);
    await mkdir(temporary, { recursive: true, mode: FOLDER_MODE });
    await askForSpace(entries, temporary, shown);
    const records: FileRecord[] = [];
    for (const entry of entries)
      records.push(await unpack(zip, entry, path.join(temporary, entry.fileName), shown, onBytes));
    await rm(to, { recursive: true, force: true });
    await rename(temporary, to);
    return records;
  } finally {
    zip.close();
    await rm(temporary, { recursive: true, force: true });
  }
}

/** The files of the archive. Names with `..`, absolute ones and those with backslashes are refused here. */
async function entriesOf(zip: ZipFile, shown: string): Promise<readonly Entry[]> {
  const entries: Entry[] = [];
  let count = 0;
  try {
    for await (const entry of zip.eachEntry()) {
      if (++count > ENTRIES_MAX) refuse(shown, `it has more than ${ENTRIES_MAX} entries`);
      if (!entry.fileName.endsWith('/')) entries.push(entry);
    }
  } catch (error) {
    if (error instanceof SourceError) throw error;
    refuse(shown, (error as Error).message);
  }
  return entries.sort((a, b) => (a.fileName < b.fileName ? -1 : 1));
}

function check(entries: readonly Entry[], shown: string, archiveBytes: number): void {
  const why = whyNoFiles(entries.map(({ fileName }) => ({ path: fileName === '' ? '/' : fileName })));
  if (why !== undefined) refuse(shown, `it ${why}`);
  for (const entry of entries) {
    const name = JSON.stringify(entry.fileName.slice(0, 100));
    const type = (entry.externalFileAttributes >>> 16) & FILE_TYPE;
    if (type !== 0 && type !== REGULAR_FILE) refuse(shown, `${name} in it is no plain file but a link or a device`);
    if (entry.isEncrypted()) refuse(shown, `${name} in it is encrypted`);
    if (entry.compressionMethod !== STORED && entry.compressionMethod !== DEFLATED)
      refuse(shown, `${name} in it is packed with method ${entry.compressionMethod}, expected deflate or none`);
  }
  const packed = entries.reduce((sum, { compressedSize }) => sum + compressedSize, 0);
  const unpacked = bytesOf(entries);
  if (packed > archiveBytes) refuse(shown, `its files overlap: ${packed} bytes in an archive of ${archiveBytes}`);
  if (unpacked > UNZIPPED_BYTES_MAX)
    refuse(shown, `it would unpack to ${unpacked} bytes, the limit is ${UNZIPPED_BYTES_MAX}`);
  if (unpacked > RATIO_FREE_BYTES && unpacked > archiveBytes * UNZIPPED_RATIO_MAX)
    refuse(
      shown,
      `it would unpack to ${unpacked} bytes, more than ${UNZIPPED_RATIO_MAX} times its own ${archiveBytes} bytes`,
    );
}

async function askForSpace(entries: readonly Entry[], folder: string, shown: string): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const needed = bytesOf(entries) + DISK_RESERVE_BYTES;
  if (bavail * bsize < needed)
    throw new Error(
      `the disk has ${bavail * bsize} bytes free, and ${shown} needs ${needed} to be unpacked; free space on this machine`,
    );
}

async function unpack(
  zip: ZipFile,
  entry: Entry,
  to: string,
  shown: string,
  onBytes: (bytes: number) => void,
): Promise<FileRecord> {
  await mkdir(path.dirname(to), { recursive: true, mode: FOLDER_MODE });
  const output = await open(to, 'wx', FILE_MODE);
  const hash = createHash('sha256');
  let bytes = 0;
  let crc = 0;
  try {
    const input = await zip.openReadStreamPromise(entry);
    for await (const chunk of input as AsyncIterable<Buffer>) {
      hash.update(chunk);
      crc = crc32(chunk, crc);
      bytes += chunk.length;
      await output.appendFile(chunk);
      onBytes(chunk.length);
    }
    await output.sync();
  } catch (error) {
    // Errors of the disk have a number.
    if ((error as NodeJS.ErrnoException).errno !== undefined && (error as NodeJS.ErrnoException).syscall !== undefined)
      throw error;
    refuse(shown, `${JSON.stringify(entry.fileName)} in it is damaged: ${(error as Error).message}`);
  } finally {
    await output.close();
  }
  if (bytes !== entry.uncompressedSize || crc !== entry.crc32)
    refuse(shown, `${JSON.stringify(entry.fileName)} in it is damaged: its checksum is another one`);
  return { path: entry.fileName, bytes, sha256: hash.digest('hex') };
}

function bytesOf(entries: readonly Entry[]): number {
  return entries.reduce((sum, { uncompressedSize }) => sum + uncompressedSize, 0);
}

function refuse(shown: string, why: string): never {
  throw new SourceError(`${shown} cannot be unpacked: ${why}`);
}

const STORED = 0;
const DEFLATED = 8;
/** The type in the mode of a file, from <sys/stat.h>. */
const FILE_TYPE = 0o170000;
const REGULAR_FILE = 0o100000;
/** Files and folders. */
const ENTRIES_MAX = 2 * SHARD_FILES_MAX;
/** Below this size, the ratio is not checked. */
const RATIO_FREE_BYTES = 16 * 1024 * 1024;
