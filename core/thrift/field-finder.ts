// Finds one scalar field of a struct in its strict-binary bytes, as text, without decoding the rest: it skips the other
// fields by their size. The text is that of JSON-RPC, with the number of an enum and digits for i64, so that equal
// values have equal texts. Bytes that are no struct have no field. core/idl/field-path.ts compiles names to ids.

import { DEPTH_MAX, WIRE_OF_KIND } from './binary.ts';
import type { Type } from './model.ts';
import { fixedSize, StructScanner, WIRE_TYPE } from './struct-scanner.ts';

/** Types that have one short text for each value. A double has no such text, nor has a struct or a container. */
export type FoundKind = Exclude<Type['kind'], 'void' | 'double' | 'struct' | 'list' | 'set' | 'map'>;

export class FieldFinder {
  readonly #ids: readonly number[];
  readonly #kind: FoundKind;
  readonly #wire: number;
  readonly #scanner = new StructScanner(DEPTH_MAX, Number.POSITIVE_INFINITY);

  /** @param ids of the fields on the way to the value, the last of which has the given type */
  constructor(ids: readonly number[], kind: FoundKind) {
    this.#ids = ids;
    this.#kind = kind;
    this.#wire = WIRE_OF_KIND[kind];
  }

  /** Equal for finders that find the same in the same bytes. */
  get signature(): string {
    return `${this.#ids.join('.')} ${this.#kind}`;
  }

  /**
   * Returns the value as text; '' if the field is missing, empty or of another type. Of a long value only the first
   * FOUND_BYTES_MAX bytes count. Never throws.
   */
  find(struct: Uint8Array): string {
    const bytes = Buffer.isBuffer(struct) ? struct : Buffer.from(struct.buffer, struct.byteOffset, struct.byteLength);
    const ids = this.#ids;
    const last = ids.length - 1;
    const end = bytes.length;
    let [at, step] = [0, 0];
    while (end - at >= 3) {
      const type = bytes[at] as number;
      if (type === WIRE_TYPE.stop) return '';
      const id = (((bytes[at + 1] as number) << 24) >> 16) | (bytes[at + 2] as number);
      at += 3;
      if (id !== ids[step]) {
        at = this.#skip(type, bytes, at, end);
        if (at === -1) return '';
      } else if (step === last) {
        return type === this.#wire ? this.#read(bytes, at, end) : '';
      } else {
        if (type !== WIRE_TYPE.struct) return '';
        step++;
      }
    }
    return '';
  }

  /** Returns the offset after a value; -1 if it is malformed or does not end. */
  #skip(type: number, bytes: Buffer, at: number, end: number): number {
    const size = fixedSize(type);
    if (size > 0) return at + size;
    if (type === WIRE_TYPE.string) {
      if (end - at < 4) return -1;
      const length = int32(bytes, at);
      return length < 0 ? -1 : at + 4 + length;
    }
    try {
      this.#scanner.reset(type);
      return this.#scanner.scan(bytes, at, end);
    } catch {
      return -1;
    }
  }

  #read(bytes: Buffer, at: number, end: number): string {
    const kind = this.#kind;
    if (kind === 'string' || kind === 'binary') {
      if (end - at < 4) return '';
      const length = int32(bytes, at);
      if (length <= 0 || end - at - 4 < length) return '';
      return kind === 'string' ? textAt(bytes, at + 4, length) : base64At(bytes, at + 4, length);
    }
    if (end - at < fixedSize(this.#wire)) return '';
    switch (kind) {
      case 'bool':
        return bytes[at] === 0 ? 'false' : 'true';
      case 'i8':
        return String(bytes.readInt8(at));
      case 'i16':
        return String(bytes.readInt16BE(at));
      case 'i32':
      case 'enum':
        return String(int32(bytes, at));
      case 'i64':
        return int64(bytes, at);
      case 'uuid':
        return bytes.toString('hex', at, at + 16).replace(UUID_PARTS, '$1-$2-$3-$4-$5');
    }
  }
}

/** The begin of a longer text ends before the character that the limit would cut. */
function textAt(bytes: Buffer, at: number, length: number): string {
  if (length <= FOUND_BYTES_MAX) return bytes.toString('utf8', at, at + length);
  let end = at + FOUND_BYTES_MAX;
  for (let back = 0; back < 3 && ((bytes[end] as number) & 0xc0) === 0x80; back++) end--;
  return bytes.toString('utf8', at, end);
}

function base64At(bytes: Buffer, at: number, length: number): string {
  return bytes.toString('base64', at, at + Math.min(length, FOUND_BYTES_MAX));
}

function int32(bytes: Buffer, at: number): number {
  const high = ((bytes[at] as number) << 24) | ((bytes[at + 1] as number) << 16);
  return high | ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number);
}

function int64(bytes: Buffer, at: number): string {
  const value = int32(bytes, at) * 2 ** 32 + (int32(bytes, at + 4) >>> 0);
  return Number.isSafeInteger(value) ? String(value) : String(bytes.readBigInt64BE(at));
}

/** As long as a sticky key in a rule may be. */
export const FOUND_BYTES_MAX = 1_000;
const UUID_PARTS = /^(.{8})(.{4})(.{4})(.{4})(.{12})$/;
