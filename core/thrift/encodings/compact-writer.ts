// Converts a strict-binary struct to the compact protocol. The struct was validated when it was read, including its
// depth, so its sizes are trusted.

import { KatamariError } from '../../mod.ts';
import { BinaryWriter, WIRE_TYPE } from '../mod.ts';
import { COMPACT_TYPE } from './compact-reader.ts';

/** Wire types of compact by those of strict binary. */
const COMPACT_OF_WIRE: ReadonlyMap<number, number> = new Map([
  [WIRE_TYPE.bool, COMPACT_TYPE.true],
  [WIRE_TYPE.i8, COMPACT_TYPE.i8],
  [WIRE_TYPE.i16, COMPACT_TYPE.i16],
  [WIRE_TYPE.i32, COMPACT_TYPE.i32],
  [WIRE_TYPE.i64, COMPACT_TYPE.i64],
  [WIRE_TYPE.double, COMPACT_TYPE.double],
  [WIRE_TYPE.string, COMPACT_TYPE.string],
  [WIRE_TYPE.list, COMPACT_TYPE.list],
  [WIRE_TYPE.set, COMPACT_TYPE.set],
  [WIRE_TYPE.map, COMPACT_TYPE.map],
  [WIRE_TYPE.struct, COMPACT_TYPE.struct],
  [WIRE_TYPE.uuid, COMPACT_TYPE.uuid],
]);

/** Appends the struct to `out`. @throws KatamariError bad_request if `body` is not a valid struct */
export function writeCompactStruct(body: Uint8Array, out: BinaryWriter): void {
  new CompactWriter(body, out).struct();
}

/** Writes an unsigned 32-bit number as a varint. */
export function writeVarint(out: BinaryWriter, value: number): void {
  let rest = value >>> 0;
  while (rest > 0x7f) {
    out.byte((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  out.byte(rest);
}

class CompactWriter {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #out: BinaryWriter;
  #at = 0;

  constructor(bytes: Uint8Array, out: BinaryWriter) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#out = out;
  }

  struct(): void {
    const out = this.#out;
    let lastId = 0;
    for (;;) {
      const wire = this.#byte();
      if (wire === WIRE_TYPE.stop) break;
      const id = this.#view.getInt16(this.#at);
      this.#at += 2;
      let type = compactOf(wire);
      if (wire === WIRE_TYPE.bool) type = this.#byte() === 0 ? COMPACT_TYPE.false : COMPACT_TYPE.true;
      const step = id - lastId;
      if (step > 0 && step <= 15) {
        out.byte((step << 4) | type);
      } else {
        out.byte(type);
        writeVarint(out, (id << 1) ^ (id >> 31));
      }
      lastId = id;
      if (wire !== WIRE_TYPE.bool) this.#value(wire);
    }
    out.byte(0);
  }

  #value(wire: number): void {
    const out = this.#out;
    switch (wire) {
      case WIRE_TYPE.bool:
        out.byte(this.#byte() === 0 ? COMPACT_TYPE.false : COMPACT_TYPE.true);
        return;
      case WIRE_TYPE.i8:
        out.byte(this.#byte());
        return;
      case WIRE_TYPE.i16: {
        const value = this.#view.getInt16(this.#at);
        this.#at += 2;
        writeVarint(out, (value << 1) ^ (value >> 31));
        return;
      }
      case WIRE_TYPE.i32: {
        const value = this.#i32();
        writeVarint(out, (value << 1) ^ (value >> 31));
        return;
      }
      case WIRE_TYPE.i64:
        this.#i64();
        return;
      case WIRE_TYPE.double:
        out.ensure(8);
        for (let n = 7; n >= 0; n--) out.buffer[out.position++] = this.#bytes[this.#at + n] as number;
        this.#at += 8;
        return;
      case WIRE_TYPE.uuid:
        out.raw(this.#take(16));
        return;
      case WIRE_TYPE.string: {
        const length = this.#i32();
        writeVarint(out, length);
        out.raw(this.#take(length));
        return;
      }
      case WIRE_TYPE.struct:
        this.struct();
        return;
      case WIRE_TYPE.map:
        this.#map();
        return;
      default:
        this.#list();
    }
  }

  #list(): void {
    const wire = this.#byte();
    const count = this.#i32();
    // An empty list may have no element type.
    const type = count === 0 ? (COMPACT_OF_WIRE.get(wire) ?? COMPACT_TYPE.i8) : compactOf(wire);
    if (count < 15) {
      this.#out.byte((count << 4) | type);
    } else {
      this.#out.byte(0xf0 | type);
      writeVarint(this.#out, count);
    }
    for (let n = 0; n < count; n++) this.#value(wire);
  }

  #map(): void {
    const [key, value] = [this.#byte(), this.#byte()];
    const count = this.#i32();
    writeVarint(this.#out, count);
    if (count === 0) return;
    this.#out.byte((compactOf(key) << 4) | compactOf(value));
    for (let n = 0; n < count; n++) {
      this.#value(key);
      this.#value(value);
    }
  }

  #i64(): void {
    const high = this.#i32();
    const low = this.#i32();
    const sign = high >> 31;
    let restLow = ((low << 1) ^ sign) >>> 0;
    let restHigh = (((high << 1) | (low >>> 31)) ^ sign) >>> 0;
    while (restHigh > 0) {
      this.#out.byte((restLow & 0x7f) | 0x80);
      restLow = ((restLow >>> 7) | (restHigh << 25)) >>> 0;
      restHigh >>>= 7;
    }
    writeVarint(this.#out, restLow);
  }

  #byte(): number {
    return this.#take(1)[0] as number;
  }

  #i32(): number {
    const value = this.#view.getInt32(this.#at);
    this.#at += 4;
    return value;
  }

  #take(bytes: number): Uint8Array {
    const taken = this.#bytes.subarray(this.#at, this.#at + bytes);
    if (taken.length < bytes) throw new KatamariError('bad_request', 'The struct ends before its stop byte');
    this.#at += bytes;
    return taken;
  }
}

function compactOf(wire: number): number {
  const type = COMPACT_OF_WIRE.get(wire);
  if (type !== undefined) return type;
  throw new KatamariError('bad_request', `Type ${wire} is not a Thrift type`);
}
