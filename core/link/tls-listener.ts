// TLS of the ports for clients: its options, and a listener on a port that serves plain connections too. A connection
// whose first bytes are a TLS handshake comes to the listener; after the handshake, the decrypted stream is a new
// connection. A connection whose handshake fails is closed. Limit: the time for a handshake. Handshakes in progress
// count as connections.

import { keepsHalfOpen, runtimeName } from '../mod.ts';
import type { Socket } from 'node:net';
import { createServer, type Server, type TlsOptions, type TLSSocket } from 'node:tls';

/** Certificate, key and CA as PEM texts. They may be renewed while the port is open. */
export interface ServerTls {
  readonly cert: string;
  readonly key: string;
  /** The CAs that sign certificates of clients; '' asks for none. */
  readonly ca: string;
  /** Whether a client may come without a certificate. One that shows a certificate of another CA is refused. */
  readonly isCertificateOptional?: boolean;
  /** Calls `act` after each change of the texts. Connections that are open keep the old ones. */
  readonly onRenewed?: (act: () => void) => void;
}

/** Lets a server use what `tls` has now, and whatever it has later. @throws Error when this runtime cannot change it */
export function renewWith(
  tls: ServerTls,
  server: Partial<Pick<Server, 'setSecureContext'>>,
  handshakeMs: number,
): void {
  tls.onRenewed?.(() => {
    if (server.setSecureContext === undefined) {
      throw new Error(`${runtimeName()} cannot change the certificate of an open HTTP port; restart this process`);
    }
    server.setSecureContext(tlsOptionsOf(tls, handshakeMs));
  });
}

/** Returns the options of a server. `isAccepted` must then check each connection. */
export function tlsOptionsOf(
  { cert, key, ca, isCertificateOptional = false }: ServerTls,
  handshakeMs: number,
): TlsOptions {
  // A certificate is optional only if the handshake accepts every one.
  const trust = ca === '' ? {} : { ca, requestCert: true, rejectUnauthorized: !isCertificateOptional };
  return { cert, key, minVersion: 'TLSv1.2', handshakeTimeout: handshakeMs, ...trust };
}

/** Whether a connection may be used: its client showed a valid certificate, or none and none is required. */
export function isAccepted({ ca, isCertificateOptional = false }: ServerTls, socket: TLSSocket): boolean {
  // Without `isCertificateOptional`, the runtime refuses earlier. The check covers one that ignores an option.
  if (ca === '' || socket.authorized) return true;
  const shown = socket.getPeerCertificate() as { readonly subject?: unknown } | undefined;
  return isCertificateOptional && shown?.subject === undefined;
}

export interface TlsListenerOptions {
  readonly tls: ServerTls;
  readonly handshakeMs: number;
  readonly onSecure: (socket: TLSSocket) => void;
}

export class TlsListener {
  /** This server never listens. Connections are handed to it as `connection` events. */
  readonly #server: Server;
  /** Raw sockets by the address of the client, which the TLS socket has too. */
  readonly #handshakes = new Map<string, Socket>();

  /** @throws Error when certificate and key do not match */
  constructor({ tls, handshakeMs, onSecure }: TlsListenerOptions) {
    this.#server = createServer({ ...tlsOptionsOf(tls, handshakeMs), allowHalfOpen: keepsHalfOpen() });
    this.#server.on('secureConnection', (socket) => {
      this.#handshakes.delete(nameOf(socket));
      if (isAccepted(tls, socket)) onSecure(socket);
      else socket.destroy();
    });
    this.#server.on('tlsClientError', (_error, socket) => socket.destroy());
    renewWith(tls, this.#server, handshakeMs);
  }

  get size(): number {
    return this.#handshakes.size;
  }

  /** Starts the handshake. @param begun the bytes that were already read from the socket */
  enter(socket: Socket, begun: Buffer): void {
    const name = nameOf(socket);
    this.#handshakes.set(name, socket);
    socket.once('close', () => {
      if (this.#handshakes.get(name) === socket) this.#handshakes.delete(name);
    });
    socket.on('error', () => socket.destroy());
    socket.pause();
    socket.unshift(begun);
    this.#server.emit('connection', socket);
  }

  close(): void {
    for (const socket of this.#handshakes.values()) socket.destroy();
  }
}

function nameOf({ remoteAddress = '', remotePort = 0 }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
