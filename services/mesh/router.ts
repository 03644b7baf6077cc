// The router: picks the pool of every call (DESIGN: details, roles, tags, then the route's weights), shortens its deadline to what the
import { asKatamariError, ERROR_TABLE, KatamariError, type Clock, RetryBudget } from '../../core/mod.ts';
import {
  dispatchOf,
  hasNoDetails,
  withCall,
  type Call,
  type CallSink,
  type PoolDetails,
  type Directory,
  type Dispatch,
  type PoolView,
  type Reply,
  type Send,
  type PoolQuery,
} from '../../core/rpc/mod.ts';
import type { Interface, Method } from '../../core/thrift/mod.ts';
import { pickManager } from './choose-manager.ts';
import { type ServiceEntry, score, splitByWeight, bestVersion, weight } from './choose-version.ts';
import type { Offer } from './offer.ts';
import { poolKey } from './pool-key.ts';
import type { Route } from './route.ts';

// method allows, and sends again what certainly did not run or may run twice, within the deadline and a retry budget.
// The plain call, which asks for nothing but a service, costs one map look-up and one step through the weights.
//
// A pool that several managers have is bound late, in two steps. First those believed to have a free resource are asked, 'do not queue': a
// wrong guess costs a round trip and is put right by the refusal. Only when none is free the call waits, in the queue of the least loaded. So no
// call waits for a busy worker while another is idle. While no manager can be reached the call waits here, until one can or its time is up.

import { satisfies, validRange } from 'semver';

export interface RouterOptions {
  readonly clock: Clock;
}

export class Router implements Directory {
  readonly #clock: Clock;
  readonly #budget: RetryBudget;
  #services: ReadonlyMap<string, ServiceEntry> = new Map();
  /** Services by the methods they have, for calls that name none. */
  #servicesByMethod: ReadonlyMap<string, readonly string[]> = new Map();
  #offers: readonly Offer[] = [];
  #routes: Readonly<Record<string, Route>> = {};
  #views: readonly PoolView[] = [];
  /** Calls that wait for a manager that can be reached. */
  readonly #waiting = new Set<() => void>();

  constructor({ clock }: RouterOptions) {
    this.#clock = clock;
    this.#budget = new RetryBudget(clock);
  }

  /** Takes over a new set of pools; calls under way are not touched, the next call sees it. */
  setOffers(offers: readonly Offer[]): void {
    this.#offers = [...offers].sort(byServiceThenVersion);
    this.#rebuild();
  }

  setRoutes(routes: Readonly<Record<string, Route>>): void {
    this.#routes = routes;
    this.#rebuild();
  }

  /** Each pool once, however many managers have it. */
  pools(): readonly PoolView[] {
    return this.#views;
  }

  choose(wanted: PoolQuery): PoolView {
    return this.#chooseOffers(wanted)[0] as Offer;
  }

  /** The share of its service's calls that a version gets, 0..1. */
  weightOf(service: string, version: string): number {
    const entry = this.#services.get(service);
    if (entry === undefined) return 0;
    const sum = entry.offers.reduce((total, offer) => total + weight(entry, offer), 0);
    const own = entry.offers
      .filter(({ details }) => details.version === version)
      .reduce((total, offer) => total + weight(entry, offer), 0);
    return sum === 0 ? 0 : own / sum;
  }

  /** The way into the mesh. */
  readonly send: Send = (call, sink) => {
    this.#budget.called();
    this.#go(new RoutedCall(this, call, sink));
  };

  readonly dispatch: Dispatch = dispatchOf(this.send);

  /** Picks a pool for the next try of a call, and sends it there. */
  #go(way: RoutedCall): void {
    let offer: Offer | undefined;
    try {
      const offers = this.#chooseOffers(way.next);
      offer = pickManager(offers, way.failed, way.busy);
      if (offer !== undefined) {
        const { doNotQueue } = way.call;
        way.isAsked = offers.length > 1 && offer.free > 0 && way.busy?.includes(offer) !== true;
        way.offersCount = offers.length;
        way.offer = offer;
        way.method = offer.interface.methods.get(way.call.method) as Method;
        way.next = this.#prepared(way.next, offer, way.method, way.isAsked || doNotQueue);
      }
    } catch (thrown) {
      way.sink.fail(asKatamariError(thrown));
      return;
    }
    if (offer !== undefined) {
      offer.send(way.next, way);
      return;
    }
    this.#change(way.next).then(
      () => this.#go(way),
      (thrown: unknown) => way.sink.fail(asKatamariError(thrown)),
    );
  }

  /** A try has failed: another one, or the end. */
  failed(way: RoutedCall, error: KatamariError): void {
    const { call, next, busy } = way;
    const offer = way.offer as Offer;
    // It did not run, and another may be free: part of the first try, not another one.
    const isOthersTurn = !call.doNotQueue || busy === undefined || busy.length + 1 < way.offersCount;
    if (way.isAsked && isRefusal(error) && isOthersTurn) {
      (way.busy ??= []).push(offer);
      way.next = withCall(next, { doNotQueue: call.doNotQueue });
    } else if (this.#mayRetry(next, way.method as Method, offer, error)) {
      way.failed = offer;
      way.busy = undefined;
      way.next = withCall(next, { attempt: next.attempt + 1, doNotQueue: call.doNotQueue });
    } else {
      way.sink.fail(error);
      return;
    }
    this.#go(way);
  }

  /** Resolves when something about the pools has changed. @throws KatamariError when the call's time or caller is gone first */
  #change(call: Call): Promise<void> {
    const { deadlineMs, signal } = call;
    const asked = `${call.service}${call.version === '' ? '' : `@${call.version}`}`;
    if (call.doNotQueue || this.#waiting.size >= WAITING_MAX) {
      const why = `No manager that has ${asked} can be reached at the moment`;
      return Promise.reject(new KatamariError('overloaded', why, { notRun: true, retryAfterMs: RETRY_AFTER_MS }));
    }
    return new Promise((resolve, reject) => {
      const end = (error?: KatamariError): void => {
        this.#waiting.delete(wake);
        stop();
        signal?.removeEventListener('abort', onAbort);
        if (error === undefined) resolve();
        else reject(error);
      };
      const wake = (): void => end();
      const onAbort = (): void => end(new KatamariError('cancelled', 'The caller has gone', { notRun: true }));
      const onDeadline = (): void => {
        const why = `Waited for a manager that has ${asked}: none could be reached`;
        end(new KatamariError('timeout', why, { stage: 'queue', notRun: true }));
      };
      const stop = this.#clock.after(Math.max(0, deadlineMs - this.#clock.nowMs()), onDeadline);
      this.#waiting.add(wake);
      if (signal?.aborted === true) onAbort();
      else signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** The call as it goes to the pool: exact service, deadline no later than the method allows. */
  #prepared(call: Call, { details: { service, version } }: Offer, method: Method, doNotQueue: boolean): Call {
    const latestMs =
      method.timeoutMs === 0 ? call.deadlineMs : Math.min(call.deadlineMs, this.#clock.nowMs() + method.timeoutMs);
    const isAsItIs = call.version === version && call.service === service && call.doNotQueue === doNotQueue;
    if (isAsItIs && latestMs === call.deadlineMs) return call;
    return withCall(call, { service, version, deadlineMs: latestMs, doNotQueue });
  }

  #mayRetry(call: Call, method: Method, offer: Offer, error: KatamariError): boolean {
    // A call that ran out of time, or waited until it had too little left, has none for another try.
    if (error.code === 'timeout') return false;
    // A manager that does not have what Consul says it has (it is starting, or ending that pool) is like a full one.
    const rule = error.code === 'no_pool' && error.facts.notRun === true ? 'yes' : ERROR_TABLE[error.code].retry;
    const isSafe = rule === 'yes' || (rule === 'if idempotent' && (method.isIdempotent || error.facts.notRun === true));
    if (
      !isSafe ||
      call.attempt >= ATTEMPTS_MAX ||
      this.#clock.nowMs() >= call.deadlineMs ||
      call.signal?.aborted === true
    )
      return false;
    // A full queue is not tried again where it is full: only another pool of the same kind may have room.
    if (rule === 'yes' && !this.#hasSibling(offer)) return false;
    return this.#budget.take();
  }

  #hasSibling({ details: { service, version }, manager }: Offer): boolean {
    const { offers = [] } = this.#services.get(service) ?? {};
    return offers.some((other) => other.details.version === version && other.manager !== manager && other.isReachable);
  }

  /** The pool that the call is for, once for each manager that has it; never empty. @throws KatamariError no_pool */
  #chooseOffers(wanted: PoolQuery): readonly Offer[] {
    const entry = this.#services.get(wanted.service) ?? this.#serviceOf(wanted);
    const isPlain = wanted.roles.length === 0 && wanted.tags.length === 0 && hasNoDetails(wanted);
    const offers = isPlain ? plainOffers(entry, wanted) : matchingOffers(entry, wanted);
    if (offers.length === 0) throw this.#nothingOffers(entry, wanted);
    return wanted.version === '' ? splitByWeight(entry, offers, wanted.key) : bestVersion(offers, wanted);
  }

  /** The service of a call that names none: the only one that has the method. */
  #serviceOf(wanted: PoolQuery): ServiceEntry {
    if (wanted.service !== '') throw this.#unknownService(wanted);
    const names = this.#servicesByMethod.get(wanted.method) ?? [];
    const entry = this.#services.get(names[0] ?? '');
    if (entry === undefined) {
      throw new KatamariError('no_pool', `No service here has a method "${wanted.method}"; ${this.#known()}`, {
        jsonRpcCode: METHOD_NOT_FOUND,
        notRun: true,
      });
    }
    if (names.length > 1) {
      throw new KatamariError(
        'no_pool',
        `Method "${wanted.method}" is in ${names.join(' and ')}; name the one that is meant, for example ${names[0]}:${wanted.method}`,
        { notRun: true },
      );
    }
    return entry;
  }

  #unknownService(wanted: PoolQuery): KatamariError {
    const jsonRpcCode = this.#servicesByMethod.has(wanted.method) ? undefined : METHOD_NOT_FOUND;
    const facts = { notRun: true, ...(jsonRpcCode === undefined ? {} : { jsonRpcCode }) };
    return new KatamariError('no_pool', `No pool offers ${wanted.service}; ${this.#known()}`, facts);
  }

  #nothingOffers(entry: ServiceEntry, wanted: PoolQuery): KatamariError {
    const versions = viewsOf(entry.offers).map(({ details: { version, roles }, alive }) => {
      const onlyFor = roles.length === 0 ? '' : ` for roles ${roles.join(', ')}`;
      return `${version} (${alive} ${alive === 1 ? 'resource' : 'resources'}${onlyFor})`;
    });
    const asked = `${entry.name}${wanted.version === '' ? '' : `@${wanted.version}`}`;
    const withRoles = wanted.roles.length === 0 ? '' : ` for roles ${wanted.roles.join(', ')}`;
    if (!entry.offers.some((offer) => offer.interface.methods.has(wanted.method))) {
      const methods = [...(entry.offers[0]?.interface.methods.keys() ?? [])].join(', ');
      const jsonRpcCode = this.#servicesByMethod.has(wanted.method) ? {} : { jsonRpcCode: METHOD_NOT_FOUND };
      return new KatamariError('no_pool', `${entry.name} has no method "${wanted.method}"; it has ${methods}`, {
        notRun: true,
        ...jsonRpcCode,
      });
    }
    if (fittingOffers(entry.offers, wanted).length > 0) {
      const having = entry.offers.filter((offer) => offer.interface.methods.has(wanted.method));
      const where = [...new Set(having.map(({ details }) => details.version))].join(', ');
      return new KatamariError('no_pool', `${asked}${withRoles} has no method "${wanted.method}"; it is in ${where}`, {
        notRun: true,
      });
    }
    return new KatamariError(
      'no_pool',
      `No pool offers ${asked}${withRoles}: versions here are ${versions.join(', ')}`,
      { notRun: true },
    );
  }

  #known(): string {
    const names = [...this.#services.keys()].filter((name) => name !== 'Katamari');
    return names.length === 0
      ? 'no chassis is up yet'
      : `services here are ${names.slice(0, NAMES_SHOWN_MAX).join(', ')}`;
  }

  #rebuild(): void {
    const services = new Map<string, ServiceEntry & { readonly offers: Offer[] }>();
    const byMethod = new Map<string, Set<string>>();
    for (const offer of this.#offers) {
      const { service } = offer.details;
      const known = services.get(service);
      if (known !== undefined) known.offers.push(offer);
      else {
        const turn = this.#services.get(service)?.turn ?? 0;
        services.set(service, {
          name: service,
          offers: [offer],
          route: this.#routes[service],
          plain: new Map(),
          turn,
        });
      }
      for (const method of offer.interface.methods.keys()) {
        const names = byMethod.get(method) ?? new Set();
        byMethod.set(method, names.add(service));
      }
    }
    this.#services = services;
    this.#servicesByMethod = new Map([...byMethod].map(([method, names]) => [method, [...names]]));
    this.#views = viewsOf(this.#offers);
    for (const wake of this.#waiting) wake();
  }
}

/** A call on its way through the router: what was tried, and who waits for its end. */
class RoutedCall implements CallSink {
  readonly #router: Router;
  /** As it came. */
  readonly call: Call;
  readonly sink: CallSink;
  /** As it was sent last, or is to be sent next. */
  next: Call;
  /** Where it was sent last. */
  offer: Offer | undefined = undefined;
  method: Method | undefined = undefined;
  /** It was sent to one believed free, and was not to wait there. */
  isAsked = false;
  offersCount = 0;
  failed: Offer | undefined = undefined;
  /** Managers that had no free resource when they were asked. */
  busy: Offer[] | undefined = undefined;

  constructor(router: Router, call: Call, sink: CallSink) {
    this.#router = router;
    this.call = call;
    this.sink = sink;
    this.next = call;
  }

  reply(reply: Reply): void {
    this.sink.reply(reply);
  }

  fail(error: KatamariError): void {
    this.#router.failed(this, error);
  }
}

/** Offers of the same pool by several managers as one. */
function viewsOf(offers: readonly Offer[]): readonly PoolView[] {
  const byPool = new Map<string, Offer[]>();
  for (const offer of offers) {
    const key = poolKey(offer.details, offer.interface.id);
    const same = byPool.get(key);
    if (same === undefined) byPool.set(key, [offer]);
    else same.push(offer);
  }
  return [...byPool.values()].map((same) => (same.length === 1 ? (same[0] as Offer) : new MergedView(same)));
}

class MergedView implements PoolView {
  readonly #offers: readonly Offer[];
  readonly id: string;
  readonly details: PoolDetails;
  readonly interface: Interface;

  constructor(offers: readonly Offer[]) {
    const [{ id, details, interface: found }] = offers as [Offer];
    this.#offers = offers;
    this.id = id;
    this.details = details;
    this.interface = found;
  }

  get free(): number {
    return this.#offers.reduce((sum, { free }) => sum + free, 0);
  }

  get alive(): number {
    return this.#offers.reduce((sum, { alive }) => sum + alive, 0);
  }

  get queued(): number {
    return this.#offers.reduce((sum, { queued }) => sum + queued, 0);
  }
}

/** As `matchingOffers`, remembered until the offers change. Methods that are not there, versions that are not and ranges are not remembered. */
function plainOffers(entry: ServiceEntry, wanted: PoolQuery): readonly Offer[] {
  const { method, version } = wanted;
  const known = entry.plain.get(version)?.get(method);
  if (known !== undefined) return known;
  const offers = matchingOffers(entry, wanted);
  if (offers.length > 0 && (version === '' || offers.every(({ details }) => details.version === version))) {
    const ofVersion = entry.plain.get(version) ?? new Map<string, readonly Offer[]>();
    entry.plain.set(version, ofVersion.set(method, offers));
  }
  return offers;
}

/** The method comes first: a pool that fits better in all else, but is of a state of the interface without it, is no offer. */
function matchingOffers({ offers }: ServiceEntry, wanted: PoolQuery): readonly Offer[] {
  return fittingOffers(
    offers.filter(({ interface: { methods } }) => methods.has(wanted.method)),
    wanted,
  );
}

/** Pools that the wall of roles, the version and the details let through; of those, the ones that match most. */
function fittingOffers(offers: readonly Offer[], wanted: PoolQuery): readonly Offer[] {
  const allowed = offers.filter(({ details }) => {
    if (!isSameSet(details.roles, wanted.roles) || !isWantedVersion(details.version, wanted.version)) return false;
    return Object.entries(wanted.details).every(
      ([key, value]) => details.more[key] === undefined || details.more[key] === value,
    );
  });
  if (allowed.length <= 1) return allowed;
  const scores = allowed.map((offer) => score(offer, wanted));
  const best = Math.max(...scores);
  return allowed.filter((_, index) => scores[index] === best);
}

/** Whether a version is the one that is asked for: that one, one in the range, or any for ''. */
export function isWantedVersion(version: string, wanted: string): boolean {
  if (wanted === '' || wanted === version) return true;
  return validRange(wanted) !== null && satisfies(version, wanted);
}

/** Had no free resource and was asked not to let the call wait. */
function isRefusal({ code, facts }: KatamariError): boolean {
  return code === 'overloaded' && facts.notRun === true;
}

function isSameSet(some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every((one) => others.includes(one));
}

function byServiceThenVersion(a: Offer, b: Offer): number {
  if (a.details.service !== b.details.service) return a.details.service < b.details.service ? -1 : 1;
  return a.details.version === b.details.version ? 0 : a.details.version < b.details.version ? -1 : 1;
}

const ATTEMPTS_MAX = 3;
/** Calls that may wait for a manager to be reachable. */
const WAITING_MAX = 10_000;
const RETRY_AFTER_MS = 500;
const METHOD_NOT_FOUND = -32_601;
const NAMES_SHOWN_MAX = 20;
