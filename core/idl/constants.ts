// Values of constants and of field defaults in an IDL, checked against their types and converted to the plain
// JavaScript values that handlers use. References to constants and enum values are resolved; circular references are
// refused.

import { type ConstValue, SyntaxType } from '@creditkarma/thrift-parser';
import type { EnumType, StructType, Type } from '../thrift/mod.ts';
import { type IdlFile, idlFault, quote, suggest } from './fault.ts';
import { type Scope, wholeNumber } from './scope.ts';
import { index } from './tokens.ts';
import { isSameType, nameOfType } from './typename.ts';

/** A value with its type and its weight, which is the number of values it contains. */
export interface Valued {
  readonly type: Type;
  readonly value: unknown;
  readonly weight: number;
}

/** Returns the default of a field of a struct; undefined for none. */
export type DefaultOf = (struct: StructType, field: string) => Valued | undefined;

/**
 * Maximum values in one default or constant with references resolved. Each line of references can double the number.
 */
export const VALUE_WEIGHT_MAX = 10_000;

export class Constants {
  readonly #done: Map<object, Valued> = new Map();
  readonly #evaluating: Set<object> = new Set();
  readonly #defaultOf: DefaultOf;
  #weight = 0;

  /** @param defaultOf returns the default of a field, for struct values that omit it */
  constructor(defaultOf: DefaultOf) {
    this.#defaultOf = defaultOf;
  }

  /** Returns the constant of that name. @throws KatamariError bad_request if the scope does not define it */
  constant(scope: Scope, name: string, at: number): Valued {
    const syntax = scope.constants.get(name);
    if (syntax === undefined) throw idlFault(scope.file, at, `unknown constant ${quote(name)}`);
    const done = this.#done.get(syntax);
    if (done !== undefined) return done;
    if (this.#evaluating.has(syntax)) {
      throw idlFault(scope.file, index(syntax.name), `constant ${quote(name)} refers to itself, give it a value`);
    }
    if (this.#evaluating.size >= CHAIN_MAX) {
      throw idlFault(
        scope.file,
        index(syntax.name),
        `a chain of more than ${CHAIN_MAX} constants that refer to each other`,
      );
    }
    this.#evaluating.add(syntax);
    const result = this.evaluate(scope, syntax.initializer, scope.resolve(syntax.fieldType));
    this.#evaluating.delete(syntax);
    this.#done.set(syntax, result);
    return result;
  }

  /** Evaluates a value as the given type. @throws KatamariError bad_request with the position if it does not match */
  evaluate(scope: Scope, syntax: ConstValue, type: Type): Valued {
    const outside = this.#weight;
    this.#weight = 0;
    const value = this.#value(scope, syntax, type);
    const result = { type, value, weight: this.#weight };
    this.#weight = outside;
    return result;
  }

  #value(scope: Scope, syntax: ConstValue, type: Type): unknown {
    this.#count(scope, syntax, 1);
    const wrong = (got: string, hint = ''): Error =>
      idlFault(scope.file, placeOf(scope.file, syntax), `expected ${nameOfType(type)}, got ${got}${hint}`);
    switch (syntax.type) {
      case SyntaxType.Identifier:
        return this.#reference(scope, syntax.value, index(syntax), type, syntax);
      case SyntaxType.BooleanLiteral:
        if (type.kind === 'bool') return syntax.value;
        // The Apache compiler treats `true` and `false` as 1 and 0.
        return fromInteger(syntax.value ? 1n : 0n, type, (_got, hint) => wrong(String(syntax.value), hint));
      case SyntaxType.IntConstant:
        return fromInteger(wholeNumber(syntax.value.value), type, wrong);
      case SyntaxType.DoubleConstant: {
        if (type.kind !== 'double') throw wrong(syntax.value.value);
        return finite(Number(syntax.value.value), syntax.value.value, wrong);
      }
      case SyntaxType.StringLiteral:
        if (type.kind === 'string') return syntax.value;
        if (type.kind === 'binary') return Buffer.from(syntax.value);
        if (type.kind === 'uuid' && UUID_PATTERN.test(syntax.value))
          return syntax.value.toLowerCase().replace(/[{}]/g, '');
        if (type.kind === 'enum') throw wrong(quote(syntax.value), `, write ${type.enum.name}.NAME without quotes`);
        throw wrong(quote(syntax.value));
      case SyntaxType.ConstList: {
        if (type.kind === 'map' && syntax.elements.length === 0) return new Map();
        if (type.kind !== 'list' && type.kind !== 'set') throw wrong('a list');
        const values = syntax.elements.map((element) => this.#value(scope, element, type.element));
        if (type.kind === 'list') return values;
        // Repeated values are in the set once, as in every language of the Apache compiler.
        return new Set(new Map(values.map((value) => [keyOf(value), value])).values());
      }
      case SyntaxType.ConstMap:
        if (type.kind === 'map') {
          const pairs = syntax.properties.map(
            ({ name, initializer }) =>
              [this.#value(scope, name, type.key), this.#value(scope, initializer, type.value)] as const,
          );
          const keys = new Set<unknown>();
          for (const [key] of pairs) {
            if (keys.has(keyOf(key))) throw wrong(`the key ${quote(key)} twice`);
            keys.add(keyOf(key));
          }
          return new Map(pairs);
        }
        if (type.kind === 'struct') return this.#struct(scope, syntax, type.struct);
        // Empty values may have either kind of bracket, as in the Apache compiler.
        if (type.kind === 'list' && syntax.properties.length === 0) return [];
        if (type.kind === 'set' && syntax.properties.length === 0) return new Set();
        throw wrong('a map');
      default:
        throw wrong('something else');
    }
  }

  #struct(scope: Scope, syntax: ConstValue & { type: SyntaxType.ConstMap }, struct: StructType): unknown {
    const result: Record<string, unknown> = {};
    const given = new Set<string>();
    for (const { name, initializer } of syntax.properties) {
      if (name.type !== SyntaxType.StringLiteral) {
        throw idlFault(scope.file, index(name), `expected the name of a field of ${struct.name} in quotes`);
      }
      const field = struct.fields.find((field) => field.name === name.value);
      if (field === undefined) {
        const known = struct.fields.map((field) => field.name);
        throw idlFault(
          scope.file,
          index(name),
          `${struct.name} has no field ${quote(name.value)}${suggest(name.value, known)}`,
        );
      }
      if (given.has(field.name)) throw idlFault(scope.file, index(name), `field ${quote(field.name)} is given twice`);
      given.add(field.name);
      setOwn(result, field.name, this.#value(scope, initializer, field.type));
    }
    if (struct.kind === 'union' && given.size !== 1) {
      throw idlFault(
        scope.file,
        placeOf(scope.file, syntax),
        `a value of union ${struct.name} must have exactly one field, got ${given.size}`,
      );
    }
    for (const field of struct.fields) {
      if (given.has(field.name)) continue;
      const found = struct.kind === 'union' ? undefined : this.#defaultOf(struct, field.name);
      if (found !== undefined) {
        this.#count(scope, syntax, found.weight);
        setOwn(result, field.name, found.value);
      } else if (field.requiredness === 'required') {
        throw idlFault(
          scope.file,
          placeOf(scope.file, syntax),
          `required field ${quote(field.name)} of ${struct.name} is missing`,
        );
      }
    }
    return result;
  }

  /** Resolves CONSTANT, Enum.VALUE, prefix.CONSTANT, prefix.Enum.VALUE, and a VALUE of the enum that is expected. */
  #reference(scope: Scope, name: string, at: number, type: Type, syntax: ConstValue): unknown {
    const dot = name.lastIndexOf('.');
    const member = name.slice(dot + 1);
    const wanted = dot !== -1 && type.kind === 'enum' ? type.enum : undefined;
    const found = scope.find(name);
    if (found?.scope.constants.has(found.name) === true) {
      const { value, weight, type: from } = this.constant(found.scope, found.name, at);
      this.#count(scope, syntax, weight);
      if (wanted?.byName.has(member) === true && wanted.byName.get(member) !== value) {
        throw idlFault(
          scope.file,
          at,
          `${quote(name)} is a constant, but compilers take it for the value ${member} of enum ${wanted.name}; rename one`,
        );
      }
      return convert(value, from, type, (got) =>
        idlFault(scope.file, at, `expected ${nameOfType(type)}, got ${got} (constant ${quote(name)})`),
      );
    }
    const enumName = name.slice(0, Math.max(dot, 0));
    let enumType = dot === -1 ? undefined : scope.findEnum(enumName);
    if (enumType === undefined && wanted !== undefined && scope.isEnumOfInclude(enumName, wanted)) enumType = wanted;
    if (enumType === undefined) throw idlFault(scope.file, at, this.#unknown(scope, name, type));
    const value = enumType.byName.get(member);
    if (value === undefined) {
      const hint = suggest(member, enumType.byName.keys());
      throw idlFault(scope.file, at, `enum ${enumType.name} has no value ${quote(member)}${hint}`);
    }
    return convert(value, { kind: 'enum', enum: enumType }, type, (got) =>
      idlFault(scope.file, at, `expected ${nameOfType(type)}, got ${got}`),
    );
  }

  #unknown(scope: Scope, name: string, type: Type): string {
    const member = name.slice(name.lastIndexOf('.') + 1);
    if (type.kind === 'enum' && type.enum.byName.has(member)) {
      return `unknown constant ${quote(name)}, did you mean "${type.enum.name}.${member}"?`;
    }
    return `unknown constant or enum value ${quote(name)}${suggest(name, scope.constants.keys())}`;
  }

  #count(scope: Scope, syntax: ConstValue, weight: number): void {
    this.#weight += weight;
    if (this.#weight > VALUE_WEIGHT_MAX) {
      throw idlFault(scope.file, index(syntax), `this value contains more than ${VALUE_WEIGHT_MAX} values`);
    }
  }
}

/**
 * Returns the position of a value. The grammar's position of a list or map is somewhere after its opening bracket.
 */
function placeOf({ text }: IdlFile, syntax: ConstValue): number {
  const at = index(syntax);
  if (syntax.type === SyntaxType.ConstList) return text.lastIndexOf('[', at - 1);
  return syntax.type === SyntaxType.ConstMap ? text.lastIndexOf('{', at - 1) : at;
}

/** Sets an own property. Plain assignment to `__proto__` would change the prototype. */
export function setOwn(target: Record<string, unknown>, name: string, value: unknown): void {
  if (name === '__proto__')
    Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true });
  else target[name] = value;
}

/** Matches a UUID with or without braces. */
const UUID_PATTERN =
  /^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\})$/i;
/** Maximum chain of constants that refer to each other. Each is one level of recursion. */
const CHAIN_MAX = 200;
const INTEGER_BITS: ReadonlyMap<Type['kind'], bigint> = new Map([
  ['i8', 8n],
  ['i16', 16n],
  ['i32', 32n],
  ['i64', 64n],
]);

function finite(value: number, text: string, wrong: (got: string, hint?: string) => Error): number {
  if (!Number.isFinite(value)) throw wrong(text.slice(0, 40), ', which is beyond a double');
  return value;
}

function fromInteger(value: bigint, type: Type, wrong: (got: string, hint?: string) => Error): unknown {
  if (type.kind === 'double') return finite(Number(value), String(value), wrong);
  if (type.kind === 'bool' && (value === 0n || value === 1n)) return value === 1n;
  if (type.kind === 'enum') {
    if (type.enum.byValue.has(Number(value))) return Number(value);
    throw wrong(String(value), `; known: ${namesOf(type.enum)}`);
  }
  const bits = INTEGER_BITS.get(type.kind);
  if (bits === undefined) throw wrong(String(value));
  if (BigInt.asIntN(Number(bits), value) !== value)
    throw wrong(String(value), `, which does not fit into ${bits} bits`);
  return type.kind === 'i64' ? value : Number(value);
}

/** Converts a constant to another type. Numbers may be widened or narrowed if they fit. */
function convert(value: unknown, from: Type, to: Type, wrong: (got: string) => Error): unknown {
  if (isSameType(from, to)) return value;
  if (typeof value === 'bigint' || (typeof value === 'number' && from.kind !== 'double')) {
    if (from.kind === 'enum' && to.kind === 'enum') throw wrong(`a value of enum ${from.enum.name}`);
    return fromInteger(BigInt(value), to, (got, hint = '') => wrong(got + hint));
  }
  if (typeof value === 'string' && to.kind === 'binary' && from.kind === 'string') return Buffer.from(value);
  throw wrong(nameOfType(from));
}

function namesOf(type: EnumType): string {
  return [...type.byName].map(([name, value]) => `${name} = ${value}`).join(', ');
}

/** Returns a key that is equal for equal values: text for values that JavaScript compares by identity. */
function keyOf(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  return JSON.stringify(value, (_key, part: unknown) => {
    if (typeof part === 'bigint') return `${part}n`;
    if (part instanceof Map) return ['map', ...part];
    if (part instanceof Set) return ['set', ...part];
    return part;
  });
}
