// The calls of one connection that wait for their answers, in the order in which they came. Ordinary Thrift clients match answers by order,
// so an answer that is ready early stays in its place until those before it have left. Places are used again: a busy connection makes none.

import type { DenseSetEntry } from '../../core/link/mod.ts';
import type { KatamariError } from '../../core/mod.ts';
import type { CallSink, Reply, CallStats } from '../../core/rpc/mod.ts';
import { NOTHING } from '../../core/thrift/mod.ts';
import type { MethodTarget } from './method-targets.ts';

/** Who is told when a call has ended. */
export interface ThriftCallOwner {
  onReply(place: ThriftCall, reply: Reply): void;
  onError(place: ThriftCall, error: KatamariError): void;
}

/** One call that is under way. */
export class ThriftCall implements CallSink, DenseSetEntry {
  next: ThriftCall | undefined;
  target: MethodTarget;
  /** The page of the book on which this call was entered; the target's may be another by the time the call ends. */
  stats: CallStats;
  seqId = 0;
  isOneway = false;
  acceptedAtMs = 0;
  /** What the answer is: 0 none yet, 2 a result, 3 an exception. */
  type: 0 | 2 | 3 = 0;
  body: Uint8Array = NOTHING;
  /** Its answer says only that it was taken: a oneway call over a transport that answers all. */
  isSilent = false;
  /** Version that answered; '' unknown. */
  version = '';
  /** What the mesh had to say against the call; transports with headers say its code and facts there. */
  error: KatamariError | undefined;
  /** Its answer leaves as soon as it is ready; it stands in no line. */
  isAnyOrder = false;
  rosterPlace = -1;
  /** Entered in the book as cancelled; what the mesh still says is of no interest. */
  isCancelled = false;
  readonly #owner: ThriftCallOwner;

  constructor(owner: ThriftCallOwner, target: MethodTarget) {
    this.target = target;
    this.stats = target.stats;
    this.#owner = owner;
  }

  reply(reply: Reply): void {
    this.#owner.onReply(this, reply);
  }

  fail(error: KatamariError): void {
    this.#owner.onError(this, error);
  }
}

export class ReplyQueue {
  readonly #owner: ThriftCallOwner;
  #first: ThriftCall | undefined;
  #last: ThriftCall | undefined;
  #free: ThriftCall | undefined;
  #freeCount = 0;

  constructor(owner: ThriftCallOwner) {
    this.#owner = owner;
  }

  get first(): ThriftCall | undefined {
    return this.#first;
  }

  /** A place for a call, not in the line yet; those of oneway calls never are. */
  take(target: MethodTarget): ThriftCall {
    const place = this.#free;
    if (place === undefined) return new ThriftCall(this.#owner, target);
    this.#free = place.next;
    this.#freeCount--;
    place.next = undefined;
    place.target = target;
    place.stats = target.stats;
    place.version = '';
    place.isSilent = false;
    place.isAnyOrder = false;
    return place;
  }

  /** Puts a place at the end of the line. */
  join(place: ThriftCall): void {
    if (this.#last === undefined) this.#first = place;
    else this.#last.next = place;
    this.#last = place;
  }

  /** Takes the first place out of the line. */
  shift(): void {
    const place = this.#first as ThriftCall;
    this.#first = place.next;
    if (this.#first === undefined) this.#last = undefined;
    place.next = undefined;
  }

  /** Gives back a place whose call has ended and which is not in the line. */
  free(place: ThriftCall): void {
    place.type = 0;
    place.body = NOTHING;
    place.error = undefined;
    if (this.#freeCount >= FREE_MAX) return;
    this.#freeCount++;
    place.next = this.#free;
    this.#free = place;
  }
}

/** Places that a connection keeps for its next calls. */
const FREE_MAX = 16;
