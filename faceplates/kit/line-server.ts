// A TCP server for protocols with one line per request and one line per reply: it listens, limits and sweeps
// connections, and drains. `answer` says what a line means; line-connection.ts handles one connection. Above
// `connectionsMax`, a connection is refused in one line.
import { formatAddress, systemClock, KatamariError, type FaceplateLimits } from '../../core/mod.ts';
import type { MeshAccess } from '../../core/rpc/mod.ts';
import type { Faceplate } from './faceplate.ts';
import { LineConnection, type LineClient, type LineConnectionOptions } from './line-connection.ts';

import { createServer, type AddressInfo } from 'node:net';

export interface ServeLinesOptions {
  /** A drain waits for the last replies as long as its timeout. */
  readonly mesh: Pick<MeshAccess, 'timeoutMs'>;
  readonly host: string;
  /** 0 means any free port. */
  readonly port: number;
  readonly limits: FaceplateLimits;
  /** Longest line in bytes, without its newline; default `limits.frameBytesMax`. */
  readonly lineBytesMax?: number;
  /**
   * Returns the reply to one line, without a newline; '' for none. Several lines of a connection may be in flight;
   * their replies leave in order.
   */
  answer(line: string, client: LineClient): Promise<string>;
  /** Returns the line that says why a request failed, also when `answer` throws. */
  refusal(error: KatamariError): string;
}

export interface LineServer extends Faceplate {
  readonly port: number;
}

/**
 * Starts a line server. Rejects with the error of the system (`EADDRINUSE`) when it cannot listen.
 * @example
 * return serveLines({
 *   ...context,
 *   answer: async (line, { address, signal }) => replyTo(line, address, signal),
 *   refusal: ({ code, message }) => JSON.stringify({ error: { code, message } }),
 * });
 */
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
    // Connections that are told why they are refused take places too. When these are full as well, a connection is
    // closed without a word.
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
    // Not every runtime names the port that is taken.
    const onError = (error: Error): void => reject(Object.assign(error, { address: host, port }));
    server.once('error', onError);
    server.listen({ host, port }, () => {
      server.off('error', onError);
      resolve();
    });
  });
  // The kernel offers a connection again that could not be accepted (no file descriptor left); the server goes on.
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
  /** Resolves when no connection is left, at the latest after `withinMs`. */
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

  const address = formatAddress({ host: bound.address, port: bound.port });
  return { address, port: bound.port, connections: () => connections.size, drain, close };
}

function tooMany(max: number): KatamariError {
  return new KatamariError('overloaded', `Too many connections: limit is ${max}; close some, or come back later`, {
    retryAfterMs: 1_000,
    notRun: true,
  });
}

/** Reply bytes that a client has not read: at so many its socket is not read either. */
const UNREAD_BYTES_MAX = 1_048_576;
/** Connections over the limit that may be told so at one time. */
const REFUSALS_MAX = 1_000;
const SWEEP_MS_MAX = 1_000;
/** How long an idle connection may send one more line when a drain begins, in ms. */
const LAST_CALL_MS = 250;
/** How long a drain waits, beyond the last deadline, for replies to be read, in ms. */
const FLUSH_MS = 2_000;
