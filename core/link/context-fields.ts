// The fields of a CallContext or a ReplyContext on the wire: a writer into memory that is used again, and a reader that
// checks every step.

import { KatamariError } from '../mod.ts';
import {
  bytesOfText,
  hasEscapes,
  readCachedString,
  StructScanner,
  textOfBytes,
  WIRE_TYPE,
  writeCachedString,
} from '../thrift/mod.ts';

/** Writes the header of field 32767 and the fields of its struct into one shared scratch buffer. */
export class FieldWriter {
  #at = 3;

  constructor() {
    scratch[0] = WIRE_TYPE.struct;
    scratch[1] = 0x7f;
    scratch[2] = 0xff;
  }

  i64(id: number, value: number): void {
    this.#field(WIRE_TYPE.i64, id, 8);
    // Write numbers up to 2^53 as a high and a low word, which avoids a bigint per call.
    scratch.writeUInt32BE(Math.floor(value / 2 ** 32), this.#at);
    scratch.writeUInt32BE(value % 2 ** 32, this.#at + 4);
    this.#at += 8;
  }

  i32(id: number, value: number): void {
    this.#field(WIRE_TYPE.i32, id, 4);
    this.#at = scratch.writeInt32BE(value, this.#at);
  }

  double(id: number, value: number): void {
    this.#field(WIRE_TYPE.double, id, 8);
    this.#at = scratch.writeDoubleBE(value, this.#at);
  }

  bool(id: number, value: boolean): void {
    this.#field(WIRE_TYPE.bool, id, 1);
    scratch[this.#at++] = value ? 1 : 0;
  }

  string(id: number, value: string): void {
    this.#field(WIRE_TYPE.string, id, 0);
    this.#text(value);
  }

  strings(id: number, values: readonly string[]): void {
    this.#field(WIRE_TYPE.list, id, 5);
    scratch[this.#at++] = WIRE_TYPE.string;
    this.#at = scratch.writeInt32BE(values.length, this.#at);
    for (const value of values) this.#text(value);
  }

  stringMap(id: number, entries: readonly (readonly [string, string])[]): void {
    this.#field(WIRE_TYPE.map, id, 6);
    scratch[this.#at++] = WIRE_TYPE.string;
    scratch[this.#at++] = WIRE_TYPE.string;
    this.#at = scratch.writeInt32BE(entries.length, this.#at);
    for (const [key, value] of entries) {
      this.#text(key);
      this.#text(value);
    }
  }

  /** Returns a copy of the fields, with the stop byte. */
  finish(): Buffer {
    reserve(this.#at + 1);
    scratch[this.#at++] = WIRE_TYPE.stop;
    const out = Buffer.allocUnsafe(this.#at);
    scratch.copy(out, 0, 0, this.#at);
    return out;
  }

  #field(type: number, id: number, valueBytes: number): void {
    reserve(this.#at + 3 + valueBytes);
    scratch[this.#at] = type;
    scratch[this.#at + 1] = 0;
    scratch[this.#at + 2] = id;
    this.#at += 3;
  }

  #text(value: string): void {
    // A UTF-16 unit takes at most three bytes of UTF-8.
    reserve(this.#at + 4 + value.length * 3);
    let bytes = writeCachedString(scratch, this.#at + 4, value);
    // Headers may contain bytes that are no UTF-8.
    if (bytes !== value.length && hasEscapes(value)) bytes = bytesOfText(value).copy(scratch, this.#at + 4);
    scratch.writeInt32BE(bytes, this.#at);
    this.#at += 4 + bytes;
  }
}

let scratch = Buffer.allocUnsafe(512);

function reserve(bytes: number): void {
  if (scratch.length >= bytes) return;
  const grown = Buffer.allocUnsafe(bytes * 2);
  scratch.copy(grown);
  scratch = grown;
}

/** Reads the fields of a struct in sequence. Checks every step against the end of the bytes. */
export class FieldReader {
  readonly #bytes: Buffer;
  at: number;
  type = 0;
  id = 0;

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes;
    this.at = at;
  }

  /** Moves to the next field; returns false at the stop byte, which is consumed. */
  next(): boolean {
    this.#need(1);
    this.type = this.#bytes[this.at++] as number;
    if (this.type === WIRE_TYPE.stop) return false;
    this.#need(2);
    this.id = this.#bytes.readInt16BE(this.at);
    this.at += 2;
    return true;
  }

  i64(): number {
    this.#expect(WIRE_TYPE.i64, 8);
    const value = this.#bytes.readInt32BE(this.at) * 2 ** 32 + this.#bytes.readUInt32BE(this.at + 4);
    this.at += 8;
    return value;
  }

  i32(): number {
    this.#expect(WIRE_TYPE.i32, 4);
    const value = this.#bytes.readInt32BE(this.at);
    this.at += 4;
    return value;
  }

  double(): number {
    this.#expect(WIRE_TYPE.double, 8);
    const value = this.#bytes.readDoubleBE(this.at);
    this.at += 8;
    return value;
  }

  bool(): boolean {
    this.#expect(WIRE_TYPE.bool, 1);
    return this.#bytes[this.at++] !== 0;
  }

  string(): string {
    this.#expect(WIRE_TYPE.string, 4);
    return this.#text();
  }

  /** Reads a string that other calls repeat, from the string cache. */
  recurring(): string {
    this.#expect(WIRE_TYPE.string, 4);
    const end = this.#end();
    const text = readCachedString(this.#bytes, this.at, end);
    this.at = end;
    return text;
  }

  strings(): string[] {
    this.#expect(WIRE_TYPE.list, 5);
    const count = this.#count(this.#bytes[this.at] === WIRE_TYPE.string, this.at + 1);
    this.at += 5;
    return Array.from({ length: count }, () => this.#text());
  }

  stringMap(): Record<string, string> {
    this.#expect(WIRE_TYPE.map, 6);
    const areStrings = this.#bytes[this.at] === WIRE_TYPE.string && this.#bytes[this.at + 1] === WIRE_TYPE.string;
    const count = this.#count(areStrings, this.at + 2);
    this.at += 6;
    return Object.fromEntries(Array.from({ length: count }, () => [this.#text(), this.#text()]));
  }

  /** Skips a field that this version does not know. */
  skip(): void {
    const scanner = new StructScanner(CONTEXT_DEPTH_MAX, this.#bytes.length);
    scanner.reset(this.type);
    const end = scanner.scan(this.#bytes, this.at, this.#bytes.length);
    if (end === -1) throw malformed();
    this.at = end;
  }

  #text(): string {
    const end = this.#end();
    const text = textOfBytes(this.#bytes, this.at, end);
    this.at = end;
    return text;
  }

  /** Reads a length; returns the offset after that many bytes. */
  #end(): number {
    this.#need(4);
    const length = this.#bytes.readInt32BE(this.at);
    this.at += 4;
    if (length < 0) throw malformed();
    this.#need(length);
    return this.at + length;
  }

  /** Reads an element count. Checks that the elements are strings and that the bytes can hold that many. */
  #count(areStrings: boolean, at: number): number {
    const count = this.#bytes.readInt32BE(at);
    if (count === 0) return 0;
    if (!areStrings || count < 0 || count * 4 > this.#bytes.length - at) throw malformed();
    return count;
  }

  #expect(type: number, bytes: number): void {
    if (this.type !== type) throw malformed();
    this.#need(bytes);
  }

  #need(bytes: number): void {
    if (this.#bytes.length - this.at < bytes) throw malformed();
  }
}

const CONTEXT_DEPTH_MAX = 8;

function malformed(): KatamariError {
  return new KatamariError(
    'bad_request',
    'Malformed context in field 32767: expected the struct of idl/katamari.thrift',
  );
}
