// Compiles each type to a coder, once. A coder encodes a value to strict binary and decodes it, with all checks and
// without an intermediate form. Structs, lists and sets are the same in every dialect and are implemented here. The
// dialects add what differs (numbers, binary, enums, sets, maps): codec.ts for plain JavaScript, json.ts for JSON.
//
// The path of an error is built while the error propagates, so successful calls pay nothing for it.

import {
  WIRE_TYPE as WIRE,
  at,
  type BinaryReader,
  BinaryWriter,
  BinaryReader as Reader,
  minimumBytes,
  WIRE_OF_KIND,
  wireName,
  WireError,
  type EnumType,
  type Field,
  type StructType,
  type Type,
} from '../thrift/mod.ts';
import { setOwn } from './constants.ts';
import { quote, suggest } from './fault.ts';
import { nameOfType } from './typename.ts';

export interface Coder {
  write(out: BinaryWriter, value: unknown): void;
  read(from: BinaryReader): unknown;
}

type Of<K extends Type['kind']> = Extract<Type, { kind: K }>;
/** Kinds of scalar types without parameters. */
export type CoderLeafKind = Exclude<Type['kind'], 'struct' | 'list' | 'set' | 'map' | 'void' | 'enum'>;
export type SetType = { readonly kind: 'list' | 'set'; readonly element: Type };
export type MapType = Of<'map'>;

/** A representation of values. A dialect caches its coders, so each is compiled once per process. */
export abstract class Dialect {
  readonly #structs: WeakMap<StructType, StructCoder> = new WeakMap();
  readonly #others: WeakMap<Type, Coder> = new WeakMap();

  /** Encodes default values, which are plain JavaScript values in every dialect. */
  abstract readonly defaults: Dialect;

  struct(struct: StructType): StructCoder {
    let coder = this.#structs.get(struct);
    if (coder === undefined) {
      coder = new StructCoder(struct, this);
      this.#structs.set(struct, coder);
    }
    return coder;
  }

  coder(type: Type): Coder {
    if (type.kind === 'struct') return this.struct(type.struct);
    let coder = this.#others.get(type);
    if (coder === undefined) {
      coder = this.#make(type);
      this.#others.set(type, coder);
    }
    return coder;
  }

  protected abstract leaf(kind: CoderLeafKind): Coder;
  protected abstract enum(type: EnumType): Coder;
  protected abstract set(type: SetType): Coder;
  protected abstract map(type: MapType): Coder;

  #make(type: Exclude<Type, { kind: 'struct' }>): Coder {
    if (type.kind === 'enum') return this.enum(type.enum);
    if (type.kind === 'map') return this.map(type);
    if (type.kind === 'list') return new ListCoder(type, this.coder(type.element), false);
    if (type.kind === 'set') return this.set(type);
    if (type.kind === 'void') throw new Error('void has no values');
    return this.leaf(type.kind);
  }
}

/** A field with the data that its struct's coder needs. */
interface FieldPlan {
  readonly field: Field;
  readonly name: string;
  readonly id: number;
  readonly position: number;
  readonly wire: number;
  readonly coder: Coder;
  /** Whether every object inherits a property of this name, such as `constructor` or `__proto__`. */
  readonly isInherited: boolean;
  /** Whether null means absent, as in JSON. Not in unions, where it would hide which field is set. */
  readonly isNullable: boolean;
  /** The default in binary; undefined for none. */
  readonly defaultBytes: Buffer | undefined;
}

export class StructCoder implements Coder {
  readonly #struct: StructType;
  readonly #dialect: Dialect;
  #plan: readonly FieldPlan[] | undefined;
  readonly #byId: Map<number, FieldPlan> = new Map();
  /** Fields to check after decoding: required ones and those with a default. */
  #watched: readonly FieldPlan[] = [];

  constructor(struct: StructType, dialect: Dialect) {
    this.#struct = struct;
    this.#dialect = dialect;
  }

  write(out: BinaryWriter, value: unknown): void {
    const struct = this.#struct;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw expected(struct.name, value);
    const plan = this.#plan ?? this.#compile();
    const given = value as Record<string, unknown>;
    let found = 0;
    let set = 0;
    let i = 0;
    out.enter();
    try {
      for (; i < plan.length; i++) {
        const one = plan[i] as FieldPlan;
        const part = one.isInherited && !Object.hasOwn(given, one.name) ? undefined : given[one.name];
        if (part === undefined || (part === null && one.isNullable)) {
          if (part === null) found++;
          if (one.defaultBytes !== undefined) {
            out.fieldHead(one.wire, one.id);
            out.raw(one.defaultBytes);
          } else if (one.field.requiredness === 'required') throw missing(one);
          continue;
        }
        found++;
        set++;
        out.fieldHead(one.wire, one.id);
        one.coder.write(out, part);
      }
    } catch (thrown) {
      throw at(thrown, `.${plan[i]?.name ?? ''}`);
    }
    if (countKeys(given) > found) this.#refuseUnknown(given);
    if (struct.kind === 'union' && set !== 1) throw notOne(this.#struct, set);
    out.byte(WIRE.stop);
    out.leave();
  }

  read(from: BinaryReader): Record<string, unknown> {
    const plan = this.#plan ?? this.#compile();
    const result: Record<string, unknown> = {};
    let one: FieldPlan | undefined;
    let expectedNext = 0;
    let set = 0;
    from.enter();
    try {
      for (;;) {
        one = undefined;
        const wire = from.byte();
        if (wire === WIRE.stop) break;
        const id = from.i16();
        // Most writers send fields in file order.
        one = plan[expectedNext];
        if (one === undefined || one.id !== id) one = this.#byId.get(id);
        if (one === undefined) {
          from.skip(wire);
          continue;
        }
        expectedNext = one.position + 1;
        if (wire !== one.wire) throw new WireError(`expected ${nameOfType(one.field.type)}, got ${wireName(wire)}`);
        const value = one.coder.read(from);
        set++;
        if (one.isInherited) setOwn(result, one.name, value);
        else result[one.name] = value;
      }
      for (one of this.#watched) {
        if (Object.hasOwn(result, one.name)) continue;
        if (one.defaultBytes === undefined) throw missing(one);
        // Decoded again each time, because the receiver may modify a default that is a list.
        from.spend(one.defaultBytes.length >> 2);
        setOwn(result, one.name, one.coder.read(new Reader(one.defaultBytes)));
      }
    } catch (thrown) {
      throw one === undefined ? thrown : at(thrown, `.${one.name}`);
    }
    // A newer peer may set a field that this interface does not have. Then the union holds nothing.
    if (this.#struct.kind === 'union' && set > 1) throw notOne(this.#struct, set);
    from.leave();
    return result;
  }

  /** Created on first use, because recursive structs need each other's coders. */
  #compile(): readonly FieldPlan[] {
    const plan = this.#struct.fields.map((field, position): FieldPlan => ({
      field,
      name: field.name,
      id: field.id,
      position,
      wire: WIRE_OF_KIND[field.type.kind],
      coder: this.#dialect.coder(field.type),
      isNullable: field.requiredness === 'optional' && this.#struct.kind !== 'union',
      isInherited: field.name in Object.prototype,
      defaultBytes: this.#defaultBytes(field),
    }));
    for (const one of plan) this.#byId.set(one.id, one);
    this.#watched = plan.filter((one) => one.defaultBytes !== undefined || one.field.requiredness === 'required');
    this.#plan = plan;
    return plan;
  }

  #defaultBytes(field: Field): Buffer | undefined {
    if (field.defaultValue === undefined) return undefined;
    const out = new BinaryWriter();
    this.#dialect.defaults.coder(field.type).write(out, field.defaultValue);
    return out.finish();
  }

  #refuseUnknown(given: Record<string, unknown>): void {
    const names = this.#struct.fields.map((field) => field.name);
    for (const name of Object.keys(given)) {
      if (given[name] !== undefined && !names.includes(name)) {
        throw new WireError(
          `${this.#struct.name} has no field ${quote(name)}${suggest(name, names) || '; it has none at all'}`,
        );
      }
    }
  }
}

export function notOne({ name, fields }: StructType, set: number): WireError {
  const names = fields.map((field) => field.name).join(', ');
  return new WireError(`expected exactly one field of union ${name} (${names}), got ${set}`);
}

/** Lists, and sets in dialects that represent them as arrays. No two elements of a set may have equal bytes. */
export class ListCoder implements Coder {
  readonly #type: SetType;
  readonly #element: Coder;
  readonly #isSet: boolean;
  readonly #wire: number;

  constructor(type: SetType, element: Coder, isSet: boolean) {
    this.#type = type;
    this.#element = element;
    this.#isSet = isSet;
    this.#wire = WIRE_OF_KIND[type.element.kind];
  }

  write(out: BinaryWriter, value: unknown): void {
    if (!Array.isArray(value)) throw expected(nameOfType(this.#type), value);
    const list = value as unknown[];
    const seen = this.#isSet ? new Set<string>() : undefined;
    out.enter();
    out.byte(this.#wire);
    out.i32(list.length);
    let i = 0;
    try {
      for (; i < list.length; i++) {
        const start = out.position;
        this.#element.write(out, list[i]);
        if (seen !== undefined && seen.size === seen.add(out.keyFrom(start)).size) throw twice(list[i]);
      }
    } catch (thrown) {
      throw at(thrown, `[${i}]`);
    }
    out.leave();
  }

  read(from: BinaryReader): unknown[] {
    from.enter();
    const size = readListHead(from, this.#wire, this.#type.element);
    const list: unknown[] = [];
    const seen = this.#isSet ? new Set<string>() : undefined;
    let i = 0;
    try {
      for (; i < size; i++) {
        const start = from.position;
        const value = this.#element.read(from);
        if (seen !== undefined && seen.size === seen.add(from.keyFrom(start)).size) throw twice(value);
        list.push(value);
      }
    } catch (thrown) {
      throw at(thrown, `[${i}]`);
    }
    from.leave();
    return list;
  }
}

/** Reads the size of a list or set, and checks the element type. Empty ones may have any type. */
export function readListHead(from: BinaryReader, wire: number, element: Type): number {
  const found = from.byte();
  const size = from.size(minimumBytes(found));
  if (size > 0 && found !== wire)
    throw new WireError(`expected elements of type ${nameOfType(element)}, got ${wireName(found)}`);
  return size;
}

/** Reads the size of a map, like readListHead. */
export function readMapHead(from: BinaryReader, type: MapType): number {
  const key = from.byte();
  const value = from.byte();
  const size = from.size(minimumBytes(key) + minimumBytes(value));
  if (size > 0 && (key !== WIRE_OF_KIND[type.key.kind] || value !== WIRE_OF_KIND[type.value.kind])) {
    throw new WireError(`expected ${nameOfType(type)}, got a map of ${wireName(key)} to ${wireName(value)}`);
  }
  return size;
}

export function expected(what: string, got: unknown): WireError {
  return new WireError(`expected ${what}, got ${quote(got)}`);
}

export function twice(value: unknown): WireError {
  return new WireError(`${quote(value)} is in the set twice`);
}

/** Counts own and inherited keys: an upper bound, without allocating an array. */
function countKeys(given: Record<string, unknown>): number {
  let count = 0;
  // oxlint-disable-next-line guard-for-in
  for (const _key in given) count++;
  return count;
}

function missing({ field }: FieldPlan): WireError {
  return new WireError(`expected ${nameOfType(field.type)}, got nothing, and the field is required`);
}
