// A client for any interface, based on Apache's `thrift` package. It builds at run time, from the parsed IDL, what
// Apache's compiler would generate. Connection, transport, protocol and multiplexing come from the package, so a
// chassis is tested against an implementation that shares no code with ours. A reply includes its bytes, so that the
// results of both readers can be compared.

import { describeDuration } from '../../../core/mod.ts';
import type { Socket } from 'node:net';
import { parseLinkAddress } from '../../../core/link/mod.ts';
import type { Method, StructType } from '../../../core/thrift/mod.ts';
import {
  type ApachePackage,
  type ApacheProtocol,
  type ApacheProtocolClass,
  type ApacheTransport,
  loadApache,
  readStruct,
  writeStruct,
} from './apache-values.ts';
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
    const { createConnection, createUDSConnection, createClient, Multiplexer, ...apache } =
      loadApache() as ClientPackage;
    const options = { transport: apache.TFramedTransport, protocol: anyUuidProtocol(apache.TBinaryProtocol) };
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
    readonly pClass: ApacheProtocolClass;
    readonly _reqs: Record<number, ReplyCallback> = {};

    constructor(output: ApacheTransport, pClass: ApacheProtocolClass) {
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

/**
 * Returns a protocol whose UUIDs are any 16 bytes, as Thrift allows. The package takes only the UUIDs of RFC 9562.
 */
function anyUuidProtocol(protocol: ApacheProtocolClass): ApacheProtocolClass {
  // Not a class: the package calls the constructor without `new`.
  function AnyUuidProtocol(this: ApacheProtocol, ...args: ConstructorParameters<ApacheProtocolClass>): void {
    Reflect.apply(protocol, this, args);
  }
  const methods: Pick<ApacheProtocol, 'writeUuid' | 'readUuid'> & ThisType<ApacheProtocol> = {
    writeUuid(value) {
      this.getTransport().write(Buffer.from(value.replaceAll('-', ''), 'hex'));
    },
    readUuid() {
      const hex = this.getTransport().read(16).toString('hex');
      return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
    },
  };
  AnyUuidProtocol.prototype = Object.assign(Object.create(protocol.prototype) as object, methods);
  return AnyUuidProtocol as unknown as ApacheProtocolClass;
}

interface ClientPackage extends ApachePackage {
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

type ServiceClientClass = new (output: ApacheTransport, pClass: ApacheProtocolClass) => ServiceClient;
type ReplyCallback = (error: Error | null, reply?: ApacheReply) => void;

const MESSAGE = { call: 1, exception: 3, oneway: 4 } as const;
