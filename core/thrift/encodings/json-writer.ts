// Converts a strict-binary struct to Thrift's JSON protocol. The schema says which strings are bytes, which become
// base64 with padding: some libraries require it and all accept it. Without a schema, all strings are text. The
// struct was validated when it was read, including its depth.

import { KatamariError } from '../../mod.ts';
import { BinaryReader, strictText, type StructType, type Type, WIRE_TYPE } from '../mod.ts';
import { WIRE_OF_JSON } from './json-reader.ts';

/** Returns the struct as JSON: `{"1":{"i32":5}}`. */
export function jsonOfStruct(body: Uint8Array, schema?: StructType): string {
  return struct(new BinaryReader(body), schema);
}

function struct(from: BinaryReader, schema: StructType | undefined): string {
  let text = '{';
  for (;;) {
    const wire = from.byte();
    if (wire === WIRE_TYPE.stop) break;
    const id = from.i16();
    const type = schema?.fields.find((field) => field.id === id)?.type;
    text += `${text === '{' ? '' : ','}"${id}":{"${nameOf(wire)}":${value(from, wire, type)}}`;
  }
  return `${text}}`;
}

function value(from: BinaryReader, wire: number, type: Type | undefined): string {
  switch (wire) {
    case WIRE_TYPE.bool:
      return from.byte() === 0 ? '0' : '1';
    case WIRE_TYPE.i8:
      return String(from.i8());
    case WIRE_TYPE.i16:
      return String(from.i16());
    case WIRE_TYPE.i32:
      return String(from.i32());
    case WIRE_TYPE.i64:
      return String(from.i64());
    case WIRE_TYPE.double:
      return double(from.double());
    case WIRE_TYPE.uuid:
      return `"${from.hex(16).replace(UUID, '$1-$2-$3-$4-$5')}"`;
    case WIRE_TYPE.string: {
      if (type?.kind === 'binary') return `"${from.base64()}"`;
      const start = from.position + 4;
      from.position = start + from.size(1);
      const text = strictText(from.buffer, start, from.position);
      if (text !== undefined) return JSON.stringify(text);
      throw new KatamariError(
        'bad_request',
        "A string is not UTF-8, which Thrift's JSON protocol cannot carry; declare its type as binary in the IDL, or use the binary or compact protocol",
      );
    }
    case WIRE_TYPE.struct:
      return struct(from, type?.kind === 'struct' ? type.struct : undefined);
    case WIRE_TYPE.map:
      return map(from, type?.kind === 'map' ? type : undefined);
    default:
      return list(from, type?.kind === 'list' || type?.kind === 'set' ? type.element : undefined);
  }
}

function list(from: BinaryReader, element: Type | undefined): string {
  const wire = from.byte();
  const count = from.i32();
  let text = `["${elementName(wire, count)}",${count}`;
  for (let n = 0; n < count; n++) text += `,${value(from, wire, element)}`;
  return `${text}]`;
}

function map(from: BinaryReader, type: { readonly key: Type; readonly value: Type } | undefined): string {
  const [key, element] = [from.byte(), from.byte()];
  const count = from.i32();
  let text = `["${elementName(key, count)}","${elementName(element, count)}",${count},{`;
  for (let n = 0; n < count; n++) {
    const written = value(from, key, type?.key);
    // Number keys must be quoted. Text is quoted already; structs and containers stay unquoted.
    text += `${n === 0 ? '' : ','}${/^[-\d]/.test(written) ? `"${written}"` : written}:`;
    text += value(from, element, type?.value);
  }
  return `${text}}]`;
}

function double(found: number): string {
  if (!Number.isFinite(found)) return `"${found}"`;
  return Object.is(found, -0) ? '-0' : String(found);
}

function nameOf(wire: number): string {
  const name = NAME_OF_WIRE.get(wire);
  if (name !== undefined) return name;
  throw new KatamariError('bad_request', `Type ${wire} is not a Thrift type`);
}

/** Returns the name of a type. An empty container may have no type, but the protocol requires a name. */
function elementName(wire: number, count: number): string {
  return count === 0 ? (NAME_OF_WIRE.get(wire) ?? 'str') : nameOf(wire);
}

const NAME_OF_WIRE: ReadonlyMap<number, string> = new Map([...WIRE_OF_JSON].map(([name, wire]) => [wire, name]));
const UUID = /^(.{8})(.{4})(.{4})(.{4})(.{12})$/;
