// Reads records that are not in blocks: length of key and value, length of the key, key, value. A sync mark may be
// before a record. One read takes many records; the value of a record that is too long for it stays in the file.

import { DamagedShard } from '../../chassis-sdk/typescript/mod.ts';
import { SYNC_BYTES, SYNC_ESCAPE, type SequenceHeader } from './header.ts';
import type { MapFileLimits } from './limits.ts';
import type { PositionedFile } from './positioned-file.ts';
import type { SegmentParts } from './segment.ts';
import { compareBytes } from './writable.ts';

/** A record: offsets from the start of a page. */
interface RecordHead {
  readonly keyStart: number;
  readonly keyEnd: number;
  readonly end: number;
}

/**
 * Reads records from `position`, as many as fit in one read, at least one.
 * @param limit a position where a record starts, or the end of the file; no record may cross it
 * @throws DamagedShard
 */
export async function readPage(
  file: PositionedFile,
  header: SequenceHeader,
  limits: MapFileLimits,
  position: number,
  limit: number,
): Promise<SegmentParts> {
  const room = limit - position;
  const heads: RecordHead[] = [];
  let bytes = await file.read(position, Math.min(room, limits.pageBytes));
  let at = 0;
  let isFar = false;
  while (at < room && !isFar) {
    const head = readHead(bytes, at, room, header.sync, limits);
    if (head === 'sync at the end') at = room;
    else if (head === 'beyond') break;
    else if (head.keyEnd > bytes.length) {
      if (heads.length > 0) break;
      bytes = await file.read(position, head.keyEnd);
      continue;
    } else if (head.end > bytes.length && heads.length > 0 && head.end - at <= limits.pageBytes) break;
    else {
      isFar = head.end > bytes.length;
      heads.push(head);
      at = head.end;
    }
  }
  const last = heads.at(-1);
  const far =
    isFar && last !== undefined ? { position: position + last.keyEnd, bytes: last.end - last.keyEnd } : undefined;
  // What is behind the last whole record is read again with the next page.
  const kept = Math.min(bytes.length, far === undefined ? at : (last as RecordHead).keyEnd);
  // A small rest would keep the memory of the whole read.
  const held = kept * 2 < bytes.length ? Buffer.from(bytes.subarray(0, kept)) : bytes.subarray(0, kept);
  const keyEnds = Uint32Array.from(heads, ({ keyEnd }) => keyEnd);
  return {
    count: heads.length,
    keys: held,
    keyStarts: Uint32Array.from(heads, ({ keyStart }) => keyStart),
    keyEnds,
    values: held,
    valueStarts: keyEnds,
    valueEnds: Uint32Array.from(heads, ({ end }) => end),
    far,
    start: position,
    end: position + at,
  };
}

/** Reads the head of the record at `start`; 'beyond' when it is not wholly in `bytes`. */
function readHead(
  bytes: Buffer,
  start: number,
  room: number,
  sync: Buffer,
  { keyBytesMax }: MapFileLimits,
): RecordHead | 'beyond' | 'sync at the end' {
  const isCut = (end: number): boolean => {
    if (end > room) throw new DamagedShard(`a record is cut off ${room - start} bytes after its start`);
    return end > bytes.length;
  };
  let at = start;
  if (isCut(at + 4)) return 'beyond';
  let length = bytes.readInt32BE(at);
  if (length === SYNC_ESCAPE) {
    if (isCut(at + 4 + SYNC_BYTES)) return 'beyond';
    if (compareBytes(bytes, at + 4, at + 4 + SYNC_BYTES, sync, 0, SYNC_BYTES) !== 0)
      throw new DamagedShard('a sync mark differs from the one in the header');
    at += 4 + SYNC_BYTES;
    if (at === room) return 'sync at the end';
    if (isCut(at + 4)) return 'beyond';
    length = bytes.readInt32BE(at);
  }
  if (length < 0) throw new DamagedShard(`a record has length ${length}`);
  if (isCut(at + 8)) return 'beyond';
  const keyLength = bytes.readInt32BE(at + 4);
  if (keyLength < 0 || keyLength > length)
    throw new DamagedShard(`a record of ${length} bytes has a key of ${keyLength} bytes`);
  if (keyLength > keyBytesMax) throw new DamagedShard(`a key has ${keyLength} bytes, at most ${keyBytesMax} are read`);
  const keyStart = at + 8;
  if (keyStart + length > room)
    throw new DamagedShard(`a record of ${length} bytes reaches beyond the next entry of the index, or the end`);
  return { keyStart, keyEnd: keyStart + keyLength, end: keyStart + length };
}
