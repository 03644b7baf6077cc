// Converts between strict binary and the plain JavaScript values that handlers use: struct and union are objects,
// list an array, set a Set, map a Map, i64 a bigint (or number), binary a Buffer, enum a number, uuid a string.
// Values are never coerced or rounded: a value that does not match its type is a bad_request with the path to it.

import { KatamariError } from '../mod.ts';
import {
  at,
  type BinaryReader,
  BinaryReader as Reader,
  BinaryWriter,
  ThriftException,
  WIRE_OF_KIND,
  WireError,
  type EnumType,
  type Method,
  type StructType,
  type Type,
} from '../thrift/mod.ts';
import {
  type Coder,
  Dialect,
  expected,
  type CoderLeafKind,
  type MapType,
  readListHead,
  readMapHead,
  type SetType,
  twice,
} from './coder.ts';
import { quote } from './fault.ts';
import { nameOfType } from './typename.ts';

export interface DecodeOptions {
  /** Type of i64 values: bigint (default), or number, which refuses values that a double cannot hold exactly. */
  readonly i64?: 'bigint' | 'number';
}

/**
 * Encodes a struct in strict binary, including the stop byte. Absent (undefined) fields are omitted, or written with
 * their default.
 * @throws KatamariError bad_request: `work.num1: expected i32, got "seven"`
 */
export function encodeStruct(struct: StructType, value: Record<string, unknown>): Buffer {
  return encodeWith(PLAIN, struct, value, '');
}

/**
 * Decodes a struct from strict binary. Unknown fields are skipped, defaults applied.
 * @throws KatamariError bad_request with the path, unless the bytes are exactly one valid struct of this type
 */
export function decodeStruct(
  struct: StructType,
  bytes: Uint8Array,
  options: DecodeOptions = {},
): Record<string, unknown> {
  return decodeWith(options.i64 === 'number' ? PLAIN_NUMBERS : PLAIN, struct, bytes, '');
}

/**
 * Returns the value of a decoded result struct; undefined without one.
 * @throws ThriftException for a declared exception
 */
export function valueOfResult(method: Method, result: Readonly<Record<string, unknown>>): unknown {
  for (const { name, type } of method.throws) {
    // The IDL may name it like a property of every object, such as `constructor`.
    if (type.kind !== 'struct' || !Object.hasOwn(result, name)) continue;
    throw new ThriftException(type.struct.name.split('.').at(-1) as string, result[name] as Record<string, unknown>);
  }
  return result['success'];
}

/** Encodes in a dialect. Paths in errors begin with `root`. */
export function encodeWith(
  dialect: Dialect,
  struct: StructType,
  value: unknown,
  root: string,
  facts?: KatamariError['facts'],
): Buffer {
  // A getter in the value may call encode recursively. The inner call gets a writer of its own.
  const out = idleWriter ?? new BinaryWriter();
  idleWriter = undefined;
  out.reset();
  try {
    dialect.struct(struct).write(out, value);
    return out.finish();
  } catch (thrown) {
    throw refusal(thrown, root, struct, facts);
  } finally {
    idleWriter = out;
  }
}

/** Decodes in a dialect. Paths in errors begin with `root`. */
export function decodeWith(
  dialect: Dialect,
  struct: StructType,
  bytes: Uint8Array,
  root: string,
): Record<string, unknown> {
  const from = new Reader(bytes);
  try {
    const value = dialect.struct(struct).read(from);
    if (from.position < from.end) throw new WireError(`${from.end - from.position} bytes follow after the end`);
    return value;
  } catch (thrown) {
    throw refusal(thrown, root, struct);
  }
}

/** Returns the KatamariError of a WireError; anything else as it is. */
export function refusal(
  thrown: unknown,
  root: string,
  struct: StructType,
  facts: KatamariError['facts'] = {},
): unknown {
  if (!(thrown instanceof WireError)) return thrown;
  return new KatamariError(
    thrown.isTooLarge ? 'too_large' : 'bad_request',
    thrown.describe(root, struct.name),
    thrown.isTooLarge ? {} : facts,
  );
}

/** The writer that all calls share; undefined while it is in use. */
let idleWriter: BinaryWriter | undefined;

class PlainDialect extends Dialect {
  readonly defaults: Dialect = this;
  readonly #isNumber: boolean;

  constructor(isNumber: boolean) {
    super();
    this.#isNumber = isNumber;
  }

  protected leaf(kind: CoderLeafKind): Coder {
    if (kind === 'i64') return this.#isNumber ? I64_AS_NUMBER : I64_AS_BIGINT;
    return LEAVES[kind];
  }

  protected enum(type: EnumType): Coder {
    return new EnumCoder(type);
  }

  protected set(type: SetType): Coder {
    return new SetCoder(type, this.coder(type.element));
  }

  protected map(type: MapType): Coder {
    return new MapCoder(type, this.coder(type.key), this.coder(type.value));
  }
}

/** Checks an integer against its size in bits. @throws WireError */
export function wholeIn(type: string, value: unknown, minimum: number, maximum: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value)) throw expected(type, value);
  if (value < minimum || value > maximum) throw expected(`${type} (${minimum} to ${maximum})`, value);
  return value;
}

const writeI64 = (out: BinaryWriter, value: unknown): void => {
  if (typeof value === 'bigint') {
    if (BigInt.asIntN(64, value) !== value) throw expected('i64 (64 bits)', value);
    out.i64(value);
  } else if (Number.isSafeInteger(value)) out.i64Number(value as number);
  else if (typeof value === 'number') throw expected('i64 as bigint (or a whole number up to 2^53)', value);
  else throw expected('i64', value);
};

const I64_AS_BIGINT: Coder = { write: writeI64, read: (from) => from.i64() };

const I64_AS_NUMBER: Coder = {
  write: writeI64,
  read(from) {
    const value = from.i64Number();
    if (typeof value === 'number') return value;
    throw new WireError(`expected i64 that a number holds exactly, got ${value}; decode with i64: 'bigint'`);
  },
};

/** Coders of scalars that are the same in JSON and in plain JavaScript. */
export const SAME_LEAVES: Readonly<Record<'bool' | 'i8' | 'i16' | 'i32' | 'string' | 'uuid', Coder>> = {
  bool: {
    write(out, value) {
      if (typeof value !== 'boolean') throw expected('bool', value);
      out.byte(value ? 1 : 0);
    },
    read: (from) => from.byte() !== 0,
  },
  i8: {
    write: (out, value) => out.byte(wholeIn('i8', value, -128, 127) & 0xff),
    read: (from) => from.i8(),
  },
  i16: {
    write: (out, value) => out.i16(wholeIn('i16', value, -32768, 32767)),
    read: (from) => from.i16(),
  },
  i32: {
    write(out, value) {
      const isFit = typeof value === 'number' && value === (value | 0);
      out.i32(isFit ? value : wholeIn('i32', value, -(2 ** 31), 2 ** 31 - 1));
    },
    read: (from) => from.i32(),
  },
  string: {
    write(out, value) {
      if (typeof value !== 'string') throw expected('string', value);
      out.string(value);
    },
    read: (from) => from.string(),
  },
  uuid: {
    write(out, value) {
      if (typeof value !== 'string' || !UUID_PATTERN.test(value))
        throw expected('uuid like 123e4567-e89b-12d3-a456-426614174000', value);
      out.raw(Buffer.from(value.replaceAll('-', ''), 'hex'));
    },
    read: (from) => from.hex(16).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
  },
};

/** Coders of scalars of plain JavaScript, without i64. */
const LEAVES: Readonly<Record<Exclude<CoderLeafKind, 'i64'>, Coder>> = {
  ...SAME_LEAVES,
  double: {
    write(out, value) {
      if (typeof value !== 'number') throw expected('double', value);
      out.double(value);
    },
    read: (from) => from.double(),
  },
  binary: {
    write(out, value) {
      if (!(value instanceof Uint8Array)) throw expected('binary (a Buffer or Uint8Array)', value);
      out.bytes(value);
    },
    read: (from) => from.binary(),
  },
};

/** Enum values are numbers. Unknown numbers are accepted, because a newer peer may know them. */
class EnumCoder implements Coder {
  readonly #enum: EnumType;

  constructor(type: EnumType) {
    this.#enum = type;
  }

  write(out: BinaryWriter, value: unknown): void {
    if (typeof value !== 'number' || value !== (value | 0)) {
      const known = [...this.#enum.byName].map(([name, number]) => `${name} = ${number}`).join(', ');
      throw new WireError(`expected a number of enum ${this.#enum.name} (${known}), got ${quote(value)}`);
    }
    out.i32(value);
  }

  read(from: BinaryReader): number {
    return from.i32();
  }
}

class SetCoder implements Coder {
  readonly #type: SetType;
  readonly #element: Coder;
  readonly #wire: number;

  constructor(type: SetType, element: Coder) {
    this.#type = type;
    this.#element = element;
    this.#wire = WIRE_OF_KIND[type.element.kind];
  }

  write(out: BinaryWriter, value: unknown): void {
    if (!(value instanceof Set) && !Array.isArray(value)) throw expected(nameOfType(this.#type), value);
    out.enter();
    out.byte(this.#wire);
    out.i32(value instanceof Set ? value.size : value.length);
    const seen = new Set<string>();
    let i = 0;
    try {
      for (const element of value as Iterable<unknown>) {
        const start = out.position;
        this.#element.write(out, element);
        if (seen.size === seen.add(out.keyFrom(start)).size) throw twice(element);
        i++;
      }
    } catch (thrown) {
      throw at(thrown, `[${i}]`);
    }
    out.leave();
  }

  read(from: BinaryReader): Set<unknown> {
    from.enter();
    const size = readListHead(from, this.#wire, this.#type.element);
    const seen = new Set<string>();
    const result = new Set<unknown>();
    let i = 0;
    try {
      for (; i < size; i++) {
        const start = from.position;
        const value = this.#element.read(from);
        if (seen.size === seen.add(from.keyFrom(start)).size) throw twice(value);
        result.add(value);
      }
    } catch (thrown) {
      throw at(thrown, `[${i}]`);
    }
    from.leave();
    return result;
  }
}

/** Maps. Plain objects are accepted too if keys have a unique text form: string, enum, integers, bool. */
class MapCoder implements Coder {
  readonly #type: MapType;
  readonly #key: Coder;
  readonly #value: Coder;

  constructor(type: MapType, key: Coder, value: Coder) {
    this.#type = type;
    this.#key = key;
    this.#value = value;
  }

  write(out: BinaryWriter, value: unknown): void {
    const entries = this.#entries(value);
    out.enter();
    out.byte(WIRE_OF_KIND[this.#type.key.kind]);
    out.byte(WIRE_OF_KIND[this.#type.value.kind]);
    out.i32(entries.size);
    const seen = new Set<string>();
    let key: unknown;
    try {
      for (const entry of entries.pairs) {
        key = entry[0];
        const start = out.position;
        this.#key.write(out, key);
        if (seen.size === seen.add(out.keyFrom(start)).size) throw new WireError('the key is in the map twice');
        this.#value.write(out, entry[1]);
      }
    } catch (thrown) {
      throw at(thrown, `[${quote(key)}]`);
    }
    out.leave();
  }

  read(from: BinaryReader): Map<unknown, unknown> {
    from.enter();
    const size = readMapHead(from, this.#type);
    const result = new Map<unknown, unknown>();
    let key: unknown;
    try {
      for (let i = 0; i < size; i++) {
        key = undefined;
        key = this.#key.read(from);
        result.set(key, this.#value.read(from));
      }
    } catch (thrown) {
      throw at(thrown, key === undefined ? '[key]' : `[${quote(key)}]`);
    }
    if (result.size !== size) throw new WireError('a key is in the map twice');
    from.leave();
    return result;
  }

  #entries(value: unknown): { size: number; pairs: Iterable<readonly [unknown, unknown]> } {
    if (value instanceof Map) return { size: value.size, pairs: value as Map<unknown, unknown> };
    const ofText = keyOfText(this.#type.key);
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Set);
    if (!isObject || ofText === undefined) throw expected(nameOfType(this.#type), value);
    const pairs = Object.entries(value).map(([text, part]): readonly [unknown, unknown] => [ofText(text), part]);
    return { size: pairs.length, pairs };
  }
}

/** Returns the parser of object keys of this type; undefined if maps with such keys cannot be objects. */
export function keyOfText(type: Type): ((text: string) => unknown) | undefined {
  if (type.kind === 'string') return (text) => text;
  if (type.kind === 'bool') return (text) => (text === 'true' ? true : text === 'false' ? false : text);
  if (type.kind === 'i64') return (text) => (WHOLE_TEXT.test(text) ? BigInt(text) : text);
  if (type.kind === 'i8' || type.kind === 'i16' || type.kind === 'i32') {
    return (text) => (WHOLE_TEXT.test(text) ? Number(text) : text);
  }
  if (type.kind !== 'enum') return undefined;
  const { byName } = type.enum;
  return (text) => byName.get(text) ?? (WHOLE_TEXT.test(text) ? Number(text) : text);
}

/** Matches integers in their canonical notation. */
export const WHOLE_TEXT: RegExp = /^(?:0|-?[1-9]\d{0,19})$/;
const UUID_PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** The dialect of plain JavaScript values, with i64 as bigint. */
export const PLAIN: Dialect = new PlainDialect(false);
const PLAIN_NUMBERS: Dialect = new PlainDialect(true);
