// The audit log of one process: appends one line for each change and each refusal to the files in `dataDir/audit/`.
// Nothing waits for the disk except `flushed`, which has a limit. Lines are written in batches, and each batch is
// synced before `flushed` resolves.
//
// If the log cannot be written (disk full, no permission), lines wait in memory up to a limit; further ones are
// counted as lost. The log tries again and again, and then writes what waited, and a line that tells the outage.
// After each failure it opens its files anew, as at a start: it finds the last whole line, and reports bytes behind
// it that are no line. It never removes bytes from a file, and it removes whole files only when there are more than
// the limit.

import { constants } from 'node:fs';
import { mkdir, open, stat, unlink, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { systemClock, type Clock } from '../../core/mod.ts';
import { findTail, GENESIS, OPENED, REPAIRED, sealLine } from './chain.ts';
import { encodeEntry, type AuditEntry } from './entry.ts';
import { auditFileName, auditFileNumber, auditFiles, readHead, writeHead, type HeadNote } from './files.ts';
import { redactChange } from './redact.ts';
import { RefusalLimiter, WINDOW_MS } from './refusal-limiter.ts';
import { sourceOf } from '../../core/rpc/mod.ts';

/**
 * Why something was refused.
 * - wrong_token: a token of an admin, a caller or the embedded Consul that is missing, unknown, revoked or expired.
 * - missing_scope: an admin token without the scope of the method.
 * - rate_limited: too many wrong tokens from one address.
 * - denied_call: a call that the access policy does not allow.
 * - bad_origin: an HTTP request whose Host is not a name of the port, or that a web page of another origin sent.
 * - bad_peer: a connection to the link that did not prove that it belongs to the mesh.
 * - bad_signature: an order or a document in Consul without a valid signature of the mesh.
 */
export const REFUSAL_CODES = [
  'wrong_token',
  'missing_scope',
  'rate_limited',
  'denied_call',
  'bad_origin',
  'bad_peer',
  'bad_signature',
] as const;
export type RefusalCode = (typeof REFUSAL_CODES)[number];

/** Something that was refused to a caller. */
export interface AuditRefusal {
  readonly code: RefusalCode;
  /** Who it claims to be and is known to be; '' if unknown. */
  readonly who?: string;
  /** Address of the caller. */
  readonly from: string;
  readonly action: string;
  readonly subject?: string;
  readonly reason: string;
}

export interface AuditLogOptions {
  readonly folder: string;
  /** Name of this process. */
  readonly process: string;
  /** A new file begins before one would become larger. */
  readonly fileBytesMax: number;
  /** Number of files that are kept. */
  readonly filesMax: number;
  /** Called when the log cannot be written, once for each outage. */
  readonly onFailure: (text: string) => void;
  /** Called when it is written again. */
  readonly onRecovery: (text: string) => void;
  readonly clock?: Clock;
  /** Unix time in ms. */
  readonly dateMs?: () => number;
}

export interface AuditCounts {
  /** Lines written. */
  readonly lines: number;
  /** Entries that were not written. */
  readonly lost: number;
  /** Refusals that got no line, because there were too many. */
  readonly suppressed: number;
  /** Failed attempts to write. */
  readonly failures: number;
  readonly refusals: ReadonlyMap<RefusalCode, number>;
}

interface QueuedEntry {
  readonly body: string;
  readonly bytes: number;
}

/** The file that is written. */
interface OpenFile {
  readonly path: string;
  readonly handle: FileHandle;
  readonly inode: number;
  size: number;
  /** Lines about the log itself that come first. */
  preface: readonly string[];
  /** Whether the file does not end with a line end. */
  isTorn: boolean;
  /** Files to remove once the preface, which names them, is on disk. */
  surplus: readonly string[];
}

/** An outage: from the first failed write until a write succeeds. */
interface Outage {
  readonly sinceMs: number;
  reason: string;
  lost: number;
}

export class AuditLog {
  readonly #options: AuditLogOptions;
  readonly #clock: Clock;
  readonly #dateMs: () => number;
  readonly #limiter = new RefusalLimiter();
  readonly #queue: QueuedEntry[] = [];
  /** Ends each wait of `flushed`. */
  readonly #waits = new Set<() => void>();
  readonly #refusals = new Map<RefusalCode, number>();
  #queuedBytes = 0;
  #file: OpenFile | undefined;
  /** The last line of the chain; undefined before the log was opened. */
  #position: HeadNote | undefined;
  /** Hashes of the lines of the last batch; the first `ahead` of them are not from the queue. */
  #batch: { readonly hashes: readonly string[]; readonly ahead: number } = { hashes: [], ahead: 0 };
  #outage: Outage | undefined;
  #isWriting = false;
  #isClosed = false;
  #retryMs = RETRY_FIRST_MS;
  #stopRetry: (() => void) | undefined;
  #stopWindow: (() => void) | undefined;
  #lines = 0;
  #lost = 0;
  #suppressed = 0;
  #failures = 0;

  constructor(options: AuditLogOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#dateMs = options.dateMs ?? Date.now;
  }

  /** Opens the log now, and reports in it what a crash left behind. Without it, the first entry does so. */
  start(): void {
    void this.#write();
  }

  /** Adds a line for an action that this process has performed, or has refused to somebody whom it knows. */
  record(entry: AuditEntry): void {
    this.#add({ ...entry, ...redactChange(entry.before, entry.after) });
  }

  /** Counts a refusal, and adds a line for it unless there are too many. Costs little at any rate. */
  refused({ code, who = '', from, action, subject = '', reason }: AuditRefusal): void {
    this.#refusals.set(code, (this.#refusals.get(code) ?? 0) + 1);
    if (this.#limiter.admits(code, sourceOf(from), this.#clock.nowMs())) {
      this.#add({ who, from, action, subject, result: 'refused', code, reason });
      return;
    }
    this.#suppressed++;
    this.#stopWindow ??= this.#clock.after(WINDOW_MS, () => this.#reportSuppressed());
  }

  /**
   * Resolves when all entries so far are on disk, at once during an outage, and at the latest after `withinMs`. Never
   * rejects: a change does not depend on its line.
   */
  flushed(withinMs: number = FLUSH_MS): Promise<void> {
    if (this.#outage !== undefined || (this.#queue.length === 0 && !this.#isWriting)) return Promise.resolve();
    return new Promise((resolve) => {
      const end = (): void => {
        this.#waits.delete(end);
        stop();
        resolve();
      };
      const stop = this.#clock.after(withinMs, end);
      this.#waits.add(end);
    });
  }

  counts(): AuditCounts {
    return {
      lines: this.#lines,
      lost: this.#lost,
      suppressed: this.#suppressed,
      failures: this.#failures,
      refusals: this.#refusals,
    };
  }

  /** Writes what waits and closes the file. Takes at most CLOSE_MS. Later entries are lost. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    if (this.#stopWindow !== undefined) this.#reportSuppressed();
    this.#isClosed = true;
    this.#stopRetry?.();
    this.#stopRetry = undefined;
    const end = async (): Promise<void> => {
      await this.flushed(CLOSE_MS);
      await this.#write();
      await this.#closeFile();
    };
    await Promise.race([end(), new Promise<void>((resolve) => this.#clock.after(CLOSE_MS, resolve))]);
    if (this.#queue.length === 0) return;
    this.#lost += this.#queue.length;
    this.#options.onFailure(`${this.#queue.length} entries were not written before the end of the process`);
  }

  #add(entry: AuditEntry): void {
    if (this.#isClosed) {
      this.#lost++;
      return;
    }
    let body: string;
    try {
      body = encodeEntry(entry, this.#options.process, this.#dateMs());
    } catch (error) {
      this.#lose(`an entry could not be written as JSON: ${(error as Error).message}`);
      return;
    }
    const bytes = Buffer.byteLength(body);
    const isFull = this.#queue.length >= QUEUE_LINES_MAX || this.#queuedBytes + bytes > QUEUE_BYTES_MAX;
    // After the first loss, later entries are lost too, so that the line about the loss is in its place.
    if (isFull || (this.#outage?.lost ?? 0) > 0) {
      this.#lose(`${this.#queue.length} entries wait for the disk, limit is ${QUEUE_LINES_MAX}`);
      return;
    }
    this.#push({ body, bytes });
    if (this.#outage === undefined) void this.#write();
  }

  #push(entry: QueuedEntry): void {
    this.#queue.push(entry);
    this.#queuedBytes += entry.bytes;
  }

  #lose(why: string): void {
    this.#lost++;
    const outage = (this.#outage ??= this.#begin(why));
    outage.lost++;
    void this.#write();
  }

  #reportSuppressed(): void {
    this.#stopWindow?.();
    this.#stopWindow = undefined;
    const nowMs = this.#clock.nowMs();
    for (const { code, count, sinceMs } of this.#limiter.takeSuppressed(nowMs)) {
      const seconds = Math.round((nowMs - sinceMs) / 1_000);
      this.#add(own('audit_suppressed', `${count} more refusals (${code}) within ${seconds} s`, { code, count }));
    }
  }

  /** Writes until the queue is empty or a write fails. Never rejects. */
  async #write(): Promise<void> {
    if (this.#isWriting || this.#stopRetry !== undefined) return;
    this.#isWriting = true;
    const stopHang = this.#clock.after(HANG_MS, () => this.#fail(`the disk has not answered for ${HANG_MS / 1_000} s`));
    try {
      do await this.#writeBatch();
      while (this.#queue.length > 0);
      this.#retryMs = RETRY_FIRST_MS;
    } catch (error) {
      this.#failures++;
      await this.#closeFile();
      this.#fail(describe(error as NodeJS.ErrnoException));
      this.#retryLater();
    } finally {
      stopHang();
      this.#isWriting = false;
      this.#endWaits();
    }
  }

  async #writeBatch(): Promise<void> {
    const why = await this.#whyReopen();
    if (why !== undefined) await this.#closeFile();
    let file = this.#file ?? (await this.#open(why));
    const [first] = this.#queue;
    if (first !== undefined && file.preface.length === 0 && !this.#fits(file.size, first))
      file = await this.#rotate(file);
    const { text, hashes, last, count } = this.#seal(file);
    if (hashes.length > 0) {
      this.#batch = { hashes, ahead: hashes.length - count };
      await writeAll(file.handle, text);
      await file.handle.datasync();
      this.#settle(count);
      this.#lines += hashes.length;
      this.#position = last;
      Object.assign(file, { size: file.size + text.length, preface: [], isTorn: false });
      // A note that cannot be written names an earlier line, which is part of the chain too.
      await writeHead(this.#options.folder, last).catch(() => undefined);
      for (const surplus of file.surplus) await unlink(surplus).catch(() => undefined);
      file.surplus = [];
    }
    if (this.#outage !== undefined && this.#queue.length === 0) this.#recover(this.#outage);
  }

  /** Returns the next lines: the preface, and entries of the queue as far as the file has room. */
  #seal({ preface, size, isTorn }: OpenFile): {
    readonly text: Buffer;
    readonly hashes: readonly string[];
    readonly last: HeadNote;
    readonly count: number;
  } {
    let last = this.#position ?? NO_LINE;
    let bytes = size;
    let count = 0;
    const texts: string[] = isTorn ? ['\n'] : [];
    const hashes: string[] = [];
    const add = (body: string): void => {
      const { text, hash } = sealLine(last.seq + 1, last.hash, body);
      texts.push(text, '\n');
      hashes.push(hash);
      bytes += Buffer.byteLength(text) + 1;
      last = { seq: last.seq + 1, hash };
    };
    for (const body of preface) add(body);
    for (const entry of this.#queue.slice(0, BATCH_LINES_MAX)) {
      if (hashes.length > 0 && !this.#fits(bytes, entry)) break;
      add(entry.body);
      count++;
    }
    return { text: Buffer.from(texts.join('')), hashes, last, count };
  }

  #fits(size: number, { bytes }: QueuedEntry): boolean {
    return size + bytes + CHAIN_BYTES_MAX <= this.#options.fileBytesMax;
  }

  /** Removes entries that were written from the queue. */
  #settle(count: number): void {
    for (const { bytes } of this.#queue.splice(0, count)) this.#queuedBytes -= bytes;
  }

  /** Why the file that was open must be opened again: another program changed or removed it. */
  async #whyReopen(): Promise<string | undefined> {
    const file = this.#file;
    if (file === undefined) return undefined;
    const name = path.basename(file.path);
    const found = await stat(file.path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (found?.ino !== file.inode) return `${name} was removed or replaced by another program`;
    if (found.size === file.size) return undefined;
    return `${name} was changed by another program: it has ${found.size} bytes, expected ${file.size}`;
  }

  /** Opens the last file, or the first. @param why the reason if another program changed the file that was open */
  async #open(why: string | undefined): Promise<OpenFile> {
    const { folder, fileBytesMax } = this.#options;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const files = await auditFiles(folder);
    const { line, torn, isOpen } = await findTail(files);
    const known = this.#position ?? (await readHead(folder));
    const tail: HeadNote = line ?? NO_LINE;
    const written = this.#batch.hashes.indexOf(tail.hash);
    if (written !== -1) this.#settle(Math.max(0, written + 1 - this.#batch.ahead));
    this.#batch = { hashes: [], ahead: 0 };
    const preface: string[] = [];
    const say = (action: string, reason: string, facts: Readonly<Record<string, string | number>>): void => {
      preface.push(encodeEntry(own(action, reason, facts), this.#options.process, this.#dateMs()));
    };
    if (torn !== undefined)
      say(REPAIRED, `the ${torn.bytes} bytes before this line are a line that was cut off`, { ...torn });
    this.#position = tail;
    const isReplaced = known !== undefined && known.seq >= tail.seq && known.hash !== tail.hash;
    if (isReplaced) {
      // The number after the missing lines breaks the chain here for good.
      const missing = Math.max(1, known.seq - tail.seq);
      this.#position = { seq: tail.seq + missing, hash: tail.hash };
      say(GAP, why ?? 'lines at the end of the log were removed or replaced', { missing });
    } else if (why !== undefined) say(GAP, why, { missing: 0 });
    const last = files.at(-1);
    const size = last === undefined ? 0 : (await stat(last)).size;
    const goesOn = last !== undefined && (torn !== undefined || size + PREFACE_BYTES_MAX <= fileBytesMax);
    if (!goesOn) this.#file = await this.#create(files, preface);
    else {
      // A crash can leave an empty file behind.
      if (size === 0)
        say(OPENED, files.length === 1 ? 'the first file' : `continues ${path.basename(files.at(-2) ?? '')}`, {});
      this.#file = await openFile(last, 0, preface, isOpen);
    }
    return this.#file;
  }

  /** Closes a full file and begins the next one. */
  async #rotate(file: OpenFile): Promise<OpenFile> {
    await this.#closeFile();
    const files = await auditFiles(this.#options.folder);
    this.#file = await this.#create(files.length === 0 ? [file.path] : files, []);
    return this.#file;
  }

  async #create(files: readonly string[], preface: readonly string[]): Promise<OpenFile> {
    const { folder, filesMax, process } = this.#options;
    const previous = files.at(-1);
    const number = previous === undefined ? 1 : (auditFileNumber(previous) as number) + 1;
    const surplus = files.slice(0, Math.max(0, files.length + 1 - filesMax));
    const removed = surplus.at(-1);
    const reason = previous === undefined ? 'the first file' : `continues ${path.basename(previous)}`;
    const facts = removed === undefined ? {} : { removedUpTo: auditFileNumber(removed) as number };
    const opened = encodeEntry(own(OPENED, reason, facts), process, this.#dateMs());
    const file = await openFile(
      path.join(folder, auditFileName(number)),
      constants.O_EXCL,
      [opened, ...preface],
      false,
    );
    file.surplus = surplus;
    return file;
  }

  async #closeFile(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.handle.close().catch(() => undefined);
  }

  #fail(reason: string): void {
    if (this.#outage === undefined) this.#outage = this.#begin(reason);
    else this.#outage.reason = reason;
    this.#endWaits();
  }

  #begin(reason: string): Outage {
    this.#options.onFailure(`cannot be written: ${reason}; changes continue, and the log tries again`);
    return { sinceMs: this.#dateMs(), reason, lost: 0 };
  }

  #recover({ sinceMs, reason, lost }: Outage): void {
    this.#outage = undefined;
    const since = new Date(sinceMs).toISOString();
    const text = `could not be written since ${since}: ${reason}`;
    const { process } = this.#options;
    const body = encodeEntry(own(GAP, `the log ${text}`, { lost, since }), process, this.#dateMs());
    this.#push({ body, bytes: Buffer.byteLength(body) });
    this.#options.onRecovery(`is written again; it ${text}; ${lost} entries are lost`);
  }

  #retryLater(): void {
    if (this.#isClosed) return;
    this.#stopRetry = this.#clock.after(this.#retryMs, () => {
      this.#stopRetry = undefined;
      void this.#write();
    });
    this.#retryMs = Math.min(RETRY_MAX_MS, this.#retryMs * 2);
  }

  #endWaits(): void {
    if (this.#outage === undefined && this.#queue.length > 0) return;
    for (const end of this.#waits) end();
  }
}

/** An entry about the log itself. */
function own(action: string, reason: string, facts: Readonly<Record<string, string | number>>): AuditEntry {
  return { who: 'katamari', from: '', action, subject: 'audit log', result: 'done', reason, facts };
}

/** Opens a file to append to it, readable by its owner only. Refuses links. */
async function openFile(file: string, flags: number, preface: readonly string[], isTorn: boolean): Promise<OpenFile> {
  const { O_APPEND, O_CREAT, O_NOFOLLOW, O_WRONLY } = constants;
  const handle = await open(file, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | flags, 0o600);
  try {
    const { ino, size, mode } = await handle.stat();
    if ((mode & 0o077) !== 0) await handle.chmod(0o600);
    return {
      path: file,
      handle,
      inode: ino,
      size,
      preface,
      isTorn,
      surplus: [],
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** The message with its code, which not every runtime puts into it. */
function describe({ code, message }: NodeJS.ErrnoException): string {
  return code === undefined || message.includes(code) ? message : `${code}: ${message}`;
}

async function writeAll(handle: FileHandle, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, null);
    if (bytesWritten === 0) throw new Error(`only ${at} of ${bytes.length} bytes could be written`);
    at += bytesWritten;
  }
}

const GAP = 'audit_gap';
const NO_LINE: HeadNote = { seq: 0, hash: GENESIS };
/** Entries that wait while the disk is slow or full. */
const QUEUE_LINES_MAX = 1_000;
const QUEUE_BYTES_MAX = 8 * 1024 * 1024;
/** Lines of one write. */
const BATCH_LINES_MAX = 100;
/** Number, hash and sum of a line, and its end. */
const CHAIN_BYTES_MAX = 192;
/** Room for the lines about the log itself at the begin of a write. */
const PREFACE_BYTES_MAX = 4 * 1024;
/** How long a change waits for its line to be on disk. */
const FLUSH_MS = 1_000;
const CLOSE_MS = 2_000;
/** A write that takes longer is an outage. */
const HANG_MS = 5_000;
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 5_000;
