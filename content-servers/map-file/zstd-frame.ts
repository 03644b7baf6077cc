// Checks that Zstandard frames are complete, RFC 8878 section 3.1.1. The decompressors of some runtimes return what a
// frame has that is cut off, without an error.

const MAGIC = 0xfd2fb528;
/** Bytes of the content size by its flag; with flag 0 there is one byte if the frame is a single segment. */
const SIZE_BYTES = [0, 2, 4, 8] as const;
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;
const RLE = 1;

/** Whether the bytes are one or more frames, and nothing else. */
export function isWholeZstd(bytes: Buffer): boolean {
  let at = 0;
  do {
    const end = frameEnd(bytes, at);
    if (end === undefined) return false;
    at = end;
  } while (at < bytes.length);
  return true;
}

/** Where the frame at `start` ends; undefined when it is no frame, or is cut off. */
function frameEnd(bytes: Buffer, start: number): number | undefined {
  if (start + 5 > bytes.length || bytes.readUInt32LE(start) !== MAGIC) return undefined;
  const flags = bytes[start + 4] as number;
  const isSingle = (flags & 0x20) !== 0;
  const sizeFlag = flags >> 6;
  const sizeBytes = sizeFlag === 0 && isSingle ? 1 : (SIZE_BYTES[sizeFlag] as number);
  let at = start + 5 + (isSingle ? 0 : 1) + (DICTIONARY_BYTES[flags & 3] as number) + sizeBytes;
  for (let isLast = false; !isLast;) {
    if (at + 3 > bytes.length) return undefined;
    const head = bytes.readUIntLE(at, 3);
    isLast = (head & 1) !== 0;
    at += 3 + (((head >> 1) & 3) === RLE ? 1 : head >> 3);
  }
  at += (flags & 4) === 0 ? 0 : 4;
  return at <= bytes.length ? at : undefined;
}
