// Verifies bearer tokens: first those that the mesh knows by their SHA-256 digest, then signed tokens (JWT). A result
// is kept for a while, so that a call with a known token costs a look-up. A token is never logged: errors and events
// speak of the caller's name alone.
//
// Sources of known tokens are functions, so that the configuration, the admin tokens and a store in Consul look alike.
// A known token is looked up again after KNOWN_MS, which bounds the time until a revoked one is refused.

import { sha256Of } from '../mesh/mod.ts';
import { LRUCache } from 'lru-cache';
import { KatamariError } from '../../core/mod.ts';
import { isLoopback } from '../../core/link/mod.ts';
import {
  ANONYMOUS,
  identityOf,
  UNAUTHENTICATED,
  type Authenticator,
  type CallerIdentity,
  type CallerProof,
  type VerifiedToken,
} from '../../core/rpc/mod.ts';
import type { JwtVerifier } from './jwt.ts';

/** A token that the mesh knows. */
export interface CallerToken {
  readonly name: string;
  readonly roles: readonly string[];
  /** Unix time in ms; never by default. */
  readonly expiresAtMs?: number | undefined;
}

/** Finds a known token by its SHA-256 digest in lower-case hexadecimal. */
export type TokenLookup = (sha256Hex: string) => CallerToken | undefined;

/** Callers that may stay anonymous: those on this machine, all, or none. */
export type AnonymousCallers = 'loopback' | 'always' | 'never';

export interface AuthenticatorOptions {
  readonly anonymous: AnonymousCallers;
  readonly lookups: readonly TokenLookup[];
  /** Undefined when no issuer is configured. */
  readonly jwt: JwtVerifier | undefined;
  /**
   * Whether the mesh checks tokens of callers, so that an unknown one is refused. Otherwise a header that no lookup
   * knows belongs to the service.
   */
  readonly checksTokens: () => boolean;
  /** Called for every request whose token is refused, with the address of its client. */
  readonly onRefused?: (address: string, why: string) => void;
}

export class TokenAuthenticator implements Authenticator {
  readonly #options: AuthenticatorOptions;
  readonly #verified = new LRUCache<string, VerifiedToken>({ max: TOKENS_MAX });
  /** Signed tokens whose verification runs. Calls with the same token share it. */
  readonly #verifying = new Map<string, Promise<VerifiedToken>>();
  /** Equal identities are one object, so that decisions about a caller are shared by its tokens and connections. */
  readonly #identities = new LRUCache<string, CallerIdentity>({ max: IDENTITIES_MAX });

  constructor(options: AuthenticatorOptions) {
    this.#options = options;
  }

  anonymous(address: string): CallerIdentity {
    const { anonymous } = this.#options;
    if (anonymous === 'always') return ANONYMOUS;
    const isLocal = anonymous === 'loopback' && address !== '' && isLoopback({ host: address, port: 0 });
    return isLocal ? ANONYMOUS : UNAUTHENTICATED;
  }

  verify(token: string): VerifiedToken | Promise<VerifiedToken> | undefined {
    const kept = this.#verified.get(token);
    const nowMs = Date.now();
    if (kept !== undefined && nowMs < kept.untilMs) return kept;
    const { jwt, checksTokens } = this.#options;
    if (token.length > TOKEN_CHARS_MAX) {
      throw denied(`The bearer token has ${token.length} characters, limit is ${TOKEN_CHARS_MAX}`);
    }
    const known = this.#lookUp(token, nowMs);
    if (known !== undefined) return known;
    if (jwt !== undefined && JWT.test(token)) return this.#verifying.get(token) ?? this.#verifySigned(token, jwt);
    if (!checksTokens()) return undefined;
    throw denied('The bearer token is not one that this mesh knows; it may be revoked, expired or of another mesh');
  }

  refused(address: string, why: string): void {
    this.#options.onRefused?.(address, why);
  }

  /** Returns the identity with this content; the same object each time. */
  identity(name: string, how: CallerProof, roles: readonly string[]): CallerIdentity {
    const key = JSON.stringify([how, name, roles]);
    let identity = this.#identities.get(key);
    if (identity === undefined) {
      identity = identityOf(name, how, roles);
      this.#identities.set(key, identity);
    }
    return identity;
  }

  #lookUp(token: string, nowMs: number): VerifiedToken | undefined {
    // The digest is looked up, not compared byte by byte: timing tells nothing about tokens, because nobody can choose
    // a token by a prefix of its digest.
    const digest = sha256Of(token);
    for (const lookup of this.#options.lookups) {
      const found = lookup(digest);
      if (found === undefined) continue;
      const { name, roles, expiresAtMs = Number.POSITIVE_INFINITY } = found;
      if (nowMs >= expiresAtMs) throw denied(`The bearer token of ${name} has expired; get a new one`);
      const identity = this.identity(name, 'token', roles);
      const verified = { identity, untilMs: Math.min(expiresAtMs, nowMs + KNOWN_MS) };
      this.#verified.set(token, verified);
      return verified;
    }
    return undefined;
  }

  #verifySigned(token: string, jwt: JwtVerifier): Promise<VerifiedToken> {
    if (this.#verifying.size >= VERIFYING_MAX) {
      throw new KatamariError(
        'overloaded',
        `Cannot verify another token: ${this.#verifying.size} are being verified, limit is ${VERIFYING_MAX}`,
        { notRun: true, retryAfterMs: 1_000 },
      );
    }
    const verifying = jwt
      .verify(token)
      .then(
        ({ name, roles, expiresAtMs }) => {
          const identity = this.identity(name, 'jwt', roles);
          const verified = { identity, untilMs: Math.min(expiresAtMs, Date.now() + SIGNED_MS) };
          this.#verified.set(token, verified);
          return verified;
        },
        (error: unknown) => {
          const isOwn = error instanceof KatamariError;
          throw isOwn ? error : denied(`The bearer token is not valid: ${(error as Error).message}`);
        },
      )
      .finally(() => this.#verifying.delete(token));
    this.#verifying.set(token, verifying);
    return verifying;
  }
}

function denied(why: string): KatamariError {
  return new KatamariError('denied', why, { notRun: true, httpStatus: 401 });
}

/** Returns a lookup over a fixed list, such as `access.tokens` of the configuration. */
export function lookupOf(tokens: readonly (CallerToken & { readonly sha256: string })[]): TokenLookup {
  const byDigest = new Map(tokens.map((token) => [token.sha256.toLowerCase(), token]));
  return (sha256Hex) => byDigest.get(sha256Hex);
}

const JWT = /^[\w-]+\.[\w-]+\.[\w-]*$/;
const TOKEN_CHARS_MAX = 8_192;
const TOKENS_MAX = 10_000;
const IDENTITIES_MAX = 10_000;
/** Signed tokens that are verified at the same time. */
const VERIFYING_MAX = 1_000;
/** Time after which a known token is looked up again. */
const KNOWN_MS = 1_000;
/** Time after which a signed token is verified again, so that a key that its issuer withdraws loses its effect. */
const SIGNED_MS = 600_000;
