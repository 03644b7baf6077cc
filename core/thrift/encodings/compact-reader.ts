// Converts a struct of the compact protocol to strict binary, token by token, without an IDL or an intermediate tree.
// It is resumable: bytes that were read once are not read again when more arrive. Limits as in StructScanner: depth,
// and bytes of input and of output, because one byte of input can become eight of output. A declared size is checked
// against the bytes that may still follow.

import { KatamariError } from '../../mod.ts';
import { BinaryWriter, NOTHING, declaredSize, tooDeep, tooLarge, WIRE_TYPE } from '../mod.ts';
import type { EncodingLimits } from './encoding.ts';

/** Wire types of the compact protocol. The type of a bool field contains its value. */
export const COMPACT_TYPE = {
  true: 1,
  false: 2,
  i8: 3,
  i16: 4,
  i32: 5,
  i64: 6,
  double: 7,
  string: 8,
  list: 9,
  set: 10,
  map: 11,
  struct: 12,
  uuid: 13,
} as const;

/** Wire types of strict binary by those of compact; 0 if there is none. */
const WIRE_OF_COMPACT: readonly number[] = [
  0,
  WIRE_TYPE.bool,
  WIRE_TYPE.bool,
  WIRE_TYPE.i8,
  WIRE_TYPE.i16,
  WIRE_TYPE.i32,
  WIRE_TYPE.i64,
  WIRE_TYPE.double,
  WIRE_TYPE.string,
  WIRE_TYPE.list,
  WIRE_TYPE.set,
  WIRE_TYPE.map,
  WIRE_TYPE.struct,
  WIRE_TYPE.uuid,
];

/** Reads one struct. Call `reset` before each. */
export class CompactReader {
  readonly #depthMax: number;
  readonly #bytesMax: number;
  /**
   * Per level: its compact type, types of keys and values or of elements, remaining values, id of the previous field.
   */
  readonly #kind: number[] = [];
  readonly #first: number[] = [];
  readonly #second: number[] = [];
  readonly #left: number[] = [];
  readonly #lastId: number[] = [];
  #depth = -1;
  /** Type of the next value; 0 if it is not known yet. */
  #pending: number = COMPACT_TYPE.struct;
  /** Bytes of the struct read so far. */
  #position = 0;
  #out: BinaryWriter | undefined;
  readonly #varint = new Varint();

  constructor({ nestingMax, frameBytesMax }: EncodingLimits) {
    this.#depthMax = nestingMax;
    this.#bytesMax = frameBytesMax;
  }

  reset(): void {
    this.#depth = -1;
    this.#pending = COMPACT_TYPE.struct;
    this.#position = 0;
    this.#out = undefined;
  }

  /** Returns the struct in strict binary. Call it once, after `read` has found the end. */
  take(): Uint8Array {
    const out = this.#out;
    this.#out = undefined;
    return out === undefined ? NOTHING : out.buffer.subarray(0, out.position);
  }

  /**
   * Continues to read the struct that begins at `start`. Call it again with the same `start` and a later `end` when
   * more bytes have arrived.
   * @returns the offset after the struct, or -1 if it is incomplete.
   * @throws KatamariError bad_request (malformed, too deep) or too_large
   */
  read(bytes: Buffer, start: number, end: number): number {
    const out = (this.#out ??= new BinaryWriter(FIRST_BYTES));
    let at = start + this.#position;
    for (;;) {
      if (out.position > this.#bytesMax) throw tooLarge(out.position, this.#bytesMax);
      const next = this.#step(out, bytes, at, end);
      if (next === -1) break;
      at = next;
      if (this.#depth < 0 && this.#pending === 0) return at;
    }
    this.#position = at - start;
    if (this.#position > this.#bytesMax) throw tooLarge(this.#position, this.#bytesMax);
    return -1;
  }

  /**
   * Reads one field head, one value, or the end of a level. Returns the offset after it. If bytes are missing,
   * returns -1 without any effect.
   */
  #step(out: BinaryWriter, bytes: Buffer, at: number, end: number): number {
    if (this.#pending !== 0) {
      const next = this.#value(this.#pending, out, bytes, at, end);
      // Entering a level reads no type. The next step reads the type of its first element or field.
      if (next !== -1) this.#pending = 0;
      return next;
    }
    const depth = this.#depth;
    if (this.#kind[depth] === COMPACT_TYPE.struct) return this.#field(out, bytes, at, end);
    const left = this.#left[depth] as number;
    if (left === 0) {
      this.#depth--;
      return at;
    }
    this.#left[depth] = left - 1;
    const isValue = this.#kind[depth] === COMPACT_TYPE.map && left % 2 === 1;
    this.#pending = (isValue ? this.#second[depth] : this.#first[depth]) as number;
    return at;
  }

  #field(out: BinaryWriter, bytes: Buffer, at: number, end: number): number {
    if (at >= end) return -1;
    const head = bytes[at] as number;
    const type = head & 0x0f;
    if (type === 0) {
      out.byte(WIRE_TYPE.stop);
      this.#depth--;
      return at + 1;
    }
    let next = at + 1;
    let id = (this.#lastId[this.#depth] as number) + (head >> 4);
    if (head >> 4 === 0) {
      next = this.#varint.read(bytes, next, end, VARINT_32_BYTES);
      if (next === -1) return -1;
      id = this.#varint.zigzag32();
    }
    if (id < -0x8000 || id > 0x7fff) throw new KatamariError('bad_request', `Field id ${id} does not fit into 16 bits`);
    this.#lastId[this.#depth] = id;
    out.fieldHead(wireOf(type), id);
    if (type <= COMPACT_TYPE.false) out.byte(type === COMPACT_TYPE.true ? 1 : 0);
    else this.#pending = type;
    return next;
  }

  #value(type: number, out: BinaryWriter, bytes: Buffer, at: number, end: number): number {
    const varint = this.#varint;
    switch (type) {
      case COMPACT_TYPE.true:
      case COMPACT_TYPE.false:
        if (at >= end) return -1;
        out.byte(bytes[at] === 1 ? 1 : 0);
        return at + 1;
      case COMPACT_TYPE.i8:
        if (at >= end) return -1;
        out.byte(bytes[at] as number);
        return at + 1;
      case COMPACT_TYPE.i16: {
        const next = varint.read(bytes, at, end, VARINT_32_BYTES);
        if (next !== -1) out.i16(varint.zigzag16());
        return next;
      }
      case COMPACT_TYPE.i32: {
        const next = varint.read(bytes, at, end, VARINT_32_BYTES);
        if (next !== -1) out.i32(varint.zigzag32());
        return next;
      }
      case COMPACT_TYPE.i64: {
        const next = varint.read(bytes, at, end, VARINT_64_BYTES);
        if (next === -1) return -1;
        const sign = -(varint.low & 1);
        out.i32((varint.high >>> 1) ^ sign);
        out.i32(((varint.low >>> 1) | (varint.high << 31)) ^ sign);
        return next;
      }
      case COMPACT_TYPE.double:
        if (end - at < 8) return -1;
        out.ensure(8);
        // Doubles of the compact protocol are little-endian.
        for (let n = 7; n >= 0; n--) out.buffer[out.position++] = bytes[at + n] as number;
        return at + 8;
      case COMPACT_TYPE.uuid:
        if (end - at < 16) return -1;
        out.raw(bytes.subarray(at, at + 16));
        return at + 16;
      case COMPACT_TYPE.string: {
        const next = varint.read(bytes, at, end, VARINT_32_BYTES);
        if (next === -1) return -1;
        const length = declaredSize(varint.low, 1, this.#bytesMax);
        if (end - next < length) return -1;
        out.bytes(bytes.subarray(next, next + length));
        return next + length;
      }
      case COMPACT_TYPE.struct:
        this.#push(type, 0, 0, 0);
        return at;
      case COMPACT_TYPE.map:
        return this.#map(out, bytes, at, end);
      default:
        return this.#list(type, out, bytes, at, end);
    }
  }

  #list(type: number, out: BinaryWriter, bytes: Buffer, at: number, end: number): number {
    if (at >= end) return -1;
    const head = bytes[at] as number;
    const element = head & 0x0f;
    let next = at + 1;
    let count = head >> 4;
    if (count === 15) {
      next = this.#varint.read(bytes, next, end, VARINT_32_BYTES);
      if (next === -1) return -1;
      count = declaredSize(this.#varint.low, 1, this.#bytesMax);
    }
    // An empty list may have no element type.
    out.byte(count === 0 ? (WIRE_OF_COMPACT[element] ?? 0) : wireOf(element));
    out.i32(count);
    if (count > 0) this.#push(type, element, 0, count);
    return next;
  }

  #map(out: BinaryWriter, bytes: Buffer, at: number, end: number): number {
    const next = this.#varint.read(bytes, at, end, VARINT_32_BYTES);
    if (next === -1) return -1;
    const count = declaredSize(this.#varint.low, 2, this.#bytesMax);
    if (count === 0) {
      // An empty map has no types in compact. Strict binary requires them, and some readers refuse invalid types even
      // for an empty map.
      out.byte(WIRE_TYPE.string);
      out.byte(WIRE_TYPE.string);
      out.i32(0);
      return next;
    }
    if (next >= end) return -1;
    const types = bytes[next] as number;
    out.byte(wireOf(types >> 4));
    out.byte(wireOf(types & 0x0f));
    out.i32(count);
    this.#push(COMPACT_TYPE.map, types >> 4, types & 0x0f, count * 2);
    return next + 1;
  }

  #push(kind: number, first: number, second: number, left: number): void {
    const depth = ++this.#depth;
    if (depth >= this.#depthMax) throw tooDeep(this.#depthMax);
    this.#kind[depth] = kind;
    this.#first[depth] = first;
    this.#second[depth] = second;
    this.#left[depth] = left;
    this.#lastId[depth] = 0;
  }
}

/** A varint as two 32-bit words, which avoids a bigint for each i64. */
export class Varint {
  low = 0;
  high = 0;

  /**
   * Reads a varint. Returns the offset after it, or -1 if bytes are missing.
   * @throws KatamariError bad_request if it is longer than `bytesMax`.
   */
  read(bytes: Buffer, at: number, end: number, bytesMax: number): number {
    let low = 0;
    let high = 0;
    for (let n = 0; n < bytesMax; n++) {
      if (at + n >= end) return -1;
      const byte = bytes[at + n] as number;
      const bits = byte & 0x7f;
      const shift = n * 7;
      if (shift < 32) low |= bits << shift;
      if (shift > 25) high |= shift < 32 ? bits >>> (32 - shift) : bits << (shift - 32);
      if (byte >= 0x80) continue;
      this.low = low;
      this.high = high;
      return at + n + 1;
    }
    throw new KatamariError(
      'bad_request',
      `A number is longer than ${bytesMax} bytes, which no value of its type needs`,
    );
  }

  zigzag32(): number {
    return (this.low >>> 1) ^ -(this.low & 1);
  }

  zigzag16(): number {
    const value = this.zigzag32();
    if (value >= -0x8000 && value <= 0x7fff) return value;
    throw new KatamariError('bad_request', `Number ${value} is declared an i16 and does not fit into 16 bits`);
  }
}

function wireOf(type: number): number {
  const wire = WIRE_OF_COMPACT[type] ?? 0;
  if (wire !== 0) return wire;
  throw new KatamariError('bad_request', `Type ${type} is not a type of the compact protocol; expected 1 to 13`);
}

export const VARINT_32_BYTES = 5;
const VARINT_64_BYTES = 10;
/** Initial buffer size; most argument structs fit. */
const FIRST_BYTES = 256;
