// Authentication of links, and the client's side of a new one: `connectLink` connects, does TLS and the handshake,
// and returns a socket for a Link.
//
// TLS is mutual: both sides show a certificate of one CA. The host name is not compared with the certificate, because
// managers are found by addresses that change; the CA is the proof. So the mesh needs a CA of its own: a process with
// a certificate of it, for client and server usage, is a member and may act as any manager or faceplate. If the CA
// signs other certificates too, their owners can join the mesh. The secret is a second, independent proof
// (handshake.ts); when both are configured, both are required. The secret does not encrypt anything.
//
// `connectLink` never waits longer than its timeout, never accepts an unauthenticated peer, and never accepts less
// security than is configured.
import { KatamariError } from '../mod.ts';
import { parseLinkAddress, type LinkAddress } from './address.ts';
import { ClientHandshake } from './handshake.ts';

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';

export interface LinkSecurity {
  /**
   * Secrets of all processes of the mesh; none to authenticate by certificate alone. The client proves the first, the
   * server accepts all of them, so that a secret can be replaced in a running mesh.
   */
  readonly secrets: readonly string[];
  /** PEM texts: the CA of the mesh, and this process's own certificate and key. */
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string } | undefined;
}

export interface ConnectLinkOptions {
  readonly security: LinkSecurity | undefined;
  /** Time limit for connection, TLS and handshake together, in ms. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/**
 * Connects to a link server; both sides authenticate.
 * @param address `unix:PATH` or `tcp:HOST:PORT`
 * @returns a paused socket for `new Link(socket, ...)`, which resumes it
 * @throws KatamariError resource_failed (unreachable or timed out), denied (the security settings of the sides
 * differ) or cancelled, all with facts.notRun; bad_request when the address or the certificates are invalid
 */
export async function connectLink(address: string, options: ConnectLinkOptions): Promise<Socket> {
  const where = parseLinkAddress(address);
  if (options.signal?.aborted === true) throw cancelled(address);
  return new Dial(address, where, options).ended;
}

/** One attempt to connect. It ends once, with the socket or with the first error. */
class Dial {
  readonly ended: Promise<Socket>;
  readonly #address: string;
  readonly #options: ConnectLinkOptions;
  readonly #socket: Socket;
  readonly #handshake: ClientHandshake;
  readonly #timer: NodeJS.Timeout;
  #stage: 'connecting' | 'tls' | 'handshake' = 'connecting';
  #isEnded = false;
  #resolve!: (socket: Socket) => void;
  #reject!: (error: KatamariError) => void;

  constructor(address: string, where: LinkAddress, options: ConnectLinkOptions) {
    this.ended = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#address = address;
    this.#options = options;
    const tls = options.security?.tls;
    this.#socket = tls === undefined ? connect(where) : connectWithTls(where, tls);
    const socket = this.#socket;
    this.#handshake = new ClientHandshake(
      options.security?.secrets[0] ?? '',
      address,
      (bytes) => void socket.write(bytes),
    );
    this.#timer = setTimeout(() => this.#fail(this.#timedOut()), options.timeoutMs);
    options.signal?.addEventListener('abort', this.#onAbort, { once: true });
    socket.once('connect', () => {
      if (tls === undefined) this.#shake();
      else if (this.#stage === 'connecting') this.#stage = 'tls';
    });
    socket.once('secureConnect', () => {
      if ((socket as TLSSocket).authorized) this.#shake();
      else this.#fail(this.#tlsFailed((socket as TLSSocket).authorizationError));
    });
    // Stays on the socket: until the Link has its own listener, an error without a listener would crash the process.
    socket.on('error', (error: NodeJS.ErrnoException) => this.#fail(this.#failedBy(error)));
    socket.once('end', this.#onGone);
    socket.once('close', this.#onGone);
  }

  #shake(): void {
    this.#stage = 'handshake';
    this.#socket.setNoDelay(true);
    this.#socket.on('data', this.#onData);
    this.#handshake.begin();
  }

  readonly #onData = (chunk: Buffer): void => {
    let rest: Buffer | undefined;
    try {
      rest = this.#handshake.push(chunk);
    } catch (error) {
      this.#fail(error as KatamariError);
      return;
    }
    if (rest === undefined || !this.#end()) return;
    const socket = this.#socket;
    socket.off('data', this.#onData);
    socket.off('end', this.#onGone);
    socket.off('close', this.#onGone);
    // Bytes that arrive before the Link exists wait in the socket.
    socket.pause();
    if (rest.length > 0) socket.unshift(rest);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#resolve(socket);
  };

  readonly #onAbort = (): void => this.#fail(cancelled(this.#address));

  readonly #onGone = (): void => this.#fail(this.#closed());

  #fail(error: KatamariError): void {
    if (!this.#end()) return;
    this.#socket.destroy();
    this.#reject(error);
  }

  /** Returns false when the attempt had ended before. */
  #end(): boolean {
    if (this.#isEnded) return false;
    this.#isEnded = true;
    clearTimeout(this.#timer);
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    return true;
  }

  #timedOut(): KatamariError {
    const { timeoutMs } = this.#options;
    const why =
      this.#stage === 'connecting'
        ? `did not accept a connection within ${timeoutMs} ms: its machine is down, or a firewall blocks the connection`
        : `accepted a connection and did not answer within ${timeoutMs} ms: its process is frozen, or this is not its link address`;
    return failed(this.#address, why);
  }

  #closed(): KatamariError {
    if (this.#options.security?.tls === undefined) {
      return denied(
        this.#address,
        'closed the connection before it answered: it requires TLS and this side has none, or it is shutting down. If it has certificates, configure certificates of its CA here',
      );
    }
    if (this.#stage === 'handshake') {
      return denied(
        this.#address,
        'closed the connection after it received the certificate of this side, which is not of its CA, has expired or is not for clients',
      );
    }
    return this.#tlsFailed('it closed the connection');
  }

  #failedBy(error: NodeJS.ErrnoException): KatamariError {
    const code = error.code ?? '';
    if (this.#options.security?.tls !== undefined && isCertificateError(code)) return this.#tlsFailed(error);
    // The peer closed during TLS or the handshake; some runtimes report it as an error.
    if (code === 'ECONNRESET' || code === 'EPIPE') return this.#closed();
    const hint = HINTS[code] ?? 'is that process running, and does the network allow the connection?';
    return failed(this.#address, `cannot be reached (${error.message || code}): ${hint}`, error);
  }

  #tlsFailed(cause: Error | string): KatamariError {
    const { message, code = '' } = typeof cause === 'string' ? { message: cause } : (cause as NodeJS.ErrnoException);
    const alert = /ALERT/.test(code);
    let hint = `its certificate is not of the CA that is configured here, has expired or is not for servers`;
    if (alert)
      hint = 'it refuses the certificate of this side, which is not of its CA, has expired or is not for clients';
    else if (code === '' || /WRONG_VERSION|PACKET_LENGTH|ECONNRESET/.test(code))
      hint = 'it does not use TLS: configure certificates there too, or none here';
    return denied(
      this.#address,
      `failed at TLS (${code || message}): ${hint}`,
      typeof cause === 'string' ? undefined : cause,
    );
  }
}

function connectWithTls(where: LinkAddress, tls: NonNullable<LinkSecurity['tls']>): TLSSocket {
  checkCertificates(tls);
  // Host names are not compared, see the head of this file.
  return connectTls({ ...where, ...tls, minVersion: 'TLSv1.3', checkServerIdentity: () => undefined });
}

/** The owner of the certificates, for error messages. */
interface CertificateOwner {
  readonly name: string;
  readonly expected: string;
}

const THE_LINK: CertificateOwner = {
  name: 'the link',
  expected: 'the CA of the mesh, a certificate signed by it and the key of that certificate; openssl can make them',
};

/**
 * Checks the PEM texts before they are used, because not every runtime reports what is wrong with them.
 * @param ca '' for none
 * @throws KatamariError bad_request
 */
export function checkCertificates(
  { ca, cert, key }: NonNullable<LinkSecurity['tls']>,
  { name, expected }: CertificateOwner = THE_LINK,
): void {
  const bad = (what: string, cause?: unknown): KatamariError =>
    new KatamariError('bad_request', `${what}. Expected ${expected}`, { notRun: true }, cause);
  const parsed = <T>(what: string, parse: () => T): T => {
    try {
      return parse();
    } catch (error) {
      throw bad(`${what} is not valid PEM text (${(error as Error).message})`, error);
    }
  };
  if (ca !== '') parsed(`The CA of ${name}`, () => new X509Certificate(ca));
  const own = parsed(`The certificate of ${name}`, () => new X509Certificate(cert));
  const ownKey = parsed(`The key of ${name}`, () => createPrivateKey(key));
  if (!own.checkPrivateKey(ownKey)) throw bad(`The key of ${name} does not belong to its certificate`);
  if (Date.parse(own.validTo) < Date.now()) throw bad(`The certificate of ${name} expired on ${own.validTo}`);
}

/** Whether an error code concerns TLS or a certificate rather than the connection. */
function isCertificateError(code: string): boolean {
  return /^ERR_(SSL|TLS|OSSL)|CERT|UNABLE_TO|SIGNATURE|EPROTO|CRL|HOSTNAME/.test(code);
}

const HINTS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there. Is that process running, and is this its link address?',
  ENOENT: 'there is no such socket. Is that process running?',
  ENOTFOUND: 'no such host name',
  EAI_AGAIN: 'the name lookup failed for now; is the DNS server reachable?',
  EHOSTUNREACH: 'there is no network route to that machine',
  ENETUNREACH: 'there is no route to that network',
  EACCES: 'this user has no permission to connect to it',
};

function failed(address: string, why: string, cause?: Error): KatamariError {
  return new KatamariError('resource_failed', `${address} ${why}`, { notRun: true }, cause);
}

function denied(address: string, why: string, cause?: Error): KatamariError {
  return new KatamariError('denied', `${address} ${why}`, { notRun: true }, cause);
}

function cancelled(address: string): KatamariError {
  return new KatamariError('cancelled', `The connection to ${address} was canceled before it was ready`, {
    notRun: true,
  });
}

/** Silence after which the kernel probes a peer, in ms, so that a vanished machine is noticed without a call. */
export const KEEP_ALIVE_MS = 30_000;
