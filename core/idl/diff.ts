// Lists the differences between two interfaces as text, for the error when a chassis does not match its pool.

import type { EnumType, Field, Interface, Method, StructType, Type } from '../thrift/mod.ts';
import { KNOWN_OF_FIELDS } from './annotations.ts';
import { majorityText } from './copy-rules.ts';
import { jsonOf } from './json.ts';

/** Maximum lines. Further differences are only counted. */
export const LINES_MAX = 30;

/**
 * Returns one line per difference, with `here` for the first and `there` for the second; '' for equal interfaces:
 * `add: parameter 2 num2: i32 here, i64 there`.
 */
export function describeDifference(a: Interface, b: Interface): string {
  if (a.id === b.id) return '';
  const lines = new Comparison().interfaces(a, b);
  if (lines.length === 0)
    return 'the names and types are equal, but some come from files with different names here and there';
  const shown = lines.slice(0, LINES_MAX);
  if (lines.length > shown.length) shown.push(`and ${lines.length - shown.length} more differences`);
  return shown.join('\n');
}

class Comparison {
  readonly #lines: string[] = [];
  /** Pairs of types to compare, and the types that were compared. */
  readonly #open: (() => void)[] = [];
  readonly #met: Map<object, Set<object>> = new Map();

  interfaces(a: Interface, b: Interface): string[] {
    this.#texts('service', a.service, b.service);
    for (const [name, method] of a.methods) {
      const other = b.methods.get(name);
      if (other === undefined) this.#line(name, 'only here');
      else this.#methods(method, other);
    }
    for (const name of b.methods.keys()) if (!a.methods.has(name)) this.#line(name, 'only there');
    for (let next = this.#open.shift(); next !== undefined; next = this.#open.shift()) next();
    return this.#lines;
  }

  #methods(a: Method, b: Method): void {
    const { name } = a;
    this.#texts(`${name}: returns`, this.#typeName(a.returns, b.returns), this.#typeName(b.returns, a.returns));
    this.#texts(name, a.oneway ? 'oneway' : 'with a reply', b.oneway ? 'oneway' : 'with a reply');
    this.#fields(a.args.fields, b.args.fields, `${name}: parameter`);
    const isSameSet = idsOf(byId(a.args.fields)) === idsOf(byId(b.args.fields));
    if (isSameSet) this.#texts(`${name}: order of parameters`, idsOf(a.args.fields), idsOf(b.args.fields));
    this.#fields(a.throws, b.throws, `${name}: exception`);
    this.#texts(`${name}: katamari.readonly`, String(a.isReadonly), String(b.isReadonly));
    this.#texts(`${name}: katamari.idempotent`, String(a.isIdempotent), String(b.isIdempotent));
    this.#texts(`${name}: katamari.timeout`, duration(a.timeoutMs), duration(b.timeoutMs));
    this.#texts(`${name}: katamari.cache`, duration(a.cacheMs), duration(b.cacheMs));
    this.#texts(`${name}: katamari.gather`, a.gather ?? 'none', b.gather ?? 'none');
    this.#texts(`${name}: katamari.hedge`, hedgeText(a), hedgeText(b));
    this.#texts(`${name}: katamari.majority`, votesText(a), votesText(b));
  }

  #fields(a: readonly Field[], b: readonly Field[], what: string): void {
    const others = new Map(b.map((field) => [field.id, field]));
    for (const field of a) {
      const other = others.get(field.id);
      others.delete(field.id);
      if (other === undefined) {
        this.#line(`${what} ${field.id} ${field.name}`, 'only here');
        continue;
      }
      const place = `${what} ${field.id} ${field.name}`;
      this.#texts(`${what} ${field.id}`, field.name, other.name);
      this.#texts(place, this.#typeName(field.type, other.type), this.#typeName(other.type, field.type));
      this.#texts(place, field.requiredness, other.requiredness);
      this.#texts(`${place}: default`, defaultText(field), defaultText(other));
      for (const name of KNOWN_OF_FIELDS)
        this.#texts(`${place}: ${name}`, field.annotations[name] ?? 'none', other.annotations[name] ?? 'none');
    }
    for (const field of others.values()) this.#line(`${what} ${field.id} ${field.name}`, 'only there');
  }

  #structs(a: StructType, b: StructType): void {
    const name = plain(a.name);
    this.#texts(name, a.kind, b.kind);
    this.#fields(a.fields, b.fields, `${a.kind} ${name}: field`);
  }

  #enums(a: EnumType, b: EnumType): void {
    for (const [name, value] of a.byName) {
      const other = b.byName.get(name);
      if (other === undefined) this.#line(`enum ${plain(a.name)}: ${name} = ${value}`, 'only here');
      else this.#texts(`enum ${plain(a.name)}: ${name}`, String(value), String(other));
    }
    for (const [name, value] of b.byName) {
      if (!a.byName.has(name)) this.#line(`enum ${plain(a.name)}: ${name} = ${value}`, 'only there');
    }
  }

  /** Returns the name by which a type is compared. Structs and enums of the same name are queued for comparison. */
  #typeName(type: Type, other: Type): string {
    if (type.kind === 'struct') {
      if (other.kind === 'struct' && plain(type.struct.name) === plain(other.struct.name)) {
        this.#queue(type.struct, other.struct, () => this.#structs(type.struct, other.struct));
      }
      return plain(type.struct.name);
    }
    if (type.kind === 'enum') {
      if (other.kind === 'enum' && plain(type.enum.name) === plain(other.enum.name)) {
        this.#queue(type.enum, other.enum, () => this.#enums(type.enum, other.enum));
      }
      return plain(type.enum.name);
    }
    if (type.kind === 'list' || type.kind === 'set') {
      return `${type.kind}<${this.#typeName(type.element, 'element' in other ? other.element : other)}>`;
    }
    if (type.kind === 'map') {
      const [key, value] = other.kind === 'map' ? [other.key, other.value] : [other, other];
      return `map<${this.#typeName(type.key, key)}, ${this.#typeName(type.value, value)}>`;
    }
    return type.kind;
  }

  #queue(a: object, b: object, compare: () => void): void {
    const met = this.#met.get(a) ?? new Set();
    if (met.has(b)) return;
    this.#met.set(a, met.add(b));
    // The pair may have been queued from the other side.
    if (this.#met.get(b)?.has(a) === true) return;
    this.#open.push(compare);
  }

  #texts(what: string, here: string, there: string): void {
    if (here !== there) this.#line(what, `${here} here, ${there} there`);
  }

  #line(what: string, how: string): void {
    this.#lines.push(`${what}: ${how}`);
  }
}

function byId(fields: readonly Field[]): Field[] {
  return [...fields].sort((a, b) => a.id - b.id);
}

function idsOf(fields: readonly Field[]): string {
  return fields.map((field) => field.id).join(', ');
}

function plain(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1);
}

function duration(ms: number): string {
  return ms === 0 ? 'none' : `${ms}ms`;
}

function hedgeText({ hedge }: Method): string {
  return hedge === 0 ? 'none' : `p${hedge}`;
}

function votesText({ majority }: Method): string {
  return majority === undefined ? 'none' : majorityText(majority);
}

/** Returns the value as JSON, or "none". */
export function defaultText(field: Field): string {
  return field.defaultValue === undefined ? 'none' : JSON.stringify(jsonOf(field.type, field.defaultValue));
}
