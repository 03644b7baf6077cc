// Verifies signed tokens (JWT) with the library jose: signature, issuer, audience, times, and the claims for the name
// and the roles of the caller. Only asymmetric algorithms are accepted, since the mesh holds no secret of an issuer and
// a public key must not pass for one.
//
// Keys come from a JWKS file, which is read again when it changes, or from a URL. Keys of a URL are fetched when a
// token names an unknown one, at most every COOLDOWN_MS and for at most FETCH_MS. While the URL does not answer, the
// keys that it sent last stay valid for KEYS_KEPT_MS.

import { readFileSync, statSync } from 'node:fs';
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  errors,
  jwksCache,
  jwtVerify,
  type ExportedJWKSCache,
  type JSONWebKeySet,
  type JWTPayload,
} from 'jose';
import { KatamariError } from '../../core/mod.ts';

export interface JwtOptions {
  readonly issuer: string;
  readonly audience: string;
  /** One of the two is ''. */
  readonly jwksFile: string;
  readonly jwksUrl: string;
  readonly algorithms: readonly string[];
  /** Path of the claim with the name of the caller, such as `sub`. */
  readonly nameClaim: string;
  /** Path of the claim with its roles, such as `realm_access.roles`; a list, or text with spaces. */
  readonly rolesClaim: string;
  /** Difference between the clocks of issuer and mesh that is accepted, in ms. */
  readonly clockToleranceMs: number;
}

/** What a valid token says about its caller. */
export interface VerifiedClaims {
  readonly name: string;
  readonly roles: readonly string[];
  readonly expiresAtMs: number;
}

export interface JwtVerifier {
  /** @throws Error that says what is wrong with the token, without the token; KatamariError if it cannot be checked */
  verify(token: string): Promise<VerifiedClaims>;
}

/** Asymmetric signature algorithms of JWS. */
export const JWT_ALGORITHMS = [
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
  'PS256',
  'PS384',
  'PS512',
  'RS256',
  'RS384',
  'RS512',
] as const;

/** @throws Error when the JWKS file cannot be read or holds no keys */
export function jwtVerifier(options: JwtOptions): JwtVerifier {
  const { issuer, audience, algorithms, clockToleranceMs } = options;
  const keys = options.jwksFile === '' ? new UrlKeys(new URL(options.jwksUrl)) : new FileKeys(options.jwksFile);
  return {
    async verify(token) {
      try {
        const { payload } = await jwtVerify(token, (header, jws) => keys.find(header, jws), {
          issuer,
          audience,
          algorithms: [...algorithms],
          clockTolerance: clockToleranceMs / 1_000,
          requiredClaims: ['exp'],
        });
        return claimsOf(payload, options);
      } catch (error) {
        throw asReason(error);
      }
    },
  };
}

type FindKey = ReturnType<typeof createLocalJWKSet>;
type KeyParameters = Parameters<FindKey>;

/** Keys in a file. */
class FileKeys {
  readonly #file: string;
  #keys: FindKey;
  #changedMs: number;
  #checkedMs: number = Date.now();

  constructor(file: string) {
    this.#file = file;
    this.#changedMs = statSync(file).mtimeMs;
    this.#keys = createLocalJWKSet(JSON.parse(readFileSync(file, 'utf8')) as JSONWebKeySet);
  }

  async find(...given: KeyParameters): Promise<Awaited<ReturnType<FindKey>>> {
    this.#readAgain();
    return this.#keys(...given);
  }

  /** Reads a file that has changed. A new file that is not valid is ignored: it may be half written. */
  #readAgain(): void {
    const nowMs = Date.now();
    if (nowMs - this.#checkedMs < FILE_CHECK_MS) return;
    this.#checkedMs = nowMs;
    try {
      const { mtimeMs } = statSync(this.#file);
      if (mtimeMs === this.#changedMs) return;
      this.#keys = createLocalJWKSet(JSON.parse(readFileSync(this.#file, 'utf8')) as JSONWebKeySet);
      this.#changedMs = mtimeMs;
    } catch {
      // Tried again at the next check.
    }
  }
}

/** Keys at a URL. */
class UrlKeys {
  /** Filled by the library with the keys that it fetched last. */
  readonly #fetched: Partial<ExportedJWKSCache> = {};
  readonly #remote: ReturnType<typeof createRemoteJWKSet>;
  #failedMs = -Infinity;
  #failure: Error | undefined;

  constructor(url: URL) {
    this.#remote = createRemoteJWKSet(url, {
      timeoutDuration: FETCH_MS,
      cooldownDuration: COOLDOWN_MS,
      cacheMaxAge: KEYS_FRESH_MS,
      [jwksCache]: this.#fetched as Record<string, never>,
    });
  }

  async find(...given: KeyParameters): Promise<Awaited<ReturnType<FindKey>>> {
    if (Date.now() - this.#failedMs < COOLDOWN_MS) return await this.#findInLast(given);
    try {
      return await this.#remote(...given);
    } catch (error) {
      if (!isUnavailable(error)) throw error;
      this.#failedMs = Date.now();
      this.#failure = error as Error;
      return await this.#findInLast(given);
    }
  }

  /** Finds a key in the keys that the URL sent last, while it does not answer. */
  async #findInLast(given: KeyParameters): Promise<Awaited<ReturnType<FindKey>>> {
    const { jwks, uat = 0 } = this.#fetched;
    if (jwks !== undefined && Date.now() - uat < KEYS_KEPT_MS) return await createLocalJWKSet(jwks)(...given);
    throw new KatamariError(
      'overloaded',
      `The keys of the token issuer cannot be fetched (${this.#failure?.message ?? ''}); try again later`,
      { notRun: true, retryAfterMs: COOLDOWN_MS },
      this.#failure,
    );
  }
}

/** Whether keys could not be fetched, in contrast to a token that names an unknown key. */
function isUnavailable(error: unknown): boolean {
  if (!(error instanceof errors.JOSEError)) return true;
  // The library reports an HTTP status or a body that it cannot use with the base class.
  return (
    error instanceof errors.JWKSTimeout || error instanceof errors.JWKSInvalid || error.code === 'ERR_JOSE_GENERIC'
  );
}

function claimsOf(payload: JWTPayload, { nameClaim, rolesClaim }: JwtOptions): VerifiedClaims {
  const name = claimAt(payload, nameClaim);
  if (typeof name !== 'string' || !NAME.test(name)) {
    throw new Error(`its claim ${nameClaim} is not a name of 1 to ${NAME_CHARS_MAX} printable characters`);
  }
  const found = claimAt(payload, rolesClaim) ?? [];
  const roles = typeof found === 'string' ? found.split(' ').filter((role) => role !== '') : found;
  if (
    !Array.isArray(roles) ||
    roles.length > ROLES_MAX ||
    !roles.every((role) => typeof role === 'string' && NAME.test(role))
  ) {
    throw new Error(`its claim ${rolesClaim} is not a list of at most ${ROLES_MAX} names`);
  }
  return { name, roles: [...new Set(roles as string[])].sort(), expiresAtMs: (payload.exp as number) * 1_000 };
}

/** The claim at a path. A claim whose own name contains the dots, such as a URL, is found first. */
function claimAt(payload: JWTPayload, path: string): unknown {
  if (Object.hasOwn(payload, path)) return payload[path];
  let value: unknown = payload;
  for (const step of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined;
    value = (value as Record<string, unknown>)[step];
  }
  return value;
}

function asReason(error: unknown): Error {
  if (error instanceof KatamariError) return error;
  if (error instanceof errors.JWTExpired) return new Error('it has expired; get a new one');
  if (error instanceof errors.JWTClaimValidationFailed) {
    return new Error(`its claim ${error.claim} is ${error.reason === 'missing' ? 'missing' : 'not the expected one'}`);
  }
  if (error instanceof errors.JOSEAlgNotAllowed) return new Error('its algorithm is not allowed');
  if (error instanceof errors.JWKSNoMatchingKey) return new Error('the issuer has no such key');
  if (error instanceof errors.JWSSignatureVerificationFailed) return new Error('its signature is wrong');
  if (error instanceof errors.JOSEError) return new Error(`it cannot be read (${error.code})`);
  return error instanceof Error ? error : new Error(String(error));
}

/** Printable text without a line break, as it appears in logs and in the policy. */
const NAME = /^[\x20-\x7e\u00a0-\ud7ff\ue000-\uffff]{1,256}$/;
const NAME_CHARS_MAX = 256;
const ROLES_MAX = 100;
const FILE_CHECK_MS = 1_000;
const FETCH_MS = 5_000;
/** Shortest time between two fetches of the keys. */
const COOLDOWN_MS = 10_000;
const KEYS_FRESH_MS = 600_000;
/** Longest time for which keys stay valid while their URL does not answer. */
const KEYS_KEPT_MS = 24 * 3_600_000;
