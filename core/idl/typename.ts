// Names of types for error messages, and equality of types.

import type { StructType, Type } from '../thrift/mod.ts';

/** Returns the name of a type, for example `list<map<string, Work>>`. */
export function nameOfType(type: Type): string {
  switch (type.kind) {
    case 'enum':
      return type.enum.name;
    case 'struct':
      return type.struct.name;
    case 'list':
    case 'set':
      return `${type.kind}<${nameOfType(type.element)}>`;
    case 'map':
      return `map<${nameOfType(type.key)}, ${nameOfType(type.value)}>`;
    case 'void':
    case 'bool':
    case 'i8':
    case 'i16':
    case 'i32':
    case 'i64':
    case 'double':
    case 'string':
    case 'binary':
    case 'uuid':
      return type.kind;
  }
}

/** Whether two types of one compiled IDL are equal. */
export function isSameType(a: Type, b: Type): boolean {
  if (a === b) return true;
  if (a.kind === 'enum') return b.kind === 'enum' && a.enum === b.enum;
  if (a.kind === 'struct') return b.kind === 'struct' && a.struct === b.struct;
  if (a.kind === 'list' || a.kind === 'set') return a.kind === b.kind && isSameType(a.element, (b as typeof a).element);
  if (a.kind === 'map') return b.kind === 'map' && isSameType(a.key, b.key) && isSameType(a.value, b.value);
  return a.kind === b.kind;
}

/** Returns every struct and enum that is reachable from the given types, once, in order of discovery. */
export function reachable(types: Iterable<Type>): Type[] {
  const found = new Map<object, Type>();
  const open = [...types].reverse();
  for (let type = open.pop(); type !== undefined; type = open.pop()) {
    if (type.kind === 'list' || type.kind === 'set') open.push(type.element);
    else if (type.kind === 'map') open.push(type.value, type.key);
    else if (type.kind === 'enum') found.set(type.enum, type);
    else if (type.kind === 'struct' && !found.has(type.struct)) {
      found.set(type.struct, type);
      open.push(...typesOf(type.struct).reverse());
    }
  }
  return [...found.values()];
}

function typesOf(struct: StructType): Type[] {
  return struct.fields.map((field) => field.type);
}
