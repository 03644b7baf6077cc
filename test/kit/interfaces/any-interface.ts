// Random interfaces and values for property tests: IDL text with structs, unions, enums and containers that refer to
// one another at random, and plain JavaScript values of any type of a compiled interface.
import type { Method, StructType, Type } from '../../../core/thrift/mod.ts';

import * as fc from 'fast-check';
/** IDL text of a service `Any` with one method `m`. It always compiles. */
export const anyIdl: fc.Arbitrary<string> = fc
  .record({
    enums: fc.integer({ min: 1, max: 2 }),
    structs: fc.integer({ min: 1, max: 4 }),
    seedTypes: fc.array(fc.array(fc.nat(), { minLength: 6, maxLength: 6 }), { minLength: 24, maxLength: 24 }),
    sizes: fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 6, maxLength: 6 }),
    kinds: fc.array(fc.nat({ max: 5 }), { minLength: 6, maxLength: 6 }),
  })
  .map(({ enums, structs, seedTypes, sizes, kinds }) => {
    let next = 0;
    const typeText = (): string => {
      const choices = seedTypes[next++ % seedTypes.length] ?? [];
      return typeOf(choices, 0, enums, structs);
    };
    const lines: string[] = [];
    for (let i = 0; i < enums; i++) lines.push(`enum E${i} { A = ${i}, B, C = -${i + 1}, constructor }`);
    for (let i = 0; i < structs; i++) {
      const isUnion = kinds[i] === 0;
      lines.push(`${isUnion ? 'union' : 'struct'} S${i} {`);
      for (let f = 1; f <= (sizes[i] ?? 1); f++) {
        const type = typeText();
        // A struct that requires a value of its own type could have no value at all.
        const requiredness = isUnion ? '' : type.includes('S') ? 'optional ' : (REQUIREDNESS[(f + i) % 3] ?? '');
        lines.push(`  ${f * 3}: ${requiredness}${type} ${FIELD_NAMES[f - 1] ?? `f${f}`}`);
      }
      if (isUnion) lines.push('  99: bool end');
      lines.push('}');
    }
    const args = [1, 2, 3].map((id) => `${id}: ${typeText()} a${id}`).join(', ');
    lines.push('exception X { 1: string why }', 'service Any {', `  ${typeText()} m(${args}) throws (1: X x)`, '}');
    return lines.join('\n');
  });

/** A value for every argument of a method. */
export function anyArgs(method: Method): fc.Arbitrary<Record<string, unknown>> {
  return anyStruct(method.args, 3);
}

/** A value of the type, structs and containers at most `depth` deep. */
export function anyValue(type: Type, depth: number): fc.Arbitrary<unknown> {
  switch (type.kind) {
    case 'void':
      return fc.constant(undefined);
    case 'bool':
      return fc.boolean();
    case 'i8':
      return fc.integer({ min: -128, max: 127 });
    case 'i16':
      return fc.integer({ min: -32768, max: 32767 });
    case 'i32':
      return fc.integer();
    case 'i64':
      return fc.oneof(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.bigInt({ min: -10n, max: 10n }));
    case 'double':
      // JSON cannot express -0.
      return fc.double().map((number) => (Object.is(number, -0) ? 0 : number));
    case 'string':
      return fc.string({ unit: 'grapheme', maxLength: 40 });
    case 'binary':
      return fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes));
    case 'uuid':
      return fc.uuid();
    case 'enum':
      return fc.constantFrom(...type.enum.byValue.keys());
    case 'struct':
      return anyStruct(type.struct, depth - 1);
    case 'list':
      return fc.array(anyValue(type.element, depth - 1), { maxLength: depth > 0 ? 4 : 0 });
    case 'set':
      return fc
        .uniqueArray(anyValue(type.element, depth - 1), { maxLength: depth > 0 ? 4 : 0, selector: comparable })
        .map((elements) => new Set(elements));
    case 'map':
      return fc
        .uniqueArray(fc.tuple(anyValue(type.key, depth - 1), anyValue(type.value, depth - 1)), {
          maxLength: depth > 0 ? 4 : 0,
          selector: ([key]) => comparable(key),
        })
        .map((pairs) => new Map(pairs));
  }
}

/** Returns equal text for equal values, whatever the order of their maps, sets and fields. */
export function comparable(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'number') return String(value);
  if (value instanceof Uint8Array) return `bytes ${Buffer.from(value).toString('hex')}`;
  if (value instanceof Map) {
    return `{${[...value]
      .map(([key, part]) => `${comparable(key)}=>${comparable(part)}`)
      .sort()
      .join()}}`;
  }
  if (value instanceof Set) return `<${[...value].map(comparable).sort().join()}>`;
  if (Array.isArray(value)) return `[${value.map(comparable).join()}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'undefined';
  const parts = Object.entries(value).map(([key, part]) => `${key}:${comparable(part)}`);
  return `(${parts.sort().join()})`;
}

const LEAVES = ['bool', 'i8', 'i16', 'i32', 'i64', 'double', 'string', 'binary', 'uuid'] as const;
const REQUIREDNESS = ['', 'optional ', 'required '] as const;
/** Includes names that every JavaScript object already has. */
const FIELD_NAMES = ['plain1', '__proto__', 'constructor', 'toString', 'hasOwnProperty'] as const;

function typeOf(choices: readonly number[], depth: number, enums: number, structs: number): string {
  const choice = choices[depth] ?? 0;
  const inner = (shift: number): string =>
    typeOf(
      choices.map((number) => number >> shift),
      depth + 1,
      enums,
      structs,
    );
  if (depth < 3) {
    if (choice % 7 === 0) return `list<${inner(0)}>`;
    if (choice % 7 === 1) return `set<${inner(0)}>`;
    if (choice % 7 === 2) return `map<${inner(0)}, ${inner(1)}>`;
  }
  if (choice % 7 === 3) return `S${choice % structs}`;
  if (choice % 7 === 4) return `E${choice % enums}`;
  return LEAVES[choice % LEAVES.length] ?? 'i32';
}

function anyStruct(struct: StructType, depth: number): fc.Arbitrary<Record<string, unknown>> {
  if (struct.kind === 'union') {
    // The last field is a leaf, so the recursion ends.
    const fields = depth > 0 ? struct.fields : struct.fields.slice(-1);
    return fc.oneof(...fields.map((field) => anyValue(field.type, depth).map((value) => entry(field.name, value))));
  }
  const parts = struct.fields.map((field): fc.Arbitrary<readonly [string, unknown]> => {
    if (depth <= 0 && field.requiredness === 'optional') return fc.constant([field.name, undefined]);
    const value = anyValue(field.type, depth);
    const given = field.requiredness === 'optional' ? fc.option(value, { nil: undefined }) : value;
    return given.map((part) => [field.name, part] as const);
  });
  return fc
    .tuple(...parts)
    .map((pairs) => Object.fromEntries(pairs.filter(([, value]) => value !== undefined)) as Record<string, unknown>);
}

function entry(name: string, value: unknown): Record<string, unknown> {
  return Object.fromEntries([[name, value]]);
}
