// Describes a method for users who do not know its IDL: its signature, the structs that it needs, and valid example
// arguments.

import { nameOfType } from '../../../core/idl/mod.ts';
import type { Field, Interface, Method, StructType, Type } from '../../../core/thrift/mod.ts';

/** Returns the signature in IDL syntax, followed by the structs and enums of the arguments. */
export function describeMethod(method: Method): string {
  const needed = new Map<string, string>();
  for (const field of method.args.fields) collect(field.type, needed);
  const exceptions = method.throws.map((field) => nameOfType(field.type)).join(', ');
  const signature =
    `${method.oneway ? 'oneway ' : ''}${nameOfType(method.returns)} ${method.name}(${method.args.fields.map(fieldText).join(', ')})` +
    (exceptions === '' ? '' : ` throws ${exceptions}`);
  return [signature, ...needed.values()].join('\n');
}

/** Returns valid arguments by name, as JSON values. Callers of an index leave out its shards and other options. */
export function exampleParams({ args, gather }: Method): Record<string, unknown> {
  const state = { whole: 0 };
  const isNeeded = ({ requiredness, defaultValue }: Field): boolean =>
    gather === undefined || (requiredness !== 'optional' && defaultValue === undefined);
  return Object.fromEntries(args.fields.filter(isNeeded).map(({ name, type }) => [name, exampleOf(type, state, 0)]));
}

/**
 * Returns the method that is best for a first call: few scalar arguments and a result. Undefined if all methods are
 * oneway or take structs or collections.
 */
export function exampleMethod(iface: Interface): Method | undefined {
  const methods = [...iface.methods.values()].filter((method) => !method.oneway);
  const plain = methods.filter(({ args }) => args.fields.every(({ type }) => isPlain(type)));
  return plain.sort((a, b) => rank(a) - rank(b))[0];
}

/** Lower is better. */
function rank({ args, returns, isReadonly, isIdempotent }: Method): number {
  const { length } = args.fields;
  return (
    (returns.kind === 'void' ? 100 : isPlain(returns) ? 0 : 30) +
    (length === 0 ? 50 : length * 10) -
    (isReadonly || isIdempotent ? 5 : 0)
  );
}

function isPlain(type: Type): boolean {
  return !['struct', 'map', 'list', 'set', 'binary', 'uuid'].includes(type.kind);
}

function fieldText({ id, name, type, requiredness }: Field): string {
  return `${id}: ${requiredness === 'default' ? '' : `${requiredness} `}${nameOfType(type)} ${name}`;
}

function collect(type: Type, into: Map<string, string>): void {
  if (type.kind === 'list' || type.kind === 'set') collect(type.element, into);
  else if (type.kind === 'map') {
    collect(type.key, into);
    collect(type.value, into);
  } else if (type.kind === 'enum') {
    into.set(
      type.enum.name,
      `  enum ${type.enum.name} { ${[...type.enum.byName].map(([name, value]) => `${name} = ${value}`).join(', ')} }`,
    );
  } else if (type.kind === 'struct' && !into.has(type.struct.name)) {
    into.set(type.struct.name, structText(type.struct));
    for (const field of type.struct.fields) collect(field.type, into);
  }
}

function structText({ kind, name, fields }: StructType): string {
  return `  ${kind} ${name} { ${fields.map(fieldText).join(', ')} }`;
}

function exampleOf(type: Type, state: { whole: number }, depth: number): unknown {
  switch (type.kind) {
    case 'void':
      return null;
    case 'bool':
      return true;
    case 'i8':
    case 'i16':
    case 'i32':
    case 'i64':
      // Alternate between 2 and 40, so that Calculator.add returns 42.
      return state.whole++ % 2 === 0 ? 2 : 40;
    case 'double':
      return 0.5;
    case 'string':
      return 'hello';
    case 'binary':
      return 'aGVsbG8=';
    case 'uuid':
      return '00112233-4455-6677-8899-aabbccddeeff';
    case 'enum':
      return [...type.enum.byName.keys()][0] ?? 0;
    case 'list':
    case 'set':
      return depth > 3 ? [] : [exampleOf(type.element, state, depth + 1)];
    case 'map':
      return {};
    case 'struct': {
      const fields =
        type.struct.kind === 'union'
          ? type.struct.fields.slice(0, 1)
          : type.struct.fields.filter(({ requiredness }) => requiredness !== 'optional');
      return depth > 3
        ? {}
        : Object.fromEntries(fields.map((field) => [field.name, exampleOf(field.type, state, depth + 1)]));
    }
  }
}
