// The server side of links: listens, authenticates peers, drains. server-connection.ts handles one connection. The
// chassis SDK uses it (for its manager), the manager (for faceplates), and calls from a chassis back into the mesh
// come in on it.
//
// With security, a peer must authenticate first: over TLS by its certificate, with the secret, or both.
// Unauthenticated connections are few (a new one replaces the oldest) and get a few seconds and a few bytes; none of
// their calls is read.
import { systemClock, type Clock } from '../mod.ts';
import { formatLinkAddress, parseLinkAddress } from './address.ts';
import { checkCertificates, KEEP_ALIVE_MS } from './security.ts';
import { LinkServerConnection } from './server-connection.ts';
import type { LinkServerOptions } from './server-options.ts';

import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';

export interface LinkServer {
  /** `unix:PATH` or `tcp:HOST:PORT`, with the real port. */
  readonly address: string;
  /** Number of authenticated peers. */
  connections(): number;
  /** Number of connections that have not authenticated yet. */
  strangers(): number;
  /** Calls in flight. */
  underWay(): number;
  /**
   * Stops listening, tells its peers to call elsewhere, replies to the calls in flight, and closes each connection
   * after its last reply. Calls that arrive later are refused with `draining`, facts.notRun.
   */
  drain(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Listens on `unix:PATH` or `tcp:HOST:PORT` (port 0: any free one).
 * @throws KatamariError bad_request when the address or the certificates are invalid
 */
export async function startLinkServer(listen: string, options: LinkServerOptions): Promise<LinkServer> {
  const connections = new Set<LinkServerConnection>();
  const strangers = new UnauthenticatedPeers(options.clock ?? systemClock);
  const isFull = (): boolean => connections.size + strangers.size >= options.limits.connectionsMax;
  const admit = (socket: Socket): void => {
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    const asksSecret = options.security !== undefined && options.security.secret !== '';
    const connection: LinkServerConnection = new LinkServerConnection(socket, options, {
      onProved: () => {
        strangers.leave(socket);
        connections.add(connection);
      },
      onClose: () => connections.delete(connection),
    });
    if (asksSecret) strangers.enter(socket);
    else connections.add(connection);
  };
  const isLocal = 'path' in parseLinkAddress(listen);
  const server = serverOf(options, strangers, { isLocal, isFull, admit });
  const address = await listenOn(server, listen);
  let ended: Promise<void> | undefined;
  const stopListening = (): Promise<void> => {
    ended ??= new Promise<void>((resolve) => server.close(() => resolve()));
    strangers.close();
    return ended;
  };
  return {
    address,
    connections: () => connections.size,
    strangers: () => strangers.size,
    underWay: () => [...connections].reduce((sum, connection) => sum + connection.underWay, 0),
    drain: async () => {
      const closed = stopListening();
      const draining = [...connections];
      for (const connection of draining) connection.drain();
      await Promise.all(draining.map((connection) => connection.closed));
      await closed;
    },
    close: async () => {
      const closed = stopListening();
      const closing = [...connections];
      for (const connection of closing) connection.close();
      await Promise.all(closing.map((connection) => connection.closed));
      await closed;
    },
  };
}

/**
 * Returns a server that admits sockets: of plain connections at once, of TLS after the peer's certificate was
 * verified.
 */
function serverOf(
  { security }: LinkServerOptions,
  strangers: UnauthenticatedPeers,
  door: { readonly isLocal: boolean; readonly isFull: () => boolean; readonly admit: (socket: Socket) => void },
): Server {
  const { isLocal, isFull, admit } = door;
  const onPlain = (socket: Socket): void => {
    if (isFull()) socket.destroy();
    else admit(socket);
  };
  if (security?.tls === undefined) return createServer(onPlain);
  checkCertificates(security.tls);
  const server = createTlsServer({
    ...security.tls,
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.3',
    handshakeTimeout: STRANGER_MS,
  });
  server.on('connection', (raw: Socket) => {
    if (isFull()) raw.destroy();
    // A Unix socket has no ports by which to find the raw socket of a TLS socket. Its handshake has a time limit all
    // the same.
    else if (!isLocal) strangers.enter(raw);
  });
  server.on('secureConnection', (socket) => {
    strangers.leave(socket);
    // The runtime refuses it earlier. Checked again in case a runtime ignores an option.
    if (socket.authorized) admit(socket);
    else socket.destroy();
  });
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  return server;
}

/** Connections that have not authenticated yet. Each has STRANGER_MS; when there are too many, the oldest is closed. */
class UnauthenticatedPeers {
  readonly #clock: Clock;
  /** Each socket with the function that cancels its timer, oldest first. */
  readonly #inside = new Map<Socket, () => void>();
  #isClosed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#inside.size;
  }

  enter(socket: Socket): void {
    if (this.#isClosed) {
      socket.destroy();
      return;
    }
    if (this.#inside.size >= STRANGERS_MAX) {
      const [oldest] = this.#inside.keys();
      this.#turnAway(oldest as Socket);
    }
    this.#inside.set(
      socket,
      this.#clock.after(STRANGER_MS, () => this.#turnAway(socket)),
    );
    socket.on('error', () => socket.destroy());
    socket.once('close', () => this.leave(socket));
  }

  /**
   * The peer has authenticated, or has gone. A TLS socket stands for the raw one below it, which has the same two
   * addresses.
   */
  leave(socket: Socket): void {
    const same = this.#inside.has(socket) ? socket : this.#below(socket);
    if (same === undefined) return;
    this.#inside.get(same)?.();
    this.#inside.delete(same);
  }

  close(): void {
    this.#isClosed = true;
    for (const socket of this.#inside.keys()) this.#turnAway(socket);
  }

  #turnAway(socket: Socket): void {
    this.leave(socket);
    socket.destroy();
  }

  #below({ remoteAddress, remotePort }: Socket): Socket | undefined {
    if (remotePort === undefined) return undefined;
    for (const raw of this.#inside.keys())
      if (raw.remotePort === remotePort && raw.remoteAddress === remoteAddress) return raw;
    return undefined;
  }
}

/** Time in which a connection must authenticate, in ms; over TLS with a secret, this long for each of the two. */
export const STRANGER_MS = 5_000;
/** Most connections that have not authenticated. */
export const STRANGERS_MAX = 256;

async function listenOn(server: Server, listen: string): Promise<string> {
  const where = parseLinkAddress(listen);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.off('error', reject);
      resolve();
    });
  });
  if ('path' in where) return formatLinkAddress(where);
  return formatLinkAddress({ host: where.host, port: (server.address() as AddressInfo).port });
}
