// Writes values of any interface with the `thrift` package, in any of its protocols. Property tests compare our
// encodings with it.
import type { StructType, Type } from '../../../core/thrift/mod.ts';
import { createRequire } from 'node:module';

/** The struct alone, field by field in the order of the file. */
export function stockStruct(protocol: StockProtocol, struct: StructType, value: Record<string, unknown>): Buffer {
  return written(protocol, (to) => writeStruct(to, struct, value));
}

/** A call of method `name` with these arguments. */
export function stockCall(
  protocol: StockProtocol,
  name: string,
  seqId: number,
  struct: StructType,
  value: Record<string, unknown>,
): Buffer {
  return written(protocol, (to) => {
    to.writeMessageBegin(name, 1, seqId);
    writeStruct(to, struct, value);
    to.writeMessageEnd();
  });
}

/** The part of the stock library that is used here; it has no types of its own. */
interface Protocol {
  writeMessageBegin(name: string, type: number, seqId: number): void;
  writeMessageEnd(): void;
  writeStructBegin(name: string): void;
  writeStructEnd(): void;
  writeFieldEnd(): void;
  writeMapEnd(): void;
  writeListEnd(): void;
  writeSetEnd(): void;
  flush(): void;
  writeFieldBegin(name: string, type: number, id: number): void;
  writeFieldStop(): void;
  writeMapBegin(key: number, value: number, size: number): void;
  writeListBegin(element: number, size: number): void;
  writeSetBegin(element: number, size: number): void;
  writeBool(value: boolean): void;
  writeByte(value: number): void;
  writeI16(value: number): void;
  writeI32(value: number): void;
  writeI64(value: unknown): void;
  writeDouble(value: number): void;
  writeString(value: string): void;
  writeBinary(value: Buffer): void;
  writeUuid(value: string): void;
}
export type StockProtocol = 'TBinaryProtocol' | 'TCompactProtocol' | 'TJSONProtocol';
interface Transport {
  write(bytes: Buffer | string): void;
  flush(): void;
  setCurrSeqId(seqId: number): void;
}
interface Thrift extends Record<StockProtocol, new (transport: Transport) => Protocol> {
  Thrift: { Type: Record<string, number> };
  Int64: new (bytes: Buffer) => unknown;
}
const thrift = createRequire(import.meta.url)('thrift') as Thrift;
const { Type: STOCK } = thrift.Thrift;

function written(protocol: StockProtocol, write: (to: Protocol) => void): Buffer {
  const parts: Buffer[] = [];
  const to = new thrift[protocol]({
    write: (bytes) => parts.push(Buffer.from(bytes as string)),
    flush() {},
    setCurrSeqId() {},
  });
  write(to);
  to.flush();
  return Buffer.concat(parts);
}

function writeStruct(protocol: Protocol, struct: StructType, value: Record<string, unknown>): void {
  protocol.writeStructBegin(struct.name);
  for (const field of struct.fields) {
    if (!Object.hasOwn(value, field.name)) continue;
    protocol.writeFieldBegin(field.name, stockType(field.type), field.id);
    writeValue(protocol, field.type, value[field.name]);
    protocol.writeFieldEnd();
  }
  protocol.writeFieldStop();
  protocol.writeStructEnd();
}

function writeValue(protocol: Protocol, type: Type, value: unknown): void {
  switch (type.kind) {
    case 'void':
      return;
    case 'bool':
      return protocol.writeBool(value as boolean);
    case 'i8':
      return protocol.writeByte(value as number);
    case 'i16':
      return protocol.writeI16(value as number);
    case 'i32':
    case 'enum':
      return protocol.writeI32(value as number);
    case 'i64': {
      const buffer = Buffer.alloc(8);
      buffer.writeBigInt64BE(value as bigint);
      return protocol.writeI64(new thrift.Int64(buffer));
    }
    case 'double':
      return protocol.writeDouble(value as number);
    case 'string':
      return protocol.writeString(value as string);
    case 'binary':
      return protocol.writeBinary(value as Buffer);
    case 'uuid':
      return protocol.writeUuid(value as string);
    case 'struct':
      return writeStruct(protocol, type.struct, value as Record<string, unknown>);
    case 'list':
      protocol.writeListBegin(stockType(type.element), (value as unknown[]).length);
      for (const element of value as unknown[]) writeValue(protocol, type.element, element);
      protocol.writeListEnd();
      return;
    case 'set':
      protocol.writeSetBegin(stockType(type.element), (value as Set<unknown>).size);
      for (const element of value as Set<unknown>) writeValue(protocol, type.element, element);
      protocol.writeSetEnd();
      return;
    case 'map':
      protocol.writeMapBegin(stockType(type.key), stockType(type.value), (value as Map<unknown, unknown>).size);
      for (const [key, part] of value as Map<unknown, unknown>) {
        writeValue(protocol, type.key, key);
        writeValue(protocol, type.value, part);
      }
      protocol.writeMapEnd();
  }
}

function stockType(type: Type): number {
  const name =
    type.kind === 'enum'
      ? 'I32'
      : type.kind === 'binary'
        ? 'STRING'
        : type.kind === 'i8'
          ? 'BYTE'
          : type.kind.toUpperCase();
  const number = STOCK[name];
  if (number === undefined) throw new Error(`the stock library has no type ${name}`);
  return number;
}
