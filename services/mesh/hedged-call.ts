// A call of which a second copy is sent to another chassis when the first takes longer than most calls of its method.
// The first answer counts, and the other copy is cancelled: one that has not begun never runs.
//
// The second copy is sent only where a chassis is free, and within a budget of 5 % more calls. So a service that is
// slow as a whole gets little more load. A hedge that is not possible yet is tried again until the first copy answers.

import { Alarm, callerGone } from '../../core/link/mod.ts';
import type { KatamariError } from '../../core/mod.ts';
import type { Reply } from '../../core/rpc/mod.ts';
import { hasFreeChassis, SentCopy, type CopyOwner, type CopyTools, type RouterCall } from './call-copy.ts';
import type { Offer } from './offer.ts';
import type { RobustMethod } from './robust-methods.ts';

export class HedgedCall implements CopyOwner {
  readonly #tools: CopyTools;
  readonly #routed: RouterCall;
  readonly #method: RobustMethod;
  readonly #group: string;
  readonly #offer: Offer;
  readonly #holders = new Set<RouterCall>();
  readonly #startedMs: number;
  readonly #first: SentCopy;
  #second: SentCopy | undefined;
  #alarm: Alarm | undefined;
  #isSettled = false;
  /** Whether a second copy was sent. */
  #isHedged = false;
  /** The error of the first copy while the second runs. */
  #error: KatamariError | undefined;

  /**
   * @param offer of the version that the call gets
   * @param group unique text for its copies
   */
  constructor(tools: CopyTools, routed: RouterCall, offer: Offer, method: RobustMethod, group: string) {
    this.#tools = tools;
    this.#routed = routed;
    this.#offer = offer;
    this.#method = method;
    this.#group = group;
    this.#startedMs = tools.clock.nowMs();
    this.#first = new SentCopy(this, tools, routed.next, offer, group, this.#holders);
  }

  /** @param percentile of the times of the method after which the second copy is sent */
  start(percentile: number): void {
    const { latencies, budget } = this.#method;
    budget.sent(1);
    this.#routed.next.signal?.addEventListener('abort', this);
    this.#tools.send(this.#first.sent);
    const delayMs = latencies.quantileMs(percentile / 100);
    if (!this.#isSettled && delayMs !== undefined) this.#wakeAt(this.#startedMs + delayMs);
  }

  answered(copy: SentCopy, reply: Reply): void {
    if (!this.#settle(copy === this.#first ? 'first' : 'second')) return;
    // A first copy that is cancelled would have taken longer. Without its time, the wait would become ever shorter.
    this.#method.latencies.add(this.#tools.clock.nowMs() - this.#startedMs);
    this.#first.cancel();
    this.#second?.cancel();
    const { offer, method, next } = copy.sent;
    this.#routed.offer = offer;
    this.#routed.method = method;
    this.#routed.next = next;
    this.#routed.reply(reply);
  }

  failed(copy: SentCopy, error: KatamariError): void {
    if (this.#isSettled) return;
    // It has not answered, so another copy may get its chassis.
    this.#holders.delete(copy.sent);
    if (copy === this.#first && this.#second !== undefined) this.#error = error;
    else if (copy === this.#first) this.#fail(error);
    else {
      this.#second = undefined;
      if (error.facts.notRun === true) this.#method.budget.giveBack(1);
      if (this.#error !== undefined) this.#fail(this.#error);
      else this.#wakeAt(this.#tools.clock.nowMs() + AGAIN_MS);
    }
  }

  /** EventListenerObject: the caller has gone. */
  handleEvent(): void {
    this.#fail(callerGone());
  }

  #wakeAt(atMs: number): void {
    this.#alarm = new Alarm(atMs, () => this.#hedge());
    this.#tools.deadlines.add(this.#alarm);
  }

  #hedge(): void {
    const { clock, offersOf, send } = this.#tools;
    const nowMs = clock.nowMs();
    if (nowMs >= this.#routed.next.deadlineMs) return;
    const offers = offersOf(this.#first.sent.next);
    if (!hasFreeChassis(offers, this.#holders) || !this.#method.budget.take(1)) {
      this.#wakeAt(nowMs + AGAIN_MS);
      return;
    }
    this.#isHedged = true;
    const call = this.#routed.next;
    const second = new SentCopy(this, this.#tools, call, this.#offer, this.#group, this.#holders, true);
    this.#second = second;
    send(second.sent);
  }

  #fail(error: KatamariError): void {
    if (!this.#settle('none')) return;
    this.#first.cancel();
    this.#second?.cancel();
    this.#routed.end(error);
  }

  #settle(winner: 'first' | 'second' | 'none'): boolean {
    if (this.#isSettled) return false;
    this.#isSettled = true;
    if (this.#isHedged) this.#method.hedges[winner]++;
    if (this.#alarm !== undefined) this.#tools.deadlines.remove(this.#alarm);
    this.#routed.next.signal?.removeEventListener('abort', this);
    return true;
  }
}

/** Time after which a hedge that the budget or the lack of a free chassis forbade is tried again. */
const AGAIN_MS = 20;
