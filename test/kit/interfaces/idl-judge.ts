// Uses the official Thrift compiler as the reference for IDL text: whether it accepts the text, its messages, and the
// meaning as its JSON output gives it. The result of our parser is converted to the same shape, so that the two can
// be compared whole. What the JSON omits is left out on both sides: enums are i32, and the requiredness of a method's
// exceptions and of a union's fields is fixed.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Idl } from '../../../core/idl/mod.ts';
import type { Field, StructType, Type } from '../../../core/thrift/mod.ts';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { toolPath } from '../tools/tools.ts';

export interface Meaning {
  readonly enums: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly structs: Readonly<Record<string, StructMeaning>>;
  /** Types and values of the constants. */
  readonly constants: Readonly<Record<string, readonly [type: string, value: unknown]>>;
  /** Own methods only; inherited methods are listed with the parent service. */
  readonly services: Readonly<Record<string, Readonly<Record<string, MethodMeaning>>>>;
}

interface StructMeaning {
  readonly kind: StructType['kind'];
  readonly fields: readonly FieldMeaning[];
}

interface MethodMeaning {
  readonly oneway: boolean;
  readonly returns: string;
  readonly args: readonly FieldMeaning[];
  readonly throws: readonly FieldMeaning[];
}

/** `-1 required list<i32> name`, followed by the default if there is one. */
type FieldMeaning = readonly [text: string, value?: unknown];

export interface Judgement {
  readonly verdict: 'accepts' | 'warns' | 'refuses';
  /** Its warnings and errors, without positions. */
  readonly says: string;
  /** Undefined when the compiler refuses the text. */
  readonly meaning: Meaning | undefined;
}

/** Runs the compiler on the files; the first is the main one. */
export function judge(files: Readonly<Record<string, string>>): Judgement {
  const folder = mkdtempSync(path.join(tmpdir(), 'katamari-judge-'));
  try {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
      writeFileSync(path.join(folder, name), text);
    }
    const main = Object.keys(files)[0] ?? '';
    const out = path.join(folder, 'out');
    mkdirSync(out);
    const args = ['--allow-64bit-consts', '-out', out, '--gen', 'json', main];
    // The compiler never ends by itself on circular input.
    const run = spawnSync(toolPath('thrift'), args, { cwd: folder, encoding: 'utf8', timeout: 2_000 });
    const said = `${run.stdout}${run.stderr}`.matchAll(/^(?:\[[^\]]*\] ?)?(.*\S.*)$/gm);
    const says = [...new Set([...said].map(([, line]) => line))].join(' | ');
    if (run.status !== 0) return { verdict: 'refuses', says, meaning: undefined };
    const json = path.join(out, `${path.basename(main, '.thrift')}.json`);
    const meaning = meaningOfJson(parseExactly(readFileSync(json, 'utf8')));
    return { verdict: says === '' ? 'accepts' : 'warns', says, meaning };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The meaning of the main file by our parser, in the same shape. */
export function meaningOf(idl: Idl): Meaning {
  const own = <T>(map: ReadonlyMap<string, T>): [string, T][] => [...map].filter(([name]) => !name.includes('.'));
  return {
    enums: Object.fromEntries(own(idl.enums).map(([name, type]) => [name, Object.fromEntries(type.byName)])),
    structs: Object.fromEntries(
      own(idl.structs).map(([name, struct]) => [
        name,
        { kind: struct.kind, fields: struct.fields.map((field) => fieldOf(field, struct.kind === 'union')) },
      ]),
    ),
    constants: Object.fromEntries(
      own(idl.constants).map(([name, { type, value }]) => [name, [typeText(type), valueOf(type, value)]]),
    ),
    services: Object.fromEntries(
      own(idl.services).map(([service, { methods }]) => [
        service,
        Object.fromEntries(
          [...methods.values()]
            .filter(({ declaredBy }) => declaredBy === service)
            .map(({ name, oneway, returns, args, throws }) => [
              name,
              {
                oneway,
                returns: typeText(returns),
                // The compiler ignores "optional" before a parameter.
                args: args.fields.map((field) => fieldOf(field, false, field.requiredness === 'optional')),
                throws: throws.map((field) => fieldOf(field, true)),
              },
            ]),
        ),
      ]),
    ),
  };
}

function fieldOf(field: Field, isBare: boolean, isDefault = false): FieldMeaning {
  const requiredness = isBare ? '' : `${isDefault ? 'default' : field.requiredness} `;
  const text = `${field.id} ${requiredness}${typeText(field.type)} ${field.name}`;
  return isBare || field.defaultValue === undefined ? [text] : [text, valueOf(field.type, field.defaultValue)];
}

function typeText(type: Type): string {
  if (type.kind === 'enum') return 'i32';
  if (type.kind === 'struct') return type.struct.name;
  if (type.kind === 'list' || type.kind === 'set') return `${type.kind}<${typeText(type.element)}>`;
  if (type.kind === 'map') return `map<${typeText(type.key)}, ${typeText(type.value)}>`;
  return type.kind;
}

/** As in the compiler's JSON: bools are numbers, map keys and bytes are text. */
function valueOf(type: Type, value: unknown): unknown {
  switch (type.kind) {
    case 'bool':
      return value === true ? 1 : 0;
    case 'i64':
      return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
    case 'binary':
      return (value as Buffer).toString();
    case 'list':
      return (value as unknown[]).map((part) => valueOf(type.element, part));
    case 'set':
      return asSet([...(value as Set<unknown>)].map((part) => valueOf(type.element, part)));
    case 'map':
      return Object.fromEntries(
        [...(value as Map<unknown, unknown>)].map(([key, part]) => [
          String(valueOf(type.key, key)),
          valueOf(type.value, part),
        ]),
      );
    case 'struct':
      return Object.fromEntries(
        type.struct.fields
          .filter(({ name }) => Object.hasOwn(value as object, name))
          .map((field) => [field.name, valueOf(field.type, (value as Record<string, unknown>)[field.name])]),
      );
    case 'void':
    case 'i8':
    case 'i16':
    case 'i32':
    case 'double':
    case 'string':
    case 'uuid':
    case 'enum':
      return value;
  }
}

function asSet(values: readonly unknown[]): unknown[] {
  return [...new Map(values.map((value) => [JSON.stringify(value), value]))].sort().map(([, value]) => value);
}

/** The part of the compiler's JSON that is used here. */
interface JsonType {
  readonly typeId: string;
  readonly class?: string;
  readonly elemTypeId?: string;
  readonly elemType?: JsonType;
  readonly keyTypeId?: string;
  readonly keyType?: JsonType;
  readonly valueTypeId?: string;
  readonly valueType?: JsonType;
}
interface JsonField {
  readonly key: number;
  readonly name: string;
  readonly typeId: string;
  readonly type?: JsonType;
  readonly required: 'required' | 'optional' | 'req_out';
  readonly default?: unknown;
}
interface JsonStruct {
  readonly name: string;
  readonly isException: boolean;
  readonly isUnion: boolean;
  readonly fields: readonly JsonField[];
}
interface JsonProgram {
  readonly enums: readonly { name: string; members: readonly { name: string; value: number }[] }[];
  readonly structs: readonly JsonStruct[];
  readonly constants: readonly { name: string; typeId: string; type?: JsonType; value: unknown }[];
  readonly services: readonly {
    name: string;
    functions: readonly {
      name: string;
      returnTypeId: string;
      returnType?: JsonType;
      oneway: boolean;
      arguments: readonly JsonField[];
      exceptions: readonly JsonField[];
    }[];
  }[];
}

/** Numbers that JSON or a double cannot represent become text. */
function parseExactly(text: string): JsonProgram {
  return JSON.parse(
    text.replace(/(?<=[[:,]\s*)-?(?:\d{16,}|inf)(?=\s*[,\]}])/g, (digits) =>
      Number.isSafeInteger(Number(digits)) ? digits : `"${digits}"`,
    ),
  ) as JsonProgram;
}

function meaningOfJson(program: JsonProgram): Meaning {
  const structs = new Map(program.structs.map((struct) => [struct.name, struct]));
  const fieldMeaning = (field: JsonField, isBare: boolean): FieldMeaning => {
    const requiredness = isBare ? '' : `${field.required === 'req_out' ? 'default' : field.required} `;
    const text = `${field.key} ${requiredness}${jsonType(field.typeId, field.type)} ${field.name}`;
    return isBare || field.default === undefined ? [text] : [text, jsonValue(structs, field, field.default)];
  };
  return {
    enums: Object.fromEntries(
      program.enums.map(({ name, members }) => [name, Object.fromEntries(members.map((one) => [one.name, one.value]))]),
    ),
    structs: Object.fromEntries(
      program.structs.map(({ name, isException, isUnion, fields }) => [
        name,
        {
          kind: isException ? 'exception' : isUnion ? 'union' : 'struct',
          fields: fields.map((field) => fieldMeaning(field, isUnion)),
        },
      ]),
    ),
    constants: Object.fromEntries(
      program.constants.map((one) => [one.name, [jsonType(one.typeId, one.type), jsonValue(structs, one, one.value)]]),
    ),
    services: Object.fromEntries(
      program.services.map(({ name, functions }) => [
        name,
        Object.fromEntries(
          functions.map((one) => [
            one.name,
            {
              oneway: one.oneway,
              returns: jsonType(one.returnTypeId, one.returnType),
              args: one.arguments.map((field) => fieldMeaning(field, false)),
              throws: one.exceptions.map((field) => fieldMeaning(field, true)),
            },
          ]),
        ),
      ]),
    ),
  };
}

function jsonType(id: string | undefined, type: JsonType | undefined): string {
  if (type?.class !== undefined) return type.class;
  if (id === 'list' || id === 'set') return `${id}<${jsonType(type?.elemTypeId, type?.elemType)}>`;
  if (id === 'map')
    return `map<${jsonType(type?.keyTypeId, type?.keyType)}, ${jsonType(type?.valueTypeId, type?.valueType)}>`;
  return id ?? '';
}

/** The JSON of a struct value holds the fields that were written; the defaults of the other fields are added here. */
function jsonValue(
  structs: ReadonlyMap<string, JsonStruct>,
  { typeId, type }: { readonly typeId: string | undefined; readonly type?: JsonType | undefined },
  value: unknown,
): unknown {
  if (typeId === 'list' || typeId === 'set') {
    const element = { typeId: type?.elemTypeId, type: type?.elemType };
    // An empty list may be written as an empty map and vice versa.
    const values = (Object.values(value as object) as unknown[]).map((part) => jsonValue(structs, element, part));
    return typeId === 'set' ? asSet(values) : values;
  }
  if (typeId === 'map') {
    const element = { typeId: type?.valueTypeId, type: type?.valueType };
    return mapValues(value as object, (part) => jsonValue(structs, element, part));
  }
  const struct = structs.get(type?.class ?? '');
  if (struct === undefined) return value;
  const given = value as Readonly<Record<string, unknown>>;
  const parts = struct.fields.flatMap((field): [string, unknown][] => {
    const part = Object.hasOwn(given, field.name) ? given[field.name] : struct.isUnion ? undefined : field.default;
    return part === undefined ? [] : [[field.name, jsonValue(structs, field, part)]];
  });
  return Object.fromEntries(parts);
}

function mapValues(object: object, change: (value: unknown) => unknown): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
}
