// The identities of HTTP clients: one PeerIdentity per connection, whichever path serves its requests.

import type { Socket } from 'node:net';
import { certificateIdentityOf } from '../link/mod.ts';
import { KatamariError } from '../mod.ts';
import { PeerIdentity, type Authenticator, type CallerIdentity } from '../rpc/mod.ts';

export class HttpCallers {
  readonly #authenticator: Authenticator | undefined;
  readonly #peers = new WeakMap<Socket, PeerIdentity>();

  constructor(authenticator: Authenticator | undefined) {
    this.#authenticator = authenticator;
  }

  /**
   * Returns who sends the requests of a connection.
   * @throws KatamariError denied for a certificate that names nobody
   */
  of(socket: Socket): PeerIdentity {
    let peer = this.#peers.get(socket);
    if (peer === undefined) {
      peer = new PeerIdentity(this.#authenticator, socket.remoteAddress ?? '', certificateIdentityOf(socket));
      this.#peers.set(socket, peer);
    }
    return peer;
  }
}

/** Refuses a caller that must authenticate first. Documents and files are for accepted callers only. */
export function requireAccepted({ how }: CallerIdentity): void {
  if (how !== 'unauthenticated') return;
  const why =
    'An anonymous caller may not read this from another machine: send a bearer token or a client certificate, or set access.anonymous to always';
  throw new KatamariError('denied', why, { notRun: true, httpStatus: 401 });
}

/** The header of a refusal after which the client may authenticate; undefined for other errors. */
export function challengeOf({ facts }: KatamariError): string | undefined {
  return facts.httpStatus === 401 ? CHALLENGE : undefined;
}

const CHALLENGE = 'Bearer realm="katamari"';
