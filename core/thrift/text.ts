// Text whose bytes may be no UTF-8, such as the values of headers, which the mesh hands on unchanged. A byte that is
// not part of valid UTF-8 becomes a lone surrogate, U+DC80 to U+DCFF, as in Python's `surrogateescape`. So every
// sequence of bytes has one text, and the text gives the same bytes again.

import { isUtf8 } from 'node:buffer';

/** Returns the text of the bytes from `start` to `end`. Never replaces anything. */
export function textOfBytes(bytes: Buffer, start = 0, end: number = bytes.length): string {
  return strictText(bytes, start, end) ?? escapedText(bytes, start, end);
}

/** Returns the bytes of a text: the inverse of `textOfBytes`. */
export function bytesOfText(text: string): Buffer {
  if (!hasEscapes(text)) return Buffer.from(text);
  const pieces = text.split(ESCAPES).map((piece, n) => {
    return n % 2 === 0 ? Buffer.from(piece) : Buffer.from(piece, 'utf16le').filter((_byte, at) => at % 2 === 0);
  });
  return Buffer.concat(pieces);
}

/** Whether a text contains bytes that are no UTF-8. */
export function hasEscapes(text: string): boolean {
  return ESCAPE.test(text);
}

/** Returns the text of a value that has one character per byte, as `node:http` presents the values of headers. */
export function textOfLatin1(value: string): string {
  return BEYOND_ASCII.test(value) ? textOfBytes(Buffer.from(value, 'latin1')) : value;
}

/** Decodes UTF-8; undefined if the bytes are something else. */
export function strictText(bytes: Buffer, start: number, end: number): string | undefined {
  const text = bytes.toString('utf8', start, end);
  // Decoding replaces invalid UTF-8, so only text with the replacement character needs a second look.
  return !text.includes(REPLACEMENT) || isUtf8(bytes.subarray(start, end)) ? text : undefined;
}

/** Returns the text without the spaces and tabs around it. A regular expression would take quadratic time. */
export function trimSpaces(text: string): string {
  let [start, end] = [0, text.length];
  while (start < end && isSpace(text.charCodeAt(start))) start++;
  while (start < end && isSpace(text.charCodeAt(end - 1))) end--;
  return text.slice(start, end);
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

function escapedText(bytes: Buffer, start: number, end: number): string {
  let text = '';
  let plainFrom = start;
  for (let at = start; at < end;) {
    const length = sequenceBytes(bytes, at, end);
    if (length > 0) {
      at += length;
      continue;
    }
    text += bytes.toString('utf8', plainFrom, at) + String.fromCharCode(ESCAPE_BASE + (bytes[at] as number));
    plainFrom = ++at;
  }
  return text + bytes.toString('utf8', plainFrom, end);
}

/** Returns the bytes of the UTF-8 character at `at`; 0 if there is none (RFC 3629, section 4). */
function sequenceBytes(bytes: Buffer, at: number, end: number): number {
  const first = bytes[at] as number;
  if (first < 0x80) return 1;
  const length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (length === 0 || at + length > end) return 0;
  const second = bytes[at + 1] as number;
  // Without overlong forms, surrogates and what lies beyond U+10FFFF.
  const low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  const high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  if (second < low || second > high) return 0;
  for (let n = 2; n < length; n++) if (((bytes[at + n] as number) & 0xc0) !== 0x80) return 0;
  return length;
}

const REPLACEMENT = '\uFFFD';
const ESCAPE_BASE = 0xdc00;
/** With the flag `u`, a surrogate that is part of a pair does not match. */
const ESCAPE = /[\udc80-\udcff]/u;
const ESCAPES = /([\udc80-\udcff]+)/u;
// oxlint-disable-next-line no-control-regex -- ASCII begins with control characters
const BEYOND_ASCII = /[^\u0000-\u007f]/;

/**
 * Compares texts by characters, as their UTF-8 bytes would be. JavaScript compares UTF-16, where U+10000 is below
 * U+E000.
 */
export function compareUtf8(a: string, b: string): number {
  if (a === b) return 0;
  const length = Math.min(a.length, b.length);
  let at = 0;
  while (at < length && a.charCodeAt(at) === b.charCodeAt(at)) at++;
  if (at === length) return a.length - b.length;
  return utf8Rank(a.charCodeAt(at)) - utf8Rank(b.charCodeAt(at));
}

/** Moves surrogates behind all other code units. */
function utf8Rank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}
