// The server side of links: listens, authenticates peers, drains. server-connection.ts handles one connection. The
// chassis SDK uses it for its manager, and the manager for faceplates. Calls from a chassis to the mesh also arrive
// on it.
//
// With security, a peer must authenticate first: over TLS by its certificate, with the secret, or both. At most
// UNAUTHENTICATED_MAX connections are unauthenticated: a further one replaces the oldest. Each may send a few bytes
// for AUTHENTICATION_MS, and none of its calls is read.
import { ByteLedger, systemClock, UNLIMITED_SUMS, type Clock } from '../mod.ts';
import { formatLinkAddress, parseLinkAddress } from './address.ts';
import { checkCertificates, KEEP_ALIVE_MS } from './security.ts';
import { LinkServerConnection } from './server-connection.ts';
import type { LinkServerOptions } from './server-options.ts';

import { chmodSync } from 'node:fs';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, Server as TlsServer } from 'node:tls';

export interface LinkServer {
  /** `unix:PATH` or `tcp:HOST:PORT`, with the real port. */
  readonly address: string;
  /** Number of authenticated peers. */
  connections(): number;
  /** Number of connections that have not authenticated yet. */
  unauthenticated(): number;
  /** Calls in flight. */
  inFlight(): number;
  /**
   * Stops listening, tells the peers to call elsewhere, replies to the calls in flight, and closes each connection
   * after its last reply. Calls that arrive later are refused with `draining` and facts.notRun.
   */
  drain(): Promise<void>;
  close(): Promise<void>;
  /** Uses the present certificates of `security.tls` for new connections. @throws KatamariError bad_request */
  renewCertificates(): void;
}

/**
 * Listens on `unix:PATH` or `tcp:HOST:PORT` (port 0: any free one).
 * @throws KatamariError bad_request when the address or the certificates are invalid
 */
export async function startLinkServer(listen: string, options: LinkServerOptions): Promise<LinkServer> {
  const connections = new Set<LinkServerConnection>();
  const unauthenticated = new UnauthenticatedPeers(options.clock ?? systemClock);
  const ledger = options.ledger ?? new ByteLedger(UNLIMITED_SUMS);
  const isFull = (): boolean => connections.size + unauthenticated.size >= options.limits.connectionsMax;
  const admit = (socket: Socket): void => {
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    const asksSecret = options.security !== undefined && options.security.secrets.length > 0;
    const account = ledger.open(socket.remoteAddress ?? listen);
    const connection: LinkServerConnection = new LinkServerConnection(socket, account, options, {
      onProved: () => {
        unauthenticated.leave(socket);
        connections.add(connection);
      },
      onClose: () => connections.delete(connection),
    });
    if (asksSecret) unauthenticated.enter(socket);
    else connections.add(connection);
  };
  const isLocal = 'path' in parseLinkAddress(listen);
  const server = serverOf(options, unauthenticated, { isLocal, isFull, admit });
  const address = await listenOn(server, listen);
  let ended: Promise<void> | undefined;
  const stopListening = (): Promise<void> => {
    ended ??= new Promise<void>((resolve) => server.close(() => resolve()));
    unauthenticated.close();
    return ended;
  };
  return {
    address,
    connections: () => connections.size,
    unauthenticated: () => unauthenticated.size,
    inFlight: () => [...connections].reduce((sum, connection) => sum + connection.callsInFlight, 0),
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
    renewCertificates: () => {
      const tls = options.security?.tls;
      if (!(server instanceof TlsServer) || tls === undefined) return;
      checkCertificates(tls);
      server.setSecureContext({ ...tls, minVersion: 'TLSv1.3' });
    },
  };
}

/** Returns a server that admits plain sockets at once, and TLS sockets after the peer's certificate was verified. */
function serverOf(
  { security, onRefused }: LinkServerOptions,
  unauthenticated: UnauthenticatedPeers,
  admission: { readonly isLocal: boolean; readonly isFull: () => boolean; readonly admit: (socket: Socket) => void },
): Server {
  const { isLocal, isFull, admit } = admission;
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
    handshakeTimeout: AUTHENTICATION_MS,
  });
  server.on('connection', (raw: Socket) => {
    if (isFull()) raw.destroy();
    // On a Unix socket there are no ports by which `leave` could find the raw socket of a TLS socket.
    // `handshakeTimeout` limits its handshake too.
    else if (!isLocal) unauthenticated.enter(raw);
  });
  server.on('secureConnection', (socket) => {
    unauthenticated.leave(socket);
    // The runtime has already refused an invalid certificate. Check again in case a runtime ignores the options.
    if (socket.authorized) admit(socket);
    else socket.destroy();
  });
  server.on('tlsClientError', (error: NodeJS.ErrnoException & { readonly reason?: string }, socket) => {
    // For a certificate of another CA, the error of the socket is that the runtime has reset it.
    const why = (socket.authorizationError as Error | string | null | undefined) ?? undefined;
    const reason = why === undefined ? (error.reason ?? error.code ?? 'unknown') : String(why);
    // A peer that disconnects has shown nothing wrong.
    if (reason !== 'ECONNRESET') onRefused?.(socket.remoteAddress ?? '', `Its TLS handshake failed: ${reason}`);
    socket.destroy();
  });
  return server;
}

/**
 * Connections that have not authenticated yet. Each has AUTHENTICATION_MS; if there are too many, the oldest is
 * closed.
 */
class UnauthenticatedPeers {
  readonly #clock: Clock;
  /** Each socket with the function that cancels its timer, oldest first. */
  readonly #sockets = new Map<Socket, () => void>();
  #isClosed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#sockets.size;
  }

  enter(socket: Socket): void {
    if (this.#isClosed) {
      socket.destroy();
      return;
    }
    if (this.#sockets.size >= UNAUTHENTICATED_MAX) {
      const [oldest] = this.#sockets.keys();
      this.#evict(oldest as Socket);
    }
    this.#sockets.set(
      socket,
      this.#clock.after(AUTHENTICATION_MS, () => this.#evict(socket)),
    );
    socket.on('error', () => socket.destroy());
    socket.once('close', () => this.leave(socket));
  }

  /**
   * Called when the peer has authenticated or disconnected. For a TLS socket, removes the raw socket below it, which
   * has the same remote address and port.
   */
  leave(socket: Socket): void {
    const same = this.#sockets.has(socket) ? socket : this.#below(socket);
    if (same === undefined) return;
    this.#sockets.get(same)?.();
    this.#sockets.delete(same);
  }

  close(): void {
    this.#isClosed = true;
    for (const socket of this.#sockets.keys()) this.#evict(socket);
  }

  #evict(socket: Socket): void {
    this.leave(socket);
    socket.destroy();
  }

  #below({ remoteAddress, remotePort }: Socket): Socket | undefined {
    if (remotePort === undefined) return undefined;
    for (const raw of this.#sockets.keys())
      if (raw.remotePort === remotePort && raw.remoteAddress === remoteAddress) return raw;
    return undefined;
  }
}

/**
 * Time in which a connection must authenticate, in ms. Over TLS with a secret, each of the two steps has this time.
 */
export const AUTHENTICATION_MS = 5_000;
/** Mode of a Unix socket. */
const OWNER_ALONE = 0o600;
/** Maximum number of connections that have not authenticated. */
export const UNAUTHENTICATED_MAX = 256;

async function listenOn(server: Server, listen: string): Promise<string> {
  const where = parseLinkAddress(listen);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.off('error', reject);
      resolve();
    });
  });
  if ('path' in where) {
    chmodSync(where.path, OWNER_ALONE);
    return formatLinkAddress(where);
  }
  return formatLinkAddress({ host: where.host, port: (server.address() as AddressInfo).port });
}
