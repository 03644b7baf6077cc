// Clients for load tests: one connection each, one call at a time, with the outcome as data. Thrift over a raw
// socket, framed or not, and JSON-RPC over a persistent HTTP connection. They use no client code of the mesh, and
// never wait longer than `patienceMs`.
import { decodeResult, encodeParams } from '../../../core/idl/mod.ts';
import {
  type Interface,
  type Method,
  readApplicationException,
  bareMessage,
  frameMessage,
  MESSAGE_TYPE,
  NOTHING,
  readHead,
  StructScanner,
} from '../../../core/thrift/mod.ts';
import { Agent, request } from 'node:http';
import { connect, type Socket } from 'node:net';
/**
 * `code` is a code of the mesh (resource_failed, timeout, ...), `lost` when the connection ended, or `silent` when no
 * reply arrived in time.
 */
export type CallEnd =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly code: string; readonly message: string };

export interface Caller {
  readonly protocol: string;
  /** Settles within `patienceMs` and never rejects. */
  call(
    service: string,
    method: string,
    params: Readonly<Record<string, unknown>>,
    patienceMs: number,
  ): Promise<CallEnd>;
  close(): void;
}

/** Strict binary over TCP, with multiplexed names. */
export function thriftCaller(port: number, framed: boolean, interfaces: ReadonlyMap<string, Interface>): Caller {
  let socket: Socket | undefined;
  let settle: ((end: CallEnd) => void) | undefined;
  let inbox: Buffer = Buffer.alloc(0);
  let seqId = 0;
  let method: Method | undefined;

  const finish = (end: CallEnd): void => {
    const tell = settle;
    settle = undefined;
    tell?.(end);
  };
  const open = (): Socket => {
    const opened = connect(port, '127.0.0.1').setNoDelay(true);
    opened.on('data', (chunk: Buffer) => {
      inbox = inbox.length === 0 ? chunk : Buffer.concat([inbox, chunk]);
      const answer = framed ? framedAnswer(inbox) : unframedAnswer(inbox);
      if (answer === undefined) return;
      inbox = Buffer.alloc(0);
      finish(method === undefined ? lost('an answer to no call') : readAnswer(answer, method, seqId));
    });
    opened.on('error', (error) => finish(lost(error.message)));
    opened.on('close', () => {
      if (socket === opened) socket = undefined;
      inbox = Buffer.alloc(0);
      finish(lost('the connection was closed'));
    });
    return opened;
  };

  return {
    protocol: framed ? 'Thrift framed' : 'Thrift unframed',
    call: (service, name, params, patienceMs) =>
      new Promise((resolve) => {
        method = interfaces.get(service)?.methods.get(name);
        if (method === undefined) throw new Error(`No ${service}.${name} in the interfaces of this caller`);
        const timer = setTimeout(() => {
          socket?.destroy();
          finish({ ok: false, code: 'silent', message: `no answer within ${patienceMs} ms` });
        }, patienceMs);
        settle = (end) => {
          clearTimeout(timer);
          resolve(end);
        };
        socket ??= open();
        const args = encodeParams(method, params);
        seqId = (seqId + 1) | 0;
        const [type, target] = [MESSAGE_TYPE.call, `${service}:${name}`];
        socket.write(
          framed ? frameMessage(type, target, seqId, args, NOTHING) : bareMessage(type, target, seqId, args),
        );
      }),
    close: () => socket?.destroy(),
  };
}

/** JSON-RPC over one connection. */
export function jsonRpcCaller(url: string): Caller {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  let id = 0;
  return {
    protocol: 'JSON-RPC',
    call: (service, method, params, patienceMs) =>
      new Promise((resolve) => {
        const body = JSON.stringify({ jsonrpc: '2.0', id: ++id, method: `${service}.${method}`, params });
        const sent = request(`${url}/rpc`, {
          agent,
          method: 'POST',
          headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
        });
        const timer = setTimeout(() => {
          resolve({ ok: false, code: 'silent', message: `no answer within ${patienceMs} ms` });
          sent.destroy();
        }, patienceMs);
        const end = (what: CallEnd): void => {
          clearTimeout(timer);
          resolve(what);
        };
        sent.on('error', (error) => end(lost(error.message)));
        sent.on('response', (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (part: string) => (text += part));
          response.on('error', (error) => end(lost(error.message)));
          response.on('end', () => end(readJson(text)));
        });
        sent.end(body);
      }),
    close: () => agent.destroy(),
  };
}

export function readJson(text: string): CallEnd {
  try {
    const { result, error } = JSON.parse(text) as {
      result?: unknown;
      error?: { message: string; data?: { code?: string; exception?: string } };
    };
    if (error === undefined) return { ok: true, value: result };
    if (error.data?.exception !== undefined) return { ok: true, value: error.data };
    return { ok: false, code: error.data?.code ?? 'no code', message: error.message };
  } catch {
    return lost(`what is no JSON: ${text.slice(0, 100)}`);
  }
}

export interface Answer {
  readonly type: number;
  readonly seqId: number;
  readonly body: Buffer;
}

export function readAnswer({ type, seqId, body }: Answer, method: Method, expectedSeqId: number): CallEnd {
  if (seqId !== expectedSeqId) return lost(`an answer to call ${seqId}, expected ${expectedSeqId}`);
  if (type === MESSAGE_TYPE.exception) {
    const { message } = readApplicationException(body);
    return { ok: false, code: codeIn(message), message };
  }
  const result = decodeResult(method, body);
  return { ok: true, value: result.ok ? result.value : result.fields };
}

/** Thrift has no field for the codes of the mesh: the message identifies them. */
function codeIn(message: string): string {
  if (message.includes(' failed while it worked on ')) return 'resource_failed';
  if (message.includes(' did not answer ') || message.startsWith('Waited ')) return 'timeout';
  if (message.startsWith('Cannot queue ')) return 'overloaded';
  if (message.startsWith('Refused ')) return 'refused_as_poison';
  if (message.startsWith('No pool offers ') || message.includes(' has no pool ')) return 'no_pool';
  if (message.includes(' is stopping')) return 'draining';
  return 'another';
}

export function framedAnswer(bytes: Buffer): Answer | undefined {
  if (bytes.length < 4 || bytes.length < 4 + bytes.readInt32BE(0)) return undefined;
  return headAndBody(bytes, 4, bytes.length);
}

export function unframedAnswer(bytes: Buffer): Answer | undefined {
  const head = readHead(bytes, 0, bytes.length);
  if (head === undefined) return undefined;
  const end = new StructScanner(64, 1 << 28).scan(bytes, head.bodyStart, bytes.length);
  return end === -1 ? undefined : headAndBody(bytes, 0, end);
}

function headAndBody(bytes: Buffer, start: number, end: number): Answer | undefined {
  const head = readHead(bytes, start, end);
  return head === undefined
    ? undefined
    : { type: head.type, seqId: head.seqId, body: bytes.subarray(head.bodyStart, end) };
}

export function lost(why: string): CallEnd {
  return { ok: false, code: 'lost', message: why };
}
