// Applies the access policy to calls: of the pools that match a call, the caller sees only those that it may call.
// The decision is cached: a call whose caller and target were seen before costs two look-ups and no object. Without a
// policy it costs a comparison.
//
// The cache has two levels. An identity leads to its view; callers with equal rights share one. A view leads from the
// array of matching offers, which match-pools.ts keeps for each version and method, to the offers that are allowed.
// Everything is dropped when the policy or the pools change, and when DECISIONS_MAX is reached.

import { KatamariError } from '../../core/mod.ts';
import type { Call, CallerIdentity, PoolDetails, PoolQuery } from '../../core/rpc/mod.ts';
import { isKeptMatch } from './match-pools.ts';
import type { Offer } from './offer.ts';

/** What a caller wants to call. */
export interface AccessTarget {
  readonly service: string;
  readonly version: string;
  readonly method: string;
  readonly poolRoles: readonly string[];
}

/** What the callers of one group may do. */
export interface AccessRights {
  mayCall(target: AccessTarget): boolean;
  /** Whether any version of a service allows the method, whether or not the service exists; '' for any service. */
  mayName(service: string, method: string): boolean;
}

/** A policy; `services/access` compiles it. Callers with equal rights get the same object. */
export interface AccessPolicy {
  rightsOf(identity: CallerIdentity): AccessRights;
}

/** Limits how much callers may use; `services/access` implements it. */
export interface CallQuotas {
  /**
   * Takes a call's share of the quotas that apply to it; undefined if none does.
   * @throws KatamariError rate_limited
   */
  begin(call: Call, details: PoolDetails): QuotaShare | undefined;
}

/** What one call has taken. */
export interface QuotaShare {
  /** Gives it back. Called once, when the call has ended. @param bytes size of its result */
  end(bytes: number): void;
}

/** Why a call was denied. */
export type DenialReason = 'policy' | 'unauthenticated';

export class AccessFilter {
  readonly #onDenied: (identity: CallerIdentity, target: string, reason: DenialReason) => void;
  #policy: AccessPolicy | undefined;
  #views = new WeakMap<CallerIdentity, CallerView>();
  #byRights = new Map<AccessRights, CallerView>();
  #decisions = 0;

  /** @param onDenied called for every call that is denied */
  constructor(onDenied: (identity: CallerIdentity, target: string, reason: DenialReason) => void) {
    this.#onDenied = onDenied;
  }

  /** Replaces the policy. Undefined allows every accepted caller everything. */
  setPolicy(policy: AccessPolicy | undefined): void {
    this.#policy = policy;
    this.forget();
  }

  /** Drops all decisions: the pools have changed. */
  forget(): void {
    this.#views = new WeakMap();
    this.#byRights = new Map();
    this.#decisions = 0;
  }

  /** Whether some calls of the caller are denied. */
  isLimited({ how }: CallerIdentity): boolean {
    return this.#policy !== undefined || how === 'unauthenticated';
  }

  /** Of the matches of a plain call, those that the caller may call; the same array if that is all of them. */
  allowed(identity: CallerIdentity, offers: readonly Offer[], query: PoolQuery): readonly Offer[] {
    if (this.#policy === undefined && identity.how !== 'unauthenticated') return offers;
    const view = this.#views.get(identity) ?? this.#viewOf(identity);
    const known = view.allowed.get(offers);
    if (known !== undefined) return known;
    const found = offers.filter((offer) => this.#decide(view, offer, query.method));
    const allowed = found.length === offers.length ? offers : found;
    // The array of matches that are not kept exists for this call only.
    if (isKeptMatch(offers, query) && this.#count()) view.allowed.set(offers, allowed);
    return allowed;
  }

  mayCall(identity: CallerIdentity, pool: DecidedPool, method: string): boolean {
    if (!this.isLimited(identity)) return true;
    return this.#decide(this.#views.get(identity) ?? this.#viewOf(identity), pool, method);
  }

  /** Whether the caller may call any version of a service with this method, if there were one. */
  mayName(identity: CallerIdentity, service: string, method: string): boolean {
    if (!this.isLimited(identity)) return true;
    return (this.#views.get(identity) ?? this.#viewOf(identity)).rights.mayName(service, method);
  }

  /** Counts a denied call and returns its error, which is the same whether or not the target exists. */
  denied(identity: CallerIdentity, { service, version, method }: PoolQuery): KatamariError {
    const target = `${service === '' ? '*' : service}${version === '' ? '' : `@${version}`}.${method}`;
    if (identity.how === 'unauthenticated') {
      this.#onDenied(identity, target, 'unauthenticated');
      const why = `An anonymous caller may not call ${shownName(target)} from another machine: send a bearer token or a client certificate, or set access.anonymous to always`;
      return new KatamariError('denied', why, { notRun: true, httpStatus: 401 });
    }
    this.#onDenied(identity, target, 'policy');
    const { name, roles, how } = identity;
    const asked = how === 'mtls' || how === 'token' ? `${how}:${name}` : name;
    const withRoles = roles.length === 0 ? '' : ` --roles ${roles.join(',')}`;
    const why = `${shownName(name)} may not call ${shownName(target)}: the access policy does not allow it; katamari access explain ${quoted(asked)} ${quoted(target)}${shownName(withRoles)} says why`;
    return new KatamariError('denied', why, { notRun: true });
  }

  #decide({ rights, byPool }: CallerView, { details, isOpen }: DecidedPool, method: string): boolean {
    if (isOpen === true) return true;
    let byMethod = byPool.get(details);
    const known = byMethod?.get(method);
    if (known !== undefined) return known;
    const { service, version, roles } = details;
    const decision = rights.mayCall({ service, version, method, poolRoles: roles });
    if (!this.#count()) return decision;
    if (byMethod === undefined) byPool.set(details, (byMethod = new Map()));
    byMethod.set(method, decision);
    return decision;
  }

  /** Counts a decision that is kept. Returns false when there were too many, and all were dropped. */
  #count(): boolean {
    if (++this.#decisions <= DECISIONS_MAX) return true;
    this.forget();
    return false;
  }

  #viewOf(identity: CallerIdentity): CallerView {
    const rights = identity.how === 'unauthenticated' ? NO_RIGHTS : (this.#policy?.rightsOf(identity) ?? NO_RIGHTS);
    let view = this.#byRights.get(rights);
    if (view === undefined) {
      view = { rights, allowed: new WeakMap(), byPool: new WeakMap() };
      this.#byRights.set(rights, view);
    }
    this.#views.set(identity, view);
    return view;
  }
}

/** The part of a pool on which a decision depends. */
type DecidedPool = Pick<Offer, 'details' | 'isOpen'>;

/** The decisions for callers with equal rights. */
interface CallerView {
  readonly rights: AccessRights;
  readonly allowed: WeakMap<readonly Offer[], readonly Offer[]>;
  /** By the details of a pool, then by method: a pool has only the methods of its interface. */
  readonly byPool: WeakMap<PoolDetails, Map<string, boolean>>;
}

/** Shortens names that a client chose, and removes control characters, which would forge lines of a log. */
export function shownName(text: string): string {
  return text.slice(0, SHOWN_CHARS).replace(UNPRINTABLE, '?');
}

function quoted(text: string): string {
  const safe = shownName(text);
  return /^[\w@.:/^~-]+$/.test(safe) ? safe : `'${safe.replaceAll("'", '?')}'`;
}

const NO_RIGHTS: AccessRights = { mayCall: () => false, mayName: () => false };
/** Cached decisions of all callers together; about 50 MB. */
const DECISIONS_MAX = 1_000_000;
const SHOWN_CHARS = 200;
const UNPRINTABLE = /[^\x20-\x7e\u00a0-\uffff]/g;
