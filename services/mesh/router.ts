// The router picks the pool and the manager of every call, shortens the deadline to the timeout of the method, and
// retries calls that did not run or are idempotent, within the deadline and a retry budget. The matching pools of a
// call without roles, tags and details come from a cache.
//
// When several managers serve a pool, the router binds late, in two steps. It first offers the call to managers that
// reported a free resource, with `doNotQueue`; a stale report costs one round trip. If all of them refuse, the call
// waits in the queue of the least loaded manager. So no call waits for a busy worker while another worker is idle.
// While no manager of the pool is reachable, the call waits in the router. So does a call for a service that is
// deployed and has no copy yet.

import { DeadlineWheel, WaitingCallsByKey } from '../../core/link/mod.ts';
import { asKatamariError, ERROR_TABLE, KatamariError, type Clock, NO_COPY_UP, RetryBudget } from '../../core/mod.ts';
import {
  ANONYMOUS,
  dispatchOf,
  hasNoDetails,
  withCall,
  type Call,
  type CallerIdentity,
  type CallSink,
  type ChosenPool,
  type CallWithoutPool,
  type Directory,
  type Dispatch,
  type PoolView,
  type Reply,
  type Send,
  type PoolQuery,
} from '../../core/rpc/mod.ts';
import type { Method } from '../../core/thrift/mod.ts';
import { AccessFilter, type AccessPolicy, type CallQuotas, type QuotaShare } from './access-filter.ts';
import { ArgumentKey } from './argument-key.ts';
import { chooseManager } from './choose-manager.ts';
import { chooseByRoute, type ChoiceReason, highestVersion, shareOf } from './choose-version.ts';
import { awaitedBy, type DeployedService } from './deployed.ts';
import { explainRoute, type RouteExplanation } from './explain-route.ts';
import { matchPlainCall, matchPools, type ServiceEntry } from './match-pools.ts';
import { mergeViews } from './merged-view.ts';
import {
  ambiguousMethodError,
  failedError,
  noMatchError,
  unknownMethodError,
  unknownServiceError,
} from './no-pool-error.ts';
import type { Offer } from './offer.ts';
import { isNoRoute, type Route, type Routes } from './route.ts';
import { RuleCounts, type RuleCount } from './rule-counts.ts';
import { VersionSplits } from './version-split.ts';

export interface RouterOptions {
  readonly clock: Clock;
  /** Called for every call that the access policy denies. */
  readonly onDenied?: ConstructorParameters<typeof AccessFilter>[0];
  readonly quotas?: CallQuotas;
  /** For tests: 0..1. */
  readonly random?: () => number;
}

export class Router implements Directory {
  readonly #clock: Clock;
  readonly #budget: RetryBudget;
  readonly #access: AccessFilter;
  readonly #ruleCounts: RuleCounts = new RuleCounts();
  readonly #quotas: CallQuotas | undefined;
  readonly #random: () => number;
  #services: ReadonlyMap<string, ServiceEntry> = new Map();
  /** Names of services by method, for calls that name no service. */
  #servicesByMethod: ReadonlyMap<string, readonly string[]> = new Map();
  #offers: readonly Offer[] = [];
  #deployed: readonly DeployedService[] = [];
  #routes: Routes = new Map();
  #views: readonly PoolView[] = [];
  /** Calls that wait for a reachable manager or a first copy, by service; '' for calls that name none. */
  readonly #waiting: WaitingCallsByKey;

  constructor({ clock, onDenied = () => undefined, quotas, random = Math.random }: RouterOptions) {
    this.#clock = clock;
    this.#quotas = quotas;
    this.#random = random;
    this.#access = new AccessFilter(onDenied);
    this.#budget = new RetryBudget(clock);
    this.#waiting = new WaitingCallsByKey({ clock, deadlines: new DeadlineWheel(clock), max: WAITING_MAX });
  }

  /**
   * Replaces the set of pools. Calls that were already sent stay with their manager; calls that wait in the router
   * are routed again.
   * @param deployed what should run, merged (mergeDeployed)
   */
  setOffers(offers: readonly Offer[], deployed: readonly DeployedService[] = []): void {
    this.#offers = [...offers].sort(byServiceThenVersion);
    this.#deployed = deployed;
    this.#rebuild();
  }

  setRoutes(routes: Routes): void {
    this.#routes = routes;
    this.#rebuild();
  }

  /** Replaces the access policy. Calls that were already sent are not affected. */
  setPolicy(policy: AccessPolicy | undefined): void {
    this.#access.setPolicy(policy);
  }

  mayCall(identity: CallerIdentity, pool: PoolView, method: string): boolean {
    return this.#access.mayCall(identity, pool, method);
  }

  /** Whether a caller may call some method of a pool. */
  isVisible(identity: CallerIdentity, pool: PoolView): boolean {
    if (!this.#access.isLimited(identity)) return true;
    return [...pool.interface.methods.keys()].some((method) => this.#access.mayCall(identity, pool, method));
  }

  /** Returns each pool once, even if several managers serve it. */
  pools(): readonly PoolView[] {
    return this.#views;
  }

  choose(query: PoolQuery): ChosenPool {
    const reason: ChoiceReason = { rule: '' };
    const pool = this.#chooseOffers(query, reason, true)[0] as Offer;
    const { rule, encoded } = reason;
    if (rule === '' && encoded === undefined) return pool;
    const { id, details, interface: iface, free, alive, queued } = pool;
    const chosen = { id, details, interface: iface, free, alive, queued, rule };
    return encoded?.interface.id === iface.id ? { ...chosen, args: encoded.args } : chosen;
  }

  waitForCopy(query: PoolQuery, call: CallWithoutPool): boolean {
    const { service, method, identity = ANONYMOUS } = query;
    if (method !== '' && !this.#access.mayName(identity, service, method)) return false;
    const awaited = this.#awaited(query);
    const [first] = awaited;
    if (first === undefined) return false;
    const coming = awaited.filter(({ failure }) => failure === '');
    if (coming.length === 0) {
      call.fail(failedError(first));
      return true;
    }
    const max = coming.reduce((sum, { queueMax }) => sum + queueMax, 0);
    const names = coming.slice(0, NAMES_SHOWN_MAX).map(({ service, version }) => `${service}@${version}`);
    this.#wait(query.service, call, Math.min(max, WAITING_PER_SERVICE_MAX), {
      what: `a copy of ${names.join(' or ')}`,
      end: 'is up',
    });
    return true;
  }

  /** Returns the share of a service's calls that a version gets now, 0..1. */
  weightOf(service: string, version: string): number {
    const entry = this.#services.get(service);
    return entry === undefined ? 0 : shareOf(entry, version);
  }

  /** Routes a call. */
  readonly send: Send = (call, sink) => {
    this.#budget.called();
    this.#try(new RoutedCall(this, call, sink));
  };

  readonly dispatch: Dispatch = dispatchOf(this.send);

  /** Says what the route of a service does with a call; undefined for an unknown service. It counts no call. */
  explain(query: PoolQuery): RouteExplanation | undefined {
    const entry = this.#services.get(query.service);
    if (entry === undefined) return undefined;
    // Splits of its own: the next call of a client gets the version that it would have got.
    const apart = { ...entry, splits: new VersionSplits(entry.splits.salt, this.#random) };
    const offers = query.method === '' ? entry.offers : matchPools(entry, query);
    return explainRoute(entry, query, (reason) => {
      if (offers.length === 0) throw noMatchError(entry, query, this.#known);
      return chooseByRoute(apart, offers, query, reason);
    });
  }

  /** Calls that rules of routes have led. */
  ruleCounts(): readonly RuleCount[] {
    return this.#ruleCounts.read();
  }

  /** Picks a pool and a manager for the next try of a call and sends it, or lets it wait for a reachable manager. */
  #try(routed: RoutedCall): void {
    let offer: Offer | undefined;
    let service = '';
    try {
      const { call, next } = routed;
      // A faceplate that has asked `choose` sends the version that it got, and later tries have that of the first.
      const offers = this.#chooseOffers(next, routed, next === call && call.rule === undefined);
      this.#charge(routed, offers[0] as Offer);
      offer = chooseManager(offers, routed.failedOffer, routed.busyOffers);
      if (offer !== undefined) {
        const { doNotQueue } = call;
        routed.isProbe = offers.length > 1 && offer.free > 0 && routed.busyOffers?.includes(offer) !== true;
        routed.offersCount = offers.length;
        routed.offer = offer;
        routed.method = offer.interface.methods.get(routed.call.method) as Method;
        routed.next = this.#prepare(routed.next, offer, routed.method, routed.isProbe || doNotQueue);
      } else service = (offers[0] as Offer).details.service;
    } catch (thrown) {
      if (isNoPool(thrown) && this.waitForCopy(routed.next, this.#waitingFor(routed))) return;
      routed.end(asKatamariError(thrown));
      return;
    }
    if (offer === undefined) this.#waitForManager(routed, service);
    else {
      if (routed.rule !== '') this.#countRule(routed, offer);
      offer.send(routed.next, routed);
    }
  }

  #countRule(routed: RoutedCall, { details: { service, version } }: Offer): void {
    if (routed.isCounted) return;
    routed.isCounted = true;
    this.#ruleCounts.add(service, version, routed.rule);
  }

  /**
   * Takes a call's share of the quotas of its caller, once. An operator must not be locked out by a quota.
   * @throws KatamariError rate_limited
   */
  #charge(routed: RoutedCall, { isOpen, details }: Offer): void {
    if (routed.isCharged || this.#quotas === undefined || isOpen === true) return;
    routed.isCharged = true;
    routed.share = this.#quotas.begin(routed.call, details);
  }

  /** Handles a failed try: sends the call elsewhere, or fails it. */
  failed(routed: RoutedCall, error: KatamariError): void {
    const { call, next, busyOffers } = routed;
    const offer = routed.offer as Offer;
    // The refused call did not run, so trying the next manager does not count as a retry.
    const hasOtherManager = !call.doNotQueue || busyOffers === undefined || busyOffers.length + 1 < routed.offersCount;
    if (routed.isProbe && isRefusal(error) && hasOtherManager) {
      (routed.busyOffers ??= []).push(offer);
      routed.next = withCall(next, { doNotQueue: call.doNotQueue });
    } else if (this.#takeRetry(next, routed.method as Method, offer, error)) {
      routed.failedOffer = offer;
      routed.busyOffers = undefined;
      routed.next = withCall(next, { attempt: next.attempt + 1, doNotQueue: call.doNotQueue });
    } else if (isGone(error) && !offer.isReachable && !call.doNotQueue) {
      // The only manager stops, or has restarted and not started this pool yet. The call did not run and waits.
      routed.busyOffers = undefined;
      routed.next = withCall(next, { doNotQueue: false });
    } else {
      routed.end(error);
      return;
    }
    this.#try(routed);
  }

  /** Lets a call wait until a manager of its service is reachable. */
  #waitForManager(routed: RoutedCall, service: string): void {
    const { version } = routed.next;
    const requested = version === '' ? service : `${service}@${version}`;
    this.#wait(service, this.#waitingFor(routed), WAITING_PER_SERVICE_MAX, {
      what: `a manager of ${requested}`,
      end: 'is reachable',
    });
  }

  #waitingFor(routed: RoutedCall): CallWithoutPool {
    const { deadlineMs, signal } = routed.next;
    return {
      deadlineMs,
      signal,
      doNotQueue: routed.call.doNotQueue,
      resume: () => this.#try(routed),
      fail: (error) => routed.end(error),
    };
  }

  /**
   * Lets a call wait until the pools change. Fails it with `overloaded` if it must not queue or too many calls wait.
   * @param awaited what it waits for, as parts of a sentence: `a manager of Work`, `is reachable`
   */
  #wait(key: string, call: CallWithoutPool, max: number, { what, end }: { what: string; end: string }): void {
    const facts = { notRun: true, retryAfterMs: RETRY_AFTER_MS };
    if (call.doNotQueue) {
      const why = `The call asked not to wait for ${what}, and none ${end} yet; try again in ${RETRY_AFTER_MS} ms`;
      call.fail(new KatamariError('overloaded', why, facts));
      return;
    }
    const isWaiting = this.#waiting.add(key, max, call, {
      resume: () => call.resume(),
      fail: (error) => call.fail(error),
      timeoutError: () =>
        new KatamariError('timeout', `Waited for ${what} until the deadline: none ${end}`, NO_COPY_UP),
    });
    if (isWaiting) return;
    const ofKey = this.#waiting.count(key);
    const limit =
      ofKey >= max
        ? `${ofKey} calls are waiting, limit is ${max}`
        : `${this.#waiting.count()} calls of all services are waiting, limit is ${WAITING_MAX}`;
    const why = `Cannot wait for ${what}: ${limit}; try again in ${RETRY_AFTER_MS} ms`;
    call.fail(new KatamariError('overloaded', why, facts));
  }

  /** The deployments without a copy that a call could use; of those with a weight, if its route has any. */
  #awaited(query: PoolQuery): readonly DeployedService[] {
    if (query.service === '') {
      // The interface of a service without pools is unknown: it may be the one with this method.
      if (this.#servicesByMethod.has(query.method)) return [];
      return [...this.#services.values()].flatMap(({ deployed, offers }) => awaitedBy(query, deployed, offers));
    }
    const entry = this.#services.get(query.service);
    if (entry === undefined) return [];
    const awaited = awaitedBy(query, entry.deployed, entry.offers);
    const weighted = awaited.filter(({ version }) => (entry.route?.weights[version] ?? 0) > 0);
    return query.version === '' && weighted.length > 0 ? weighted : awaited;
  }

  /**
   * Returns the call to send to the pool. It names the exact service and version, and its deadline is shortened to
   * the timeout of the method.
   */
  #prepare(call: Call, { details: { service, version } }: Offer, method: Method, doNotQueue: boolean): Call {
    const latestMs =
      method.timeoutMs === 0 ? call.deadlineMs : Math.min(call.deadlineMs, this.#clock.nowMs() + method.timeoutMs);
    const isSame = call.version === version && call.service === service && call.doNotQueue === doNotQueue;
    if (isSame && latestMs === call.deadlineMs) return call;
    return withCall(call, { service, version, deadlineMs: latestMs, doNotQueue });
  }

  /** Takes a retry from the budget; false when the call must not or cannot be sent again. */
  #takeRetry(call: Call, method: Method, offer: Offer, error: KatamariError): boolean {
    // After a timeout, too little time is left for another try. A call that may have cost a copy its life would cost
    // the next one too.
    if (error.code === 'timeout' || error.facts.isSuspect === true) return false;
    // A manager refuses with `no_pool` while it starts or removes a pool that Consul lists. Retry as after a
    // full queue.
    const rule = error.code === 'no_pool' && error.facts.notRun === true ? 'yes' : ERROR_TABLE[error.code].retry;
    const isSafe = rule === 'yes' || (rule === 'if idempotent' && (method.isIdempotent || error.facts.notRun === true));
    if (
      !isSafe ||
      call.attempt >= ATTEMPTS_MAX ||
      this.#clock.nowMs() >= call.deadlineMs ||
      call.signal?.aborted === true
    )
      return false;
    // Do not retry at a manager whose queue is full. Another manager of the pool may have room.
    if (rule === 'yes' && !this.#hasOtherManager(offer)) return false;
    return this.#budget.take();
  }

  #hasOtherManager({ details: { service, version }, manager }: Offer): boolean {
    const { offers = [] } = this.#services.get(service) ?? {};
    return offers.some((other) => other.details.version === version && other.manager !== manager && other.isReachable);
  }

  /**
   * The offers of the pool for a call, one per manager; never empty. Versions that the caller may not call are no
   * candidates.
   * @param isWish whether the caller asks for the version of the query @throws KatamariError `no_pool`, `denied`
   */
  #chooseOffers(query: PoolQuery, reason: ChoiceReason, isWish: boolean): readonly Offer[] {
    const identity = query.identity ?? ANONYMOUS;
    const entry = this.#services.get(query.service) ?? this.#serviceOf(query, identity);
    const offers = this.#match(entry, query, identity);
    if (offers.length === 0) throw this.#access.denied(identity, query);
    if (query.version !== '') {
      if (isWish && entry.route?.callersChoose === false) throw wishDenied(entry.name, query.version);
      return highestVersion(offers, query);
    }
    const chosen = chooseByRoute(entry, offers, query, reason);
    if (chosen.length === 0) throw this.#noPool(identity, query, noMatchError(entry, query, this.#known));
    return chosen;
  }

  /** The matching offers that the caller may call; empty if there are only others. @throws KatamariError `no_pool` */
  #match(entry: ServiceEntry, query: PoolQuery, identity: CallerIdentity): readonly Offer[] {
    const isPlain = query.roles.length === 0 && query.tags.length === 0 && hasNoDetails(query);
    const matching = isPlain ? matchPlainCall(entry, query) : matchPools(entry, query);
    if (matching.length === 0) throw this.#noPool(identity, query, noMatchError(entry, query, this.#known));
    if (isPlain) return this.#access.allowed(identity, matching, query);
    if (!this.#access.isLimited(identity)) return matching;
    // Of the pools that the caller may call, the best is chosen: tags and details must not lead to another one.
    const offers = entry.offers.filter((offer) => this.#access.mayCall(identity, offer, query.method));
    return matchPools({ ...entry, offers }, query);
  }

  /** The service of a call that names none: the only service that has the method. @throws KatamariError `no_pool` */
  #serviceOf(query: PoolQuery, identity: CallerIdentity): ServiceEntry {
    if (query.service !== '') throw this.#noPool(identity, query, unknownServiceError(query, this.#known));
    const all = this.#servicesByMethod.get(query.method) ?? [];
    const names = this.#access.isLimited(identity)
      ? all.filter((name) => this.#mayCallAny(identity, this.#services.get(name) as ServiceEntry, query.method))
      : all;
    const entry = this.#services.get(names[0] ?? '');
    if (entry === undefined) throw this.#noPool(identity, query, unknownMethodError(query, this.#known));
    if (names.length > 1) throw ambiguousMethodError(query, names);
    return entry;
  }

  #mayCallAny(identity: CallerIdentity, { offers }: ServiceEntry, method: string): boolean {
    return offers.some((offer) => this.#access.mayCall(identity, offer, method));
  }

  /** Keeps what the mesh offers from callers that may not call it: neither the code nor the text tells them. */
  #noPool(identity: CallerIdentity, query: PoolQuery, error: KatamariError): KatamariError {
    if (!this.#access.isLimited(identity)) return error;
    const { service, version, method } = query;
    if (!this.#access.mayName(identity, service, method)) return this.#access.denied(identity, query);
    const target = `${service}${version === '' ? '' : `@${version}`}${service === '' ? '' : '.'}${method}`;
    return new KatamariError('no_pool', `No pool that this caller may call offers ${target}`, error.facts);
  }

  get #known(): {
    services: ReadonlyMap<string, ServiceEntry>;
    servicesByMethod: ReadonlyMap<string, readonly string[]>;
  } {
    return { services: this.#services, servicesByMethod: this.#servicesByMethod };
  }

  #rebuild(): void {
    const services = new Map<string, ServiceEntry & { readonly offers: Offer[] }>();
    const byMethod = new Map<string, Set<string>>();
    const deployed = new Map<string, DeployedService[]>();
    for (const one of this.#deployed) deployed.set(one.service, [...(deployed.get(one.service) ?? []), one]);
    for (const offer of this.#offers) {
      const { service } = offer.details;
      const known = services.get(service);
      if (known !== undefined) known.offers.push(offer);
      else {
        const route = this.#routeOf(service);
        const offers = [offer];
        services.set(service, {
          name: service,
          offers,
          deployed: deployed.get(service) ?? [],
          route,
          argumentKey: ArgumentKey.forRoute(route, offers),
          plainMatches: new Map(),
          splits: this.#splitsOf(service, route),
        });
      }
      for (const method of offer.interface.methods.keys()) {
        const names = byMethod.get(method) ?? new Set();
        byMethod.set(method, names.add(service));
      }
    }
    for (const [name, ofService] of deployed) {
      if (services.has(name)) continue;
      const route = this.#routeOf(name);
      services.set(name, {
        name,
        offers: [],
        deployed: ofService,
        route,
        argumentKey: undefined,
        plainMatches: new Map(),
        splits: this.#splitsOf(name, route),
      });
    }
    this.#services = services;
    this.#servicesByMethod = new Map([...byMethod].map(([method, names]) => [method, [...names]]));
    this.#views = mergeViews(this.#offers);
    this.#access.forget();
    this.#waiting.resume();
  }

  /** A change of pools or weights does not begin the pattern of versions anew. */
  #splitsOf(service: string, route: Route | undefined): VersionSplits {
    const known = this.#services.get(service)?.splits;
    const salt = route?.experiment ?? service;
    return known?.salt === salt ? known : new VersionSplits(salt, this.#random);
  }

  /** The route of a service; undefined when it has no rules, and no version has a weight. */
  #routeOf(service: string): Route | undefined {
    const route = this.#routes.get(service);
    return route === undefined || isNoRoute(route) ? undefined : route;
  }
}

/** One call in the router: the managers that were tried, and the sink for the result. */
class RoutedCall implements CallSink {
  readonly #router: Router;
  /** The call as the client sent it. */
  readonly call: Call;
  readonly #sink: CallSink;
  /** The call as it was last sent, or as it will be sent next. */
  next: Call;
  /** The manager of the last try. */
  offer: Offer | undefined = undefined;
  method: Method | undefined = undefined;
  /** Whether the last try was sent with `doNotQueue`, to a manager that reported a free resource. */
  isProbe = false;
  /** Number of managers that serve the pool of the last try. */
  offersCount = 0;
  /** The manager of the last try that failed and is retried. */
  failedOffer: Offer | undefined = undefined;
  /** Managers that refused the call because no resource was free. */
  busyOffers: Offer[] | undefined = undefined;

  /** Whether its caller's quotas were asked, and what it has taken of them. */
  isCharged = false;
  share: QuotaShare | undefined = undefined;
  rule: string;
  /** Whether it was counted for its rule. */
  isCounted = false;

  constructor(router: Router, call: Call, sink: CallSink) {
    this.#router = router;
    this.call = call;
    this.#sink = sink;
    this.next = call;
    this.rule = call.rule ?? '';
  }

  reply(reply: Reply): void {
    this.share?.end(reply.body.length);
    this.#sink.reply(this.rule === '' ? reply : { ...reply, context: { ...reply.context, rule: this.rule } });
  }

  /** Fails the call for good. */
  end(error: KatamariError): void {
    this.share?.end(0);
    this.#sink.fail(error);
  }

  fail(error: KatamariError): void {
    this.#router.failed(this, error);
  }
}

function wishDenied(service: string, version: string): KatamariError {
  const why = `the route of ${service} does not let callers choose one; leave it out`;
  return new KatamariError('denied', `This call asks for version ${version}, and ${why}`);
}

function isNoPool(thrown: unknown): boolean {
  return thrown instanceof KatamariError && thrown.code === 'no_pool';
}

/** Whether a manager refused a call because it had no free resource or its queue was full. */
function isRefusal({ code, facts }: KatamariError): boolean {
  return code === 'overloaded' && facts.notRun === true;
}

/** Whether a manager refused a call because it does not have the pool, or not for long. */
function isGone({ code, facts }: KatamariError): boolean {
  return (code === 'no_pool' || code === 'draining') && facts.notRun === true;
}

function byServiceThenVersion(a: Offer, b: Offer): number {
  if (a.details.service !== b.details.service) return a.details.service < b.details.service ? -1 : 1;
  return a.details.version === b.details.version ? 0 : a.details.version < b.details.version ? -1 : 1;
}

const ATTEMPTS_MAX = 3;
/** Calls of all services together that may wait for a reachable manager. */
const WAITING_MAX = 10_000;
/** Lower than the total, so that one service without reachable managers leaves room for the calls of others. */
const WAITING_PER_SERVICE_MAX = 5_000;
const RETRY_AFTER_MS = 500;
const NAMES_SHOWN_MAX = 5;
