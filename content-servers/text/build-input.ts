// Reads documents from files, one at a time: NDJSON (one JSON object a line) and plain text (a paragraph is a
// document). Every error names the file and the line.

import { createReadStream } from 'node:fs';
import path from 'node:path';
import { TEXT_LIMITS } from './limits.ts';
import type { SqlValue } from './sqlite.ts';

/** Fields and values of a document, without those that are null. */
export type InputDocument = ReadonlyMap<string, NonNullable<SqlValue>>;

export interface InputRecord {
  readonly document: InputDocument;
  /** Bytes of the file up to its end. */
  readonly bytesRead: number;
  /** `words.ndjson:17`, for errors. */
  readonly place: string;
}

/** Something in the input that its owner has to change. The message begins with file and line. */
export class BuildError extends Error {
  override readonly name = 'BuildError';
}

/** Whether a file is read as NDJSON or as text. @throws BuildError for another extension */
export function formatOf(file: string): 'ndjson' | 'text' {
  const extension = path.extname(file).toLowerCase();
  if (extension === '.ndjson' || extension === '.jsonl') return 'ndjson';
  if (extension === '.txt' || extension === '.md') return 'text';
  const ending = extension === '' ? 'have no ending' : `end in "${extension}"`;
  throw new BuildError(`${file}: cannot read files that ${ending}, expected .ndjson, .jsonl, .txt or .md`);
}

/** The documents of a file. @throws BuildError with file and line */
export async function* documentsOf(file: string): AsyncGenerator<InputRecord> {
  yield* formatOf(file) === 'ndjson' ? recordsOf(file) : paragraphsOf(file);
}

async function* recordsOf(file: string): AsyncGenerator<InputRecord> {
  for await (const { text, line, bytesRead } of linesOf(file)) {
    if (text.trim() === '') continue;
    const place = `${file}:${line}`;
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch (error) {
      throw new BuildError(`${place}: not a JSON object: ${(error as Error).message}`);
    }
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
      throw new BuildError(`${place}: found ${shown(parsed)}, expected a JSON object, one a line`);
    const document = new Map<string, NonNullable<SqlValue>>();
    for (const [field, value] of Object.entries(parsed)) {
      const stored = storedValue(value, () => `${place}: field ${JSON.stringify(field)} is`);
      if (stored !== undefined) document.set(field, stored);
    }
    yield { document, bytesRead, place };
  }
}

function storedValue(value: unknown, begin: () => string): NonNullable<SqlValue> | undefined {
  if (value === null) return undefined;
  if (typeof value === 'string') return value;
  if (typeof value === 'boolean') return Number(value);
  if (typeof value === 'number') {
    if (!Number.isInteger(value) || Number.isSafeInteger(value)) return value;
    throw new BuildError(`${begin()} about ${value}, which a double does not hold exactly; write it as a string`);
  }
  const { $binary: binary, ...others } = value as Readonly<Record<string, unknown>>;
  if (typeof binary === 'string' && Object.keys(others).length === 0 && BASE64.test(binary))
    return Buffer.from(binary, 'base64');
  throw new BuildError(`${begin()} ${shown(value)}, expected text, a number, true, false, null or {"$binary": base64}`);
}

async function* paragraphsOf(file: string): AsyncGenerator<InputRecord> {
  let lines: string[] = [];
  let length = 0;
  let first = 0;
  let lastBytes = 0;
  const paragraph = (): InputRecord => {
    const document = new Map<string, NonNullable<SqlValue>>([
      ['path', file],
      ['line', first],
      ['text', lines.join('\n')],
    ]);
    lines = [];
    length = 0;
    return { document, bytesRead: lastBytes, place: `${file}:${first}` };
  };
  for await (const { text, line, bytesRead } of linesOf(file)) {
    lastBytes = bytesRead;
    if (text.trim() === '') {
      if (lines.length > 0) yield paragraph();
      continue;
    }
    if (lines.length === 0) first = line;
    length += text.length;
    if (length > TEXT_LIMITS.documentBytesMax) throw tooLong(`${file}:${first}`, 'paragraph');
    lines.push(text);
  }
  if (lines.length > 0) yield paragraph();
}

interface InputLine {
  readonly text: string;
  /** From 1. */
  readonly line: number;
  readonly bytesRead: number;
}

async function* linesOf(file: string): AsyncGenerator<InputLine> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let line = 0;
  let bytesRead = 0;
  const decode = (bytes: Buffer): InputLine => {
    const isCrlf = bytes.at(-1) === CARRIAGE_RETURN;
    try {
      // The decoder drops a byte order mark.
      return { text: decoder.decode(isCrlf ? bytes.subarray(0, -1) : bytes), line, bytesRead };
    } catch {
      throw new BuildError(`${file}:${line}: the line is not UTF-8`);
    }
  };
  let parts: Buffer[] = [];
  let length = 0;
  const add = (part: Buffer): void => {
    parts.push(part);
    length += part.length;
    if (length > TEXT_LIMITS.documentBytesMax) throw tooLong(`${file}:${line + 1}`, 'line');
  };
  const take = (): Buffer => {
    const whole = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
    parts = [];
    length = 0;
    return whole;
  };
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: READ_BYTES }) as AsyncIterable<Buffer>) {
      let from = 0;
      for (let end = chunk.indexOf(LINE_FEED); end >= 0; end = chunk.indexOf(LINE_FEED, from)) {
        add(chunk.subarray(from, end));
        bytesRead += end + 1 - from;
        from = end + 1;
        line++;
        yield decode(take());
      }
      if (from < chunk.length) add(chunk.subarray(from));
      bytesRead += chunk.length - from;
    }
  } catch (error) {
    if (error instanceof BuildError || (error as NodeJS.ErrnoException).code === undefined) throw error;
    throw new BuildError(`${file}: cannot be read: ${(error as Error).message}`);
  }
  if (length > 0) {
    line++;
    yield decode(take());
  }
}

function tooLong(place: string, what: string): BuildError {
  return new BuildError(`${place}: this ${what} has more than ${TEXT_LIMITS.documentBytesMax} bytes`);
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > SHOWN_LENGTH ? `${text.slice(0, SHOWN_LENGTH)}...` : text;
}

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;
const LINE_FEED = 10;
const CARRIAGE_RETURN = 13;
const READ_BYTES = 256 * 1024;
const SHOWN_LENGTH = 60;
