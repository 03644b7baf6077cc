// Generates values for any type of an interface, as handlers see them: harmless ones as arguments of a chassis' own
// methods, and the limits of each range for echo. The result depends only on type and style. Recursive types end at
// optional fields and empty containers. Also compares values and prints them for error messages.

import { isDeepStrictEqual } from 'node:util';
import type { Field, StructType, Type } from '../../../core/thrift/mod.ts';

/**
 * plain: small numbers, short strings, containers of two elements, every field.
 * bare: zeros and empty containers, no optional field.
 * most, least: the limits of every range, text in several scripts with escapes, every field.
 */
export type Style = 'plain' | 'bare' | 'most' | 'least';

/** Generates the fields of a struct, or one field of a union. */
export function structValue(struct: StructType, style: Style, depth = 0): Record<string, unknown> {
  if (struct.kind === 'union') {
    const { fields } = struct;
    // Below the depth limit, a field that is no struct ends the recursion.
    const leaf = fields.find(({ type }) => type.kind !== 'struct');
    const field = depth > DEPTH_MAX ? (leaf ?? fields[0]) : style === 'most' ? fields.at(-1) : fields[0];
    return field === undefined ? {} : { [field.name]: valueOf(field.type, style, depth + 1) };
  }
  return Object.fromEntries(
    struct.fields
      .filter((field) => isGiven(field, style, depth))
      .map(({ name, type }) => [name, valueOf(type, style, depth + 1)]),
  );
}

function isGiven({ requiredness }: Field, style: Style, depth: number): boolean {
  return requiredness !== 'optional' || (style !== 'bare' && depth <= DEPTH_MAX);
}

function valueOf(type: Type, style: Style, depth: number): unknown {
  switch (type.kind) {
    case 'struct':
      return structValue(type.struct, style, depth);
    case 'enum': {
      const values = [...type.enum.byValue.keys()];
      return style === 'most' ? Math.max(...values) : style === 'least' ? Math.min(...values) : (values[0] ?? 0);
    }
    case 'list':
      return depth > DEPTH_MAX ? [] : several(style).map((each) => valueOf(type.element, each, depth + 1));
    case 'set':
      return new Set(distinct(type.element, style, depth));
    case 'map':
      return new Map(distinct(type.key, style, depth).map((key) => [key, valueOf(type.value, style, depth + 1)]));
    case 'void':
      return undefined;
    case 'bool':
    case 'i8':
    case 'i16':
    case 'i32':
    case 'i64':
    case 'double':
    case 'string':
    case 'binary':
    case 'uuid':
      return LEAVES[type.kind][style];
  }
}

/** Returns the style of each element of a container. */
function several(style: Style): Style[] {
  return style === 'bare' ? [] : style === 'plain' ? ['plain', 'bare'] : ['most', 'least', 'bare', 'plain'];
}

/** Generates distinct elements for sets and map keys. */
function distinct(type: Type, style: Style, depth: number): unknown[] {
  if (depth > DEPTH_MAX) return [];
  const seen = new Set<string>();
  return several(style)
    .map((each) => valueOf(type, each, depth + 1))
    .filter((value) => seen.size !== seen.add(keyOf(value)).size);
}

function keyOf(value: unknown): string {
  if (value instanceof Map || value instanceof Set) return `(${[...value].map(keyOf).join()})`;
  if (Array.isArray(value)) return `[${value.map(keyOf).join()}]`;
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (typeof value === 'object' && value !== null) return `{${Object.entries(value).map(keyOf).join()}}`;
  return `${typeof value} ${String(value)}`;
}

/** Whether two values of a type are equal; an absent field and an undefined one are the same. */
export function isSame(a: unknown, b: unknown): boolean {
  return isDeepStrictEqual(plain(a), plain(b));
}

/** Copies a value into plain objects without undefined fields: the codec's objects have their own prototypes. */
function plain(value: unknown): unknown {
  if (value instanceof Map) return new Map([...value].map(([key, part]) => [plain(key), plain(part)] as const));
  if (value instanceof Set) return new Set([...value].map(plain));
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, part]) => part !== undefined)
      .map(([name, part]) => [name, plain(part)]),
  );
}

/** Returns a value as text for messages, cut to 300 characters. */
export function shown(value: unknown): string {
  const text = JSON.stringify(value, (_name, part: unknown) => {
    if (typeof part === 'bigint') return `${part}`;
    if (part instanceof Map || part instanceof Set) return [...part];
    return typeof part === 'number' && !Number.isFinite(part) ? String(part) : part;
  });
  return cut(text ?? 'nothing');
}

export function cut(text: string): string {
  return text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}...` : text;
}

type LeafKind = Exclude<Type['kind'], 'void' | 'struct' | 'enum' | 'list' | 'set' | 'map'>;

const LEAVES: Readonly<Record<LeafKind, Readonly<Record<Style, unknown>>>> = {
  bool: { plain: true, bare: false, most: true, least: false },
  i8: { plain: 1, bare: 0, most: 127, least: -128 },
  i16: { plain: 2, bare: 0, most: 32_767, least: -32_768 },
  i32: { plain: 3, bare: 0, most: 2 ** 31 - 1, least: -(2 ** 31) },
  i64: { plain: 4n, bare: 0n, most: 2n ** 63n - 1n, least: -(2n ** 63n) },
  double: { plain: 0.5, bare: 0, most: Number.MAX_VALUE, least: Number.NEGATIVE_INFINITY },
  string: { plain: 'words', bare: '', most: 'Größe \u{1f980} \u4e16\u754c "quoted"\n\ttwo lines', least: ' ' },
  binary: {
    plain: Buffer.from('bytes'),
    bare: Buffer.alloc(0),
    most: Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
    least: Buffer.of(0, 255, 254),
  },
  uuid: {
    plain: '123e4567-e89b-12d3-a456-426614174000',
    bare: '00000000-0000-0000-0000-000000000000',
    most: 'ffffffff-ffff-ffff-ffff-ffffffffffff',
    least: '00000000-0000-0000-0000-000000000001',
  },
};
const DEPTH_MAX = 4;
const SHOWN_MAX = 300;
