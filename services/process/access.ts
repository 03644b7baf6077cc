// Access control of one process: who its callers are, and what the metrics tell of it. The policy itself is followed
// by the PolicyStore, which joinMesh starts.

import type { MetricFamily } from '../../faceplates/stats/mod.ts';
import {
  Denials,
  explainAccess,
  jwtVerifier,
  lookupOf,
  Quotas,
  TokenAuthenticator,
  type PolicyStore,
  type CallerToken,
  type TokenLookup,
} from '../access/mod.ts';
import { KatamariError, type Clock } from '../../core/mod.ts';
import type { AuditLog } from '../audit/mod.ts';
import { EXIT, ExitError, type Config } from '../config/mod.ts';
import type { AccessActions } from '../master/mod.ts';
import { sha256Of, type EventLog, type Router, type TokenStore } from '../mesh/mod.ts';
import { auditBadToken } from './audit-refusals.ts';

/** Identifies callers and counts those that were refused. */
export class AccessControl {
  readonly denials: Denials;
  readonly authenticator: TokenAuthenticator;
  readonly quotas: Quotas;
  /** Sources of known tokens. Roles that open later add theirs, such as the admin token. */
  readonly #lookups: TokenLookup[];
  readonly #stores: TokenStore[] = [];

  /** @throws ExitError when the JWKS file cannot be read */
  constructor({ access }: Config, events: EventLog, clock: Clock, audit: AuditLog) {
    this.denials = new Denials(events, clock);
    this.quotas = new Quotas({ clock, onRefused: this.denials.limited });
    this.#lookups = [lookupOf(access.tokens)];
    const hasSources = access.tokens.length > 0 || access.jwt !== undefined;
    this.authenticator = new TokenAuthenticator({
      anonymous: access.anonymous,
      lookups: this.#lookups,
      jwt: access.jwt === undefined ? undefined : openJwt(access.jwt),
      checksTokens: () => hasSources || this.#stores.some(({ isEmpty }) => !isEmpty),
      onRefused: (address, why) => {
        this.denials.tokenRefused();
        auditBadToken(audit, address, 'the token of a caller', why);
      },
    });
  }

  addTokens(lookup: TokenLookup): void {
    this.#lookups.push(lookup);
  }

  /** Accepts the root tokens as the caller `admin`, who may use the admin service and what the policy allows. */
  addRootTokens(tokens: () => readonly string[]): void {
    let known: readonly string[] = [];
    let digests: ReadonlySet<string> = new Set();
    this.addTokens((sha256) => {
      const current = tokens();
      if (current !== known) [known, digests] = [current, new Set(current.map(sha256Of))];
      return digests.has(sha256) ? ROOT : undefined;
    });
  }

  /** Accepts the tokens that `katamari token create` makes. */
  addStore(store: TokenStore): void {
    this.#stores.push(store);
    this.addTokens((sha256) => store.findHash(sha256));
  }

  families(policy: PolicyStore): readonly MetricFamily[] {
    const { counts } = this.denials;
    return [
      {
        name: 'katamari_access_denied_total',
        help: 'Calls that were denied (policy, unauthenticated) and requests with a refused token (token).',
        type: 'counter',
        samples: Object.entries(counts).map(([reason, value]) => ({ labels: { reason }, value })),
      },
      {
        name: 'katamari_quota_calls_total',
        help: 'Calls to which a quota of the access policy applied, by result: allowed, or the limit that was reached.',
        type: 'counter',
        samples: [...this.quotas.counts].flatMap(([quota, results]) =>
          Object.entries(results).map(([result, value]) => ({ labels: { quota, result }, value })),
        ),
      },
      {
        name: 'katamari_access_policy_version',
        help: 'Version of the access policy in force; 0 for none, -1 while it cannot be read and all is denied.',
        type: 'gauge',
        samples: [{ labels: {}, value: policy.isBroken ? -1 : (policy.record?.version ?? 0) }],
      },
    ];
  }
}

/** What the admin service does with the policy. */
export function accessActionsOf({
  policy,
  router,
}: {
  readonly policy: PolicyStore;
  readonly router: Router;
}): AccessActions {
  return {
    policy: () => policy.record,
    setPolicy: (text, expectedVersion, by) => policy.set(text, expectedVersion, by),
    history: () => policy.history(),
    explain: (asked) => {
      const pools = router.pools().map(({ details }) => details);
      const found = explainAccess(policy, asked, pools);
      if (found instanceof Error) throw new KatamariError('bad_request', `target: ${found.message}`);
      return found;
    },
  };
}

function openJwt(options: NonNullable<Config['access']['jwt']>): ReturnType<typeof jwtVerifier> {
  try {
    return jwtVerifier(options);
  } catch (error) {
    const { jwksFile } = options;
    const why = (error as Error).message;
    throw new ExitError(EXIT.badConfiguration, `access.jwt.jwksFile: cannot use ${jwksFile}: ${why}`, error);
  }
}

const ROOT: CallerToken = { name: 'admin', roles: [] };
