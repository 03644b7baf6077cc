// Converts between strict binary and JSON values by the table in docs/idl.md, without an intermediate form. Invalid
// input is refused with its path and the expected type; output keeps every digit. Object keys from outside, such as
// `__proto__` and `constructor`, are treated as data.

import { KatamariError } from '../mod.ts';
import {
  at,
  BinaryReader,
  BinaryWriter,
  WIRE_OF_KIND,
  WireError,
  type EnumType,
  type Field,
  type Method,
  type StructType,
  type Type,
} from '../thrift/mod.ts';
import { decodeWith, encodeWith, keyOfText, PLAIN, SAME_LEAVES, WHOLE_TEXT } from './codec.ts';
import {
  type Coder,
  Dialect,
  expected,
  ListCoder,
  type CoderLeafKind,
  type MapType,
  readMapHead,
  type SetType,
} from './coder.ts';
import { setOwn } from './constants.ts';
import { quote, suggest } from './fault.ts';
import { nameOfType } from './typename.ts';

export type JsonResult =
  | { readonly ok: true; readonly value: unknown }
  /** A declared exception: its unqualified name and its fields. */
  | { readonly ok: false; readonly exception: string; readonly fields: Record<string, unknown> };

/**
 * Encodes JSON-RPC params as the method's argument struct. An object has params by name, an array by position in file
 * order; undefined and null mean no params. Arguments must be given unless they are `optional` or have a default.
 * @throws KatamariError bad_request with jsonRpcCode -32602: `params.work.num1: expected i32, got "seven"`
 */
export function encodeParams(method: Method, params: unknown): Buffer {
  const { fields } = method.args;
  let named: unknown = params ?? {};
  if (Array.isArray(named)) named = byPosition(method, named);
  if (typeof named !== 'object' || named === null) {
    throw invalid(`params: expected an object or an array, got ${quote(params)}`);
  }
  const given = named as Record<string, unknown>;
  let found = 0;
  for (const field of fields) {
    if (Object.hasOwn(given, field.name) && given[field.name] !== undefined) found++;
    else if (isParamRequired(field)) {
      refuseUnknown(method, given);
      throw invalid(`params.${field.name}: expected ${nameOfType(field.type)}, got nothing; ${signature(method)}`);
    }
  }
  if (Object.keys(given).length > found) refuseUnknown(method, given);
  return encodeWith(JSON_VALUES, method.args, given, 'params', INVALID_PARAMS);
}

/**
 * Decodes the result struct of a method to JSON; void is null.
 * @throws KatamariError resource_failed if the result does not match the chassis' own interface
 */
export function decodeResult(method: Method, result: Uint8Array): JsonResult {
  let decoded: Record<string, unknown>;
  try {
    decoded = decodeWith(JSON_VALUES, method.result, result, 'result');
  } catch (error) {
    throw doesNotMatch(method, error);
  }
  for (const field of method.throws) {
    if (!Object.hasOwn(decoded, field.name)) continue;
    return { ok: false, exception: exceptionName(field), fields: decoded[field.name] as Record<string, unknown> };
  }
  if (method.returns.kind === 'void') return VOID;
  if (Object.hasOwn(decoded, 'success')) return { ok: true, value: decoded['success'] };
  throw new KatamariError(
    'resource_failed',
    `The reply of ${method.name} does not match its own interface: result: expected ${nameOfType(method.returns)} or an exception, got neither`,
  );
}

/** Returns the error for a reply that its interface refuses; anything else as it is. */
export function doesNotMatch(method: Method, thrown: unknown): unknown {
  if (!(thrown instanceof KatamariError)) return thrown;
  const message = `The reply of ${method.name} does not match its own interface: ${thrown.message}`;
  return new KatamariError('resource_failed', message, {}, thrown);
}

/** Decodes the argument struct to JSON params by name: the inverse of encodeParams. */
export function decodeParams(method: Method, args: Uint8Array): Record<string, unknown> {
  return decodeWith(JSON_VALUES, method.args, args, 'params');
}

/** Encodes a JSON result as the result struct: the inverse of decodeResult. */
export function encodeResult(method: Method, result: JsonResult): Buffer {
  if (!result.ok) {
    const field = method.throws.find((field) => exceptionName(field) === result.exception);
    if (field === undefined) {
      const hint = suggest(result.exception, method.throws.map(exceptionName));
      throw new KatamariError('bad_request', `result: ${method.name} does not throw ${quote(result.exception)}${hint}`);
    }
    return encodeWith(JSON_VALUES, method.result, own(field.name, result.fields), 'result');
  }
  if (method.returns.kind !== 'void')
    return encodeWith(JSON_VALUES, method.result, { success: result.value }, 'result');
  if (result.value !== null && result.value !== undefined) {
    throw new KatamariError('bad_request', `result: ${method.name} returns nothing, got ${quote(result.value)}`);
  }
  return encodeWith(JSON_VALUES, method.result, {}, 'result');
}

/** Whether JSON params must contain the argument: it is not `optional` and has no default. */
export function isParamRequired(field: Field): boolean {
  return field.requiredness !== 'optional' && field.defaultValue === undefined;
}

/** Converts a plain JavaScript value, such as a default, to JSON. */
export function jsonOf(type: Type, value: unknown): unknown {
  const out = new BinaryWriter();
  PLAIN.coder(type).write(out, value);
  return JSON_VALUES.coder(type).read(new BinaryReader(out.finish()));
}

const INVALID_PARAMS = { jsonRpcCode: -32602 } as const;
const VOID: JsonResult = Object.freeze({ ok: true, value: null });

function byPosition(method: Method, params: readonly unknown[]): Record<string, unknown> {
  const { fields } = method.args;
  if (params.length > fields.length) {
    throw invalid(`params: expected at most ${fields.length}, got ${params.length}; ${signature(method)}`);
  }
  const named: Record<string, unknown> = {};
  for (const [i, value] of params.entries()) setOwn(named, (fields[i] as Field).name, value);
  return named;
}

function refuseUnknown(method: Method, given: Record<string, unknown>): void {
  const names = method.args.fields.map((field) => field.name);
  for (const name of Object.keys(given)) {
    if (!names.includes(name))
      throw invalid(`params: ${method.name} has no parameter ${quote(name)}${suggest(name, names)}`);
  }
}

function invalid(message: string): KatamariError {
  return new KatamariError('bad_request', message, INVALID_PARAMS);
}

/** Returns the signature for error messages: `add takes (num1: i32, num2: i32)`. */
function signature(method: Method): string {
  return `${method.name} takes (${method.args.fields.map((field) => `${field.name}: ${nameOfType(field.type)}`).join(', ')})`;
}

export function exceptionName(field: Field): string {
  const { name } = (field.type as { struct: StructType }).struct;
  return name.slice(name.lastIndexOf('.') + 1);
}

function own(name: string, value: unknown): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  setOwn(result, name, value);
  return result;
}

class JsonDialect extends Dialect {
  readonly defaults: Dialect = PLAIN;

  protected leaf(kind: CoderLeafKind): Coder {
    return LEAVES[kind];
  }

  protected enum(type: EnumType): Coder {
    return new JsonEnumCoder(type);
  }

  protected set(type: SetType): Coder {
    return new ListCoder(type, this.coder(type.element), true);
  }

  protected map(type: MapType): Coder {
    const value = this.coder(type.value);
    const ofText = keyOfText(type.key);
    if (ofText === undefined) return new PairsCoder(type, this.coder(type.key), value);
    return new ObjectCoder(type, this.coder(type.key), ofText, value);
  }
}

const LEAVES: Readonly<Record<CoderLeafKind, Coder>> = {
  ...SAME_LEAVES,
  i64: {
    write(out, value) {
      if (typeof value === 'number') {
        if (Number.isSafeInteger(value)) out.i64Number(value);
        else if (Number.isInteger(value))
          throw new WireError(`expected i64, got ${value}, which may have lost digits; write it as a string`);
        else throw expected('i64', value);
        return;
      }
      if (typeof value !== 'bigint' && (typeof value !== 'string' || !WHOLE_TEXT.test(value))) {
        throw expected('i64 (a whole number, or one in a string)', value);
      }
      const whole = BigInt(value);
      if (BigInt.asIntN(64, whole) !== whole) throw expected('i64 (64 bits)', value);
      out.i64(whole);
    },
    read(from) {
      const value = from.i64Number();
      return typeof value === 'number' ? value : String(value);
    },
  },
  double: {
    write(out, value) {
      if (typeof value === 'number') {
        // JSON has no infinity, so this is a number such as 1e400.
        if (!Number.isFinite(value)) throw expected('double (a finite number, or a text such as "Infinity")', value);
        out.double(value);
      } else {
        const special = typeof value === 'string' ? SPECIAL_DOUBLES.get(value) : undefined;
        if (special === undefined) throw expected('double (a number, "NaN", "Infinity" or "-Infinity")', value);
        out.double(special);
      }
    },
    read(from) {
      const value = from.double();
      return Number.isFinite(value) ? value : String(value);
    },
  },
  binary: {
    write(out, value) {
      if (typeof value !== 'string' || !out.base64(value)) throw expected('binary (a base64 string)', value);
    },
    read: (from) => from.base64(),
  },
};

const SPECIAL_DOUBLES: ReadonlyMap<string, number> = new Map([
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
]);

class JsonEnumCoder implements Coder {
  readonly #enum: EnumType;

  constructor(type: EnumType) {
    this.#enum = type;
  }

  write(out: BinaryWriter, value: unknown): void {
    const { byName, byValue, name } = this.#enum;
    if (typeof value === 'string') {
      const number = byName.get(value);
      if (number === undefined)
        throw new WireError(`expected ${name}, got ${quote(value)}${suggest(value, byName.keys())}`);
      out.i32(number);
    } else if (typeof value === 'number' && byValue.has(value)) out.i32(value);
    else throw new WireError(`expected ${name}, got ${quote(value)}; known: ${[...byName.keys()].join(', ')}`);
  }

  /** Returns the name; the number if this interface has no name for it, because a newer chassis may send one. */
  read(from: BinaryReader): string | number {
    const value = from.i32();
    return this.#enum.byValue.get(value) ?? value;
  }
}

/** Maps whose keys have a unique text form, as objects. */
class ObjectCoder implements Coder {
  readonly #type: MapType;
  readonly #key: Coder;
  readonly #keyOfText: (text: string) => unknown;
  readonly #value: Coder;

  constructor(type: MapType, key: Coder, ofText: (text: string) => unknown, value: Coder) {
    this.#type = type;
    this.#key = key;
    this.#keyOfText = ofText;
    this.#value = value;
  }

  write(out: BinaryWriter, value: unknown): void {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw expected(`${nameOfType(this.#type)} (an object)`, value);
    }
    const given = value as Record<string, unknown>;
    const keys = Object.keys(given);
    // Only enum keys have two text forms: the name and the number.
    const seen = this.#type.key.kind === 'enum' ? new Set<unknown>() : undefined;
    out.enter();
    out.byte(WIRE_OF_KIND[this.#type.key.kind]);
    out.byte(WIRE_OF_KIND[this.#type.value.kind]);
    out.i32(keys.length);
    let text = '';
    try {
      for (text of keys) {
        const key = this.#keyOfText(text);
        if (seen !== undefined && seen.size === seen.add(key).size) throw new WireError('the key is in the map twice');
        this.#key.write(out, key);
        this.#value.write(out, given[text]);
      }
    } catch (thrown) {
      throw at(thrown, `[${quote(text)}]`);
    }
    out.leave();
  }

  read(from: BinaryReader): Record<string, unknown> {
    from.enter();
    const size = readMapHead(from, this.#type);
    const result: Record<string, unknown> = {};
    let text: string | undefined;
    try {
      for (let i = 0; i < size; i++) {
        text = undefined;
        text = String(this.#key.read(from));
        if (Object.hasOwn(result, text)) throw new WireError('the key is in the map twice');
        setOwn(result, text, this.#value.read(from));
      }
    } catch (thrown) {
      throw at(thrown, text === undefined ? '[key]' : `[${quote(text)}]`);
    }
    from.leave();
    return result;
  }
}

/** All other maps, as arrays of [key, value] pairs. */
class PairsCoder implements Coder {
  readonly #type: MapType;
  readonly #key: Coder;
  readonly #value: Coder;

  constructor(type: MapType, key: Coder, value: Coder) {
    this.#type = type;
    this.#key = key;
    this.#value = value;
  }

  write(out: BinaryWriter, value: unknown): void {
    if (!Array.isArray(value)) throw expected(`${nameOfType(this.#type)} (an array of [key, value])`, value);
    const pairs = value as unknown[];
    const seen = new Set<string>();
    out.enter();
    out.byte(WIRE_OF_KIND[this.#type.key.kind]);
    out.byte(WIRE_OF_KIND[this.#type.value.kind]);
    out.i32(pairs.length);
    let i = 0;
    let step = '';
    try {
      for (; i < pairs.length; i++) {
        const pair = pairs[i];
        step = '';
        if (!Array.isArray(pair) || pair.length !== 2) throw expected('[key, value]', pair);
        const start = out.position;
        step = '[0]';
        this.#key.write(out, pair[0]);
        if (seen.size === seen.add(out.keyFrom(start)).size) throw new WireError('the key is in the map twice');
        step = '[1]';
        this.#value.write(out, pair[1]);
      }
    } catch (thrown) {
      throw at(thrown, `[${i}]${step}`);
    }
    out.leave();
  }

  read(from: BinaryReader): unknown[] {
    from.enter();
    const size = readMapHead(from, this.#type);
    const result: unknown[] = [];
    const seen = new Set<string>();
    try {
      for (let i = 0; i < size; i++) {
        const start = from.position;
        const key = this.#key.read(from);
        if (seen.size === seen.add(from.keyFrom(start)).size) throw new WireError('the key is in the map twice');
        result.push([key, this.#value.read(from)]);
      }
    } catch (thrown) {
      throw at(thrown, `[${result.length}]`);
    }
    from.leave();
    return result;
  }
}

/** The dialect of JSON values, as JSON.parse returns and JSON.stringify takes them. */
const JSON_VALUES: Dialect = new JsonDialect();
