// Strict-binary Thrift at the level of single values: a writer into a growing buffer, and a reader that checks every
// declared size against the remaining bytes before it allocates. It knows nothing of IDL types; core/idl/coder.ts
// does.

import type { Type } from './model.ts';
import { writeCachedString } from './string-cache.ts';
import { WIRE_TYPE as WIRE } from './struct-scanner.ts';
import { strictText } from './text.ts';

/**
 * Maximum nesting of structs and containers, for reading and writing. It is the highest that `limits.nesting` may be:
 * the limit that is set is checked where a message arrives, and this one keeps recursion from using up the stack.
 */
export const DEPTH_MAX = 1_000;
/** Steps of a path in an error; those in the middle of a longer one are left out. */
const STEPS_SHOWN_MAX = 32;
/**
 * Maximum bytes of an encoded value. Receivers have lower limits; this one bounds the expansion of default values.
 */
export const ENCODED_BYTES_MAX: number = 64 * 1024 * 1024;
/**
 * Maximum structs, containers and defaults in one decoded value. One byte on the wire can take 50 bytes of memory.
 */
export const DECODED_PARTS_MAX = 1_000_000;

export const WIRE_OF_KIND: Readonly<Record<Type['kind'], number>> = {
  void: WIRE.stop,
  bool: WIRE.bool,
  i8: WIRE.i8,
  i16: WIRE.i16,
  i32: WIRE.i32,
  i64: WIRE.i64,
  double: WIRE.double,
  string: WIRE.string,
  binary: WIRE.string,
  uuid: WIRE.uuid,
  enum: WIRE.i32,
  struct: WIRE.struct,
  list: WIRE.list,
  set: WIRE.set,
  map: WIRE.map,
};

/** Returns the name of a wire type, for error messages. */
export function wireName(wire: number): string {
  return Object.entries(WIRE).find(([, value]) => value === wire)?.[0] ?? `unknown type ${wire}`;
}

/**
 * An invalid value. Each level adds a step to the path while the error propagates; the entry point converts it to a
 * KatamariError.
 */
export class WireError extends Error {
  readonly what: string;
  readonly isTooLarge: boolean;
  /** Steps of the path, innermost first: `.name`, `[3]`. */
  readonly path: string[] = [];

  constructor(what: string, isTooLarge = false) {
    super(what);
    this.what = what;
    this.isTooLarge = isTooLarge;
  }

  /** Returns the path below a root (`params`, or '' for none) and the problem. */
  describe(root: string, otherwise: string): string {
    const steps = this.path.toReversed();
    // The path to a value that is nested too deep has hundreds of steps.
    if (steps.length > STEPS_SHOWN_MAX) steps.splice(STEPS_SHOWN_MAX / 2, steps.length - STEPS_SHOWN_MAX, '...');
    const path = root + steps.join('');
    return `${path.replace(/^\./, '') || otherwise}: ${this.what}`;
  }
}

/** Returns the thrown value with one more step of the path, for rethrowing. */
export function at(thrown: unknown, step: string): unknown {
  if (thrown instanceof WireError) thrown.path.push(step);
  return thrown;
}

export class BinaryWriter {
  buffer: Buffer;
  view: DataView;
  position = 0;
  depth = 0;

  constructor(bytes: number = SCRATCH_BYTES) {
    this.buffer = Buffer.allocUnsafe(bytes);
    this.view = viewOf(this.buffer);
  }

  reset(): void {
    this.position = 0;
    this.depth = 0;
    // The buffer of one huge message must not be kept forever.
    if (this.buffer.length > SCRATCH_BYTES_KEPT) this.#resize(SCRATCH_BYTES);
  }

  /** Returns the written bytes: a copy, or the buffer itself if they are many, in which case the writer drops it. */
  finish(): Buffer {
    if (this.buffer.length <= SCRATCH_BYTES_KEPT || this.position * 2 < this.buffer.length)
      return copyOf(this.buffer, 0, this.position);
    const written = this.buffer.subarray(0, this.position);
    this.#resize(SCRATCH_BYTES);
    return written;
  }

  enter(): void {
    if (++this.depth > DEPTH_MAX) throw new WireError(`values are nested deeper than ${DEPTH_MAX} levels`);
  }

  leave(): void {
    this.depth--;
  }

  ensure(bytes: number): void {
    const wanted = this.position + bytes;
    if (wanted <= this.buffer.length) return;
    if (wanted > ENCODED_BYTES_MAX)
      throw new WireError(`the value is longer than ${ENCODED_BYTES_MAX} bytes, the limit`, true);
    const old = this.buffer;
    // At least a stop byte follows a long string.
    this.#resize(Math.min(ENCODED_BYTES_MAX, Math.max(wanted + SLACK_BYTES, old.length * 2)));
    old.copy(this.buffer, 0, 0, this.position);
  }

  byte(value: number): void {
    this.ensure(1);
    this.buffer[this.position++] = value;
  }

  i16(value: number): void {
    this.ensure(2);
    this.view.setInt16(this.position, value);
    this.position += 2;
  }

  i32(value: number): void {
    this.ensure(4);
    this.view.setInt32(this.position, value);
    this.position += 4;
  }

  i64(value: bigint): void {
    this.ensure(8);
    this.view.setBigInt64(this.position, value);
    this.position += 8;
  }

  /** Writes an integer that a double holds exactly, without a bigint. */
  i64Number(value: number): void {
    this.ensure(8);
    this.view.setInt32(this.position, Math.floor(value / 2 ** 32));
    this.view.setUint32(this.position + 4, value >>> 0);
    this.position += 8;
  }

  double(value: number): void {
    this.ensure(8);
    this.view.setFloat64(this.position, value);
    this.position += 8;
  }

  fieldHead(wire: number, id: number): void {
    this.ensure(3);
    this.buffer[this.position] = wire;
    this.view.setInt16(this.position + 1, id);
    this.position += 3;
  }

  string(text: string): void {
    const { length } = text;
    // A UTF-16 unit takes at most three bytes of UTF-8. The exact count takes a pass over the string, so it is
    // computed only for long strings, for which this bound is far too high.
    this.ensure(4 + (length > EXACT_FROM ? Buffer.byteLength(text) : length * 3));
    const start = this.position + 4;
    const written = writeCachedString(this.buffer, start, text);
    if (written !== length && LONE_SURROGATE.test(text)) {
      throw new WireError('expected text, got half a surrogate pair, which UTF-8 cannot carry');
    }
    this.view.setInt32(this.position, written);
    this.position = start + written;
  }

  bytes(bytes: Uint8Array): void {
    this.ensure(4 + bytes.byteLength);
    this.view.setInt32(this.position, bytes.byteLength);
    this.buffer.set(bytes, this.position + 4);
    this.position += 4 + bytes.byteLength;
  }

  /** Writes bytes that are already encoded. */
  raw(bytes: Uint8Array): void {
    this.ensure(bytes.byteLength);
    this.buffer.set(bytes, this.position);
    this.position += bytes.byteLength;
  }

  /** Writes base64 text as binary. Returns false if the text is not the canonical base64 of its bytes. */
  base64(text: string): boolean {
    const bytes = Buffer.from(text, 'base64');
    if (bytes.toString('base64') !== text) return false;
    this.bytes(bytes);
    return true;
  }

  /** Returns the bytes written since `start` as a string key, equal for equal bytes. */
  keyFrom(start: number): string {
    return this.buffer.toString('latin1', start, this.position);
  }

  #resize(bytes: number): void {
    this.buffer = Buffer.allocUnsafe(bytes);
    this.view = viewOf(this.buffer);
  }
}

export class BinaryReader {
  readonly buffer: Buffer;
  readonly end: number;
  position = 0;
  depth = 0;
  #parts = 0;

  constructor(bytes: Uint8Array) {
    this.buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.end = bytes.byteLength;
  }

  enter(): void {
    if (++this.depth > DEPTH_MAX) throw new WireError(`values are nested deeper than ${DEPTH_MAX} levels`);
    this.spend(1);
  }

  leave(): void {
    this.depth--;
  }

  /** Counts decoded parts, so that a small message cannot take much memory. */
  spend(parts: number): void {
    this.#parts += parts;
    if (this.#parts > DECODED_PARTS_MAX)
      throw new WireError(`more than ${DECODED_PARTS_MAX} values in one message`, true);
  }

  byte(): number {
    if (this.position >= this.end) this.#short(1);
    return this.buffer[this.position++] as number;
  }

  i8(): number {
    return (this.byte() << 24) >> 24;
  }

  i16(): number {
    const from = this.#take(2);
    const { buffer } = this;
    return (((buffer[from] as number) << 24) >> 16) | (buffer[from + 1] as number);
  }

  i32(): number {
    return this.#int32(this.#take(4));
  }

  i64(): bigint {
    const from = this.#take(8);
    return this.buffer.readBigInt64BE(from);
  }

  /** Returns a number if a double holds the value exactly, otherwise a bigint. */
  i64Number(): number | bigint {
    const from = this.#take(8);
    const value = this.#int32(from) * 2 ** 32 + (this.#int32(from + 4) >>> 0);
    return Number.isSafeInteger(value) ? value : this.buffer.readBigInt64BE(from);
  }

  double(): number {
    const from = this.#take(8);
    return this.buffer.readDoubleBE(from);
  }

  string(): string {
    const length = this.size(1);
    const from = this.position;
    const end = from + length;
    this.position = end;
    if (length <= SHORT_STRING) {
      const text = this.#ascii(from, end);
      if (text !== undefined) return text;
    }
    const text = strictText(this.buffer, from, end);
    if (text === undefined) throw new WireError('expected text in UTF-8, got other bytes');
    return text;
  }

  /** Returns a copy, because the buffer of the message may be reused, or be much larger. */
  binary(): Buffer {
    const length = this.size(1);
    const from = this.position;
    this.position += length;
    return copyOf(this.buffer, from, this.position);
  }

  base64(): string {
    const length = this.size(1);
    const from = this.position;
    this.position += length;
    return this.buffer.toString('base64', from, this.position);
  }

  hex(bytes: number): string {
    const from = this.#take(bytes);
    return this.buffer.toString('hex', from, from + bytes);
  }

  /** Reads a count of items of at least `bytesEach` bytes, and checks it against the remaining bytes. */
  size(bytesEach: number): number {
    const size = this.i32();
    const left = this.end - this.position;
    if (size >= 0 && size * bytesEach <= left) return size;
    throw new WireError(`a size of ${size} is declared, but ${left} bytes are left`);
  }

  /** Returns the size that `size` would read; 0 if it is not there. */
  nextSize(): number {
    return this.position + 4 <= this.end ? this.#int32(this.position) : 0;
  }

  keyFrom(start: number): string {
    return this.buffer.toString('latin1', start, this.position);
  }

  /** Skips a value of any type, with the same checks of size and depth. */
  skip(wire: number): void {
    switch (wire) {
      case WIRE.bool:
      case WIRE.i8:
        this.#take(1);
        return;
      case WIRE.i16:
        this.#take(2);
        return;
      case WIRE.i32:
        this.#take(4);
        return;
      case WIRE.i64:
      case WIRE.double:
        this.#take(8);
        return;
      case WIRE.uuid:
        this.#take(16);
        return;
      case WIRE.string: {
        const length = this.size(1);
        this.position += length;
        return;
      }
      case WIRE.struct:
        this.#enterSkipped();
        for (let inner = this.byte(); inner !== WIRE.stop; inner = this.byte()) {
          this.i16();
          this.skip(inner);
        }
        this.leave();
        return;
      case WIRE.list:
      case WIRE.set: {
        this.#enterSkipped();
        const inner = this.byte();
        for (let left = this.size(minimumBytes(inner)); left > 0; left--) this.skip(inner);
        this.leave();
        return;
      }
      case WIRE.map: {
        this.#enterSkipped();
        const key = this.byte();
        const value = this.byte();
        for (let left = this.size(minimumBytes(key) + minimumBytes(value)); left > 0; left--) {
          this.skip(key);
          this.skip(value);
        }
        this.leave();
        return;
      }
      default:
        throw new WireError(`type ${wire} is not a Thrift wire type`);
    }
  }

  /** Skipped values count towards the depth but not towards memory. */
  #enterSkipped(): void {
    if (++this.depth > DEPTH_MAX) throw new WireError(`values are nested deeper than ${DEPTH_MAX} levels`);
  }

  #int32(from: number): number {
    const { buffer } = this;
    const high = ((buffer[from] as number) << 24) | ((buffer[from + 1] as number) << 16);
    return high | ((buffer[from + 2] as number) << 8) | (buffer[from + 3] as number);
  }

  #take(bytes: number): number {
    const from = this.position;
    if (from + bytes > this.end) this.#short(bytes);
    this.position = from + bytes;
    return from;
  }

  #short(bytes: number): never {
    throw new WireError(
      `the bytes end in the middle: ${bytes} more were expected, ${this.end - this.position} are left`,
    );
  }

  #ascii(from: number, end: number): string | undefined {
    const { buffer } = this;
    let text = '';
    for (let i = from; i < end; i++) {
      const code = buffer[i] as number;
      if (code > 127) return undefined;
      text += String.fromCharCode(code);
    }
    return text;
  }
}

/** Returns the minimum bytes of a value of this wire type. */
export function minimumBytes(wire: number): number {
  return MINIMUM_BYTES[wire] ?? 1;
}

const MINIMUM_BYTES: readonly number[] = [1, 1, 1, 1, 8, 1, 2, 1, 4, 1, 8, 4, 1, 6, 5, 5, 16];
const SCRATCH_BYTES = 64 * 1024;
const SLACK_BYTES = 1024;
const SCRATCH_BYTES_KEPT = 256 * 1024;
/**
 * Up to this length a loop is faster than a call into the runtime. For 16 bytes the loop takes over twice as long.
 */
const SHORT_STRING = 8;
const EXACT_FROM = 16 * 1024;
const LONE_SURROGATE = /\p{Surrogate}/u;

function copyOf(bytes: Buffer, start: number, end: number): Buffer {
  const copy = Buffer.allocUnsafe(end - start);
  bytes.copy(copy, 0, start, end);
  return copy;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
