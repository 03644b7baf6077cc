// Copies of a call in the router: what hedged-call.ts and majority-call.ts share. A copy is routed and retried like any
// call. It is not charged, counted, logged or mirrored again.

import { CallSignal, type DeadlineWheel } from '../../core/link/mod.ts';
import { KatamariError, type Clock } from '../../core/mod.ts';
import { createCall, type Call, type CallSink, type PoolQuery, type Reply } from '../../core/rpc/mod.ts';
import type { Method } from '../../core/thrift/mod.ts';
import type { Offer } from './offer.ts';

/** A call in the router: that of the caller, or a copy of it. */
export interface RouterCall {
  /** As it was last sent, or as it will be sent next. */
  next: Call;
  /** The manager of the last try, and the method in its interface. */
  offer: Offer | undefined;
  method: Method | undefined;
  reply(reply: Reply): void;
  end(error: KatamariError): void;
}

/** What calls with several copies need of the router. */
export interface CopyTools {
  readonly clock: Clock;
  readonly deadlines: DeadlineWheel;
  /** Prepares a copy. @param holders the copies of the same call that have a chassis, or will */
  readonly newCopy: (call: Call, sink: CallSink, holders: ReadonlySet<RouterCall>) => RouterCall;
  readonly send: (copy: RouterCall) => void;
  /** The offers for a call to the version that it names, or to any; none if its caller may not call them. */
  readonly offersOf: (query: PoolQuery) => readonly Offer[];
}

export interface CopyOwner {
  answered(copy: SentCopy, reply: Reply): void;
  failed(copy: SentCopy, error: KatamariError): void;
}

/** One copy of the call of a caller. */
export class SentCopy implements CallSink {
  readonly #owner: CopyOwner;
  readonly #signal = new CallSignal();
  readonly sent: RouterCall;
  /** Whether it has neither answered nor failed. */
  isPending = true;

  /**
   * @param group unique text of the copies of the call
   * @param holders gets this copy
   */
  constructor(
    owner: CopyOwner,
    tools: CopyTools,
    call: Call,
    offer: Offer,
    group: string,
    holders: Set<RouterCall>,
    doNotQueue: boolean = call.doNotQueue,
  ) {
    this.#owner = owner;
    const { service, version } = offer.details;
    const change = { service, version, group, doNotQueue, rule: call.rule ?? '', signal: this.#signal };
    this.sent = tools.newCopy(createCall({ ...call, ...change }), this, holders);
    holders.add(this.sent);
  }

  reply(reply: Reply): void {
    this.isPending = false;
    this.#owner.answered(this, reply);
  }

  fail(error: KatamariError): void {
    this.isPending = false;
    this.#owner.failed(this, error);
  }

  /** Takes the copy out of the queue that it waits in. One that has begun may run to its end. */
  cancel(): void {
    if (this.isPending) this.#signal.abort(NOT_NEEDED);
  }
}

/**
 * The offers of a pool for one more copy: those with a chassis that no other copy has. A free one precedes a busy one,
 * and of the free ones those precede that the fewest copies have.
 * @param busy managers that refused this copy because no chassis was free
 * @throws KatamariError overloaded if there is none
 */
export function offersForCopy(
  offers: readonly Offer[],
  copy: RouterCall,
  holders: ReadonlySet<RouterCall>,
  busy: readonly Offer[] = [],
): readonly Offer[] {
  const all = offers.map((offer) => ({ offer, uses: usesOf(offer, copy, holders) }));
  const withRoom = all.filter(({ offer, uses }) => offer.isReachable && offer.alive > uses);
  if (withRoom.length === 0) {
    const { service, version } = copy.next;
    const why = `Every chassis of ${service}@${version} that can be reached has got a copy of this call already; start more copies`;
    throw new KatamariError('overloaded', why, { notRun: true, retryAfterMs: RETRY_AFTER_MS });
  }
  const free = withRoom.filter(({ offer }) => offer.free > 0 && !busy.includes(offer));
  const least = Math.min(...free.map(({ uses }) => uses));
  return (free.length === 0 ? withRoom : free.filter(({ uses }) => uses === least)).map(({ offer }) => offer);
}

/** Whether one more copy finds a free chassis now. */
export function hasFreeChassis(offers: readonly Offer[], holders: ReadonlySet<RouterCall>): boolean {
  return offers.some((offer) => offer.isReachable && offer.free > 0 && offer.alive > usesOf(offer, undefined, holders));
}

/** Number of the other copies that the manager of an offer has. */
function usesOf(offer: Offer, copy: RouterCall | undefined, holders: ReadonlySet<RouterCall>): number {
  let uses = 0;
  for (const holder of holders) {
    const { offer: held } = holder;
    if (holder !== copy && held?.manager === offer.manager && held.id === offer.id) uses++;
  }
  return uses;
}

const NOT_NEEDED = new KatamariError('cancelled', 'Another copy of the call has answered');
const RETRY_AFTER_MS = 500;
