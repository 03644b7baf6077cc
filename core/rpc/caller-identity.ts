// Who makes a call, and how a faceplate finds out. An identity is a frozen object that all calls of one connection or
// token share, so a call carries it without a copy, and a decision about it can be cached by the object.
//
// A faceplate creates one PeerIdentity per connection and asks it for the identity of each request. A client
// certificate counts for the whole connection; a bearer token counts for the request that carries it, and takes
// precedence. A token that the mesh cannot verify is an error: its caller never becomes anonymous.

import { KatamariError } from '../mod.ts';

/**
 * How a caller proved its name.
 * - anonymous: it proved nothing, and the configuration accepts that from its address.
 * - unauthenticated: it proved nothing, and the configuration does not accept that from its address.
 * - mtls, token, jwt: a client certificate, a token that the mesh knows, a signed token of an issuer.
 * - chassis: a chassis of this machine, on the socket that its resource manager gave it.
 * - mesh: the mesh itself.
 */
export type CallerProof = 'anonymous' | 'unauthenticated' | 'mtls' | 'token' | 'jwt' | 'chassis' | 'mesh';

export interface CallerIdentity {
  readonly name: string;
  readonly roles: readonly string[];
  readonly how: CallerProof;
}

/** Whether the name of a caller was proved, by a certificate or a token. */
export function isProved({ how }: Pick<CallerIdentity, 'how'>): boolean {
  return how === 'mtls' || how === 'token' || how === 'jwt';
}

/** Creates a frozen identity. */
export function identityOf(name: string, how: CallerProof, roles: readonly string[] = []): CallerIdentity {
  return Object.freeze({ name, roles: Object.freeze([...roles]), how });
}

export const ANONYMOUS: CallerIdentity = identityOf('anonymous', 'anonymous');
export const UNAUTHENTICATED: CallerIdentity = identityOf('anonymous', 'unauthenticated');
export const CHASSIS_CALLER: CallerIdentity = identityOf('chassis', 'chassis');

/** A token that was verified. */
export interface VerifiedToken {
  readonly identity: CallerIdentity;
  /** Unix time in ms until which the result may be used. */
  readonly untilMs: number;
}

/** Verifies what callers show. `services/access` implements it. */
export interface Authenticator {
  /** The identity of a caller that shows nothing. @param address IP address; '' if it is unknown */
  anonymous(address: string): CallerIdentity;
  /**
   * Verifies a bearer token; a promise only when that needs time. Undefined when the token is unknown and the mesh
   * checks no tokens of callers: the header then belongs to the service.
   * @throws KatamariError denied, with status 401
   */
  verify(token: string): VerifiedToken | Promise<VerifiedToken> | undefined;
  /** Called when a token or certificate of a request is refused. @param address IP address; '' if it is unknown */
  refused(address: string, why: string): void;
}

/** The identity in a client certificate that TLS has verified. */
export interface PeerCertificateIdentity {
  readonly identity: CallerIdentity;
  /** Unix time in ms at which the certificate expires. */
  readonly untilMs: number;
}

/** The identity of the requests of one connection. */
export class PeerIdentity {
  readonly #authenticator: Authenticator | undefined;
  readonly #certificate: PeerCertificateIdentity | undefined;
  readonly #anonymous: CallerIdentity;
  readonly #address: string;
  /** The header that was verified last, and its result. Most clients send the same one with each request. */
  #authorization = '';
  #verified: VerifiedToken | undefined;
  #isConsumed = false;

  /** @param authenticator undefined accepts every caller as anonymous */
  constructor(authenticator: Authenticator | undefined, address: string, certificate?: PeerCertificateIdentity) {
    this.#authenticator = authenticator;
    this.#certificate = certificate;
    this.#address = address;
    this.#anonymous = authenticator?.anonymous(address) ?? ANONYMOUS;
  }

  /**
   * Whether the mesh used the header of the last `of`. Such a header is not handed on to a service, which could use
   * the token in the name of the caller.
   */
  get isConsumed(): boolean {
    return this.#isConsumed;
  }

  /**
   * Returns the identity of a request; a promise while a token is verified for the first time.
   * @param authorization value of the header; '' for none
   * @throws KatamariError denied, with status 401, for a token that is not valid and an expired certificate
   */
  of(authorization: string): CallerIdentity | Promise<CallerIdentity> {
    if (authorization === '' || this.#authenticator === undefined) {
      this.#isConsumed = false;
      return this.#withoutToken();
    }
    if (this.#verified !== undefined && authorization === this.#authorization && Date.now() < this.#verified.untilMs) {
      this.#isConsumed = true;
      return this.#verified.identity;
    }
    return this.#verify(authorization, this.#authenticator);
  }

  #verify(authorization: string, authenticator: Authenticator): CallerIdentity | Promise<CallerIdentity> {
    let verified: VerifiedToken | Promise<VerifiedToken> | undefined;
    try {
      const token = bearerOf(authorization);
      verified = token === undefined ? undefined : authenticator.verify(token);
    } catch (thrown) {
      throw this.#refused(authenticator, thrown as KatamariError);
    }
    this.#isConsumed = verified !== undefined;
    if (verified === undefined) return this.#withoutToken();
    if (!('then' in verified)) return this.#keep(authorization, verified);
    return verified.then(
      (late) => this.#keep(authorization, late),
      (thrown: KatamariError) => {
        throw this.#refused(authenticator, thrown);
      },
    );
  }

  /** Reports a token that is wrong, and returns its error. */
  #refused(authenticator: Authenticator, error: KatamariError): KatamariError {
    if (error.code === 'denied') authenticator.refused(this.#address, error.message);
    return error;
  }

  #keep(authorization: string, verified: VerifiedToken): CallerIdentity {
    this.#authorization = authorization;
    this.#verified = verified;
    return verified.identity;
  }

  #withoutToken(): CallerIdentity {
    const certificate = this.#certificate;
    if (certificate === undefined) return this.#anonymous;
    if (Date.now() < certificate.untilMs) return certificate.identity;
    const why = `The client certificate of ${certificate.identity.name} has expired; connect again with a new one`;
    this.#authenticator?.refused(this.#address, why);
    throw new KatamariError('denied', why, { notRun: true, httpStatus: 401 });
  }
}

/** Returns the token of `Bearer TOKEN`; undefined for another scheme. @throws KatamariError denied */
function bearerOf(authorization: string): string | undefined {
  if (!BEARER.test(authorization)) return undefined;
  const token = BEARER_TOKEN.exec(authorization)?.[1];
  if (token !== undefined) return token;
  throw new KatamariError('denied', 'The header Authorization is malformed; expected Bearer and one token', {
    notRun: true,
    httpStatus: 401,
  });
}

const BEARER = /^bearer(?:\s|$)/i;
const BEARER_TOKEN = /^bearer +([\w.~+/=-]+)$/i;
