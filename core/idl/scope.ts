// The names of one IDL file: types (with typedefs resolved), constants and services, and those of its includes. Types
// are resolved on first use, so the order of definitions does not matter.

import {
  type ConstDefinition,
  type EnumDefinition,
  type ExceptionDefinition,
  type FieldType,
  type FunctionType,
  type Identifier,
  type ServiceDefinition,
  type StructDefinition,
  SyntaxType,
  type TypedefDefinition,
  type UnionDefinition,
} from '@creditkarma/thrift-parser';
import type { EnumType, Field, StructType, Type } from '../thrift/mod.ts';
import { readAnnotations } from './annotations.ts';
import { idlFault, quote, suggest } from './fault.ts';
import type { SourceFile } from './source.ts';
import { docBetween } from './syntax.ts';
import { index } from './tokens.ts';

type StructSyntax = StructDefinition | UnionDefinition | ExceptionDefinition;
type TypeSyntax = StructSyntax | TypedefDefinition | EnumDefinition;

/** A struct whose fields are added later. `fields` is the array of the model. */
export interface OpenStruct {
  readonly scope: Scope;
  readonly syntax: StructSyntax;
  readonly struct: StructType;
  readonly fields: Field[];
}

export class Scope {
  readonly file: SourceFile;
  /** Prefix of qualified names: '' for the main file, else for example `shared.` */
  readonly qualifier: string;
  readonly includes: ReadonlyMap<string, Scope>;
  readonly constants: Map<string, ConstDefinition> = new Map();
  readonly services: Map<string, ServiceDefinition> = new Map();
  readonly enums: Map<string, EnumType> = new Map();
  readonly structs: Map<string, OpenStruct> = new Map();
  readonly #syntax: Map<string, TypeSyntax> = new Map();
  readonly #resolved: Map<string, Type> = new Map();
  readonly #resolvingTypedefs: Set<string> = new Set();
  readonly #docs: Map<object, string> = new Map();

  constructor(file: SourceFile, qualifier: string, includes: ReadonlyMap<string, Scope>) {
    this.file = file;
    this.qualifier = qualifier;
    this.includes = includes;
    let end = 0;
    for (const statement of file.document.body) {
      if ('name' in statement) this.#docs.set(statement, docBetween(file, end, index(statement.name)));
      end = statement.loc.end.index;
      switch (statement.type) {
        case SyntaxType.ConstDefinition:
          this.#claim(this.constants, statement.name, 'constant').set(statement.name.value, statement);
          break;
        case SyntaxType.ServiceDefinition:
          this.#claim(this.services, statement.name, 'service', this.#syntax).set(statement.name.value, statement);
          break;
        case SyntaxType.TypedefDefinition:
        case SyntaxType.EnumDefinition:
        case SyntaxType.StructDefinition:
        case SyntaxType.UnionDefinition:
        case SyntaxType.ExceptionDefinition:
          this.#claim(this.#syntax, statement.name, 'type', this.services).set(statement.name.value, statement);
          break;
        case SyntaxType.NamespaceDefinition:
        case SyntaxType.IncludeDefinition:
        case SyntaxType.CppIncludeDefinition:
          break;
      }
    }
  }

  /** Resolves every type of this file, so that errors in unused types are reported too. */
  resolveAll(): void {
    for (const name of this.#syntax.keys()) this.#resolveOwn(name);
  }

  docOf(statement: object): string {
    return this.#docs.get(statement) ?? '';
  }

  /** Resolves a type. @throws KatamariError bad_request with the position of an unknown name */
  resolve(syntax: FunctionType | FieldType): Type {
    switch (syntax.type) {
      case SyntaxType.Identifier:
        return this.#resolveName(syntax);
      case SyntaxType.ListType:
        return this.#checked(syntax, { kind: 'list', element: this.resolve(syntax.valueType) });
      case SyntaxType.SetType:
        return this.#checked(syntax, { kind: 'set', element: this.resolve(syntax.valueType) });
      case SyntaxType.MapType:
        return this.#checked(syntax, {
          kind: 'map',
          key: this.resolve(syntax.keyType),
          value: this.resolve(syntax.valueType),
        });
      case SyntaxType.VoidKeyword:
      case SyntaxType.BoolKeyword:
      case SyntaxType.ByteKeyword:
      case SyntaxType.I8Keyword:
      case SyntaxType.I16Keyword:
      case SyntaxType.I32Keyword:
      case SyntaxType.I64Keyword:
      case SyntaxType.DoubleKeyword:
      case SyntaxType.StringKeyword:
      case SyntaxType.BinaryKeyword:
        return BASE_TYPES[syntax.type];
    }
  }

  /** Returns the scope and unqualified name of `name` or `prefix.name`; undefined if the prefix is not an include. */
  find(name: string): { scope: Scope; name: string } | undefined {
    const dot = name.lastIndexOf('.');
    if (dot === -1) return { scope: this, name };
    const scope = this.includes.get(name.slice(0, dot));
    return scope === undefined ? undefined : { scope, name: name.slice(dot + 1) };
  }

  /** Returns the enum of that name, resolving typedefs; undefined if there is none. */
  findEnum(name: string): EnumType | undefined {
    const found = this.find(name);
    if (found === undefined || !found.scope.#syntax.has(found.name)) return undefined;
    const type = found.scope.#resolveOwn(found.name);
    return type.kind === 'enum' ? type.enum : undefined;
  }

  /**
   * Whether an included file gives the enum this name, or has it and is the name itself. Compilers from 0.17 on look
   * up a value by its last part in the enum that is expected, so files write `Format.NONE` for `objects.Format.NONE`.
   */
  isEnumOfInclude(name: string, type: EnumType, searched: Set<Scope> = new Set()): boolean {
    const plain = name.slice(name.lastIndexOf('.') + 1);
    for (const [prefix, scope] of this.includes) {
      if (searched.has(scope)) continue;
      searched.add(scope);
      if (scope.findEnum(plain) === type || scope.isEnumOfInclude(plain, type, searched)) return true;
      if (prefix === name && [...scope.enums.values()].includes(type)) return true;
    }
    return false;
  }

  #resolveName(syntax: Identifier): Type {
    const at = index(syntax);
    const found = this.find(syntax.value);
    if (found === undefined) {
      const prefix = syntax.value.slice(0, syntax.value.lastIndexOf('.'));
      throw idlFault(
        this.file,
        at,
        `unknown type ${quote(syntax.value)}: no included file is named "${prefix}"; add include "${prefix}.thrift"` +
          suggest(prefix, this.includes.keys()),
      );
    }
    if (!found.scope.#syntax.has(found.name)) {
      if (syntax.value === 'uuid') return UUID;
      const known = [...found.scope.#syntax.keys()].map((name) =>
        found.scope === this ? name : `${syntax.value.slice(0, syntax.value.lastIndexOf('.'))}.${name}`,
      );
      throw idlFault(
        this.file,
        at,
        syntax.value === 'float'
          ? 'unknown type "float": Thrift has no numbers of that size, use double'
          : `unknown type ${quote(syntax.value)}${suggest(syntax.value, [...known, ...BASE_NAMES])}`,
      );
    }
    return found.scope.#resolveOwn(found.name);
  }

  #resolveOwn(name: string): Type {
    const known = this.#resolved.get(name);
    if (known !== undefined) return known;
    const syntax = this.#syntax.get(name) as TypeSyntax;
    const type = this.#define(name, syntax);
    this.#resolved.set(name, type);
    return type;
  }

  #define(name: string, syntax: TypeSyntax): Type {
    switch (syntax.type) {
      case SyntaxType.TypedefDefinition: {
        const place = index(syntax.name);
        if (this.#resolvingTypedefs.has(name)) {
          throw idlFault(this.file, place, `typedef ${quote(name)} refers to itself, give it a type that is defined`);
        }
        if (this.#resolvingTypedefs.size >= TYPEDEF_CHAIN_MAX) {
          throw idlFault(
            this.file,
            place,
            `a chain of more than ${TYPEDEF_CHAIN_MAX} typedefs that refer to each other`,
          );
        }
        this.#resolvingTypedefs.add(name);
        const type = this.resolve(syntax.definitionType);
        this.#resolvingTypedefs.delete(name);
        return type;
      }
      case SyntaxType.EnumDefinition: {
        const type = this.#enum(syntax);
        this.enums.set(name, type);
        return { kind: 'enum', enum: type };
      }
      case SyntaxType.StructDefinition:
      case SyntaxType.UnionDefinition:
      case SyntaxType.ExceptionDefinition: {
        const fields: Field[] = [];
        const struct: StructType = {
          kind: STRUCT_KINDS[syntax.type],
          name: this.qualifier + name,
          doc: this.docOf(syntax),
          annotations: readAnnotations(syntax.annotations),
          fields,
        };
        this.structs.set(name, { scope: this, syntax, struct, fields });
        return { kind: 'struct', struct };
      }
    }
  }

  #enum(syntax: EnumDefinition): EnumType {
    const byName = new Map<string, number>();
    const byValue = new Map<number, string>();
    let next = 0;
    for (const member of syntax.members) {
      const name = member.name.value;
      const at = index(member.name);
      if (byName.has(name))
        throw idlFault(this.file, at, `duplicate name ${quote(name)} in enum ${syntax.name.value}, rename one`);
      if (name.includes('.'))
        throw idlFault(this.file, at, `${quote(name)} has a dot, which is not allowed in the name of an enum value`);
      const value = member.initializer === null ? next : wholeNumber(member.initializer.value.value);
      if (value < -(2n ** 31n) || value > 2n ** 31n - 1n) {
        throw idlFault(this.file, at, `${name} = ${value} does not fit into 32 bits, as enum values must`);
      }
      byName.set(name, Number(value));
      if (!byValue.has(Number(value))) byValue.set(Number(value), name);
      next = Number(value) + 1;
    }
    return { name: this.qualifier + syntax.name.value, doc: this.docOf(syntax), byName, byValue };
  }

  /** Refuses huge types: with a few lines of typedefs, the expanded type can take gigabytes. */
  #checked(syntax: FieldType, type: Type): Type {
    let parts = 1;
    if (type.kind === 'list' || type.kind === 'set') parts += partsOf(type.element);
    else if (type.kind === 'map') parts += partsOf(type.key) + partsOf(type.value);
    if (parts > TYPE_PARTS_MAX) {
      throw idlFault(
        this.file,
        index(syntax),
        `this type has more than ${TYPE_PARTS_MAX} parts (containers and their elements), put parts of it into structs`,
      );
    }
    partsByType.set(type, parts);
    return type;
  }

  /** @param others definitions of other kinds that share the namespace */
  #claim<T>(
    map: Map<string, T>,
    name: Identifier,
    what: string,
    others?: ReadonlyMap<string, unknown>,
  ): Map<string, T> {
    const at = index(name);
    if (map.has(name.value) || others?.has(name.value) === true)
      throw idlFault(this.file, at, `duplicate ${what} ${quote(name.value)}, rename one`);
    if (name.value.includes('.'))
      throw idlFault(this.file, at, `${quote(name.value)} has a dot, which is not allowed in the name of a definition`);
    return map;
  }
}

/** Returns the value of a signed integer literal, decimal or hex. */
export function wholeNumber(text: string): bigint {
  return text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text);
}

/** Maximum containers and scalars of one type with typedefs expanded. */
export const TYPE_PARTS_MAX = 256;
const TYPEDEF_CHAIN_MAX = 500;
const partsByType: WeakMap<Type, number> = new WeakMap();

function partsOf(type: Type): number {
  return partsByType.get(type) ?? 1;
}

const UUID: Type = { kind: 'uuid' };
const BASE_TYPES = {
  [SyntaxType.VoidKeyword]: { kind: 'void' },
  [SyntaxType.BoolKeyword]: { kind: 'bool' },
  [SyntaxType.ByteKeyword]: { kind: 'i8' },
  [SyntaxType.I8Keyword]: { kind: 'i8' },
  [SyntaxType.I16Keyword]: { kind: 'i16' },
  [SyntaxType.I32Keyword]: { kind: 'i32' },
  [SyntaxType.I64Keyword]: { kind: 'i64' },
  [SyntaxType.DoubleKeyword]: { kind: 'double' },
  [SyntaxType.StringKeyword]: { kind: 'string' },
  [SyntaxType.BinaryKeyword]: { kind: 'binary' },
} as const satisfies Partial<Record<SyntaxType, Type>>;
const BASE_NAMES = ['bool', 'byte', 'i8', 'i16', 'i32', 'i64', 'double', 'string', 'binary', 'uuid'];
const STRUCT_KINDS = {
  [SyntaxType.StructDefinition]: 'struct',
  [SyntaxType.UnionDefinition]: 'union',
  [SyntaxType.ExceptionDefinition]: 'exception',
} as const;
