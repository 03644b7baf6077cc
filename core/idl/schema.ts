// Types as JSON Schema (draft-07) for OpenRPC. A schema describes what json.ts accepts and returns, as far as JSON
// Schema can express it. Structs and enums are components that are referred to, so recursive types are possible.

import type { EnumType, Field, Method, StructType, Type } from '../thrift/mod.ts';
import { isParamRequired, jsonOf } from './json.ts';

export type JsonSchema = Record<string, unknown>;

/** A parameter in OpenRPC. */
export interface ParamDescription {
  readonly name: string;
  readonly description?: string;
  readonly required: boolean;
  readonly schema: JsonSchema;
}

/**
 * Returns the schema of a type. Structs and enums are added to `components` under their names (with a number appended
 * if the name is taken) and referred to as `#/components/schemas/NAME`.
 */
export function schemaOf(type: Type, components: Record<string, object>): JsonSchema {
  switch (type.kind) {
    case 'void':
      return { type: 'null' };
    case 'bool':
      return { type: 'boolean' };
    case 'i8':
      return whole(8);
    case 'i16':
      return whole(16);
    case 'i32':
      return whole(32);
    case 'i64':
      return {
        description: 'A whole number of 64 bits: a number up to 2^53, a decimal string beyond; both are accepted.',
        oneOf: [
          { type: 'integer', minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER },
          { type: 'string', pattern: WHOLE_PATTERN },
        ],
      };
    case 'double':
      return { oneOf: [{ type: 'number' }, { type: 'string', enum: ['NaN', 'Infinity', '-Infinity'] }] };
    case 'string':
      return { type: 'string' };
    case 'binary':
      return { type: 'string', contentEncoding: 'base64', pattern: BASE64_PATTERN };
    case 'uuid':
      return { type: 'string', format: 'uuid', pattern: UUID_PATTERN };
    case 'list':
      return { type: 'array', items: schemaOf(type.element, components) };
    case 'set':
      return { type: 'array', items: schemaOf(type.element, components), uniqueItems: true };
    case 'map':
      return mapSchema(type.key, type.value, components);
    case 'enum':
      return reference(type.enum, components, () => enumSchema(type.enum));
    case 'struct':
      return reference(type.struct, components, () => structSchema(type.struct, components));
  }
}

/**
 * Returns the parameters of a method. OpenRPC requires that required parameters precede optional ones; otherwise they
 * are in file order.
 */
export function paramsOf(method: Method, components: Record<string, object>): ParamDescription[] {
  const params = method.args.fields.map((field) => ({
    name: field.name,
    ...(field.doc === '' ? {} : { description: field.doc }),
    required: isParamRequired(field),
    schema: fieldSchema(field, components),
  }));
  return [...params.filter(({ required }) => required), ...params.filter(({ required }) => !required)];
}

/** Whether an optional parameter precedes a required one in the file, so that `paramsOf` changes the order. */
export function areParamsMoved({ args }: Method): boolean {
  const firstOptional = args.fields.findIndex((field) => !isParamRequired(field));
  return firstOptional >= 0 && args.fields.slice(firstOptional).some(isParamRequired);
}

const WHOLE_PATTERN = '^(?:0|-?[1-9][0-9]{0,18})$';
const BASE64_PATTERN = '^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$';
const UUID_PATTERN = '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$';

/** Assigned names by set of components, so that a type has one name in it. */
const namesIn: WeakMap<object, Map<object, string>> = new WeakMap();

function reference(
  owner: { readonly name: string },
  components: Record<string, object>,
  make: () => JsonSchema,
): JsonSchema {
  const names = namesIn.get(components) ?? new Map<object, string>();
  namesIn.set(components, names);
  let name = names.get(owner);
  if (name === undefined) {
    name = owner.name;
    for (let i = 2; Object.hasOwn(components, name) || name in Object.prototype; i++) name = `${owner.name}_${i}`;
    names.set(owner, name);
    // Assign the name before building the schema, because the type may refer to itself.
    components[name] = {};
    components[name] = make();
  }
  return { $ref: `#/components/schemas/${name}` };
}

function whole(bits: number): JsonSchema {
  return { type: 'integer', minimum: -(2 ** (bits - 1)), maximum: 2 ** (bits - 1) - 1 };
}

function mapSchema(key: Type, value: Type, components: Record<string, object>): JsonSchema {
  const names = keySchema(key);
  if (names !== undefined) {
    return { type: 'object', ...names, additionalProperties: schemaOf(value, components) };
  }
  return {
    type: 'array',
    items: {
      type: 'array',
      items: [schemaOf(key, components), schemaOf(value, components)],
      minItems: 2,
      maxItems: 2,
    },
  };
}

/** Returns the schema of object keys; undefined if the map is an array of pairs. */
function keySchema(key: Type): JsonSchema | undefined {
  if (key.kind === 'string') return {};
  if (key.kind === 'bool') return { propertyNames: { enum: ['true', 'false'] } };
  if (key.kind === 'i8' || key.kind === 'i16' || key.kind === 'i32' || key.kind === 'i64') {
    return { propertyNames: { pattern: WHOLE_PATTERN } };
  }
  if (key.kind !== 'enum') return undefined;
  return { propertyNames: { enum: [...key.enum.byName.keys(), ...[...key.enum.byValue.keys()].map(String)] } };
}

function enumSchema(type: EnumType): JsonSchema {
  return {
    title: type.name,
    ...(type.doc === '' ? {} : { description: type.doc }),
    enum: [...type.byName.keys(), ...type.byValue.keys()],
  };
}

function structSchema(struct: StructType, components: Record<string, object>): JsonSchema {
  const head = { title: struct.name, ...(struct.doc === '' ? {} : { description: struct.doc }) };
  if (struct.kind === 'union') {
    const choices = struct.fields.map((field) => ({
      type: 'object',
      properties: properties([[field.name, schemaOf(field.type, components)]]),
      required: [field.name],
      additionalProperties: false,
    }));
    return choices.length === 0 ? { ...head, not: {} } : { ...head, oneOf: choices };
  }
  const required = struct.fields.filter(
    (field) => field.requiredness === 'required' && field.defaultValue === undefined,
  );
  return {
    ...head,
    type: 'object',
    properties: properties(struct.fields.map((field) => [field.name, fieldSchema(field, components)])),
    ...(required.length === 0 ? {} : { required: required.map((field) => field.name) }),
    additionalProperties: false,
  };
}

function fieldSchema(field: Field, components: Record<string, object>): JsonSchema {
  const schema = schemaOf(field.type, components);
  const described: JsonSchema = {};
  if (field.doc !== '') described['description'] = field.doc;
  if (field.defaultValue !== undefined) described['default'] = jsonOf(field.type, field.defaultValue);
  if (field.requiredness === 'optional') return { ...described, anyOf: [schema, { type: 'null' }] };
  // In draft-07, siblings of $ref are ignored.
  if ('$ref' in schema && Object.keys(described).length > 0) return { ...described, allOf: [schema] };
  return { ...schema, ...described };
}

/** Creates an object with keys from the IDL, which may include `__proto__`. */
function properties(entries: readonly (readonly [string, JsonSchema])[]): JsonSchema {
  return Object.fromEntries(entries);
}
