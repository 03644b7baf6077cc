// Compiles IDL text to the model in core/thrift/model.ts. This is the only entry point: it reads the files, resolves
// every name, checks every default, and returns the services with their inherited methods. Every error is a
// bad_request with file, line, column and remedy. Limits protect against hostile text: characters, files, nesting,
// type and value sizes, methods.

import type { FieldDefinition, FunctionDefinition, Identifier, ServiceDefinition } from '@creditkarma/thrift-parser';
import { createHash } from 'node:crypto';
import type { EnumType, Field, IdlSource, Interface, Method, StructType, Type } from '../thrift/mod.ts';
import { checkFieldAnnotations, methodRules, readAnnotations } from './annotations.ts';
import { canonicalText } from './canonical.ts';
import { Constants, type Valued } from './constants.ts';
import { checkCopies } from './copy-rules.ts';
import { checkGather } from './gather-rules.ts';
import { idlFault, quote, suggest } from './fault.ts';
import { type OpenStruct, Scope } from './scope.ts';
import { loadSource, prefixOf, type SourceFile } from './source.ts';
import { docBetween } from './syntax.ts';
import { index } from './tokens.ts';

/** A compiled IDL source. Names from included files are qualified: `shared.SharedStruct`. */
export interface Idl {
  /** Services of the main file by name, then those of its includes by qualified name. */
  readonly services: ReadonlyMap<string, Interface>;
  readonly structs: ReadonlyMap<string, StructType>;
  readonly enums: ReadonlyMap<string, EnumType>;
  /** Constants by name, as the plain JavaScript values that handlers use. */
  readonly constants: ReadonlyMap<string, { readonly type: Type; readonly value: unknown }>;
  readonly source: IdlSource;
}

/** Field id that is reserved for CallContext and ReplyContext of the mesh. */
export const RESERVED_FIELD_ID = 32767;
/** Maximum methods of all services together. Inherited methods count once per service. */
export const METHODS_MAX = 20_000;
export const EXTENDS_MAX = 64;

/**
 * Compiles the source.
 * @throws KatamariError bad_request: `calculator.thrift:12:3: unknown type "Wrok", did you mean "Work"?`
 */
export function parseIdl(source: IdlSource): Idl {
  return new Compiler(source).compile();
}

type Raw = Omit<Field, 'defaultValue'> & { defaultValue: unknown };
type Pending = { readonly scope: Scope; readonly field: Raw; readonly syntax: FieldDefinition; done?: Valued };

class Compiler {
  readonly #source: IdlSource;
  readonly #scopes: Scope[] = [];
  readonly #byFile: Map<SourceFile, Scope> = new Map();
  readonly #constants: Constants = new Constants((struct, field) => this.#defaultOf(struct, field));
  /** Fields whose default was not evaluated yet, by struct and name. */
  readonly #pending: Map<StructType, Map<string, Pending>> = new Map();
  readonly #evaluatingDefaults: Set<Pending> = new Set();
  readonly #methods: Map<ServiceDefinition, ReadonlyMap<string, Method>> = new Map();
  readonly #resolvingServices: Set<ServiceDefinition> = new Set();
  #methodCount = 0;

  constructor(source: IdlSource) {
    this.#source = source;
  }

  compile(): Idl {
    this.#scopeOf(loadSource(this.#source), new Set());
    for (const scope of this.#scopes) scope.resolveAll();
    for (const scope of this.#scopes) for (const open of scope.structs.values()) this.#fillStruct(open);
    const services = new Map<string, Interface>();
    // The main file is the last scope, but comes first in the result.
    for (const scope of [...this.#scopes].reverse()) {
      for (const [name, syntax] of scope.services) services.set(scope.qualifier + name, this.#interface(scope, syntax));
    }
    for (const [struct, fields] of this.#pending) for (const name of fields.keys()) this.#defaultOf(struct, name);
    const structs = new Map<string, StructType>();
    const enums = new Map<string, EnumType>();
    const constants = new Map<string, { type: Type; value: unknown }>();
    for (const scope of [...this.#scopes].reverse()) {
      for (const [name, { struct }] of scope.structs) structs.set(scope.qualifier + name, struct);
      for (const [name, type] of scope.enums) enums.set(scope.qualifier + name, type);
      for (const [name, syntax] of scope.constants) {
        const { type, value } = this.#constants.constant(scope, name, index(syntax.name));
        constants.set(scope.qualifier + name, { type, value });
      }
    }
    return { services, structs, enums, constants, source: this.#source };
  }

  /** Creates the scopes of the included files, then of the file itself. */
  #scopeOf(file: SourceFile, qualifiers: Set<string>): Scope {
    const known = this.#byFile.get(file);
    if (known !== undefined) return known;
    const isMain = this.#byFile.size === 0 && qualifiers.size === 0;
    let qualifier = '';
    if (isMain) qualifiers.add('');
    else {
      qualifier = `${prefixOf(file.name)}.`;
      // Files of the same name in different folders are distinguished by the folder.
      if (qualifiers.has(qualifier))
        qualifier = `${file.name.replace(/\.thrift$/, '').replace(/[^A-Za-z0-9_]+/g, '_')}.`;
      while (qualifiers.has(qualifier)) qualifier = `${qualifier.slice(0, -1)}_.`;
      qualifiers.add(qualifier);
    }
    const includes = new Map(
      [...file.includes].map(([prefix, include]) => [prefix, this.#scopeOf(include, qualifiers)]),
    );
    const scope = new Scope(file, qualifier, includes);
    this.#byFile.set(file, scope);
    this.#scopes.push(scope);
    return scope;
  }

  #fillStruct({ scope, syntax, struct, fields }: OpenStruct): void {
    this.#fields(scope, syntax.fields, struct, index(syntax.name), fields, {});
  }

  /** Adds the fields to `into`, which is the struct's own array. */
  #fields(
    scope: Scope,
    list: readonly FieldDefinition[],
    struct: StructType,
    from: number,
    into: Field[],
    rules: { isThrows?: boolean },
  ): void {
    const ids = new Set<number>();
    const names = new Set<string>();
    let automatic = -1;
    let end = from;
    for (const syntax of list) {
      const name = plainName(scope, syntax.name, 'a field');
      const at = index(syntax.name);
      let id = automatic;
      if (syntax.fieldID === null) automatic--;
      else {
        id = syntax.fieldID.value;
        this.#checkId(scope, syntax, id, automatic);
        if (id < 0) automatic--;
      }
      if (ids.has(id))
        throw idlFault(scope.file, at, `duplicate field id ${id} in ${struct.name}, give ${quote(name)} another`);
      if (names.has(name))
        throw idlFault(scope.file, at, `duplicate field name ${quote(name)} in ${struct.name}, rename one`);
      if (rules.isThrows === true && name === 'success') {
        throw idlFault(
          scope.file,
          at,
          'an exception of a method cannot be named "success", which is the name of the result; rename it',
        );
      }
      ids.add(id);
      names.add(name);
      const type = scope.resolve(syntax.fieldType);
      if (type.kind === 'void') throw idlFault(scope.file, at, `field ${quote(name)} cannot be void`);
      checkFieldAnnotations(scope.file, syntax.annotations);
      const written = syntax.requiredness ?? 'default';
      const field: Raw = {
        id,
        name,
        doc: docBetween(scope.file, end, at),
        type,
        requiredness: struct.kind === 'union' || rules.isThrows === true ? 'optional' : written,
        defaultValue: undefined,
        annotations: readAnnotations(syntax.annotations),
      };
      end = syntax.loc.end.index;
      into.push(field);
      if (syntax.defaultValue !== null) {
        const pending = this.#pending.get(struct) ?? new Map<string, Pending>();
        if (struct.kind === 'union' && pending.size > 0) {
          throw idlFault(scope.file, at, `a second default in union ${struct.name}, which holds one field; keep one`);
        }
        pending.set(name, { scope, field, syntax });
        this.#pending.set(struct, pending);
      }
    }
  }

  #checkId(scope: Scope, syntax: FieldDefinition, id: number, automatic: number): void {
    const at = index(syntax);
    if (id === RESERVED_FIELD_ID) {
      throw idlFault(scope.file, at, `field id ${id} is reserved, the mesh sends its context there; use another`);
    }
    if (!(id <= RESERVED_FIELD_ID))
      throw idlFault(scope.file, at, `field id ${id} does not fit into 16 bits, use 1 to 32766`);
    if (id > 0 || id === automatic) return;
    throw idlFault(
      scope.file,
      at,
      `field id ${id} is not positive, and the Thrift compiler would make it ${automatic}; use 1 to 32766, or omit it`,
    );
  }

  #defaultOf(struct: StructType, name: string): Valued | undefined {
    const pending = this.#pending.get(struct)?.get(name);
    if (pending === undefined || pending.syntax.defaultValue === null) return undefined;
    const { scope, field, syntax } = pending;
    if (pending.done !== undefined) return pending.done;
    const at = index(syntax.name);
    if (this.#evaluatingDefaults.has(pending)) {
      throw idlFault(
        scope.file,
        at,
        `the default of ${struct.name}.${name} contains ${struct.name} itself without end, remove it`,
      );
    }
    if (this.#evaluatingDefaults.size >= EXTENDS_MAX) {
      throw idlFault(scope.file, at, `defaults are nested deeper than ${EXTENDS_MAX} levels`);
    }
    this.#evaluatingDefaults.add(pending);
    const done = this.#constants.evaluate(scope, pending.syntax.defaultValue, field.type);
    this.#evaluatingDefaults.delete(pending);
    pending.done = done;
    // A union contains only the field that was set, so its default is checked but not used.
    if (struct.kind !== 'union') field.defaultValue = done.value;
    return done;
  }

  #interface(scope: Scope, syntax: ServiceDefinition): Interface {
    const methods = this.#methodsOf(scope, syntax, 0);
    const service = syntax.name.value;
    const source = this.#source;
    let canonical: string | undefined;
    let id: string | undefined;
    return {
      service,
      doc: scope.docOf(syntax),
      methods,
      // Computed on first use: a file may have many services, and each text contains all types it needs.
      get canonical(): string {
        canonical ??= canonicalText(service, methods);
        return canonical;
      },
      get id(): string {
        id ??= createHash('sha256').update(this.canonical).digest('hex');
        return id;
      },
      source,
    };
  }

  #methodsOf(scope: Scope, syntax: ServiceDefinition, depth: number): ReadonlyMap<string, Method> {
    const known = this.#methods.get(syntax);
    if (known !== undefined) return known;
    const at = index(syntax.name);
    if (this.#resolvingServices.has(syntax)) {
      throw idlFault(scope.file, at, `service ${quote(syntax.name.value)} extends itself, remove one "extends"`);
    }
    if (depth > EXTENDS_MAX)
      throw idlFault(scope.file, at, `a chain of more than ${EXTENDS_MAX} services that extend each other`);
    this.#resolvingServices.add(syntax);
    const methods = new Map<string, Method>(
      syntax.extends === null ? [] : this.#parentOf(scope, syntax.extends, depth),
    );
    let end = at;
    for (const method of syntax.functions) {
      const name = plainName(scope, method.name, 'a method');
      const other = methods.get(name);
      if (other !== undefined) {
        const where = other.declaredBy === scope.qualifier + syntax.name.value ? 'this service' : other.declaredBy;
        throw idlFault(
          scope.file,
          index(method.name),
          `duplicate method ${quote(name)}, ${where} has it already; rename one`,
        );
      }
      methods.set(name, this.#method(scope, syntax, method, docBetween(scope.file, end, index(method.name))));
      end = method.loc.end.index;
    }
    this.#methodCount += methods.size;
    if (this.#methodCount > METHODS_MAX) {
      throw idlFault(
        scope.file,
        at,
        `more than ${METHODS_MAX} methods in all services together, inherited ones counted`,
      );
    }
    this.#resolvingServices.delete(syntax);
    this.#methods.set(syntax, methods);
    return methods;
  }

  #parentOf(scope: Scope, parent: Identifier, depth: number): ReadonlyMap<string, Method> {
    const found = scope.find(parent.value);
    const syntax = found?.scope.services.get(found.name);
    if (found === undefined || syntax === undefined) {
      const prefixes = [...scope.includes].flatMap(([prefix, { services }]) =>
        [...services.keys()].map((name) => `${prefix}.${name}`),
      );
      const hint = suggest(parent.value, [...scope.services.keys(), ...prefixes]);
      // The parser's position of the parent is that of "extends".
      const at = parent.loc.end.index - parent.value.length;
      throw idlFault(scope.file, at, `unknown service ${quote(parent.value)} to extend${hint}`);
    }
    return this.#methodsOf(found.scope, syntax, depth + 1);
  }

  #method(scope: Scope, service: ServiceDefinition, syntax: FunctionDefinition, doc: string): Method {
    const name = syntax.name.value;
    const at = index(syntax.name);
    const returns = scope.resolve(syntax.returnType);
    const argFields: Field[] = [];
    const args = structOf(`${name}_args`, argFields);
    this.#fields(scope, syntax.fields, args, at, argFields, {});
    const throws: Field[] = [];
    const resultFields: Field[] = [];
    const result = structOf(`${name}_result`, resultFields);
    const throwsFrom = syntax.fields.at(-1)?.loc.end.index ?? at;
    this.#fields(scope, syntax.throws, result, throwsFrom, throws, { isThrows: true });
    for (const [i, field] of throws.entries()) {
      if (field.type.kind === 'struct' && field.type.struct.kind === 'exception') continue;
      const place = index(syntax.throws[i]?.name ?? syntax.name);
      throw idlFault(
        scope.file,
        place,
        `${quote(field.name)} in "throws" is not an exception, declare its type with "exception"`,
      );
    }
    if (syntax.oneway && (returns.kind !== 'void' || throws.length > 0)) {
      throw idlFault(
        scope.file,
        at,
        `oneway method ${quote(name)} can return and throw nothing, make it "oneway void" without "throws"`,
      );
    }
    if (returns.kind !== 'void') {
      resultFields.push({
        id: 0,
        name: 'success',
        doc: '',
        type: returns,
        requiredness: 'optional',
        defaultValue: undefined,
        annotations: readAnnotations(undefined),
      });
    }
    resultFields.push(...throws);
    const method: Method = {
      name,
      doc,
      declaredBy: scope.qualifier + service.name.value,
      args,
      result,
      returns,
      throws,
      oneway: syntax.oneway,
      annotations: readAnnotations(syntax.annotations),
      ...methodRules(scope.file, syntax.annotations),
    };
    checkGather(scope.file, at, method);
    checkCopies(scope.file, at, method);
    return method;
  }
}

function structOf(name: string, fields: readonly Field[]): StructType {
  return { kind: 'struct', name, doc: '', annotations: readAnnotations(undefined), fields };
}

function plainName(scope: Scope, name: Identifier, what: string): string {
  if (!name.value.includes('.')) return name.value;
  throw idlFault(
    scope.file,
    index(name),
    `${quote(name.value)} has a dot, which is not allowed in the name of ${what}`,
  );
}
