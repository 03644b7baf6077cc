// A client for any interface, based on Apache's `thrift` package. It builds at run time, from the parsed IDL, what
// Apache's compiler would generate. Connection, transport, protocol and multiplexing come from the package, so a
// chassis is tested against an implementation that shares no code with ours. A reply includes its bytes, so that the
// results of both readers can be compared.

import { createRequire } from 'node:module';
import type { Socket } from 'node:net';
import { parseLinkAddress } from '../../../core/link/mod.ts';
import type { Field, Method, StructType, Type } from '../../../core/thrift/mod.ts';
import { describeDuration } from '../../config/mod.ts';
import { PeerClosed } from './test-link.ts';

/** A reply as Apache's reader sees it. */
export type ApacheReply = {
  /** The result or exception struct as bytes. */
  readonly body: Buffer;
} & (
  | { readonly kind: 'result'; readonly fields: Record<string, unknown> }
  | { readonly kind: 'exception'; readonly type: number; readonly message: string }
);

export interface ApacheCall {
  /** Multiplexed service name, such as `katamari.Chassis`; absent for the service of the chassis. */
  readonly service?: string;
  readonly method: Method;
  readonly args?: Readonly<Record<string, unknown>>;
}

export class ApacheClient {
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #clients = new Map<string, ServiceClient>();
  readonly #newSeqId: () => number;
  readonly #pending = new Set<(error: PeerClosed) => void>();
  readonly #closed: Promise<void>;
  #end: PeerClosed | undefined;

  /**
   * @param address address of the chassis
   * @param services methods by multiplexed service name; '' for calls without one
   */
  constructor(address: string, timeoutMs: number, services: Readonly<Record<string, readonly Method[]>>) {
    const { createConnection, createUDSConnection, createClient, Multiplexer, ...apache } = loadApache();
    const options = { transport: apache.TFramedTransport, protocol: apache.TBinaryProtocol };
    const target = parseLinkAddress(address);
    this.#timeoutMs = timeoutMs;
    this.#connection =
      'path' in target
        ? createUDSConnection(target.path, options)
        : createConnection(target.host, target.port, options);
    this.#connection.on('error', (error) => this.#fail(`Apache's client failed: ${error.message}`, false));
    this.#closed = new Promise((resolve) => {
      this.#connection.on('close', () => {
        this.#fail('the connection was closed', true);
        resolve();
      });
    });
    let lastSeqId = 0;
    this.#newSeqId = () => ++lastSeqId;
    const multiplexer = new Multiplexer();
    // Create the client without a name first: the package stores the named clients as properties of it.
    for (const [service, methods] of Object.entries(services).sort(([a], [b]) => (a < b ? -1 : 1))) {
      const client = clientClass(methods);
      this.#clients.set(
        service,
        service === ''
          ? createClient(client, this.#connection)
          : multiplexer.createClient(service, client, this.#connection),
      );
    }
  }

  /** Sends a call and returns the reply. Rejects with PeerClosed if no reply arrives in time. */
  call({ service = '', method, args = {} }: ApacheCall): Promise<ApacheReply> {
    const client = this.#clientOf(service);
    return new Promise((resolve, reject) => {
      const seqId = this.#newSeqId();
      const settle = (act: () => void): void => {
        clearTimeout(timer);
        this.#pending.delete(fail);
        delete client._reqs[seqId];
        act();
      };
      const fail = (error: PeerClosed): void => settle(() => reject(error));
      const timer = setTimeout(
        () => fail(new PeerClosed(`no reply within ${describeDuration(this.#timeoutMs)}`, false)),
        this.#timeoutMs,
      );
      this.#pending.add(fail);
      client._reqs[seqId] = (error, reply) => {
        if (reply === undefined) fail(new PeerClosed(`Apache's reader failed: ${error?.message}`, false));
        else settle(() => resolve(reply));
      };
      if (this.#end === undefined) client.send(method, MESSAGE.call, seqId, args);
      else fail(this.#end);
    });
  }

  /** Sends a message of type oneway. */
  tell({ service = '', method, args = {} }: ApacheCall): void {
    this.#clientOf(service).send(method, MESSAGE.oneway, this.#newSeqId(), args);
  }

  /** Closes the connection and fails the pending calls. */
  async close(): Promise<void> {
    this.#fail('the connection was closed by katamari conform', false);
    this.#connection.end();
    this.#connection.connection.destroy();
    await this.#closed;
  }

  /** Fails all pending calls and all later calls. */
  #fail(came: string, isClosed: boolean): void {
    this.#end ??= new PeerClosed(came, isClosed);
    for (const fail of this.#pending) fail(this.#end);
  }

  #clientOf(service: string): ServiceClient {
    const client = this.#clients.get(service);
    if (client === undefined) throw new Error(`no client for service ${JSON.stringify(service)}`);
    return client;
  }
}

/** Returns the class that Apache's compiler would generate for a service. The package calls its `recv_METHOD`. */
function clientClass(methods: readonly Method[]): ServiceClientClass {
  class GeneratedClient {
    readonly output: ApacheTransport;
    readonly pClass: ProtocolClass;
    readonly _reqs: Record<number, ReplyCallback> = {};

    constructor(output: ApacheTransport, pClass: ProtocolClass) {
      this.output = output;
      this.pClass = pClass;
    }

    send(method: Method, type: number, seqId: number, args: Readonly<Record<string, unknown>>): void {
      const output = new this.pClass(this.output);
      output.writeMessageBegin(method.name, type, seqId);
      writeStruct(output, method.args, args);
      output.writeMessageEnd();
      output.flush();
    }
  }
  for (const method of methods) {
    Object.defineProperty(GeneratedClient.prototype, `recv_${method.name}`, {
      value(this: ServiceClient, input: ApacheProtocol, type: number, seqId: number): void {
        const reply = this._reqs[seqId];
        delete this._reqs[seqId];
        let read: ApacheReply;
        try {
          read = readReply(input, type, method.result);
        } catch (error) {
          reply?.(error as Error);
          return;
        }
        reply?.(null, read);
      },
    });
  }
  return GeneratedClient;
}

function readReply(input: ApacheProtocol, type: number, result: StructType): ApacheReply {
  const { buf, readIndex } = input.getTransport().borrow();
  const body = buf.subarray(readIndex);
  if (type === MESSAGE.exception) {
    const exception = new (loadApache().Thrift.TApplicationException)(0, '');
    exception.read(input);
    input.readMessageEnd();
    return { kind: 'exception', body, type: exception.type, message: exception.message };
  }
  const fields = readStruct(input, result);
  input.readMessageEnd();
  return { kind: 'result', body, fields };
}

/** Writes fields as generated code does: those with a value, in the order of the IDL. */
function writeStruct(output: ApacheProtocol, struct: StructType, value: Readonly<Record<string, unknown>>): void {
  output.writeStructBegin(struct.name);
  for (const field of struct.fields) {
    if (value[field.name] === undefined) continue;
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
      // writeUuid rejects 16 bytes that are not a UUID of RFC 9562. Thrift allows them.
      return output.getTransport().write(Buffer.from((value as string).replaceAll('-', ''), 'hex'));
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
function readStruct(input: ApacheProtocol, struct: StructType): Record<string, unknown> {
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
      // readUuid has the same problem as writeUuid.
      return input
        .getTransport()
        .read(16)
        .toString('hex')
        .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
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

/** Loads the package on the first call, because no other command needs it. */
function loadApache(): ApachePackage {
  return (apachePackage ??= createRequire(import.meta.url)('thrift') as ApachePackage);
}

let apachePackage: ApachePackage | undefined;

// The package has no type declarations. These types cover the parts that this file uses.

interface ApachePackage {
  readonly TFramedTransport: unknown;
  readonly TBinaryProtocol: unknown;
  readonly Thrift: {
    readonly Type: Readonly<Record<string, number>>;
    readonly TApplicationException: new (type: number, message: string) => ApplicationException;
  };
  readonly Int64: new (bytes: Buffer) => Int64;
  readonly Multiplexer: new () => {
    createClient(service: string, client: ServiceClientClass, connection: Connection): ServiceClient;
  };
  readonly createClient: (client: ServiceClientClass, connection: Connection) => ServiceClient;
  readonly createConnection: (host: string, port: number, options: object) => Connection;
  readonly createUDSConnection: (path: string, options: object) => Connection;
}

interface Connection {
  readonly connection: Socket;
  on(event: 'close', listener: () => void): void;
  on(event: 'error', listener: (error: Error) => void): void;
  end(): void;
}

interface ServiceClient {
  readonly _reqs: Record<number, ReplyCallback>;
  send(method: Method, type: number, seqId: number, args: Readonly<Record<string, unknown>>): void;
}

type ServiceClientClass = new (output: ApacheTransport, pClass: ProtocolClass) => ServiceClient;
type ReplyCallback = (error: Error | null, reply?: ApacheReply) => void;
type ProtocolClass = new (transport: ApacheTransport) => ApacheProtocol;

interface ApplicationException extends Error {
  readonly type: number;
  read(input: ApacheProtocol): void;
}

interface Int64 {
  readonly buffer: Buffer;
  readonly offset: number;
}

interface ApacheTransport {
  borrow(): { readonly buf: Buffer; readonly readIndex: number };
  read(length: number): Buffer;
  write(bytes: Buffer): void;
}

interface ApacheProtocol {
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
  skip(type: number): void;
  incrementRecursionDepth(): void;
  decrementRecursionDepth(): void;
}

const MESSAGE = { call: 1, exception: 3, oneway: 4 } as const;
const STOP = 0;
