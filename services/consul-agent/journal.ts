// Persists records across restarts: a snapshot and a journal of later records, in one directory.
//
// Each line is a checksum and a JSON record. A write reaches the operating system before the caller gets its
// response, so a killed process loses nothing. Data is flushed to disk within SYNC_MS, so a power failure loses at
// most that much. When the journal exceeds 1 MiB and twice the size of the snapshot, a new snapshot is written
// (temporary file, fsync, rename, fsync of the directory) with a new, empty journal. The old files are deleted after
// that, so for a moment the directory also holds the new snapshot. If a journal has a torn or corrupt line, the
// records before it are used; the rest is moved to a file ending in .damaged.

import {
  closeSync,
  existsSync,
  fdatasync,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

export interface JournalOptions {
  readonly directory: string;
  /** Called for each record in order: first the snapshot, then the journal. */
  readonly onRecord: (record: unknown) => void;
  /** Returns all current records, for a snapshot. */
  readonly records: () => Iterable<unknown>;
  /** Called with problems for the operator: corrupt data, a full disk. */
  readonly onNote: (text: string) => void;
}

/** The journal can grow to this size, or to twice the snapshot if that is larger. */
const JOURNAL_BYTES_MIN = 1024 * 1024;
const SYNC_MS = 100;
/** Delay before the next attempt after a failed snapshot, for example on a full disk. */
const RETRY_MS = 5_000;
const HEADER = { format: 'katamari consul-agent', version: 1 };

export class Journal {
  readonly #options: JournalOptions;
  #generation = 0;
  #file = -1;
  #bytes = 0;
  #snapshotBytes = 0;
  #isBroken = false;
  #retryAtMs = 0;
  #syncTimer: ReturnType<typeof setTimeout> | undefined;

  /** Opens the directory, creates it if needed, and reads its data. Throws if a newer version wrote it. */
  constructor(options: JournalOptions) {
    this.#options = options;
    mkdirSync(options.directory, { recursive: true, mode: 0o700 });
    const generations = this.#generationsOnDisk();
    this.#generation = generations[0] ?? 0;
    if (generations.length > 0) this.#readSnapshot();
    this.#readJournal();
    // Delete files that an interrupted compaction left.
    for (const name of readdirSync(options.directory)) {
      const match = /^(?:snapshot|journal)-(\d+)(\.tmp)?$/.exec(name);
      if (match && (match[2] !== undefined || Number(match[1]) !== this.#generation))
        rmSync(join(options.directory, name));
    }
    this.#file = openSync(this.#path('journal'), 'a', 0o600);
  }

  /** Writes one record. */
  append(record: unknown): void {
    const isDue = this.#isBroken || this.#bytes > Math.max(JOURNAL_BYTES_MIN, 2 * this.#snapshotBytes);
    // The snapshot contains this record already.
    if (isDue && performance.now() >= this.#retryAtMs && this.#tryCompact()) return;
    if (this.#isBroken) return;
    const line = Buffer.from(encodeLine(record));
    try {
      writeFully(this.#file, line);
      this.#bytes += line.length;
      this.#syncSoon();
    } catch (error) {
      this.#fail('write to the journal', error);
    }
  }

  /** Flushes everything to disk and closes the files. */
  close(): void {
    if (this.#file < 0) return;
    clearTimeout(this.#syncTimer);
    if (this.#isBroken) this.#tryCompact();
    try {
      fdatasyncSync(this.#file);
    } catch (error) {
      this.#options.onNote(`Cannot flush the journal to disk: ${String(error)}`);
    }
    closeSync(this.#file);
    this.#file = -1;
  }

  #tryCompact(): boolean {
    const next = this.#generation + 1;
    const snapshot = this.#path('snapshot', next);
    try {
      this.#snapshotBytes = writeSnapshot(`${snapshot}.tmp`, this.#options.records());
      const file = openSync(this.#path('journal', next), 'w', 0o600);
      renameSync(`${snapshot}.tmp`, snapshot);
      syncDirectory(this.#options.directory);
      closeSync(this.#file);
      rmSync(this.#path('journal'), { force: true });
      rmSync(this.#path('snapshot'), { force: true });
      this.#file = file;
      this.#generation = next;
      this.#bytes = 0;
      this.#isBroken = false;
      return true;
    } catch (error) {
      this.#retryAtMs = performance.now() + RETRY_MS;
      this.#options.onNote(
        `Cannot write a snapshot to ${snapshot}: ${String(error)}. Data is kept in memory; free space or fix the directory`,
      );
      return false;
    }
  }

  /** Removes a partly written line after a failed write. If that fails, the next write starts with a snapshot. */
  #fail(what: string, error: unknown): void {
    this.#options.onNote(`Cannot ${what}: ${String(error)}. The change is in memory only until a write succeeds`);
    this.#isBroken = true;
    try {
      ftruncateSync(this.#file, this.#bytes);
    } catch {
      // The next snapshot replaces the file.
    }
  }

  #syncSoon(): void {
    if (this.#syncTimer !== undefined) return;
    this.#syncTimer = setTimeout(() => {
      this.#syncTimer = undefined;
      if (this.#file >= 0) fdatasync(this.#file, () => {});
    }, SYNC_MS);
    this.#syncTimer.unref?.();
  }

  #path(kind: 'snapshot' | 'journal', generation = this.#generation): string {
    return join(this.#options.directory, `${kind}-${generation}`);
  }

  /** Returns the generations with a complete snapshot, newest first. */
  #generationsOnDisk(): number[] {
    return readdirSync(this.#options.directory)
      .map((name) => /^snapshot-(\d+)$/.exec(name)?.[1])
      .filter((digits) => digits !== undefined)
      .map(Number)
      .sort((a, b) => b - a);
  }

  #readSnapshot(): void {
    const path = this.#path('snapshot');
    const bytes = readFileSync(path);
    const { records, goodBytes } = decodeLines(bytes);
    const header = records[0] as Partial<typeof HEADER> | undefined;
    if (header?.format === HEADER.format && (header.version ?? 0) > HEADER.version) {
      throw new Error(
        `Cannot read ${path}: it was written by a newer version of Katamari. Use that version or another data directory`,
      );
    }
    if (header?.format !== HEADER.format || goodBytes !== bytes.length) {
      const aside = `${path}.damaged`;
      writeFileSync(aside, bytes);
      this.#options.onNote(
        `The snapshot ${path} is damaged: using the ${Math.max(0, records.length - 1)} good records; a copy is in ${aside}`,
      );
    }
    this.#snapshotBytes = bytes.length;
    for (const record of records.slice(1)) this.#options.onRecord(record);
  }

  #readJournal(): void {
    const path = this.#path('journal');
    if (!existsSync(path)) return;
    const bytes = readFileSync(path);
    const { records, goodBytes } = decodeLines(bytes);
    for (const record of records) this.#options.onRecord(record);
    this.#bytes = goodBytes;
    if (goodBytes === bytes.length) return;
    const aside = `${path}.damaged`;
    writeFileSync(aside, bytes.subarray(goodBytes));
    const file = openSync(path, 'r+');
    ftruncateSync(file, goodBytes);
    fsyncSync(file);
    closeSync(file);
    this.#options.onNote(
      `The journal ${path} is damaged from byte ${goodBytes} on: used the ${records.length} records before it and moved the other ${bytes.length - goodBytes} bytes to ${aside}`,
    );
  }
}

function encodeLine(record: unknown): string {
  const json = JSON.stringify(record);
  return `${checksum(Buffer.from(json)).toString(16).padStart(8, '0')} ${json}\n`;
}

/** Decodes records up to the first torn or corrupt line. */
function decodeLines(bytes: Buffer): { records: unknown[]; goodBytes: number } {
  const records: unknown[] = [];
  let start = 0;
  for (;;) {
    const end = bytes.indexOf(10, start);
    if (end < start + 9) return { records, goodBytes: start };
    const body = bytes.subarray(start + 9, end);
    if (Number.parseInt(bytes.toString('latin1', start, start + 8), 16) !== checksum(body))
      return { records, goodBytes: start };
    try {
      records.push(JSON.parse(body.toString('utf8')));
    } catch {
      return { records, goodBytes: start };
    }
    start = end + 1;
  }
}

function writeSnapshot(path: string, records: Iterable<unknown>): number {
  const file = openSync(path, 'w', 0o600);
  try {
    let bytes = 0;
    let batch = encodeLine(HEADER);
    for (const record of records) {
      batch += encodeLine(record);
      if (batch.length > 1024 * 1024) {
        bytes += writeFully(file, Buffer.from(batch));
        batch = '';
      }
    }
    bytes += writeFully(file, Buffer.from(batch));
    fsyncSync(file);
    return bytes;
  } finally {
    closeSync(file);
  }
}

function writeFully(file: number, bytes: Buffer): number {
  for (let done = 0; done < bytes.length;) done += writeSync(file, bytes, done);
  return bytes.length;
}

function syncDirectory(directory: string): void {
  const handle = openSync(directory, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

/** CRC-32 (IEEE). */
function checksum(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (let at = 0; at < bytes.length; at++) crc = CRC_TABLE[(crc ^ bytes[at]!) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

const CRC_TABLE: Int32Array = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});
