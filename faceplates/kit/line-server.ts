// A TCP server for protocols with one line per request and one line per reply. `answer` says what a line means.
// OrderedServer accepts, limits, sweeps and drains the connections; line-connection.ts handles one connection.
import { OrderedServer } from '../../core/link/mod.ts';
import { ByteLedger, formatAddress, systemClock, KatamariError, type FaceplateLimits } from '../../core/mod.ts';
import type { MeshAccess } from '../../core/rpc/mod.ts';
import type { Faceplate } from './faceplate.ts';
import { LineConnection, type LineClient, type LineConnectionOptions } from './line-connection.ts';

export interface ServeLinesOptions {
  /** A drain waits for the last replies as long as its timeout. */
  readonly mesh: Pick<MeshAccess, 'timeoutMs'>;
  readonly host: string;
  /** 0 means any free port. */
  readonly port: number;
  readonly limits: FaceplateLimits;
  /** The ledger of the process, from the context; without it, the sums in `limits` bound this port alone. */
  readonly ledger?: ByteLedger;
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
    ledger: options.ledger ?? new ByteLedger(limits),
    onClose: (connection) => server.onClose(connection),
  };
  const server: OrderedServer<LineConnection> = new OrderedServer({
    limits,
    open: (socket) => new LineConnection(socket, shared),
    tooMany: tooManyConnections,
    timeoutMs: () => mesh.timeoutMs(),
  });
  const bound = await server.listen({ host, port });
  return {
    address: formatAddress(bound),
    port: bound.port,
    connections: () => server.size,
    drain: () => server.drain(),
    close: () => server.close(),
  };
}

function tooManyConnections(max: number): KatamariError {
  return new KatamariError('overloaded', `Too many connections: limit is ${max}; close some, or come back later`, {
    retryAfterMs: 1_000,
    notRun: true,
  });
}

/** Reply bytes that a client has not read: at so many its socket is not read either. */
const UNREAD_BYTES_MAX = 1_048_576;
