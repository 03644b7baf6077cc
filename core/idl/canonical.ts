// The canonical text of an interface: the service with its inherited methods and all types it needs, in one file, in
// a fixed order, with typedefs and constants expanded, and without comments and unrelated annotations. Two interfaces
// are equal if their canonical texts are. The text is valid Thrift IDL from which any Thrift compiler generates
// working clients.

import { KatamariError } from '../mod.ts';
import type { EnumType, Field, Method, StructType, Type } from '../thrift/mod.ts';
import { KNOWN_OF_FIELDS } from './annotations.ts';
import { majorityText } from './copy-rules.ts';
import { compareText, flatNames } from './names.ts';
import { reachable } from './typename.ts';

/** Maximum characters of a canonical text. Defaults can repeat long constants. */
export const CANONICAL_LENGTH_MAX: number = 4 * 1024 * 1024;

/** Returns the canonical text of a service with these methods. */
export function canonicalText(service: string, methods: ReadonlyMap<string, Method>): string {
  const sorted = [...methods.values()].sort((a, b) => compareText(a.name, b.name));
  const types = reachable(
    sorted.flatMap((method) => [...method.args.fields, ...method.result.fields].map((f) => f.type)),
  );
  const writer = new Writer(service, types);
  const structs: StructType[] = [];
  const enums: EnumType[] = [];
  for (const type of types) {
    if (type.kind === 'enum') enums.push(type.enum);
    else if (type.kind === 'struct') structs.push(type.struct);
  }
  const byName = (a: { name: string }, b: { name: string }): number => compareText(writer.nameOf(a), writer.nameOf(b));
  for (const type of enums.sort(byName)) writer.enum(type);
  for (const struct of inOrderOfUse(structs.sort(byName))) writer.struct(struct);
  writer.line(`service ${service} {`);
  for (const method of sorted) writer.method(method);
  writer.line('}');
  return writer.text();
}

class Writer {
  readonly #names: Map<object, string>;
  readonly #lines: string[] = [];
  #length = 0;

  constructor(service: string, types: readonly Type[]) {
    this.#names = flatNames(types, new Set([service]));
  }

  nameOf(type: object): string {
    return this.#names.get(type) ?? '';
  }

  text(): string {
    return `${this.#lines.join('\n')}\n`;
  }

  line(text: string): void {
    this.#spend(text.length + 1);
    this.#lines.push(text);
  }

  enum(type: EnumType): void {
    this.line(`enum ${this.nameOf(type)} {`);
    const members = [...type.byName].sort((a, b) => a[1] - b[1] || compareText(a[0], b[0]));
    for (const [name, value] of members) this.line(`  ${name} = ${value}`);
    this.line('}\n');
  }

  struct(struct: StructType): void {
    this.line(`${struct.kind} ${this.nameOf(struct)} {`);
    const isUnion = struct.kind === 'union';
    for (const field of byId(struct.fields)) this.line(`  ${this.#field(field, isUnion)}`);
    this.line('}\n');
  }

  method(method: Method): void {
    // In file order, because positional params depend on it.
    const args = method.args.fields.map((field) => this.#field(field, false)).join(', ');
    const throws = byId(method.throws).map((field) => this.#field(field, true));
    const rules: string[] = [];
    if (method.isReadonly) rules.push('katamari.readonly = "true"');
    else if (method.isIdempotent) rules.push('katamari.idempotent = "true"');
    if (method.timeoutMs > 0) rules.push(`katamari.timeout = "${method.timeoutMs}ms"`);
    if (method.cacheMs > 0) rules.push(`katamari.cache = "${method.cacheMs}ms"`);
    if (method.gather !== undefined) rules.push(`katamari.gather = "${method.gather}"`);
    if (method.hedge > 0) rules.push(`katamari.hedge = "p${method.hedge}"`);
    if (method.majority !== undefined) rules.push(`katamari.majority = "${majorityText(method.majority)}"`);
    this.line(
      `  ${method.oneway ? 'oneway ' : ''}${this.#type(method.returns)} ${method.name}(${args})` +
        (throws.length > 0 ? ` throws (${throws.join(', ')})` : '') +
        (rules.length > 0 ? ` (${rules.join(', ')})` : ''),
    );
  }

  #field(field: Field, isBare: boolean): string {
    // The compiler assigns negative ids in order. Writing them would only cause warnings.
    const id = field.id > 0 ? `${field.id}: ` : '';
    const requiredness = isBare || field.requiredness === 'default' ? '' : `${field.requiredness} `;
    const value = field.defaultValue === undefined ? '' : ` = ${this.#value(field.defaultValue, field.type)}`;
    const rules = KNOWN_OF_FIELDS.filter((name) => isSet(field.annotations[name])).map(
      (name) => `${name} = "${field.annotations[name]}"`,
    );
    const annotations = rules.length === 0 ? '' : ` (${rules.join(', ')})`;
    return `${id}${requiredness}${this.#type(field.type)} ${field.name}${value}${annotations}`;
  }

  #type(type: Type): string {
    if (type.kind === 'enum') return this.nameOf(type.enum);
    if (type.kind === 'struct') return this.nameOf(type.struct);
    if (type.kind === 'list' || type.kind === 'set') return `${type.kind}<${this.#type(type.element)}>`;
    if (type.kind === 'map') return `map<${this.#type(type.key)}, ${this.#type(type.value)}>`;
    return type.kind;
  }

  #value(value: unknown, type: Type): string {
    const text = this.#valueText(value, type);
    this.#spend(text.length);
    return text;
  }

  #valueText(value: unknown, type: Type): string {
    switch (type.kind) {
      case 'enum': {
        const name = type.enum.byValue.get(value as number);
        return name === undefined ? String(value) : `${this.nameOf(type.enum)}.${name}`;
      }
      case 'double':
        return Number.isInteger(value) && Math.abs(value as number) < 1e15 ? `${value as number}.0` : String(value);
      case 'string':
      case 'uuid':
        return literal(value as string);
      case 'binary':
        return literal((value as Buffer).toString());
      case 'list':
        return `[${(value as unknown[]).map((part) => this.#value(part, type.element)).join(', ')}]`;
      case 'set':
        return `[${[...(value as Set<unknown>)]
          .map((part) => this.#value(part, type.element))
          .sort(compareText)
          .join(', ')}]`;
      case 'map': {
        const pairs = [...(value as Map<unknown, unknown>)].map(
          ([key, part]) => `${this.#value(key, type.key)}: ${this.#value(part, type.value)}`,
        );
        return `{${pairs.sort(compareText).join(', ')}}`;
      }
      case 'struct': {
        const given = value as Record<string, unknown>;
        const fields = byId(type.struct.fields).filter((field) => Object.hasOwn(given, field.name));
        return `{${fields.map((field) => `${literal(field.name)}: ${this.#value(given[field.name], field.type)}`).join(', ')}}`;
      }
      case 'void':
      case 'bool':
      case 'i8':
      case 'i16':
      case 'i32':
      case 'i64':
        return `${value as boolean | number | bigint}`;
    }
  }

  #spend(length: number): void {
    this.#length += length;
    if (this.#length <= CANONICAL_LENGTH_MAX) return;
    throw new KatamariError(
      'bad_request',
      `The canonical text of the interface has more than ${CANONICAL_LENGTH_MAX} characters, which is the limit: shorten its defaults`,
    );
  }
}

/**
 * Sorts structs by name, but puts a struct before those whose defaults contain a value of it. Compilers check
 * defaults at once, although they allow types to be used before their definition.
 */
function inOrderOfUse(sorted: readonly StructType[]): Set<StructType> {
  const done = new Set<StructType>();
  const visited = new Set<StructType>();
  const visit = (struct: StructType): void => {
    if (visited.has(struct)) return;
    visited.add(struct);
    for (const field of byId(struct.fields)) {
      if (field.defaultValue === undefined) continue;
      for (const inside of structsIn(field.defaultValue, field.type)) visit(inside);
    }
    done.add(struct);
  };
  for (const struct of sorted) visit(struct);
  return done;
}

/** Returns the structs that a value contains, at any depth. */
function structsIn(value: unknown, type: Type): StructType[] {
  if (type.kind === 'list' || type.kind === 'set') {
    return [...(value as Iterable<unknown>)].flatMap((part) => structsIn(part, type.element));
  }
  if (type.kind === 'map') {
    return [...(value as Map<unknown, unknown>)].flatMap(([key, part]) => [
      ...structsIn(key, type.key),
      ...structsIn(part, type.value),
    ]);
  }
  if (type.kind !== 'struct') return [];
  const given = value as Record<string, unknown>;
  const fields = type.struct.fields.filter(({ name }) => Object.hasOwn(given, name));
  return [type.struct, ...fields.flatMap((field) => structsIn(given[field.name], field.type))];
}

/** Sorts fields: positive ids ascending, then the ids that the compiler assigned: -1, -2, ... */
function byId(fields: readonly Field[]): Field[] {
  return [...fields].sort((a, b) => Number(a.id < 0) - Number(b.id < 0) || Math.abs(a.id) - Math.abs(b.id));
}

/** Whether an annotation says something: `katamari.secret = "false"` does not. */
function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== 'false';
}

function literal(text: string): string {
  return `"${text.replace(/["\\\n\r\t]/g, (char) => ESCAPES[char] ?? char)}"`;
}

const ESCAPES: Readonly<Record<string, string>> = { '"': '\\"', '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };
