// Generates TypeScript types from an interface, for `katamari types FILE.thrift`. A struct becomes an interface, a
// union a union type, an enum a const object and a type of the same name. Each service gets a type of its handlers,
// and a type with its own name for its callers.

import { KatamariError } from '../mod.ts';
import type { EnumType, Field, Interface, Method, StructType, Type } from '../thrift/mod.ts';
import { compareText, flatNames } from './names.ts';
import type { Idl } from './parse.ts';
import { reachable } from './typename.ts';

export interface WriteTypesOptions {
  /** Type of i64 values, as set in the chassis. Default bigint. */
  readonly i64?: 'bigint' | 'number';
}

/**
 * Returns TypeScript source for all types, constants and handlers.
 * @param from name of the IDL file, for the head of the text
 */
export function writeTypes(idl: Idl, from: string, options: WriteTypesOptions = {}): string {
  return new TypesWriter(idl, options.i64 ?? 'bigint').write(from);
}

/** Names that the generated text uses itself, or that cannot be declared. */
const TAKEN = [
  'HandlerContext CallOptions Buffer Map Set Promise Array Object String Number Boolean Symbol BigInt Function Error Date RegExp',
  'any bigint boolean never null number object string symbol undefined unknown void true false',
  'as async await break case catch class const continue debugger default delete do else enum export extends finally for from function',
  'if implements import in instanceof interface let new of package private protected public return static super switch this throw',
  'try type typeof var while with yield arguments eval keyof readonly unique infer Record Partial',
].flatMap((line) => line.split(' '));

const WIDTH_MAX = 120;

class TypesWriter {
  readonly #idl: Idl;
  readonly #i64: 'bigint' | 'number';
  readonly #names: Map<object, string>;
  readonly #taken: Set<string> = new Set(TAKEN);
  readonly #out: string[] = [];

  constructor(idl: Idl, i64: 'bigint' | 'number') {
    this.#idl = idl;
    this.#i64 = i64;
    const types: Type[] = [...idl.structs.values()].map((struct) => ({ kind: 'struct', struct }));
    types.push(...[...idl.enums.values()].map((type): Type => ({ kind: 'enum', enum: type })));
    this.#names = flatNames(reachable(types), this.#taken);
  }

  write(from: string): string {
    const services = [...this.#idl.services].filter(([name]) => !name.includes('.')).map(([, service]) => service);
    const hasMethods = services.some((service) => service.methods.size > 0);
    this.#out.push(
      `// Written by \`katamari types ${from.replace(/\s+/g, ' ')}\`. Do not edit: change the IDL and write it again.\n`,
    );
    if (hasMethods) {
      this.#out.push(
        "import type { HandlerContext } from 'katamari';",
        "import type { CallOptions } from 'katamari/client';\n",
      );
    }
    for (const type of this.#sorted(this.#idl.enums.values())) this.#enum(type);
    for (const struct of this.#sorted(this.#idl.structs.values())) this.#struct(struct);
    for (const [name, { type, value }] of this.#idl.constants) this.#constant(name, type, value);
    for (const service of services) {
      this.#handlers(service);
      this.#callers(service);
    }
    return `${this.#out.join('\n').trimEnd()}\n`;
  }

  #enum(type: EnumType): void {
    const name = this.#names.get(type) ?? type.name;
    const members = [...type.byName].map(
      ([key, value]) => `  ${key === '__proto__' ? `['${key}']` : key}: ${value},\n`,
    );
    this.#out.push(
      `${doc(type.doc, '')}export const ${name} = {${members.length > 0 ? `\n${members.join('')}` : ''}} as const;`,
      `export type ${name} = (typeof ${name})[keyof typeof ${name}];\n`,
    );
  }

  #struct(struct: StructType): void {
    const name = this.#names.get(struct) ?? struct.name;
    if (struct.kind === 'union') {
      this.#union(struct, name);
      return;
    }
    const what =
      struct.kind === 'exception' ? `Thrown as \`new ThriftException('${plain(struct.name)}', { ... })\`.` : '';
    const fields = struct.fields.map((field) => `${doc(field.doc, '  ')}  ${this.#field(field)};\n`).join('');
    const head = doc([struct.doc, what].filter((text) => text !== '').join('\n\n'), '');
    this.#out.push(`${head}export interface ${name} {${fields === '' ? '' : `\n${fields}`}}\n`);
  }

  #union(struct: StructType, name: string): void {
    const head = doc(struct.doc, '');
    if (struct.fields.length === 0) {
      this.#out.push(`${head}export type ${name} = never;\n`);
      return;
    }
    const choices = struct.fields.map((chosen) => `${doc(chosen.doc, '  ')}${this.#choice(struct, chosen)}`);
    const nothing = `  /** It holds nothing if it was sent with a field that this interface does not have. */\n${this.#choice(struct)}`;
    this.#out.push(`${head}export type ${name} =\n${[...choices, nothing].join('\n')};\n`);
  }

  #choice(struct: StructType, chosen?: Field): string {
    const parts = struct.fields.map((field) =>
      field === chosen ? `${field.name}: ${this.#type(field.type)}` : `${field.name}?: undefined`,
    );
    return `  | { ${parts.join('; ')} }`;
  }

  #constant(qualified: string, type: Type, value: unknown): void {
    let name = plain(qualified);
    if (this.#taken.has(name)) name = qualified.replaceAll(/\W+/g, '_');
    while (this.#taken.has(name)) name += '_';
    this.#taken.add(name);
    this.#out.push(`export const ${name}: ${this.#type(type)} = ${this.#value(type, value)};\n`);
  }

  /** A type alias, because an interface is not assignable to a record of handlers. */
  #handlers(service: Interface): void {
    const about = service.doc === '' ? `The handlers of ${service.service}.` : service.doc;
    this.#functions(`${service.service}Handlers`, about, service, (method) => {
      const result = this.#type(method.returns);
      const fields = method.args.fields.map((field) => this.#field(field));
      return this.#function(method, 'args', fields, 'ctx: HandlerContext', `${result} | Promise<${result}>`);
    });
  }

  #callers(service: Interface): void {
    const name = service.service;
    this.#functions(name, `${name} as its callers see it: \`mesh.service<${name}>('${name}')\`.`, service, (method) => {
      const fields = method.args.fields.map((field) => this.#field(field, field.defaultValue !== undefined));
      const args = fields.every((field) => /^\w+\?:/.test(field)) ? 'args?' : 'args';
      return this.#function(method, args, fields, 'options?: CallOptions', `Promise<${this.#type(method.returns)}>`);
    });
  }

  #functions(wanted: string, about: string, service: Interface, write: (method: Method) => string): void {
    let name = wanted;
    while (this.#taken.has(name)) name += '_';
    this.#taken.add(name);
    const methods = [...service.methods.values()].map((method) => `${doc(method.doc, '  ')}${write(method)}`);
    this.#out.push(
      `${doc(about, '')}export type ${name} = {${methods.length === 0 ? '' : `\n${methods.join('')}`}};\n`,
    );
  }

  #function({ name }: Method, args: string, fields: readonly string[], second: string, result: string): string {
    const given = fields.length === 0 ? 'Record<string, never>' : `{ ${fields.join('; ')} }`;
    const line = `  ${name}: (${args}: ${given}, ${second}) => ${result};`;
    if (line.length <= WIDTH_MAX || fields.length === 0) return `${line}\n`;
    const broken = fields.map((field) => `      ${field};\n`).join('');
    return `  ${name}: (\n    ${args}: {\n${broken}    },\n    ${second},\n  ) => ${result};\n`;
  }

  /** @param mayLack whether a field with a default may be absent, because the receiver applies the default */
  #field(field: Field, mayLack = false): string {
    const isAbsent = mayLack || isOptional(field);
    return `${field.name}${isAbsent ? '?' : ''}: ${this.#type(field.type)}${isAbsent ? ' | undefined' : ''}`;
  }

  #type(type: Type): string {
    switch (type.kind) {
      case 'void':
        return 'void';
      case 'bool':
        return 'boolean';
      case 'i8':
      case 'i16':
      case 'i32':
      case 'double':
        return 'number';
      case 'i64':
        return this.#i64;
      case 'string':
      case 'uuid':
        return 'string';
      case 'binary':
        return 'Buffer';
      case 'list':
        return `${this.#type(type.element)}[]`;
      case 'set':
        return `Set<${this.#type(type.element)}>`;
      case 'map':
        return `Map<${this.#type(type.key)}, ${this.#type(type.value)}>`;
      case 'enum':
        return this.#names.get(type.enum) ?? type.enum.name;
      case 'struct':
        return this.#names.get(type.struct) ?? type.struct.name;
    }
  }

  #value(type: Type, value: unknown): string {
    switch (type.kind) {
      case 'i64':
        if (this.#i64 === 'bigint') return `${value as bigint}n`;
        if (Number.isSafeInteger(Number(value))) return `${value as bigint}`;
        throw new KatamariError(
          'bad_request',
          `The constant ${value as bigint} is not exact as a number, generate the types with i64 as bigint`,
        );
      case 'string':
      case 'uuid':
        return quoted(value as string);
      case 'binary':
        return `Buffer.from('${(value as Buffer).toString('base64')}', 'base64')`;
      case 'list':
        return `[${(value as unknown[]).map((part) => this.#value(type.element, part)).join(', ')}]`;
      case 'set':
        return `new Set([${[...(value as Set<unknown>)].map((part) => this.#value(type.element, part)).join(', ')}])`;
      case 'map': {
        const pairs = [...(value as Map<unknown, unknown>)];
        return `new Map([${pairs.map(([key, part]) => `[${this.#value(type.key, key)}, ${this.#value(type.value, part)}]`).join(', ')}])`;
      }
      case 'enum': {
        const name = type.enum.byValue.get(value as number);
        return `${this.#names.get(type.enum) ?? type.enum.name}.${name ?? ''}`;
      }
      case 'struct': {
        const given = value as Record<string, unknown>;
        const fields = type.struct.fields.filter((field) => Object.hasOwn(given, field.name));
        const parts = fields.map((field) => {
          const key = field.name === '__proto__' ? "['__proto__']" : field.name;
          return `${key}: ${this.#value(field.type, given[field.name])}`;
        });
        const text = parts.length === 0 ? '{}' : `{ ${parts.join(', ')} }`;
        // The type requires every field that is not optional, although a constant or a message may omit it.
        const isWhole =
          type.struct.kind === 'union' ||
          type.struct.fields.every((field) => isOptional(field) || Object.hasOwn(given, field.name));
        return isWhole ? text : `${text} as Partial<${this.#type(type)}> as ${this.#type(type)}`;
      }
      case 'double':
        return Object.is(value, -0) ? '-0' : `${value as number}`;
      case 'void':
      case 'bool':
      case 'i8':
      case 'i16':
      case 'i32':
        return `${value as number | boolean}`;
    }
  }

  #sorted<T extends { readonly name: string }>(types: Iterable<T>): T[] {
    const nameOf = (type: T): string => this.#names.get(type) ?? type.name;
    return [...types].sort((a, b) => compareText(nameOf(a), nameOf(b)));
  }
}

function isOptional(field: Field): boolean {
  return field.requiredness === 'optional' && field.defaultValue === undefined;
}

function plain(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1);
}

function quoted(text: string): string {
  const json = JSON.stringify(text);
  return text.includes("'") ? json : `'${json.slice(1, -1).replaceAll('\\"', '"')}'`;
}

/** Returns a doc comment. Escapes text that would end it. */
function doc(text: string, indent: string): string {
  if (text === '') return '';
  const lines = text.replaceAll('*/', '*\\/').split('\n');
  if (lines.length === 1) return `${indent}/** ${lines[0] ?? ''} */\n`;
  return `${indent}/**\n${lines.map((line) => `${indent} * ${line}`.trimEnd()).join('\n')}\n${indent} */\n`;
}
