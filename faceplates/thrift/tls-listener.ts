// TLS on the same port as plain Thrift. A connection whose first bytes are a TLS handshake comes here; after the
// handshake, the decrypted stream is a new connection. A connection whose handshake fails is closed. Limit: the time
// for a handshake. Handshakes in progress count as connections.

import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';

/** Certificate, key and CA as PEM texts. */
export interface ThriftTls {
  readonly cert: string;
  readonly key: string;
  /** Clients must present a certificate that one of these CAs signed; '' requires none. */
  readonly ca: string;
  /** Refuses clients that do not speak TLS. */
  readonly isRequired: boolean;
}

export interface TlsListenerOptions {
  readonly tls: ThriftTls;
  readonly handshakeMs: number;
  readonly onSecure: (socket: TLSSocket) => void;
}

export class TlsListener {
  readonly isRequired: boolean;
  /** This server never listens. Connections are handed to it as `connection` events. */
  readonly #server: Server;
  /** Raw sockets by the address of the client, which the TLS socket has too. */
  readonly #handshakes = new Map<string, Socket>();

  /** @throws Error when certificate and key do not match */
  constructor({ tls: { cert, key, ca, isRequired }, handshakeMs, onSecure }: TlsListenerOptions) {
    this.isRequired = isRequired;
    const trust = ca === '' ? {} : { ca, requestCert: true, rejectUnauthorized: true };
    this.#server = createServer({ cert, key, minVersion: 'TLSv1.2', handshakeTimeout: handshakeMs, ...trust });
    this.#server.on('secureConnection', (socket) => {
      this.#handshakes.delete(nameOf(socket));
      // The runtime refuses such a client earlier. This check covers a runtime that ignores an option.
      if (ca === '' || socket.authorized) onSecure(socket);
      else socket.destroy();
    });
    this.#server.on('tlsClientError', (_error, socket) => socket.destroy());
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
