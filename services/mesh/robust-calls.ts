// Sends several copies of the calls of methods for which a route or the IDL asks for a hedge or a majority
// (route-robustness.ts). A router without such methods has no cost but the test of one field.

import { callerGone, type DeadlineWheel } from '../../core/link/mod.ts';
import type { Clock } from '../../core/mod.ts';
import type { Interface, Majority, Method } from '../../core/thrift/mod.ts';
import type { CopyTools, RouterCall } from './call-copy.ts';
import { HedgedCall } from './hedged-call.ts';
import { MajorityCall, type MajorityResult } from './majority-call.ts';
import type { Offer } from './offer.ts';
import { RobustMethods, type RobustCount, type RobustMethod } from './robust-methods.ts';
import { copyRuleOf, hasRobustness, type CopyRule } from './route-robustness.ts';
import type { Routes } from './route.ts';
import { randomBytes } from 'node:crypto';

export interface RobustCallsOptions extends CopyTools {
  readonly clock: Clock;
  readonly deadlines: DeadlineWheel;
  /** The share of a service's calls that a version gets now, 0 to 1. */
  readonly weightOf: (service: string, version: string) => number;
  /** Called when copies of a method give different answers, once in a while. */
  readonly onDisagreement: (method: string, why: string) => void;
}

export class RobustCalls {
  readonly #options: RobustCallsOptions;
  readonly #methods: RobustMethods;
  #routes: Routes = new Map();
  #hasRoute = false;
  #hasAnnotation = false;
  /** Rules by method, for each service with a route, and for those without one under ''. */
  readonly #rules = new Map<string, WeakMap<Method, CopyRule | 'none'>>();
  readonly #annotated = new WeakMap<Interface, boolean>();
  /** Groups of copies are named by this and a number, so that no two routers use the same name. */
  readonly #name: string = randomBytes(9).toString('base64url');
  #groups = 0;
  readonly #held = { bytes: 0 };

  constructor(options: RobustCallsOptions) {
    this.#options = options;
    this.#methods = new RobustMethods(options.clock);
  }

  /** Whether some method may have copies. */
  get isActive(): boolean {
    return this.#hasRoute || this.#hasAnnotation;
  }

  setRoutes(routes: Routes): void {
    this.#routes = routes;
    this.#hasRoute = [...routes.values()].some(hasRobustness);
    this.#rules.clear();
  }

  setOffers(offers: readonly Offer[]): void {
    this.#hasAnnotation = offers.some((offer) => this.#isAnnotated(offer.interface));
  }

  /**
   * Sends copies of a call if its method has them. They end the call.
   * @param offers of the pool that the call gets
   * @returns false if the call is to be sent once
   */
  takes(routed: RouterCall, offers: readonly Offer[], method: Method): boolean {
    const { oneway, signal } = routed.next;
    // Nobody waits for an answer that could be chosen.
    if (oneway) return false;
    const [offer] = offers as readonly [Offer, ...Offer[]];
    const { service, version } = offer.details;
    const rule = this.#ruleOf(service, method);
    if (rule === 'none') return false;
    if (signal?.aborted === true) {
      routed.end(callerGone());
      return true;
    }
    const known = this.#methods.of(service, version, method.name);
    const group = `${this.#name}.${++this.#groups}`;
    if (rule.kind === 'hedge') new HedgedCall(this.#options, routed, offer, known, group).start(rule.percentile);
    else this.#sendMajority(routed, offers, rule.majority, known, group);
    return true;
  }

  /** What the copies of this process have shown. */
  counts(): readonly RobustCount[] {
    return this.#methods.read();
  }

  #sendMajority(
    routed: RouterCall,
    offers: readonly Offer[],
    majority: Majority,
    method: RobustMethod,
    group: string,
  ): void {
    const versions = majority.ofVersions ? this.#versionsFor(routed, offers[0] as Offer) : [];
    const onEnd = (result: MajorityResult, difference: string): void => {
      method.majorities[result]++;
      if (difference !== '') this.#report(method, result, difference);
    };
    const options = { tools: this.#options, routed, offers, versions, majority, group, held: this.#held, onEnd };
    new MajorityCall(options).start();
  }

  /** An offer of each version that shares the calls: the one that the call gets, then by weight. */
  #versionsFor({ next }: RouterCall, chosen: Offer): readonly Offer[] {
    const { offersOf, weightOf } = this.#options;
    const { service } = chosen.details;
    const byVersion = new Map<string, Offer>();
    const isUp = ({ isReachable, alive }: Offer): boolean => isReachable && alive > 0;
    for (const offer of [chosen, ...offersOf({ ...next, service, version: '' })]) {
      const { version } = offer.details;
      const method = offer.interface.methods.get(next.method);
      if (method?.isIdempotent !== true || !isUp(offer) || byVersion.has(version)) continue;
      if (version === chosen.details.version || weightOf(service, version) > 0) byVersion.set(version, offer);
    }
    const weights = new Map([...byVersion.keys()].map((version) => [version, weightOf(service, version)]));
    const rank = ({ details: { version } }: Offer): number =>
      version === chosen.details.version ? Number.POSITIVE_INFINITY : (weights.get(version) ?? 0);
    return [...byVersion.values()].sort((a, b) => (rank(a) === rank(b) ? 0 : rank(b) - rank(a)));
  }

  #report(method: RobustMethod, result: MajorityResult, difference: string): void {
    const nowMs = this.#options.clock.nowMs();
    if (nowMs - method.reportedAtMs < REPORT_EVERY_MS) {
      method.unreported++;
      return;
    }
    const more = method.unreported === 0 ? '' : `; ${method.unreported} more since the last report`;
    method.reportedAtMs = nowMs;
    method.unreported = 0;
    const { service, version, method: name } = method;
    this.#options.onDisagreement(
      `${service}@${version}.${name}`,
      `${result === 'undecided' ? 'no majority' : 'outvoted'}: ${difference}${more}`,
    );
  }

  #ruleOf(service: string, method: Method): CopyRule | 'none' {
    const route = this.#routes.get(service);
    const key = route === undefined ? '' : service;
    let rules = this.#rules.get(key);
    if (rules === undefined) this.#rules.set(key, (rules = new WeakMap()));
    let rule = rules.get(method);
    if (rule === undefined) rules.set(method, (rule = copyRuleOf(route ?? {}, method) ?? 'none'));
    return rule;
  }

  #isAnnotated(iface: Interface): boolean {
    let isAnnotated = this.#annotated.get(iface);
    if (isAnnotated === undefined) {
      isAnnotated = [...iface.methods.values()].some(({ hedge, majority }) => hedge > 0 || majority !== undefined);
      this.#annotated.set(iface, isAnnotated);
    }
    return isAnnotated;
  }
}

/** Time between two events about one method. */
const REPORT_EVERY_MS = 10_000;
