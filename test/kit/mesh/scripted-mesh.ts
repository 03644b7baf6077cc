// A scripted server for THeader clients. It reads calls correctly, and replies, refuses, disconnects or stays silent
// as the test says.
import { encodeStruct } from '../../../core/idl/mod.ts';
import { ReceiveBuffer } from '../../../core/link/mod.ts';
import { HeaderEncoding } from '../../../core/thrift/encodings/mod.ts';
import { type Interface, type Method, writeApplicationException } from '../../../core/thrift/mod.ts';
import { createServer, type AddressInfo, type Socket } from 'node:net';

export interface ScriptedCall {
  /** As sent: `Service:method`. */
  readonly name: string;
  readonly seqId: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly args: Buffer;
  /** Index of the connection that it arrived on, from 0. */
  readonly connection: number;
  readonly socket: Socket;
  answer(success: unknown): void;
  refuse(headers: Readonly<Record<string, string>>, message?: string): void;
}

export interface ScriptedMesh {
  readonly address: string;
  readonly port: number;
  /** In order of arrival. */
  readonly calls: readonly ScriptedCall[];
  /** Number of connections accepted so far. */
  connections(): number;
  /** Number of open connections. */
  open(): number;
  /** Sends message 0 on every connection: the start of a drain, or its end. */
  sendGoAway(isEnd: boolean): void;
  /** Closes every connection and stops listening. */
  close(): Promise<void>;
}

/** @param onConnection returns true if it handles the connection itself; nothing is read then */
export async function scriptedMesh(
  found: Interface,
  onCall: (call: ScriptedCall) => void,
  options: { readonly onConnection?: (socket: Socket) => boolean; readonly port?: number } = {},
): Promise<ScriptedMesh> {
  const calls: ScriptedCall[] = [];
  const sockets = new Map<Socket, HeaderEncoding>();
  let accepted = 0;
  const server = createServer((socket) => {
    const connection = accepted++;
    const encoding = new HeaderEncoding({ frameBytesMax: 1 << 28, nestingMax: 64 });
    sockets.set(socket, encoding);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    if (options.onConnection?.(socket) === true) return;
    const inbox = new ReceiveBuffer();
    socket.on('data', (chunk: Buffer) => {
      const bytes = inbox.join(chunk);
      let at = 0;
      for (;;) {
        const next = at < bytes.length ? encoding.next(bytes, at, bytes.length) : -1;
        if (next === -1) break;
        at = next;
        const call = callOf(found, encoding, connection, socket);
        calls.push(call);
        onCall(call);
      }
      inbox.keep(bytes, at);
    });
  });
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    address: `127.0.0.1:${port}`,
    port,
    calls,
    connections: () => accepted,
    open: () => sockets.size,
    sendGoAway(isEnd) {
      const headers = { 'katamari-error': 'draining', ...(isEnd ? { 'katamari-not-run': '1' } : {}) };
      for (const [socket, encoding] of sockets) write(socket, encoding, 3, '', 0, exception('I drain'), headers);
    },
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets.keys()) socket.destroy();
      await closed;
    },
  };
}

function callOf(found: Interface, encoding: HeaderEncoding, connection: number, socket: Socket): ScriptedCall {
  const { name = '', seqId = 0 } = encoding.head ?? {};
  const method = name.slice(name.lastIndexOf(':') + 1);
  return {
    name,
    seqId,
    headers: { ...(encoding.headers as Record<string, string>) },
    args: Buffer.from(encoding.body),
    connection,
    socket,
    answer(success) {
      const body = encodeStruct((found.methods.get(method) as Method).result, { success });
      write(socket, encoding, 2, method, seqId, body, { 'katamari-version': '1.0.0' });
    },
    refuse: (headers, message = 'refused') => write(socket, encoding, 3, method, seqId, exception(message), headers),
  };
}

function write(
  socket: Socket,
  encoding: HeaderEncoding,
  type: 2 | 3,
  name: string,
  seqId: number,
  body: Buffer,
  headers: Readonly<Record<string, string>>,
): void {
  const pieces: Uint8Array[] = [];
  encoding.write(type, name, seqId, body, pieces, undefined, headers);
  socket.write(Buffer.concat(pieces));
}

function exception(message: string): Buffer {
  return writeApplicationException(message, 6);
}
