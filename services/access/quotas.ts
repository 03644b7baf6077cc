// Enforces the quotas of the access policy in one process. A call takes its share of every quota that applies when the
// router has chosen its pool, once, however often it is tried. A call that exceeds one of them is refused and takes
// nothing. Rates are token buckets. Bytes are charged when they are known: a large result leaves a debt of at most what
// the bucket holds, and calls are refused until it is paid. The use of the callers that called last is known.

import { KatamariError, type Clock } from '../../core/mod.ts';
import { callerKeyOf, isProved, type Call, type CallerIdentity, type PoolDetails } from '../../core/rpc/mod.ts';
import type { AccessTarget, CallQuotas, QuotaShare } from '../mesh/mod.ts';
import { describeQuota, type QuotaRule, type Rate } from './quota-rule.ts';
import { LRUCache } from 'lru-cache';

/** The quotas in force. */
export interface QuotaSource {
  readonly quotas: readonly QuotaRule[];
  quotasOf(identity: CallerIdentity, target: AccessTarget): readonly QuotaRule[];
}

/** Which part of a quota was exceeded. */
export type QuotaLimit = 'rate' | 'concurrency' | 'bytes';

/** Calls that a quota has allowed, and refused by limit. */
export type QuotaCounts = Readonly<Record<QuotaLimit | 'allowed', number>>;

export interface QuotasOptions {
  readonly clock: Clock;
  /** Called for every refused call. */
  readonly onRefused: (call: Call, quota: QuotaRule, limit: QuotaLimit) => void;
}

export class Quotas implements CallQuotas {
  readonly #options: QuotasOptions;
  #source: QuotaSource | undefined;
  /** What applies to the calls of an identity to a method of a pool. */
  #known = new WeakMap<CallerIdentity, WeakMap<PoolDetails, Map<string, Match>>>();
  #matches = 0;
  readonly #callers = new LRUCache<string, UsageOfCaller>({
    max: CALLERS_MAX,
    dispose: (caller) => (caller.isForgotten = true),
  });
  /** Of quotas that all their callers share. */
  readonly #shared: UsageOfCaller = { isForgotten: false, touchedAtMs: 0, byQuota: new Map() };
  readonly #counts = new Map<string, Counts>();
  /** Short keys of the quotas in force, by their ids. */
  #keys: ReadonlyMap<string, number> = new Map();
  #inForce: ReadonlySet<number> = new Set();
  #lastKey = 0;

  constructor(options: QuotasOptions) {
    this.#options = options;
  }

  /** Puts quotas in force. The usage of an equal quota carries over. */
  set(source: QuotaSource | undefined): void {
    const quotas = source?.quotas ?? [];
    this.#source = quotas.length === 0 ? undefined : source;
    this.#forget();
    const before = this.#keys;
    this.#keys = new Map(quotas.map(({ id }) => [id, before.get(id) ?? ++this.#lastKey]));
    this.#inForce = new Set(this.#keys.values());
    const names = new Set(quotas.map(({ name }) => name));
    for (const name of this.#counts.keys()) if (!names.has(name)) this.#counts.delete(name);
  }

  /** Counts by the name of the quota, for the metrics. */
  get counts(): ReadonlyMap<string, QuotaCounts> {
    return this.#counts;
  }

  begin(call: Call, details: PoolDetails): QuotaShare | undefined {
    if (this.#source === undefined) return undefined;
    const match = this.#matchOf(this.#source, call, details);
    if (match.rules.length === 0) return undefined;
    const nowMs = this.#options.clock.nowMs();
    const used = this.#usedBy(call, match, nowMs);
    this.#check(call, used, nowMs);
    for (const { usage, counts } of used) {
      usage.begin(call.args.length);
      counts.allowed++;
    }
    return match.needsEnd ? new Share(used) : NO_SHARE;
  }

  /** @throws KatamariError rate_limited, with the time until no quota is exceeded */
  #check(call: Call, used: readonly Used[], nowMs: number): void {
    let exceeded: { readonly rule: QuotaRule; readonly limit: QuotaLimit } | undefined;
    let retryAfterMs = 0;
    for (const { rule, usage, counts } of used) {
      const limit = usage.exceeded(nowMs);
      if (limit === undefined) continue;
      retryAfterMs = Math.max(retryAfterMs, usage.retryAfterMs(limit));
      if (exceeded !== undefined) continue;
      counts[limit]++;
      exceeded = { rule, limit };
    }
    if (exceeded !== undefined) throw this.#refuse(call, exceeded.rule, exceeded.limit, retryAfterMs);
  }

  #matchOf(source: QuotaSource, { identity, method }: Call, details: PoolDetails): Match {
    let byPool = this.#known.get(identity);
    if (byPool === undefined) this.#known.set(identity, (byPool = new WeakMap()));
    let byMethod = byPool.get(details);
    if (byMethod === undefined) byPool.set(details, (byMethod = new Map()));
    let match = byMethod.get(method);
    if (match === undefined) {
      const { service, version, roles } = details;
      const rules = source.quotasOf(identity, { service, version, method, poolRoles: roles });
      const needsEnd = rules.some(({ concurrency, bytes }) => concurrency !== undefined || bytes !== undefined);
      match = { rules, needsEnd, used: undefined, caller: undefined, key: '' };
      if (++this.#matches > MATCHES_MAX) this.#forget();
      else byMethod.set(method, match);
    }
    return match;
  }

  #forget(): void {
    this.#known = new WeakMap();
    this.#matches = 0;
  }

  /** What the caller has used of each rule. Kept for an identity that is always the same caller. */
  #usedBy(call: Call, match: Match, nowMs: number): readonly Used[] {
    if (match.used !== undefined && match.caller?.isForgotten !== true) {
      if (match.caller !== undefined) this.#touch(match.caller, match.key, nowMs);
      return match.used;
    }
    // A chassis chooses its name, and could choose a new one for each call.
    const key = call.identity.how === 'chassis' ? 'chassis' : callerKeyOf(call);
    const isShared = match.rules.every((rule) => rule.isShared);
    const caller = isShared ? undefined : this.#callerOf(key, nowMs);
    const used = match.rules.map((rule) => {
      const { byQuota } = rule.isShared || caller === undefined ? this.#shared : caller;
      return { rule, usage: this.#usageOf(rule, byQuota, nowMs), counts: this.#countsOf(rule) };
    });
    if (isShared || isProved(call.identity)) Object.assign(match, { used, caller, key });
    return used;
  }

  #callerOf(key: string, nowMs: number): UsageOfCaller {
    let caller = this.#callers.get(key);
    if (caller === undefined) {
      caller = { isForgotten: false, touchedAtMs: nowMs, byQuota: new Map() };
      this.#callers.set(key, caller);
    }
    return caller;
  }

  /** Keeps an active caller from being forgotten. */
  #touch(caller: UsageOfCaller, key: string, nowMs: number): void {
    if (nowMs - caller.touchedAtMs < TOUCH_EVERY_MS) return;
    caller.touchedAtMs = nowMs;
    this.#callers.get(key);
  }

  #usageOf(rule: QuotaRule, byQuota: Map<number, Usage>, nowMs: number): Usage {
    const key = this.#keys.get(rule.id) as number;
    let usage = byQuota.get(key);
    if (usage !== undefined) return usage;
    // Quotas that the policy no longer has.
    for (const old of byQuota.keys()) if (!this.#inForce.has(old)) byQuota.delete(old);
    byQuota.set(key, (usage = new Usage(rule, nowMs)));
    return usage;
  }

  #refuse(call: Call, rule: QuotaRule, limit: QuotaLimit, retryAfterMs: number): KatamariError {
    this.#options.onRefused(call, rule, limit);
    const whose = rule.isShared ? 'The callers of this quota have' : 'This caller has';
    const why = `${whose} reached the ${limit} of ${rule.where} of the access policy: ${describeQuota(rule)}; try again in ${retryAfterMs} ms`;
    return new KatamariError('rate_limited', why, { notRun: true, retryAfterMs });
  }

  #countsOf({ name }: QuotaRule): Counts {
    let counts = this.#counts.get(name);
    if (counts === undefined) this.#counts.set(name, (counts = { allowed: 0, rate: 0, concurrency: 0, bytes: 0 }));
    return counts;
  }
}

type Counts = Record<QuotaLimit | 'allowed', number>;

/** The rules for the calls of an identity to one method of a pool. */
interface Match {
  readonly rules: readonly QuotaRule[];
  /** Whether the end of a call changes what a caller may use. */
  readonly needsEnd: boolean;
  used: readonly Used[] | undefined;
  /** Whose use `used` has, and the key of that caller. */
  caller: UsageOfCaller | undefined;
  key: string;
}

interface Used {
  readonly rule: QuotaRule;
  readonly usage: Usage;
  readonly counts: Counts;
}

/** What one caller has used, by the key of the quota. */
interface UsageOfCaller {
  /** Whether later calls of the caller use another object. */
  isForgotten: boolean;
  touchedAtMs: number;
  readonly byQuota: Map<number, Usage>;
}

/** What one caller has used of a quota, or all callers of a shared one. */
class Usage {
  readonly #concurrency: number;
  readonly #calls: Bucket | undefined;
  readonly #bytes: Bucket | undefined;
  #running = 0;

  constructor(rule: QuotaRule, nowMs: number) {
    this.#concurrency = rule.concurrency ?? Number.POSITIVE_INFINITY;
    this.#calls = rule.rate === undefined ? undefined : new Bucket(rule.rate, nowMs);
    this.#bytes = rule.bytes === undefined ? undefined : new Bucket(rule.bytes, nowMs);
  }

  /** The limit that another call would exceed. */
  exceeded(nowMs: number): QuotaLimit | undefined {
    if (this.#running >= this.#concurrency) return 'concurrency';
    if (this.#calls !== undefined && this.#calls.fill(nowMs) < 1) return 'rate';
    if (this.#bytes !== undefined && this.#bytes.fill(nowMs) <= 0) return 'bytes';
    return undefined;
  }

  /** When a call may be allowed again, after `exceeded`. */
  retryAfterMs(limit: QuotaLimit): number {
    if (limit === 'concurrency') return CONCURRENCY_RETRY_MS;
    const untilMs = limit === 'rate' ? this.#calls?.untilMs(1) : this.#bytes?.untilMs(1);
    return Math.max(1, Math.ceil(untilMs ?? 0));
  }

  begin(bytes: number): void {
    this.#running++;
    this.#calls?.take(1);
    this.#bytes?.take(bytes);
  }

  end(bytes: number): void {
    this.#running--;
    this.#bytes?.take(bytes);
  }
}

/** A token bucket that may owe tokens. */
class Bucket {
  readonly #rate: Rate;
  #tokens: number;
  #filledAtMs: number;

  constructor(rate: Rate, nowMs: number) {
    this.#rate = rate;
    this.#tokens = rate.burst;
    this.#filledAtMs = nowMs;
  }

  /** Adds the tokens that have become due, and returns how many there are. */
  fill(nowMs: number): number {
    const { perMs, burst } = this.#rate;
    this.#tokens = Math.min(burst, this.#tokens + (nowMs - this.#filledAtMs) * perMs);
    this.#filledAtMs = nowMs;
    return this.#tokens;
  }

  /** Owes at most as much as it can hold, so that a caller is never refused for longer than two refills. */
  take(tokens: number): void {
    this.#tokens = Math.max(-this.#rate.burst, this.#tokens - tokens);
  }

  /** Time until the bucket has that many tokens, in ms. */
  untilMs(tokens: number): number {
    return (tokens - this.#tokens) / this.#rate.perMs;
  }
}

class Share implements QuotaShare {
  readonly #used: readonly Used[];

  constructor(used: readonly Used[]) {
    this.#used = used;
  }

  end(bytes: number): void {
    for (const { usage } of this.#used) usage.end(bytes);
  }
}

/** Of a call whose end gives nothing back. */
const NO_SHARE: QuotaShare = { end: () => undefined };
/** Callers whose use is known; about 20 MB, and 20 MB more for each further quota that applies to all of them. */
const CALLERS_MAX = 100_000;
const TOUCH_EVERY_MS = 1_000;
/** Methods of pools by identity, of all callers together; about 100 MB. All are forgotten when there are more. */
const MATCHES_MAX = 1_000_000;
/** When a running call will end is unknown. */
const CONCURRENCY_RETRY_MS = 100;
