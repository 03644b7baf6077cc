// A scripted Thrift server, with the JSON-RPC port of a mesh that knows only an interface. It simulates a server that
// stalls, disconnects or stays silent for `katamari bench`. Framed calls, with or without THeader.
import { FrameReader } from '../../../core/link/mod.ts';
import { writeApplicationException, frameMessage, MESSAGE_TYPE, NOTHING, readHead } from '../../../core/thrift/mod.ts';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { startRpcServer, type RpcServer } from './rpc-server.ts';

export interface ScriptedCall {
  /** As received, including the multiplexed name. */
  readonly name: string;
  /** Counts from 1, over all connections. */
  readonly number: number;
  /** The whole frame as text, to search for headers. */
  readonly text: string;
  readonly body: Buffer;
  reply(): void;
  fail(message: string, type: number): void;
  /** Sends bytes that are not a reply. */
  garble(): void;
  /** Closes the connection. */
  drop(): void;
}

export interface ScriptedMesh {
  /** Arguments for --mesh and --thrift. */
  readonly words: readonly string[];
  readonly calls: number;
  close(): Promise<void>;
}

export async function startScriptedMesh(idl: string, onCall: (call: ScriptedCall) => void): Promise<ScriptedMesh> {
  let calls = 0;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
    const reader = new FrameReader(1 << 24, (frame) => onCall(scripted(socket, frame, ++calls)));
    socket.on('data', (chunk: Buffer) => reader.push(chunk));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const rpc: RpcServer = await startRpcServer(({ path }) =>
    path.startsWith('/idl/') ? idl : { error: { code: -32601, message: 'not here' } },
  );
  return {
    words: ['--mesh', rpc.url, '--thrift', `127.0.0.1:${(server.address() as AddressInfo).port}`],
    get calls() {
      return calls;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      await rpc.close();
    },
  };
}

function scripted(socket: Socket, frame: Buffer, number: number): ScriptedCall {
  const start = frame.readUInt16BE(0) === 0x0fff ? 10 + frame.readUInt16BE(8) * 4 : 0;
  const head = readHead(frame, start, frame.length);
  if (head === undefined) throw new Error('a call that ends inside its head');
  const { name, seqId, bodyStart } = head;
  const method = name.slice(name.lastIndexOf(':') + 1);
  const answer = (type: 2 | 3, body: Uint8Array): void =>
    void socket.write(frameMessage(type, method, seqId, NOTHING, body));
  return {
    name,
    number,
    text: frame.toString('latin1'),
    body: frame.subarray(bodyStart),
    // An empty result struct: what a void method returns.
    reply: () => answer(MESSAGE_TYPE.reply, Buffer.from([0])),
    fail: (message, type) => answer(MESSAGE_TYPE.exception, writeApplicationException(message, type)),
    garble: () => void socket.write(frameMessage(MESSAGE_TYPE.call, method, seqId, NOTHING, Buffer.from([0]))),
    drop: () => void socket.destroy(),
  };
}
