// Finds the end of a strict-binary struct without its IDL, and refuses malformed structs before any other code sees
// them. It is resumable: an unframed stream that delivers one byte at a time is scanned once, not once per byte. It
// does not recurse and does not allocate per value. A declared size is checked against the bytes that may still
// follow. Limits: depth and bytes, given by the caller.

import { KatamariError } from '../mod.ts';
import { declaredSize, tooDeep, tooLarge } from './struct-limits.ts';

/** Wire types of the binary protocol. */
export const WIRE_TYPE = {
  stop: 0,
  bool: 2,
  i8: 3,
  double: 4,
  i16: 6,
  i32: 8,
  i64: 10,
  string: 11,
  struct: 12,
  map: 13,
  set: 14,
  list: 15,
  uuid: 16,
} as const;

/** Scans one struct. Call `reset` before the next. */
export class StructScanner {
  readonly #depthMax: number;
  readonly #bytesMax: number;
  /** Per level: its type, and for containers the element types and the number of remaining values. */
  readonly #kind: number[] = [];
  readonly #first: number[] = [];
  readonly #second: number[] = [];
  readonly #left: number[] = [];
  #depth = -1;
  /** Type of the next value; 0 if it is not known yet. */
  #pending: number = WIRE_TYPE.struct;
  /** Bytes of the struct scanned so far. */
  #position = 0;

  constructor(depthMax: number, bytesMax: number) {
    this.#depthMax = depthMax;
    this.#bytesMax = bytesMax;
  }

  /** Prepares to scan another value: a struct, or a value of the given type. */
  reset(type: number = WIRE_TYPE.struct): void {
    this.#depth = -1;
    this.#pending = known(type);
    this.#position = 0;
  }

  /**
   * Continues to scan the struct that begins at `start`. Call it again with the same `start` and a later `end` when
   * more bytes have arrived.
   * @returns the offset after the struct's stop byte, or -1 if the struct is incomplete.
   * @throws KatamariError bad_request (malformed, too deep) or too_large.
   */
  scan(bytes: Buffer, start: number, end: number): number {
    let at = start + this.#position;
    for (;;) {
      if (this.#pending !== 0) {
        const next = this.#enter(this.#pending, bytes, at, end);
        if (next === -1) return this.#pause(at - start);
        at = next;
        this.#pending = 0;
        continue;
      }
      if (this.#depth < 0) return at;
      const depth = this.#depth;
      const kind = this.#kind[depth] as number;
      if (kind === WIRE_TYPE.struct) {
        if (at >= end) return this.#pause(at - start);
        const type = bytes[at] as number;
        if (type === WIRE_TYPE.stop) {
          at++;
          this.#depth--;
          continue;
        }
        if (end - at < 3) return this.#pause(at - start);
        at += 3;
        this.#pending = known(type);
        continue;
      }
      const left = this.#left[depth] as number;
      if (left === 0) {
        this.#depth--;
        continue;
      }
      this.#left[depth] = left - 1;
      // Keys and values of a map alternate. If the remaining count is even, a key is next.
      this.#pending = (kind === WIRE_TYPE.map && left % 2 === 1 ? this.#second[depth] : this.#first[depth]) as number;
    }
  }

  #pause(position: number): -1 {
    this.#position = position;
    if (position > this.#bytesMax) throw tooLarge(position, this.#bytesMax);
    return -1;
  }

  /**
   * Skips a scalar, or enters a struct or container. Returns the offset after the consumed bytes, or -1 if bytes are
   * missing.
   */
  #enter(type: number, bytes: Buffer, at: number, end: number): number {
    const size = fixedSize(type);
    if (size > 0) return end - at < size ? -1 : at + size;
    if (type === WIRE_TYPE.struct) {
      this.#push(type, 0, 0, 0);
      return at;
    }
    if (type === WIRE_TYPE.string) {
      if (end - at < 4) return -1;
      const length = declaredSize(bytes.readInt32BE(at), 1, this.#bytesMax);
      return end - at - 4 < length ? -1 : at + 4 + length;
    }
    if (type === WIRE_TYPE.map) {
      if (end - at < 6) return -1;
      const [key, value] = [bytes[at] as number, bytes[at + 1] as number];
      const count = bytes.readInt32BE(at + 2);
      if (count === 0) return at + 6;
      declaredSize(count, minimumSize(known(key)) + minimumSize(known(value)), this.#bytesMax);
      this.#push(type, key, value, count * 2);
      return at + 6;
    }
    if (end - at < 5) return -1;
    const element = bytes[at] as number;
    const count = bytes.readInt32BE(at + 1);
    if (count === 0) return at + 5;
    const elementSize = fixedSize(known(element));
    declaredSize(count, minimumSize(element), this.#bytesMax);
    // A list of scalars is skipped as a whole.
    if (elementSize > 0) return end - at - 5 < count * elementSize ? -1 : at + 5 + count * elementSize;
    this.#push(type, element, 0, count);
    return at + 5;
  }

  #push(kind: number, first: number, second: number, left: number): void {
    const depth = ++this.#depth;
    if (depth >= this.#depthMax) throw tooDeep(this.#depthMax);
    this.#kind[depth] = kind;
    this.#first[depth] = first;
    this.#second[depth] = second;
    this.#left[depth] = left;
  }
}

/** Returns the bytes of a scalar; 0 for types without a fixed size. */
export function fixedSize(type: number): number {
  switch (type) {
    case WIRE_TYPE.bool:
    case WIRE_TYPE.i8:
      return 1;
    case WIRE_TYPE.i16:
      return 2;
    case WIRE_TYPE.i32:
      return 4;
    case WIRE_TYPE.i64:
    case WIRE_TYPE.double:
      return 8;
    case WIRE_TYPE.uuid:
      return 16;
    default:
      return 0;
  }
}

/** Returns the minimum bytes of a value of the type. */
function minimumSize(type: number): number {
  const size = fixedSize(type);
  if (size > 0) return size;
  if (type === WIRE_TYPE.struct) return 1;
  if (type === WIRE_TYPE.string) return 4;
  return type === WIRE_TYPE.map ? 6 : 5;
}

function known(type: number): number {
  if (fixedSize(type) > 0 || (type >= WIRE_TYPE.string && type <= WIRE_TYPE.list)) return type;
  throw new KatamariError('bad_request', `Type ${type} is not a Thrift type; expected 2, 3, 4, 6, 8 or 10 to 16`);
}
