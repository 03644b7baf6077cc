// TLS on the same port as everything else: a connection whose first bytes are a TLS handshake is taken through it and
// then begins anew, as what it says inside. Limits: the time for a handshake; handshakes under way count as
// connections. Who fails one is let go.

import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';

/** PEM texts. */
export interface ThriftTls {
  readonly cert: string;
  readonly key: string;
  /** Clients must show a certificate signed by one of these; '' asks for none. */
  readonly ca: string;
  /** Whoever does not speak TLS is refused. */
  readonly isRequired: boolean;
}

export interface TlsListenerOptions {
  readonly tls: ThriftTls;
  readonly handshakeMs: number;
  readonly onSecure: (socket: TLSSocket) => void;
}

export class TlsListener {
  readonly isRequired: boolean;
  /** Its listening is never used: connections are handed to it. */
  readonly #server: Server;
  /** By the address of the client, which the secured socket has too. */
  readonly #handshakes = new Map<string, Socket>();

  /** @throws Error when certificate and key do not fit together */
  constructor({ tls: { cert, key, ca, isRequired }, handshakeMs, onSecure }: TlsListenerOptions) {
    this.isRequired = isRequired;
    const trust = ca === '' ? {} : { ca, requestCert: true, rejectUnauthorized: true };
    this.#server = createServer({ cert, key, minVersion: 'TLSv1.2', handshakeTimeout: handshakeMs, ...trust });
    this.#server.on('secureConnection', (socket) => {
      this.#handshakes.delete(nameOf(socket));
      // Refused before it comes here; never let in by an option that a runtime does not know.
      if (ca === '' || socket.authorized) onSecure(socket);
      else socket.destroy();
    });
    this.#server.on('tlsClientError', (_error, socket) => socket.destroy());
  }

  get size(): number {
    return this.#handshakes.size;
  }

  /** @param begun what was read from it already */
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
