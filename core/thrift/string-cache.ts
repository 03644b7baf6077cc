// Short texts that come with every call: names of methods, versions, callers. Read, one that came before is known by
// its bytes and is the same string again: nothing is decoded, nothing made, and who looks it up in a Map need not
// compare letters. Written, ASCII goes byte by byte: for so little a call into the runtime costs more. What is known
// is a table of fixed size in which a newcomer takes the place of whoever was there.

interface CachedString {
  readonly bytes: Buffer;
  readonly text: string;
}

/** The text in UTF-8 from `start` to `end`. */
export function readCachedString(bytes: Buffer, start: number, end: number): string {
  const length = end - start;
  if (length === 0) return '';
  if (length > KNOWN_BYTES_MAX) return bytes.toString('utf8', start, end);
  const place = placeOf(bytes, start, end);
  const known = KNOWN[place];
  if (known !== undefined && known.bytes.length === length && isSame(known.bytes, bytes, start)) return known.text;
  const text = bytes.toString('utf8', start, end);
  KNOWN[place] = { bytes: Buffer.from(bytes.subarray(start, end)), text };
  return text;
}

/** Writes the text in UTF-8, for which there must be room. @returns how many bytes it took */
export function writeCachedString(into: Buffer, at: number, text: string): number {
  if (text.length > WRITTEN_HERE_MAX) return into.write(text, at, 'utf8');
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > ASCII_MAX) return into.write(text, at, 'utf8');
    into[at + i] = code;
  }
  return text.length;
}

/** Callers differ in the last digits of their ports. */
function placeOf(bytes: Buffer, start: number, end: number): number {
  let mix = end - start;
  for (let at = Math.max(start, end - MIXED_BYTES); at < end; at++) mix = (mix * 31 + (bytes[at] as number)) | 0;
  return (mix ^ (mix >>> 8)) & (PLACES - 1);
}

function isSame(known: Buffer, bytes: Buffer, start: number): boolean {
  for (let i = 0; i < known.length; i++) if (known[i] !== bytes[start + i]) return false;
  return true;
}

/** Longer ones are read by the runtime. */
const KNOWN_BYTES_MAX = 48;
/** Of 8 letters a third of what the runtime takes, of 24 two thirds, of 32 more. */
const WRITTEN_HERE_MAX = 24;
const ASCII_MAX = 0x7f;
const MIXED_BYTES = 6;
const PLACES = 512;
const KNOWN: (CachedString | undefined)[] = Array.from({ length: PLACES }, () => undefined);
