// Writes and reads values with Apache's `thrift` package: the code that Apache's compiler would generate for a struct,
// driven by the parsed IDL. It works with every protocol of the package.

import { createRequire } from 'node:module';
import type { Field, StructType, Type } from '../../../core/thrift/mod.ts';

/** Writes fields as generated code does: those with a value, in the order of the IDL. */
export function writeStruct(
  output: ApacheProtocol,
  struct: StructType,
  value: Readonly<Record<string, unknown>>,
): void {
  output.writeStructBegin(struct.name);
  for (const field of struct.fields) {
    // A field may be named like a property of every object, such as `constructor`.
    if (!Object.hasOwn(value, field.name) || value[field.name] === undefined) continue;
    output.writeFieldBegin(field.name, wireType(field.type), field.id);
    writeValue(output, field.type, value[field.name]);
    output.writeFieldEnd();
  }
  output.writeFieldStop();
  output.writeStructEnd();
}

function writeValue(output: ApacheProtocol, type: Type, value: unknown): void {
  switch (type.kind) {
    case 'void':
      return;
    case 'bool':
      return output.writeBool(value as boolean);
    case 'i8':
      return output.writeByte(value as number);
    case 'i16':
      return output.writeI16(value as number);
    case 'i32':
    case 'enum':
      return output.writeI32(value as number);
    case 'i64': {
      const buffer = Buffer.alloc(8);
      buffer.writeBigInt64BE(value as bigint);
      return output.writeI64(new (loadApache().Int64)(buffer));
    }
    case 'double':
      return output.writeDouble(value as number);
    case 'string':
      return output.writeString(value as string);
    case 'binary':
      return output.writeBinary(value as Buffer);
    case 'uuid':
      return output.writeUuid(value as string);
    case 'struct':
      return writeStruct(output, type.struct, value as Record<string, unknown>);
    case 'list':
      output.writeListBegin(wireType(type.element), (value as unknown[]).length);
      for (const element of value as unknown[]) writeValue(output, type.element, element);
      return output.writeListEnd();
    case 'set':
      output.writeSetBegin(wireType(type.element), (value as Set<unknown>).size);
      for (const element of value as Set<unknown>) writeValue(output, type.element, element);
      return output.writeSetEnd();
    case 'map':
      output.writeMapBegin(wireType(type.key), wireType(type.value), (value as Map<unknown, unknown>).size);
      for (const [key, part] of value as Map<unknown, unknown>) {
        writeValue(output, type.key, key);
        writeValue(output, type.value, part);
      }
      return output.writeMapEnd();
  }
}

/** Reads fields as generated code does: sets defaults first and skips fields with an unknown id or another type. */
export function readStruct(input: ApacheProtocol, struct: StructType): Record<string, unknown> {
  const value: Record<string, unknown> = {};
  for (const { name, defaultValue } of struct.kind === 'union' ? [] : struct.fields) {
    if (defaultValue !== undefined) value[name] = defaultValue;
  }
  const byId = new Map(struct.fields.map((field): [number, Field] => [field.id, field]));
  input.incrementRecursionDepth();
  input.readStructBegin();
  for (;;) {
    const { ftype, fid } = input.readFieldBegin();
    if (ftype === STOP) break;
    const field = byId.get(fid);
    if (field !== undefined && wireType(field.type) === ftype) value[field.name] = readValue(input, field.type);
    else input.skip(ftype);
    input.readFieldEnd();
  }
  input.readStructEnd();
  input.decrementRecursionDepth();
  return value;
}

function readValue(input: ApacheProtocol, type: Type): unknown {
  switch (type.kind) {
    case 'void':
      return undefined;
    case 'bool':
      return input.readBool();
    case 'i8':
      return input.readByte();
    case 'i16':
      return input.readI16();
    case 'i32':
    case 'enum':
      return input.readI32();
    case 'i64': {
      const { buffer, offset } = input.readI64();
      return buffer.readBigInt64BE(offset);
    }
    case 'double':
      return input.readDouble();
    case 'string':
      return input.readString();
    case 'binary':
      return input.readBinary();
    case 'uuid':
      return input.readUuid();
    case 'struct':
      return readStruct(input, type.struct);
    case 'list': {
      const { size } = input.readListBegin();
      const list = readTimes(size, () => readValue(input, type.element));
      input.readListEnd();
      return list;
    }
    case 'set': {
      const { size } = input.readSetBegin();
      const set = new Set(readTimes(size, () => readValue(input, type.element)));
      input.readSetEnd();
      return set;
    }
    case 'map': {
      const { size } = input.readMapBegin();
      const map = new Map(
        readTimes(size, () => [readValue(input, type.key), readValue(input, type.value)] as [unknown, unknown]),
      );
      input.readMapEnd();
      return map;
    }
  }
}

/** Throws at the first element that cannot be read, so a declared size does not allocate memory in advance. */
function readTimes<T>(size: number, read: () => T): T[] {
  const values: T[] = [];
  for (let i = 0; i < size; i++) values.push(read());
  return values;
}

function wireType(type: Type): number {
  const { Type: types } = loadApache().Thrift;
  const name =
    type.kind === 'enum'
      ? 'I32'
      : type.kind === 'binary'
        ? 'STRING'
        : type.kind === 'i8'
          ? 'BYTE'
          : type.kind.toUpperCase();
  const found = types[name];
  if (found === undefined) throw new Error(`Apache's thrift package has no type ${name}`);
  return found;
}

/** Loads the package on the first call, because only `katamari conform` needs it. */
export function loadApache(): ApachePackage {
  return (apachePackage ??= createRequire(import.meta.url)('thrift') as ApachePackage);
}

let apachePackage: ApachePackage | undefined;

/** The parts of the package that Katamari uses; the package has no type declarations. */
export interface ApachePackage {
  readonly TFramedTransport: unknown;
  readonly TBinaryProtocol: ApacheProtocolClass;
  readonly TCompactProtocol: ApacheProtocolClass;
  readonly TJSONProtocol: ApacheProtocolClass;
  readonly Thrift: {
    readonly Type: Readonly<Record<string, number>>;
    readonly TApplicationException: new (type: number, message: string) => ApacheException;
  };
  readonly Int64: new (bytes: Buffer) => Int64;
}

export type ApacheProtocolClass = new (transport: ApacheTransport) => ApacheProtocol;

export interface ApacheException extends Error {
  readonly type: number;
  read(input: ApacheProtocol): void;
}

interface Int64 {
  readonly buffer: Buffer;
  readonly offset: number;
}

export interface ApacheTransport {
  borrow(): { readonly buf: Buffer; readonly readIndex: number };
  read(length: number): Buffer;
  write(bytes: Buffer): void;
  flush(): void;
  setCurrSeqId(seqId: number): void;
}

export interface ApacheProtocol {
  getTransport(): ApacheTransport;
  flush(): void;
  writeMessageBegin(name: string, type: number, seqId: number): void;
  writeMessageEnd(): void;
  writeStructBegin(name: string): void;
  writeStructEnd(): void;
  writeFieldBegin(name: string, type: number, id: number): void;
  writeFieldEnd(): void;
  writeFieldStop(): void;
  writeMapBegin(key: number, value: number, size: number): void;
  writeMapEnd(): void;
  writeListBegin(element: number, size: number): void;
  writeListEnd(): void;
  writeSetBegin(element: number, size: number): void;
  writeSetEnd(): void;
  writeBool(value: boolean): void;
  writeByte(value: number): void;
  writeI16(value: number): void;
  writeI32(value: number): void;
  writeI64(value: Int64): void;
  writeDouble(value: number): void;
  writeString(value: string): void;
  writeBinary(value: Buffer): void;
  writeUuid(value: string): void;
  readMessageEnd(): void;
  readStructBegin(): void;
  readStructEnd(): void;
  readFieldBegin(): { readonly ftype: number; readonly fid: number };
  readFieldEnd(): void;
  readMapBegin(): { readonly size: number };
  readMapEnd(): void;
  readListBegin(): { readonly size: number };
  readListEnd(): void;
  readSetBegin(): { readonly size: number };
  readSetEnd(): void;
  readBool(): boolean;
  readByte(): number;
  readI16(): number;
  readI32(): number;
  readI64(): Int64;
  readDouble(): number;
  readString(): string;
  readBinary(): Buffer;
  readUuid(): string;
  skip(type: number): void;
  incrementRecursionDepth(): void;
  decrementRecursionDepth(): void;
}

const STOP = 0;
