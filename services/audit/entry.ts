// What one line of the audit log says, and its limits. Texts are cut and large documents are replaced by their size
// and hash, so no line is larger than 64 KiB. Callers mask secrets first (redact.ts).

import { createHash } from 'node:crypto';

/**
 * How an action ended.
 * - started: it takes long and has begun; a second line follows.
 * - done: it changed something.
 * - unchanged: it was allowed, and there was nothing to change.
 * - refused: it did nothing; `code` and `reason` say why.
 * - failed: it may have changed something; `reason` says what went wrong.
 */
export type AuditResult = 'started' | 'done' | 'unchanged' | 'refused' | 'failed';

/** One action, as the process that performs it describes it. */
export interface AuditEntry {
  /** Name of the admin token, `katamari.yaml`, `leader`, or '' if nobody proved who it was. */
  readonly who: string;
  /** Address of the caller, such as `json-rpc 10.0.0.7`. */
  readonly from: string;
  readonly action: string;
  /** What the action concerns, such as `Search@1.0.0`. */
  readonly subject: string;
  readonly result: AuditResult;
  readonly code?: string;
  readonly reason?: string;
  /** Documents before and after the change, without secrets. */
  readonly before?: unknown;
  readonly after?: unknown;
  /** Numbers and names of entries about the log itself. */
  readonly facts?: Readonly<Record<string, string | number>>;
}

/** Writes an entry as JSON object without its place in the chain. */
export function encodeEntry(entry: AuditEntry, process: string, atMs: number): string {
  const { who, from, action, subject, result, code, reason, before, after, facts } = entry;
  return JSON.stringify({
    at: new Date(atMs).toISOString(),
    process: cut(process, NAME_CHARS_MAX),
    who: cut(who, NAME_CHARS_MAX),
    from: cut(from, NAME_CHARS_MAX),
    action: cut(action, NAME_CHARS_MAX),
    subject: cut(subject, SUBJECT_CHARS_MAX),
    result,
    ...(code === undefined ? {} : { code: cut(code, NAME_CHARS_MAX) }),
    ...(reason === undefined || reason === '' ? {} : { reason: cut(reason, REASON_CHARS_MAX) }),
    ...(before === undefined ? {} : { before: fitting(before) }),
    ...(after === undefined ? {} : { after: fitting(after) }),
    ...(facts === undefined ? {} : { facts }),
  });
}

function cut(text: string, charsMax: number): string {
  return text.length <= charsMax ? text : `${text.slice(0, charsMax)}...`;
}

/** Returns the document, or a smaller one: large fields, else the whole, become their size and hash. */
function fitting(document: unknown): unknown {
  const text = JSON.stringify(document) ?? 'null';
  if (Buffer.byteLength(text) <= DOCUMENT_BYTES_MAX) return document;
  if (typeof document === 'object' && document !== null && !Array.isArray(document)) {
    const smaller = Object.fromEntries(
      Object.entries(document).map(([name, value]) => {
        const field = JSON.stringify(value) ?? 'null';
        return [name, Buffer.byteLength(field) <= FIELD_BYTES_MAX ? (value as unknown) : omitted(field)];
      }),
    );
    if (Buffer.byteLength(JSON.stringify(smaller)) <= DOCUMENT_BYTES_MAX) return smaller;
  }
  return omitted(text);
}

function omitted(text: string): unknown {
  return { omittedBytes: Buffer.byteLength(text), sha256: createHash('sha256').update(text).digest('hex') };
}

/** With the limits below, no line is larger than 64 KiB, also if every character is escaped. */
const NAME_CHARS_MAX = 256;
const SUBJECT_CHARS_MAX = 512;
const REASON_CHARS_MAX = 1_024;
const DOCUMENT_BYTES_MAX = 20 * 1024;
/** Larger fields are left out first, such as the text of an interface. */
const FIELD_BYTES_MAX = 1024;
