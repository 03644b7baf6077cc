// Converts messages of Thrift's JSON protocol to strict binary. (This is not the JSON of JSON-RPC: fields are
// identified by number, and each value has the name of its type.) It reads complete messages, whose end `JsonEnd`
// finds. The protocol does not distinguish text from bytes, so the schema says which strings are base64; without a
// schema all are text.

import { KatamariError } from '../../mod.ts';
import {
  BinaryWriter,
  WireError,
  type StructType,
  type Type,
  checkType,
  NAME_BYTES_MAX,
  strictText,
  tooDeep,
  tooLarge,
  WIRE_TYPE,
} from '../mod.ts';
import type { EncodingLimits, MessageFacts, SchemaOf } from './encoding.ts';

/** Wire types of strict binary by their names in the JSON protocol. */
export const WIRE_OF_JSON: ReadonlyMap<string, number> = new Map([
  ['tf', WIRE_TYPE.bool],
  ['i8', WIRE_TYPE.i8],
  ['i16', WIRE_TYPE.i16],
  ['i32', WIRE_TYPE.i32],
  ['i64', WIRE_TYPE.i64],
  ['dbl', WIRE_TYPE.double],
  ['str', WIRE_TYPE.string],
  ['rec', WIRE_TYPE.struct],
  ['map', WIRE_TYPE.map],
  ['lst', WIRE_TYPE.list],
  ['set', WIRE_TYPE.set],
  ['uid', WIRE_TYPE.uuid],
]);

/** Reads one complete message. */
export class JsonReader {
  readonly #bytes: Buffer;
  readonly #end: number;
  readonly #limits: EncodingLimits;
  readonly #out: BinaryWriter;
  #at: number;
  #depth = 0;

  constructor(bytes: Buffer, start: number, end: number, limits: EncodingLimits) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
    this.#limits = limits;
    this.#out = new BinaryWriter(Math.max(ROOM_BYTES, end - start));
  }

  /** Reads the head: `[1,"name",type,seqId,`. @throws KatamariError bad_request */
  head(): MessageFacts {
    this.#expect('[');
    const version = this.#integer(1, 1);
    if (version !== 1) throw this.#malformed('version 1 of the JSON protocol');
    this.#expect(',');
    const name = this.#text();
    if (Buffer.byteLength(name) > NAME_BYTES_MAX)
      throw new KatamariError('bad_request', `Method name is longer than ${NAME_BYTES_MAX} bytes, the limit`);
    this.#expect(',');
    const type = checkType(this.#integer(0, 255));
    this.#expect(',');
    const seqId = this.#integer(-0x80000000, 0x7fffffff);
    this.#expect(',');
    return { type, name, seqId };
  }

  /** Reads the struct and the end of the message. @throws KatamariError bad_request or too_large */
  body(head: MessageFacts, schemaOf: SchemaOf): Uint8Array {
    try {
      this.#struct(schemaOf(head));
    } catch (error) {
      if (error instanceof WireError)
        throw new KatamariError(error.isTooLarge ? 'too_large' : 'bad_request', error.what);
      throw error;
    }
    this.#expect(']');
    this.#skipSpace();
    if (this.#at < this.#end) throw this.#malformed('the end of the message');
    return this.#out.buffer.subarray(0, this.#out.position);
  }

  #struct(schema: StructType | undefined): void {
    this.#enter();
    this.#expect('{');
    for (let isFirst = true; !this.#accepts('}'); isFirst = false) {
      if (!isFirst) this.#expect(',');
      const id = this.#quotedInteger(-0x8000, 0x7fff);
      this.#expect(':');
      this.#expect('{');
      const wire = this.#type();
      this.#expect(':');
      this.#out.fieldHead(wire, id);
      this.#value(wire, schema?.fields.find((field) => field.id === id)?.type);
      this.#expect('}');
    }
    this.#out.byte(WIRE_TYPE.stop);
    this.#depth--;
  }

  #value(wire: number, type: Type | undefined): void {
    const out = this.#out;
    switch (wire) {
      case WIRE_TYPE.bool:
        out.byte(this.#quotedInteger(0, 1));
        break;
      case WIRE_TYPE.i8:
        out.byte(this.#quotedInteger(-0x80, 0x7f) & 0xff);
        break;
      case WIRE_TYPE.i16:
        out.i16(this.#quotedInteger(-0x8000, 0x7fff));
        break;
      case WIRE_TYPE.i32:
        out.i32(this.#quotedInteger(-0x80000000, 0x7fffffff));
        break;
      case WIRE_TYPE.i64:
        out.i64(this.#i64());
        break;
      case WIRE_TYPE.double:
        out.double(this.#double());
        break;
      case WIRE_TYPE.string:
        if (type?.kind === 'binary') out.bytes(this.#base64());
        else out.string(this.#text());
        break;
      case WIRE_TYPE.uuid:
        out.raw(this.#uuid());
        break;
      case WIRE_TYPE.struct:
        this.#struct(type?.kind === 'struct' ? type.struct : undefined);
        break;
      case WIRE_TYPE.map:
        this.#map(type?.kind === 'map' ? type : undefined);
        break;
      default:
        this.#list(type?.kind === 'list' || type?.kind === 'set' ? type.element : undefined);
    }
    if (out.position > this.#limits.frameBytesMax) throw tooLarge(out.position, this.#limits.frameBytesMax);
  }

  /** Reads a list or set: `["i32",2,1,2]`. */
  #list(element: Type | undefined): void {
    this.#enter();
    this.#expect('[');
    const wire = this.#elementType();
    this.#expect(',');
    const count = this.#integer(0, this.#end - this.#at);
    this.#out.byte(wire);
    this.#out.i32(count);
    for (let n = 0; n < count; n++) {
      this.#expect(',');
      this.#value(wire, element);
    }
    this.#expect(']');
    this.#depth--;
  }

  /** Reads a map: `["str","i32",1,{"a":1}]`. */
  #map(type: { readonly key: Type; readonly value: Type } | undefined): void {
    this.#enter();
    this.#expect('[');
    const key = this.#elementType();
    this.#expect(',');
    const value = this.#elementType();
    this.#expect(',');
    const count = this.#integer(0, this.#end - this.#at);
    this.#expect(',');
    this.#expect('{');
    this.#out.byte(key);
    this.#out.byte(value);
    this.#out.i32(count);
    for (let n = 0; n < count; n++) {
      if (n > 0) this.#expect(',');
      this.#value(key, type?.key);
      this.#expect(':');
      this.#value(value, type?.value);
    }
    this.#expect('}');
    this.#expect(']');
    this.#depth--;
  }

  #enter(): void {
    if (++this.#depth > this.#limits.nestingMax) throw tooDeep(this.#limits.nestingMax);
  }

  #type(): number {
    const name = this.#text();
    const wire = WIRE_OF_JSON.get(name);
    if (wire === undefined)
      throw new KatamariError('bad_request', `Type "${name.slice(0, 20)}" is not a type of the JSON protocol`);
    return wire;
  }

  /** Some libraries write no type for an empty container. */
  #elementType(): number {
    this.#skipSpace();
    if (this.#bytes[this.#at] !== QUOTE || this.#bytes[this.#at + 1] !== QUOTE) return this.#type();
    this.#at += 2;
    return WIRE_TYPE.string;
  }

  /** Reads an integer. Numbers are quoted if they are keys. */
  #quotedInteger(min: number, max: number): number {
    const isQuoted = this.#accepts('"');
    const value = this.#integer(min, max);
    if (isQuoted) this.#expect('"');
    return value;
  }

  #integer(min: number, max: number): number {
    const digits = this.#number();
    const value = Number(digits);
    if (!/^-?\d+$/.test(digits) || value < min || value > max)
      throw this.#malformed(`a whole number of ${min} to ${max}`);
    return value;
  }

  #i64(): bigint {
    const isQuoted = this.#accepts('"');
    const digits = this.#number();
    if (isQuoted) this.#expect('"');
    if (!/^-?\d{1,19}$/.test(digits)) throw this.#malformed('an i64');
    const value = BigInt(digits);
    if (BigInt.asIntN(64, value) !== value) throw this.#malformed('an i64');
    return value;
  }

  #double(): number {
    this.#skipSpace();
    if (this.#bytes[this.#at] === QUOTE) {
      const text = this.#text();
      if (text === 'NaN' || /^-?Infinity$/.test(text)) return Number(text);
      if (NUMBER.test(text)) return this.#finite(text);
      throw this.#malformed('a double, "NaN", "Infinity" or "-Infinity"');
    }
    // The libraries of Python and Node write these without quotes.
    const bare = BARE_DOUBLE.exec(this.#bytes.toString('latin1', this.#at, Math.min(this.#at + 10, this.#end)))?.[0];
    if (bare !== undefined) {
      this.#at += bare.length;
      return bare.toLowerCase() === 'nan' ? NaN : bare.startsWith('-') ? -Infinity : Infinity;
    }
    const digits = this.#number();
    if (!NUMBER.test(digits)) throw this.#malformed('a double');
    return this.#finite(digits);
  }

  /** Refuses numbers such as 1e400, which no double holds. */
  #finite(digits: string): number {
    const value = Number(digits);
    if (!Number.isFinite(value)) throw this.#malformed('a number within the range of a double');
    return value;
  }

  /** Some libraries write base64 without padding, or with line breaks. */
  #base64(): Buffer {
    const text = this.#text();
    const padding = text.indexOf('=');
    if (NOT_BASE64.test(text) || (padding !== -1 && !PADDING.test(text.slice(padding)))) {
      throw new KatamariError('bad_request', 'A value of type binary is not base64');
    }
    return Buffer.from(text, 'base64');
  }

  #uuid(): Buffer {
    const text = this.#text();
    if (!/^[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$/i.test(text)) throw this.#malformed('a uuid');
    return Buffer.from(text.replaceAll('-', ''), 'hex');
  }

  /** Returns the characters of a number without validating them. */
  #number(): string {
    this.#skipSpace();
    const start = this.#at;
    while (this.#at < this.#end && isOfNumber(this.#bytes[this.#at] as number)) this.#at++;
    return this.#bytes.toString('latin1', start, this.#at);
  }

  #text(): string {
    this.#expect('"');
    const start = this.#at;
    let isPlain = true;
    while (this.#at < this.#end && this.#bytes[this.#at] !== QUOTE) {
      if (this.#bytes[this.#at] === BACKSLASH) {
        isPlain = false;
        this.#at++;
      }
      this.#at++;
    }
    const raw = strictText(this.#bytes, start, Math.min(this.#at, this.#end));
    if (raw === undefined)
      throw new KatamariError(
        'bad_request',
        "Text in a message of Thrift's JSON protocol is not UTF-8; send text as UTF-8, and bytes as the type binary",
      );
    this.#expect('"');
    if (isPlain) return raw;
    try {
      // Some writers do not escape control characters, as JSON requires.
      return JSON.parse(`"${raw.replace(CONTROL, escaped)}"`) as string;
    } catch {
      throw this.#malformed('a string without broken escapes');
    }
  }

  #expect(sign: string): void {
    if (!this.#accepts(sign)) throw this.#malformed(`"${sign}"`);
  }

  #accepts(sign: string): boolean {
    this.#skipSpace();
    if (this.#at >= this.#end || this.#bytes[this.#at] !== sign.charCodeAt(0)) return false;
    this.#at++;
    return true;
  }

  #skipSpace(): void {
    while (this.#at < this.#end && isSpace(this.#bytes[this.#at] as number)) this.#at++;
  }

  #malformed(expected: string): KatamariError {
    const near = this.#bytes.toString('utf8', this.#at, Math.min(this.#end, this.#at + 12));
    return new KatamariError('bad_request', `Not Thrift's JSON protocol: expected ${expected}, got "${near}"`);
  }
}

/** Finds the end of a message by its brackets. Resumes when more bytes arrive. */
export class JsonEnd {
  #position = 0;
  #depth = 0;
  #isText = false;

  reset(): void {
    this.#position = 0;
    this.#depth = 0;
    this.#isText = false;
  }

  /** Returns the offset after the message that begins at `start`, or -1 if it is incomplete. */
  find(bytes: Buffer, start: number, end: number): number {
    let at = start + this.#position;
    for (; at < end; at++) {
      const byte = bytes[at] as number;
      if (this.#isText) {
        if (byte === BACKSLASH) {
          // The escaped character may not have arrived yet.
          if (at + 1 >= end) break;
          at++;
        } else if (byte === QUOTE) {
          this.#isText = false;
        }
      } else if (byte === QUOTE) {
        this.#isText = true;
      } else if (byte === OPENING_BRACKET || byte === OPENING_BRACE) {
        this.#depth++;
      } else if (byte === CLOSING_BRACKET || byte === CLOSING_BRACE) {
        if (--this.#depth <= 0) return at + 1;
      } else if (this.#depth === 0 && !isSpace(byte)) {
        return at + 1;
      }
    }
    this.#position = at - start;
    return -1;
  }
}

export function isSpace(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
}

function isOfNumber(byte: number): boolean {
  return (byte >= 0x30 && byte <= 0x39) || byte === 0x2d || byte === 0x2b || byte === 0x2e || (byte | 0x20) === 0x65;
}

function escaped(sign: string): string {
  return `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

const BARE_DOUBLE = /^(?:NaN|nan|-?(?:Infinity|inf))(?=[\]},: \t\r\n])/;
const NOT_BASE64 = /[^A-Za-z0-9+/_\-=\s]/;
const PADDING = /^[=\s]*$/;
const NUMBER = /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
// oxlint-disable-next-line no-control-regex -- control characters are what is meant
const CONTROL = /[\u0000-\u001f]/g;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPENING_BRACKET = 0x5b;
const OPENING_BRACE = 0x7b;
const CLOSING_BRACKET = 0x5d;
const CLOSING_BRACE = 0x7d;
const ROOM_BYTES = 64;
