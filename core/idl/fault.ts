// Errors of the IDL compiler: file and position, the problem, and a remedy. Also formats quoted values and suggests
// similar names.

import { KatamariError } from '../mod.ts';

/** An IDL file: the name under which it is included, and its text. */
export interface IdlFile {
  readonly name: string;
  readonly text: string;
}

/** Returns the error `calculator.thrift:12:3: what` for the position `index` (UTF-16 units) of the file. */
export function idlFault(file: IdlFile, index: number, what: string): KatamariError {
  const before = file.text.slice(0, Math.max(0, index));
  const line = before.split('\n').length;
  const column = before.length - before.lastIndexOf('\n');
  return new KatamariError('bad_request', `${file.name}:${line}:${column}: ${cut(what, FAULT_LENGTH_MAX)}`);
}

/** Returns the end of an "unknown name" message: `, did you mean "Work"?`, else `; known: a, b, c`, else ''. */
export function suggest(name: string, known: Iterable<string>): string {
  const names = [...known];
  let best = '';
  let bestDistance = Math.floor(name.length / 3) + 1;
  for (const candidate of names.slice(0, SUGGEST_FROM_MAX)) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase(), bestDistance);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  if (best !== '') return `, did you mean "${best}"?`;
  if (names.length === 0) return '';
  const shown = names.slice(0, NAMES_SHOWN_MAX).join(', ');
  return `; known: ${shown}${names.length > NAMES_SHOWN_MAX ? `, and ${names.length - NAMES_SHOWN_MAX} more` : ''}`;
}

/** Quotes a value for a message: as JSON if possible, truncated to a readable length. */
export function quote(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value);
  if (typeof value === 'function' || typeof value === 'symbol') return `a ${typeof value}`;
  if (typeof value === 'string') return cut(JSON.stringify(value.slice(0, QUOTE_LENGTH_MAX + 1)), QUOTE_LENGTH_MAX);
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (value instanceof Map) return `a Map of ${value.size}`;
  if (value instanceof Set) return `a Set of ${value.size}`;
  if (value instanceof Uint8Array) return `${value.byteLength} bytes`;
  if (typeof value === 'object' && value !== null) return 'an object';
  return value === null ? 'null' : `${value as boolean}`;
}

/** Maximum characters of a value or token in a message. */
const QUOTE_LENGTH_MAX = 60;
/** Maximum characters of a description, which may quote names of any length. */
const FAULT_LENGTH_MAX = 600;
const NAMES_SHOWN_MAX = 20;
/** Maximum candidates to compare for a suggestion, which bounds the cost of an error message. */
const SUGGEST_FROM_MAX = 1000;
/** Longer names are not compared. */
const COMPARED_LENGTH_MAX = 64;

function cut(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length)}...` : text;
}

/** Returns the edit distance with transpositions (Damerau-Levenshtein), at most `limit`. */
function editDistance(a: string, b: string, limit: number): number {
  if (a.length > COMPARED_LENGTH_MAX || b.length > COMPARED_LENGTH_MAX) return limit;
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swap = isSwap ? (before[j - 2] ?? 0) + 1 : limit;
      next.push(Math.min(change, swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    before = row;
    row = next;
  }
  return Math.min(limit, row[b.length] ?? limit);
}
