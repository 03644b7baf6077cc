// The answering side of links: listens, lets peers in, drains. What a peer may do once it is in is in server-connection.ts.
// Used by the chassis SDK (for its manager), by the manager (for faceplates) and for calls from chassis back into the mesh.
import { systemClock, type Clock } from '../mod.ts';
import { parseAddress } from './address.ts';
import { checkCertificates, KEEP_ALIVE_MS } from './security.ts';
import { LinkServerConnection } from './server-connection.ts';
import type { LinkServerOptions } from './server-options.ts';

// With security, nobody is in before having proved itself: over TLS by its certificate, with the secret, or both. Strangers are few (the
// oldest makes room), get a few seconds and a few bytes, and none of their calls is read.

import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';

export interface LinkServer {
  /** `unix:PATH` or `tcp:HOST:PORT`, as it really listens. */
  readonly address: string;
  /** Peers that are in. */
  connections(): number;
  /** Connections that have not proved themselves yet. */
  strangers(): number;
  /** Calls that were read and have not ended. */
  underWay(): number;
  /**
   * Stops listening, tells its peers to call elsewhere, finishes what is under way, closes each connection once it is idle. A call that
   * comes all the same is refused with `draining`, facts.notRun.
   */
  drain(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Listens on `unix:PATH` or `tcp:HOST:PORT` (port 0: any free one).
 * @throws KatamariError bad_request when the address or the certificates are none
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
  const isLocal = 'path' in parseAddress(listen);
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

/** A server that hands on sockets: those of plain connections at once, those of TLS when the certificate of the peer was found good. */
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
    // Without ports the secured socket would not be known for the same again; the time of its handshake is limited all the same.
    else if (!isLocal) strangers.enter(raw);
  });
  server.on('secureConnection', (socket) => {
    strangers.leave(socket);
    // Refused before it comes here; never let in by an option that a runtime does not know.
    if (socket.authorized) admit(socket);
    else socket.destroy();
  });
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  return server;
}

/** Connections that have proved nothing yet. Each has a few seconds; of too many the oldest is closed. */
class UnauthenticatedPeers {
  readonly #clock: Clock;
  /** With what takes back the timer of each, oldest first. */
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

  /** It has proved itself, or has gone. A secured socket stands for the plain one below it, which has the same two ends. */
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

/** Time in which a connection must have proved itself, in ms; over TLS with a secret, once for each. */
export const STRANGER_MS = 5_000;
/** Connections that have proved nothing. */
export const STRANGERS_MAX = 256;

async function listenOn(server: Server, listen: string): Promise<string> {
  const where = parseAddress(listen);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.off('error', reject);
      resolve();
    });
  });
  if ('path' in where) return `unix:${where.path}`;
  return `tcp:${where.host.includes(':') ? `[${where.host}]` : where.host}:${(server.address() as AddressInfo).port}`;
}
