// The router sends every call to a manager of its pool (routing-table.ts), shortens the deadline to the timeout of the
// method, and retries calls that did not run or are idempotent, within the deadline and a retry budget.
//
// When several managers serve a pool, the router binds late, in two steps. It first offers the call to managers that
// reported a free resource, with `doNotQueue`; a stale report costs one round trip. If all of them refuse, the call
// waits in the queue of the least loaded manager. So no call waits for a busy worker while another worker is idle.
// While no manager of the pool is reachable, the call waits in the router. So does a call for a service that is
// deployed and has no copy yet.

import { DeadlineWheel } from '../../core/link/mod.ts';
import { asKatamariError, ERROR_TABLE, KatamariError, type Clock, RetryBudget } from '../../core/mod.ts';
import {
  ANONYMOUS,
  dispatchOf,
  NO_DETAILS,
  NONE,
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
import type { AssignmentLog } from './assignment-log.ts';
import { offersForCopy, type RouterCall } from './call-copy.ts';
import { AccessFilter, type AccessPolicy, type CallQuotas, type QuotaShare } from './access-filter.ts';
import { chooseManager } from './choose-manager.ts';
import type { ChoiceReason } from './choose-version.ts';
import type { DeployedService } from './deployed.ts';
import type { RouteExplanation } from './explain-route.ts';
import { failedError } from './no-pool-error.ts';
import type { MirrorReport } from './mirror-report.ts';
import { Mirrors } from './mirrors.ts';
import type { Offer } from './offer.ts';
import { RobustCalls, type RobustCallsOptions } from './robust-calls.ts';
import type { RobustCount } from './robust-methods.ts';
import type { Routes } from './route.ts';
import { RouterWaits } from './router-waits.ts';
import { RoutingTable } from './routing-table.ts';
import { RuleCounts, type RuleCount } from './rule-counts.ts';
import type { VersionReport } from './version-count.ts';
import { VersionStats } from './version-stats.ts';

export interface RouterOptions {
  readonly clock: Clock;
  /** Called for every call that the access policy denies. */
  readonly onDenied?: ConstructorParameters<typeof AccessFilter>[0];
  readonly quotas?: CallQuotas;
  /** Gets the calls of services that have a route. */
  readonly assignments?: AssignmentLog | undefined;
  /** Called when the copies of a call give different answers, once in a while for each method. */
  readonly onDisagreement?: RobustCallsOptions['onDisagreement'];
  /** For tests: 0..1. */
  readonly random?: () => number;
}

export class Router implements Directory {
  readonly #budget: RetryBudget;
  readonly #access: AccessFilter;
  readonly #table: RoutingTable;
  readonly #ruleCounts: RuleCounts = new RuleCounts();
  readonly #quotas: CallQuotas | undefined;
  readonly #mirrors: Mirrors;
  /** Gets the calls that were answered; undefined while no route has a mirror. */
  activeMirrors: Mirrors | undefined = undefined;
  readonly #robust: RobustCalls;
  /** Sends copies of calls; undefined while no method has them. */
  #activeRobust: RobustCalls | undefined;
  readonly assignments: AssignmentLog | undefined;
  readonly #versions: VersionStats = new VersionStats();
  /** Gets the calls that have ended; undefined while no service has a route. */
  activeVersions: VersionStats | undefined = undefined;
  readonly clock: Clock;
  readonly #waits: RouterWaits;

  constructor(options: RouterOptions) {
    const { clock, onDenied = () => undefined, onDisagreement = () => undefined } = options;
    const { quotas, assignments, random = Math.random } = options;
    const deadlines = new DeadlineWheel(clock);
    this.clock = clock;
    this.assignments = assignments;
    this.#quotas = quotas;
    this.#access = new AccessFilter(onDenied);
    this.#table = new RoutingTable(this.#access, random);
    this.#mirrors = new Mirrors({ clock, offersOf: (query) => this.#table.offersOf(query) });
    this.#budget = new RetryBudget(clock);
    this.#waits = new RouterWaits(clock, deadlines);
    this.#robust = new RobustCalls({
      clock,
      deadlines,
      newCopy: (call, sink, holders) => new RoutedCall(this, call, sink, holders),
      send: (copy) => this.#try(copy as RoutedCall),
      offersOf: (query) => this.#table.offersOf(query),
      weightOf: (service, version) => this.#table.weightOf(service, version),
      onDisagreement,
    });
  }

  /**
   * Replaces the set of pools. Calls that were already sent stay with their manager; calls that wait in the router
   * are routed again.
   * @param deployed what should run, merged (mergeDeployed)
   */
  setOffers(offers: readonly Offer[], deployed: readonly DeployedService[] = []): void {
    this.#table.setOffers(offers, deployed);
    this.#robust.setOffers(offers);
    this.#activeRobust = this.#robust.isActive ? this.#robust : undefined;
    this.#waits.resume();
  }

  setRoutes(routes: Routes): void {
    this.#table.setRoutes(routes);
    this.#mirrors.setRoutes(routes);
    this.activeMirrors = this.#mirrors.isActive ? this.#mirrors : undefined;
    this.#robust.setRoutes(routes);
    this.#activeRobust = this.#robust.isActive ? this.#robust : undefined;
    this.#versions.setRoutes(routes);
    this.activeVersions = this.#versions.isActive ? this.#versions : undefined;
    this.#waits.resume();
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
    return this.#table.pools();
  }

  choose(query: PoolQuery): ChosenPool {
    const reason: ChoiceReason = { rule: '' };
    const pool = this.#table.choose(query, reason, true)[0] as Offer;
    const { rule, encoded } = reason;
    if (rule === '' && encoded === undefined) return pool;
    const { id, details, interface: iface, free, alive, queued } = pool;
    const chosen = { id, details, interface: iface, free, alive, queued, rule };
    return encoded?.interface.id === iface.id ? { ...chosen, args: encoded.args } : chosen;
  }

  waitForCopy(query: PoolQuery, call: CallWithoutPool): boolean {
    const { service, method, identity = ANONYMOUS } = query;
    if (method !== '' && !this.#access.mayName(identity, service, method)) return false;
    const awaited = this.#table.awaited(query);
    const [first] = awaited;
    if (first === undefined) return false;
    const coming = awaited.filter(({ failure }) => failure === '');
    if (coming.length === 0) {
      call.fail(failedError(first));
      return true;
    }
    this.#waits.addForCopy(service, coming, call);
    return true;
  }

  /** Returns the share of a service's calls that a version gets now, 0..1. */
  weightOf(service: string, version: string): number {
    return this.#table.weightOf(service, version);
  }

  /** Routes a call. */
  readonly send: Send = (call, sink) => {
    this.#budget.called();
    this.#try(new RoutedCall(this, call, sink));
  };

  readonly dispatch: Dispatch = dispatchOf(this.send);

  /** Says what the route of a service does with a call; undefined for an unknown service. It counts no call. */
  explain(query: PoolQuery): RouteExplanation | undefined {
    return this.#table.explain(query);
  }

  /** The services with a route, by the name of their experiment. */
  experiments(): ReadonlyMap<string, readonly string[]> {
    return this.#table.experiments();
  }

  /**
   * Counts a value that a caller has reported for calls with a key, for the version that the weights give to it. Calls
   * that a rule leads are no part of the experiment.
   * @returns false if there are too many metrics
   */
  addOutcome(service: string, key: string, metric: string, value: number): boolean {
    const { version, rule } = this.#table.explain({ ...NO_QUERY, service, key }) ?? NO_VERSION;
    return version === '' || rule !== '' || this.#versions.addOutcome(service, version, metric, value);
  }

  /** Calls that rules of routes have led. */
  ruleCounts(): readonly RuleCount[] {
    return this.#ruleCounts.read();
  }

  /** What the mirrors of routes have found in this process. @param service '' for all */
  mirrorReport(service: string = ''): MirrorReport {
    return this.#mirrors.report(service);
  }

  /** Hedges and majorities of this process. */
  robustCounts(): readonly RobustCount[] {
    return this.#robust.counts();
  }

  /**
   * What this process has counted of services that have a route.
   * @param process name of this process
   * @param service '' for all
   */
  versionReports(process: string, service: string): readonly VersionReport[] {
    const { services } = this.#versions;
    const asked = service === '' ? services : services.filter((name) => name === service);
    return asked.map((serviceName) => ({
      serviceName,
      process,
      ...this.#versions.read(serviceName),
      mirrors: this.#mirrors.report(serviceName),
    }));
  }

  /** Picks a pool and a manager for the next try of a call and sends it, or lets it wait for a reachable manager. */
  #try(routed: RoutedCall): void {
    let offer: Offer | undefined;
    let service = '';
    try {
      const { call, next } = routed;
      // A faceplate that has asked `choose` sends the version that it got, and later tries have that of the first.
      const all = this.#table.choose(next, routed, next === call && call.rule === undefined);
      this.#charge(routed, all[0] as Offer);
      const { holders } = routed;
      const offers = holders === undefined ? all : offersForCopy(all, routed, holders, routed.busyOffers);
      offer = chooseManager(offers, routed.failedOffer, routed.busyOffers);
      if (offer !== undefined) {
        const { doNotQueue } = call;
        routed.isProbe = all.length > 1 && offer.free > 0 && routed.busyOffers?.includes(offer) !== true;
        routed.offersCount = all.length;
        routed.offer = offer;
        routed.method = offer.interface.methods.get(routed.call.method) as Method;
        if (this.#activeRobust !== undefined && this.#takesCopies(this.#activeRobust, routed, all)) return;
        routed.next = this.#prepare(routed.next, offer, routed.method, routed.isProbe || doNotQueue);
      } else service = (all[0] as Offer).details.service;
    } catch (thrown) {
      if (isNoPool(thrown) && this.waitForCopy(routed.next, this.#waitingFor(routed))) return;
      routed.end(asKatamariError(thrown));
      return;
    }
    if (offer === undefined) this.#waits.addForManager(service, routed.next.version, this.#waitingFor(routed));
    else {
      if (routed.rule !== '') this.#countRule(routed, offer);
      offer.send(routed.next, routed);
    }
  }

  /** Whether copies of a call are sent in its place, for which it then waits. */
  #takesCopies(robust: RobustCalls, routed: RoutedCall, offers: readonly Offer[]): boolean {
    if (routed.holders !== undefined || !robust.takes(routed, offers, routed.method as Method)) return false;
    if (routed.rule !== '') this.#countRule(routed, offers[0] as Offer);
    return true;
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

  /** Writes a line about a call that has ended, if its service has a route. */
  assigned(routed: RoutedCall, log: AssignmentLog, outcome: string): void {
    const { next, offer, rule, startedMs } = routed;
    const part = this.#table.experimentOf(next);
    if (part === undefined) return;
    const { service, method } = next;
    const version = offer?.details.version ?? '';
    log.add({ service, method, ...part, version, rule, outcome, durationMs: this.clock.nowMs() - startedMs });
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
   * Returns the call to send to the pool. It names the exact service and version, and its deadline is shortened to
   * the timeout of the method.
   */
  #prepare(call: Call, { details: { service, version } }: Offer, method: Method, doNotQueue: boolean): Call {
    const latestMs =
      method.timeoutMs === 0 ? call.deadlineMs : Math.min(call.deadlineMs, this.clock.nowMs() + method.timeoutMs);
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
      this.clock.nowMs() >= call.deadlineMs ||
      call.signal?.aborted === true
    )
      return false;
    // Do not retry at a manager whose queue is full. Another manager of the pool may have room.
    if (rule === 'yes' && !this.#table.hasOtherManager(offer)) return false;
    return this.#budget.take();
  }
}

/** One call in the router: the managers that were tried, and the sink for the result. */
class RoutedCall implements CallSink, RouterCall {
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
  /** When it came; -1 if nobody asks. */
  readonly startedMs: number;
  /** Of a copy of a call: the copies that have a chassis. Undefined for the call of a caller. */
  readonly holders: ReadonlySet<RouterCall> | undefined;

  constructor(router: Router, call: Call, sink: CallSink, holders?: ReadonlySet<RouterCall>) {
    this.#router = router;
    this.call = call;
    this.#sink = sink;
    this.next = call;
    this.holders = holders;
    // A copy is not charged and counted, since the call of the caller is.
    this.isCharged = holders !== undefined;
    this.isCounted = holders !== undefined;
    this.rule = call.rule ?? '';
    const isTimed = router.assignments !== undefined || router.activeVersions !== undefined;
    this.startedMs = isTimed ? router.clock.nowMs() : -1;
  }

  reply(reply: Reply): void {
    this.share?.end(reply.body.length);
    this.#sink.reply(this.rule === '' ? reply : { ...reply, context: { ...reply.context, rule: this.rule } });
    if (this.holders !== undefined) return;
    const { activeMirrors, activeVersions, assignments, clock } = this.#router;
    activeMirrors?.replied(this.next, this.offer as Offer, reply);
    if (activeVersions !== undefined && this.#isWeighted) {
      const { service, method } = this.next;
      activeVersions.replied(service, method, this.offer as Offer, reply, clock.nowMs() - this.startedMs);
    }
    if (assignments !== undefined) this.#router.assigned(this, assignments, reply.isException ? 'exception' : 'ok');
  }

  /** Fails the call for good. */
  end(error: KatamariError): void {
    this.share?.end(0);
    this.#sink.fail(error);
    if (this.holders !== undefined) return;
    const { activeVersions, assignments, clock } = this.#router;
    if (activeVersions !== undefined && this.offer !== undefined && this.#isWeighted) {
      const { service, method } = this.next;
      activeVersions.failed(service, method, this.offer, error.code, clock.nowMs() - this.startedMs);
    }
    if (assignments !== undefined) this.#router.assigned(this, assignments, error.code);
  }

  /** Whether the weights have chosen its version. It has no start if the first route was set after it came. */
  get #isWeighted(): boolean {
    const { version, rule } = this.call;
    return this.rule === '' && (rule === '' || (rule === undefined && version === '')) && this.startedMs >= 0;
  }

  fail(error: KatamariError): void {
    this.#router.failed(this, error);
  }
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

const NO_QUERY = { method: '', version: '', roles: NONE, tags: NONE, details: NO_DETAILS };
const NO_VERSION = { version: '', rule: '' };
const ATTEMPTS_MAX = 3;
