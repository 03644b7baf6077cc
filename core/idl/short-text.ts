// Short JSON text of decoded values, for people who look for a difference or an odd call. Fields with
// `(katamari.secret)` are masked. The text is cut at a number of characters, so a large value costs no more than a
// small one.

import type { Field, Method, StructType, Type } from '../thrift/mod.ts';
import { decodeStruct, keyOfText } from './codec.ts';
import { exceptionName } from './json.ts';

/** The arguments of a call as JSON text, with masked secrets. Bytes that do not match the interface get a note. */
export function shortArguments(method: Method, args: Uint8Array, charsMax: number): string {
  try {
    return shortValue({ kind: 'struct', struct: method.args }, decodeStruct(method.args, args), charsMax);
  } catch {
    return `(${args.length} bytes that do not match the interface)`;
  }
}

/** A value as JSON text, with masked secrets; cut with `...`. */
export function shortValue(type: Type, value: unknown, charsMax: number): string {
  const text = new ShortText(charsMax);
  text.value(type, value);
  return text.finish();
}

/** A declared exception as JSON text: an object with its name as `exception` and its fields. */
export function shortException(field: Field, value: unknown, charsMax: number): string {
  const text = new ShortText(charsMax);
  if (field.type.kind === 'struct')
    text.struct(field.type.struct, value as Record<string, unknown>, exceptionName(field));
  return text.finish();
}

/** Whether the values of a field are shown to nobody: `(katamari.secret)`. */
export function isSecretField({ annotations }: Field): boolean {
  return annotations['katamari.secret'] === 'true';
}

export const MASKED = '"***"';

class ShortText {
  readonly #charsMax: number;
  #text = '';

  constructor(charsMax: number) {
    this.#charsMax = charsMax;
  }

  finish(): string {
    return this.#text.length <= this.#charsMax ? this.#text : `${this.#text.slice(0, this.#charsMax)}...`;
  }

  value(type: Type, value: unknown): void {
    switch (type.kind) {
      case 'void':
        this.#text += 'null';
        return;
      case 'bool':
      case 'i8':
      case 'i16':
      case 'i32':
      case 'i64':
        this.#text += String(value);
        return;
      case 'double':
        this.#text += Number.isFinite(value) ? String(value) : `"${value as number}"`;
        return;
      case 'string':
      case 'uuid':
        this.#string(value as string);
        return;
      case 'binary':
        this.#text += `"${(value as Buffer).toString('base64', 0, this.#charsMax)}"`;
        return;
      case 'enum':
        this.#text += JSON.stringify(type.enum.byValue.get(value as number) ?? value);
        return;
      case 'list':
      case 'set':
        this.#items('[', value as Iterable<unknown>, ']', (item) => this.value(type.element, item));
        return;
      case 'map':
        this.#map(type.key, type.value, value as ReadonlyMap<unknown, unknown>);
        return;
      case 'struct':
        this.struct(type.struct, value as Record<string, unknown>);
        return;
    }
  }

  struct({ fields }: StructType, value: Readonly<Record<string, unknown>>, exception = ''): void {
    const set = fields.filter(({ name }) => Object.hasOwn(value, name) && value[name] !== undefined);
    this.#items('{', exception === '' ? set : [undefined, ...set], '}', (field: Field | undefined) => {
      if (field === undefined) {
        this.#text += `"exception":${JSON.stringify(exception)}`;
        return;
      }
      this.#text += `${JSON.stringify(field.name)}:`;
      if (isSecretField(field)) this.#text += MASKED;
      else this.value(field.type, value[field.name]);
    });
  }

  #map(key: Type, type: Type, value: ReadonlyMap<unknown, unknown>): void {
    if (keyOfText(key) === undefined) {
      this.#items('[', value, ']', ([k, v]) => {
        this.#text += '[';
        this.value(key, k);
        this.#text += ',';
        this.value(type, v);
        this.#text += ']';
      });
      return;
    }
    this.#items('{', value, '}', ([k, v]) => {
      this.#string(key.kind === 'enum' ? (key.enum.byValue.get(k as number) ?? String(k)) : String(k));
      this.#text += ':';
      this.value(type, v);
    });
  }

  #items<T>(open: string, items: Iterable<T>, close: string, print: (item: T) => void): void {
    this.#text += open;
    let separator = '';
    for (const item of items) {
      if (this.#text.length > this.#charsMax) return;
      this.#text += separator;
      separator = ',';
      print(item);
    }
    this.#text += close;
  }

  #string(text: string): void {
    this.#text += JSON.stringify(text.length > this.#charsMax ? text.slice(0, this.#charsMax) : text);
  }
}
