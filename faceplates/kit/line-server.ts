// A TCP server for protocols of one line a question and one line an answer: it listens, counts and sweeps connections, drains. What a line
import { systemClock, KatamariError, type FaceplateLimits } from '../../core/mod.ts';
import type { MeshAccess } from '../../core/rpc/mod.ts';
import type { Faceplate } from './faceplate.ts';
import { LineConnection, type LineClient, type LineConnectionOptions } from './line-connection.ts';

// means is its user's business (`answer`); what may go wrong with a line is line-connection.ts. Limit that matters: `connectionsMax`;
// those beyond are told so in one line.

import { createServer, type AddressInfo } from 'node:net';

export interface ServeLinesOptions {
  /** Its timeout is how long a drain waits for the last answers. */
  readonly mesh: Pick<MeshAccess, 'timeoutMs'>;
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly limits: FaceplateLimits;
  /** Longest line in bytes, without its newline; `limits.frameBytesMax` unless told. */
  readonly lineBytesMax?: number;
  /** The answer to one line, without a newline; '' for none. Lines of one connection may be asked at once, their answers leave in order. */
  answer(line: string, client: LineClient): Promise<string>;
  /** The line that says why there is no answer; also when `answer` throws. */
  refusal(error: KatamariError): string;
}

export interface LineServer extends Faceplate {
  readonly port: number;
}

/** Starts listening; rejects with the system's error (`EADDRINUSE`) when it cannot. */
export async function serveLines(options: ServeLinesOptions): Promise<LineServer> {
  const { limits, host, port, mesh } = options;
  const connections = new Set<LineConnection>();
  let onGone: () => void = () => undefined;
  const shared: LineConnectionOptions = {
    limits: {
      pipelineMax: limits.pipelineMax,
      unreadBytesMax: UNREAD_BYTES_MAX,
      unreadBytesClose: Number.POSITIVE_INFINITY,
      idleMs: limits.idleMs,
      requestMs: limits.requestMs,
    },
    lineBytesMax: options.lineBytesMax ?? limits.frameBytesMax,
    answer: (line, client) => options.answer(line, client),
    refusal: (error) => options.refusal(error),
    clock: systemClock,
    onClose(connection) {
      connections.delete(connection);
      onGone();
    },
  };
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    // Those that are told why they are refused take places as well; when these are full too, nothing is said.
    if (connections.size >= limits.connectionsMax + REFUSALS_MAX) {
      socket.destroy();
      return;
    }
    const isTooMany = connections.size >= limits.connectionsMax;
    const connection = new LineConnection(socket, shared);
    connections.add(connection);
    if (isTooMany) connection.refuse(tooMany(limits.connectionsMax));
  });
  await new Promise<void>((resolve, reject) => {
    // Not every runtime says which port it was that is taken.
    const onError = (error: Error): void => reject(Object.assign(error, { address: host, port }));
    server.once('error', onError);
    server.listen({ host, port }, () => {
      server.off('error', onError);
      resolve();
    });
  });
  // A connection that cannot be accepted (no file descriptor left) is tried again by the kernel; it is no reason to end.
  server.on('error', () => undefined);
  const bound = server.address() as AddressInfo;

  const sweepMs = Math.min(SWEEP_MS_MAX, Math.max(10, Math.min(limits.idleMs, limits.requestMs) / 4));
  const sweeping = setInterval(() => {
    const nowMs = systemClock.nowMs();
    for (const connection of connections) connection.sweep(nowMs);
  }, sweepMs);
  sweeping.unref();

  let closed: Promise<void> | undefined;
  const stopListening = (): Promise<void> => (closed ??= new Promise((resolve) => server.close(() => resolve())));
  const close = async (): Promise<void> => {
    const stopped = stopListening();
    clearInterval(sweeping);
    for (const connection of connections) connection.close();
    onGone();
    await stopped;
  };
  /** Resolves when no connection is left, and after so long all the same. */
  const whenGone = (withinMs: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, withinMs);
      onGone = () => {
        if (connections.size > 0) return;
        clearTimeout(timer);
        resolve();
      };
      onGone();
    });
  const drain = async (): Promise<void> => {
    const stopped = stopListening();
    // What the kernel has received already counts as begun.
    await new Promise((resolve) => setImmediate(resolve));
    for (const connection of connections) connection.beginGracefulClose();
    await whenGone(LAST_CALL_MS);
    for (const connection of connections) connection.drain();
    await whenGone(mesh.timeoutMs() + FLUSH_MS);
    await close();
    await stopped;
  };

  const name = bound.family === 'IPv6' ? `[${bound.address}]` : bound.address;
  return { address: `${name}:${bound.port}`, port: bound.port, connections: () => connections.size, drain, close };
}

function tooMany(max: number): KatamariError {
  return new KatamariError('overloaded', `Too many connections: limit is ${max}; close some, or come back later`, {
    retryAfterMs: 1_000,
    notRun: true,
  });
}

/** Reply bytes that a client has not read: at so many its socket is not read either. */
const UNREAD_BYTES_MAX = 1_048_576;
/** Connections over the limit that are told so at one time. */
const REFUSALS_MAX = 1_000;
const SWEEP_MS_MAX = 1_000;
/** What an idle connection has for one more line when a drain begins. */
const LAST_CALL_MS = 250;
/** What a drain allows, beyond the last deadline, for answers to be read. */
const FLUSH_MS = 2_000;
