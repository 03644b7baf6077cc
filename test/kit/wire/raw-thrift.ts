// A Thrift client that sends arbitrary bytes and reads replies, framed or not.

import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { encodeStruct } from '../../../core/idl/mod.ts';
import {
  type Interface,
  type Method,
  bareMessage,
  frameMessage,
  NOTHING,
  readHead,
  type MessageType,
  StructScanner,
} from '../../../core/thrift/mod.ts';
import { until } from '../tools/wait.ts';

export interface Answer {
  readonly type: number;
  readonly name: string;
  readonly seqId: number;
  readonly body: Buffer;
}

export interface RawThrift {
  readonly socket: Socket;
  send(bytes: Uint8Array): void;
  /** Every reply so far. */
  readonly answers: readonly Answer[];
  /** Waits until there are `count` replies and returns all. */
  count(count: number): Promise<readonly Answer[]>;
  /** Received bytes that are not a reply. */
  rest(): Buffer;
  isClosed(): boolean;
  closed(): Promise<void>;
  destroy(): void;
}

/** Connects to the port on loopback. `framed` says how replies are read. */
export async function rawThrift(
  port: number,
  framed = true,
  tls?: { readonly ca: string; readonly cert?: string; readonly key?: string },
): Promise<RawThrift> {
  const socket =
    tls === undefined
      ? connect(port, '127.0.0.1')
      : connectTls({ port, host: '127.0.0.1', servername: 'localhost', ...tls });
  const answers: Answer[] = [];
  let bytes: Buffer = Buffer.alloc(0);
  let isClosed = false;
  socket.on('data', (chunk: Buffer) => {
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
    for (;;) {
      const found = framed ? framedAnswer(bytes) : unframedAnswer(bytes);
      if (found === undefined) break;
      answers.push(found.answer);
      bytes = bytes.subarray(found.end);
    }
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    isClosed = true;
  });
  await new Promise<void>((resolve, reject) => {
    socket.once(tls === undefined ? 'connect' : 'secureConnect', resolve);
    socket.once('close', () => reject(new Error(`Cannot connect to port ${port}`)));
  });
  return {
    socket,
    send: (what) => void socket.write(what),
    answers,
    async count(count) {
      await until(`${count} answers (${isClosed ? 'closed' : 'open'})`, () => answers.length >= count || isClosed);
      if (answers.length < count) throw new Error(`Closed after ${answers.length} answers, expected ${count}`);
      return answers;
    },
    rest: () => bytes,
    isClosed: () => isClosed,
    closed: async () => void (await until('the connection to close', () => isClosed)),
    destroy: () => void socket.destroy(),
  };
}

/** The bytes of a call with plain values as arguments. */
export function callBytes(
  from: Interface,
  method: string,
  args: Record<string, unknown>,
  options: { name?: string; seqId?: number; framed?: boolean; type?: MessageType; first?: Uint8Array } = {},
): Buffer {
  const { name = method, seqId = 1, framed = true, type = 1, first = NOTHING } = options;
  const body = Buffer.concat([first, encodeStruct((from.methods.get(method) as Method).args, args)]);
  return framed ? frameMessage(type, name, seqId, body, NOTHING) : bareMessage(type, name, seqId, body);
}

function framedAnswer(bytes: Buffer): { answer: Answer; end: number } | undefined {
  if (bytes.length < 4) return undefined;
  const end = 4 + bytes.readInt32BE(0);
  if (bytes.length < end) return undefined;
  const { type, name, seqId, bodyStart } = readHead(bytes, 4, end) as NonNullable<ReturnType<typeof readHead>>;
  return { answer: { type, name, seqId, body: bytes.subarray(bodyStart, end) }, end };
}

function unframedAnswer(bytes: Buffer): { answer: Answer; end: number } | undefined {
  const head = readHead(bytes, 0, bytes.length);
  if (head === undefined) return undefined;
  const end = new StructScanner(64, 1 << 28).scan(bytes, head.bodyStart, bytes.length);
  if (end === -1) return undefined;
  const { type, name, seqId, bodyStart } = head;
  return { answer: { type, name, seqId, body: bytes.subarray(bodyStart, end) }, end };
}
