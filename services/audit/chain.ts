// The hash chain of the audit log. Each line has a number, the SHA-256 of the line before it (`prev`), and the
// SHA-256 of its own text before that field (`sum`). The chain continues from one file to the next. A line that a
// crash cut off stays in the file; the line after it says how many bytes it has and their hash.

import { createHash, type Hash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { auditFileNumber, linesOf, type FileLine } from './files.ts';

/** `prev` of the first line of all. */
export const GENESIS: string = '0'.repeat(64);

/** Action of the line that follows what a crash left behind. */
export const REPAIRED = 'audit_repaired';
/** Action of the first line of a file. */
export const OPENED = 'audit_opened';

/** A line whose sum is right. */
export interface ChainLine {
  readonly seq: number;
  readonly prev: string;
  /** SHA-256 of the whole line, which the next line repeats. */
  readonly hash: string;
  /** The line as JSON object. */
  readonly record: Readonly<Record<string, unknown>>;
}

/** Bytes of a file that are no line: what a crash left behind, or an altered line. */
export interface TornBytes {
  readonly bytes: number;
  readonly sha256: string;
}

/** Returns the text of a line without its end. @param body a JSON object as text */
export function sealLine(seq: number, prev: string, body: string): { readonly text: string; readonly hash: string } {
  const head = `{"seq":${seq},"prev":"${prev}",${body.slice(1, -1)}`;
  const text = `${head},"sum":"${sha256(head)}"}`;
  return { text, hash: sha256(text) };
}

/** Parses a line and checks its sum. A line of which only the end is missing is complete too. */
export function parseLine({ bytes }: FileLine): ChainLine | undefined {
  const head = bytes.length - SUM_BYTES;
  if (head < 0) return undefined;
  const sum = SUM.exec(bytes.toString('latin1', head))?.[1];
  if (sum === undefined || sum !== sha256(bytes.subarray(0, head))) return undefined;
  const record = parseObject(bytes);
  if (record === undefined || !Number.isSafeInteger(record['seq']) || typeof record['prev'] !== 'string')
    return undefined;
  return { seq: record['seq'] as number, prev: record['prev'], hash: sha256(bytes), record };
}

/** Collects bytes that are no line, to compare them with the line that reports the repair. */
export class TornRegion {
  readonly #hash: Hash = createHash('sha256');
  #bytes = 0;
  #isOpen = false;

  add({ bytes, isWhole }: FileLine): void {
    this.#add(bytes);
    if (isWhole) this.#add(NEWLINE);
    this.#isOpen = !isWhole;
  }

  /** Adds a line end if the last bytes have none. */
  end(): TornBytes {
    if (this.#isOpen) this.#add(NEWLINE);
    this.#isOpen = false;
    return { bytes: this.#bytes, sha256: this.#hash.digest('hex') };
  }

  #add(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#bytes += bytes.length;
  }
}

/** The end of the log. */
export interface ChainTail {
  /** The last line whose sum is right; undefined for none. */
  readonly line: ChainLine | undefined;
  /** What follows it in the last file, with the line end that its repair adds; undefined for nothing. */
  readonly torn: TornBytes | undefined;
  /** Whether the last file does not end with a line end. */
  readonly isOpen: boolean;
}

/** Finds the last line of the log in its files, the oldest first. */
export async function findTail(files: readonly string[]): Promise<ChainTail> {
  const last = files.at(-1);
  let end: ChainTail = { line: undefined, torn: undefined, isOpen: false };
  for (const file of files.toReversed()) {
    const { size } = await stat(file);
    // Most often the end of the file is enough; the rest is read only if no line is found there.
    const near = await endOf(file, Math.max(0, size - TAIL_BYTES));
    const found = near.line === undefined && size > TAIL_BYTES ? await endOf(file, 0) : near;
    if (file === last) end = found;
    if (found.line !== undefined) return { ...end, line: found.line };
  }
  return end;
}

/** The last line of one file, from a byte on. */
async function endOf(file: string, from: number): Promise<ChainTail> {
  let line: ChainLine | undefined;
  let region: TornRegion | undefined;
  let isOpen = false;
  for await (const read of linesOf(file, from)) {
    const found = parseLine(read);
    if (found === undefined) (region ??= new TornRegion()).add(read);
    else [line, region] = [found, undefined];
    isOpen = !read.isWhole;
  }
  return { line, torn: region?.end(), isOpen };
}

export type Verdict =
  | {
      readonly isIntact: true;
      readonly files: number;
      readonly lines: number;
      readonly firstSeq: number;
      readonly lastSeq: number;
      /** SHA-256 of the last line. */
      readonly head: string;
      /** Lines that a crash cut off, and that the next start reported. */
      readonly repaired: number;
      /** Entries that could not be written, as the log itself says. */
      readonly lost: number;
      /** Whether the check ended at `bytesMax`, before the last line. */
      readonly isPartial: boolean;
    }
  | {
      readonly isIntact: false;
      readonly file: string;
      /** From 1. */
      readonly line: number;
      readonly why: string;
    };

export interface VerifyOptions {
  /** Hashes of lines that the chain must contain, kept outside of the files. */
  readonly known?: readonly string[];
  /** Whether the files are all that there are: older ones are missing only if the log says that it removed them. */
  readonly isWhole?: boolean;
  /** Bytes after which the check ends. No limit by default. */
  readonly bytesMax?: number;
}

/** Checks the chain through `files`, in this order. Rejects with the error of the system. */
export async function verifyChain(files: readonly string[], options: VerifyOptions = {}): Promise<Verdict> {
  const check = new ChainCheck();
  const missing = new Set(options.known ?? []);
  const [first] = files;
  const { bytesMax = Number.POSITIVE_INFINITY } = options;
  let bytes = 0;
  for (const file of files) {
    let line = 0;
    check.beginFile();
    for await (const read of linesOf(file)) {
      bytes += read.bytes.length;
      if (bytes > bytesMax) return intact(files, check, true);
      line++;
      const why = check.next(read, line);
      if (why !== undefined) return { isIntact: false, file, ...why };
      missing.delete(check.head);
    }
    const why = check.endFile();
    if (why !== undefined) return { isIntact: false, file, ...why };
    const [known] = missing;
    if (file === files.at(-1) && known !== undefined) {
      const text = `the log ends here, but it had a line with the hash ${known}: lines at its end were removed or replaced`;
      return { isIntact: false, file, line: line + 1, why: text };
    }
  }
  const number = first === undefined ? undefined : auditFileNumber(first);
  if (options.isWhole === true && first !== undefined && number !== undefined && check.removedUpTo < number - 1) {
    const text = `the files before it are missing, and the log does not say that it removed them`;
    return { isIntact: false, file: first, line: 1, why: text };
  }
  return intact(files, check, false);
}

function intact(
  files: readonly string[],
  { lines, firstSeq, lastSeq, head, repaired, lost }: ChainCheck,
  isPartial: boolean,
): Verdict {
  return { isIntact: true, files: files.length, lines, firstSeq, lastSeq, head, repaired, lost, isPartial };
}

interface Broken {
  readonly line: number;
  readonly why: string;
}

class ChainCheck {
  lines = 0;
  firstSeq = 0;
  lastSeq = 0;
  head: string = GENESIS;
  repaired = 0;
  lost = 0;
  /** Number of the last file that the log has removed because there were too many. */
  removedUpTo = 0;
  #torn: TornRegion | undefined;
  #tornAt = 0;
  #isFileStart = true;

  beginFile(): void {
    this.#isFileStart = true;
  }

  /** Returns what is wrong with a line, or with the one before it. */
  next(read: FileLine, at: number): Broken | undefined {
    const line = parseLine(read);
    if (line === undefined) {
      // A line that was cut off is never a JSON object.
      if (read.isWhole && parseObject(read.bytes) !== undefined) {
        return { line: at, why: 'the sum of the line does not match its text: the line was altered' };
      }
      if (this.#torn === undefined) this.#tornAt = at;
      this.#torn ??= new TornRegion();
      this.#torn.add(read);
      return undefined;
    }
    return this.#checkRepair(line) ?? this.#checkPlace(line, at);
  }

  endFile(): Broken | undefined {
    if (this.#torn === undefined) return undefined;
    return {
      line: this.#tornAt,
      why: 'the line is cut off or was altered, and no line after it reports a repair. The next start of the process repairs a line that a crash cut off',
    };
  }

  #checkRepair({ record }: ChainLine): Broken | undefined {
    if (this.#torn === undefined) return undefined;
    const { bytes, sha256: hash } = this.#torn.end();
    this.#torn = undefined;
    const facts = record['facts'] as Readonly<Record<string, unknown>> | undefined;
    if (record['action'] === REPAIRED && facts?.['bytes'] === bytes && facts['sha256'] === hash) {
      this.repaired++;
      return undefined;
    }
    return {
      line: this.#tornAt,
      why: 'the line was altered: it is no line of the log, and the next one reports no repair',
    };
  }

  #checkPlace({ seq, prev, hash, record }: ChainLine, at: number): Broken | undefined {
    const isFirst = this.lines === 0;
    const isStart = this.#isFileStart;
    this.#isFileStart = false;
    if (isStart && record['action'] !== OPENED && record['action'] !== REPAIRED) {
      return { line: at, why: 'it is not the first line of a file: lines before it were removed' };
    }
    if (isFirst && (seq === 1) !== (prev === GENESIS)) {
      return { line: at, why: `line number ${seq} has a wrong hash of the line before it` };
    }
    if (!isFirst && seq !== this.lastSeq + 1) {
      return {
        line: at,
        why: `its number is ${seq}, expected ${this.lastSeq + 1}: lines before it were removed or added`,
      };
    }
    if (!isFirst && prev !== this.head) {
      return {
        line: at,
        why: 'it does not continue the line before it: that line was altered, or lines were replaced',
      };
    }
    if (isFirst) this.firstSeq = seq;
    this.lines++;
    this.lastSeq = seq;
    this.head = hash;
    const facts = record['facts'] as Readonly<Record<string, unknown>> | undefined;
    const { lost, removedUpTo } = facts ?? {};
    if (typeof lost === 'number') this.lost += lost;
    if (typeof removedUpTo === 'number' && record['action'] === OPENED) this.removedUpTo = removedUpTo;
    return undefined;
  }
}

function parseObject(bytes: Buffer): Readonly<Record<string, unknown>> | undefined {
  try {
    const found: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof found === 'object' && found !== null ? (found as Readonly<Record<string, unknown>>) : undefined;
  } catch {
    return undefined;
  }
}

function sha256(text: string | Uint8Array): string {
  return createHash('sha256').update(text).digest('hex');
}

const SUM = /^,"sum":"([0-9a-f]{64})"\}$/;
/** Bytes of `,"sum":"..."}`. */
const SUM_BYTES = 74;
const NEWLINE: Uint8Array = Uint8Array.of(10);
/** Room for several of the largest lines. */
const TAIL_BYTES = 256 * 1024;
