// The files of the audit log: their names, their order, their lines, and the note of the last line (`head.json`).

import { open, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';

/** One line of a file, without its end. */
export interface FileLine {
  readonly bytes: Buffer;
  /** Whether the line has an end. */
  readonly isWhole: boolean;
}

/** The last line that was written, in a file of its own: lines that are removed at the end are missed. */
export interface HeadNote {
  readonly seq: number;
  readonly hash: string;
}

export function auditFileName(number: number): string {
  return `audit-${String(number).padStart(6, '0')}.jsonl`;
}

/** Number in the name of an audit file; undefined for other files. */
export function auditFileNumber(name: string): number | undefined {
  const digits = /^audit-(\d{6,15})\.jsonl$/.exec(path.basename(name))?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** Paths of the audit files in a folder, the oldest first. Rejects with the error of the system. */
export async function auditFiles(folder: string): Promise<string[]> {
  const names = (await readdir(folder)).filter((name) => auditFileNumber(name) !== undefined);
  return names
    .sort((a, b) => (auditFileNumber(a) as number) - (auditFileNumber(b) as number))
    .map((name) => path.join(folder, name));
}

/**
 * The lines of a file. A line above PIECE_BYTES_MAX is returned in pieces, of which only the last can be whole. Not
 * with node:readline, which also ends lines at other characters.
 * @param from byte at which to begin
 */
export async function* linesOf(file: string, from = 0): AsyncGenerator<FileLine, void, undefined> {
  const handle = await open(file, 'r');
  try {
    let rest: Buffer = Buffer.alloc(0);
    let at = from;
    for (;;) {
      const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(CHUNK_BYTES), 0, CHUNK_BYTES, at);
      if (bytesRead === 0) break;
      at += bytesRead;
      rest = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
      let start = 0;
      for (let end = rest.indexOf(10); end !== -1; end = rest.indexOf(10, start)) {
        yield { bytes: rest.subarray(start, end), isWhole: true };
        start = end + 1;
      }
      rest = rest.subarray(start);
      if (rest.length > PIECE_BYTES_MAX) {
        yield { bytes: rest, isWhole: false };
        rest = Buffer.alloc(0);
      }
    }
    if (rest.length > 0) yield { bytes: rest, isWhole: false };
  } finally {
    await handle.close();
  }
}

/** Returns the note of the last line; undefined if there is none, or it is damaged. */
export async function readHead(folder: string): Promise<HeadNote | undefined> {
  try {
    return HEAD.parse(JSON.parse(await readFile(path.join(folder, HEAD_NAME), 'utf8')));
  } catch {
    return undefined;
  }
}

/**
 * Replaces the note. Not synced: after a loss of power it may name an earlier line, which is also part of the chain.
 */
export async function writeHead(folder: string, note: HeadNote): Promise<void> {
  const file = path.join(folder, HEAD_NAME);
  await writeFile(`${file}.new`, `${JSON.stringify(note)}\n`, { mode: 0o600 });
  await rename(`${file}.new`, file);
}

const HEAD: z.ZodType<HeadNote> = z.object({ seq: z.int().min(1), hash: z.string().regex(/^[0-9a-f]{64}$/) });
const HEAD_NAME = 'head.json';
const CHUNK_BYTES = 64 * 1024;
const PIECE_BYTES_MAX = 256 * 1024;
