// A Thrift call in flight, and the pool of such objects that a connection uses again: a busy connection allocates none.

import type { DenseSetEntry, QueuedCall } from '../../core/link/mod.ts';
import type { KatamariError } from '../../core/mod.ts';
import type { CallSink, Reply, CallStats } from '../../core/rpc/mod.ts';
import { NOTHING } from '../../core/thrift/mod.ts';
import type { MethodTarget } from './method-targets.ts';

/** The connection of a call, which is told when the call has ended. */
export interface ThriftCallOwner {
  onReply(call: ThriftCall, reply: Reply): void;
  onError(call: ThriftCall, error: KatamariError): void;
}

export class ThriftCall implements CallSink, DenseSetEntry, QueuedCall<ThriftCall> {
  next: ThriftCall | undefined;
  target: MethodTarget;
  /** The statistics in which this call was counted; `target` may have others by the time the call ends. */
  stats: CallStats;
  seqId = 0;
  isOneway = false;
  acceptedAtMs = 0;
  /** Message type of the reply: 0 none yet, 2 a result, 3 an exception. */
  type: 0 | 2 | 3 = 0;
  body: Uint8Array = NOTHING;
  /** A oneway call over a transport that replies to every message: its reply has an empty body. */
  isSilent = false;
  /** Version of the pool that replied; '' when unknown. */
  version = '';
  /** Error of the mesh; transports with headers carry its code and facts there. */
  error: KatamariError | undefined;
  /** Its reply leaves as soon as it is ready (`katamari-any-order`); it is not in the queue. */
  isAnyOrder = false;
  index = -1;
  /** Counted as cancelled: a reply or error that comes later is ignored. */
  isCancelled = false;
  readonly #owner: ThriftCallOwner;

  constructor(owner: ThriftCallOwner, target: MethodTarget) {
    this.target = target;
    this.stats = target.stats;
    this.#owner = owner;
  }

  get isReady(): boolean {
    return this.type !== 0;
  }

  reply(reply: Reply): void {
    this.#owner.onReply(this, reply);
  }

  fail(error: KatamariError): void {
    this.#owner.onError(this, error);
  }
}

export class ThriftCallPool {
  readonly #owner: ThriftCallOwner;
  #free: ThriftCall | undefined;
  #freeCount = 0;

  constructor(owner: ThriftCallOwner) {
    this.#owner = owner;
  }

  take(target: MethodTarget): ThriftCall {
    const call = this.#free;
    if (call === undefined) return new ThriftCall(this.#owner, target);
    this.#free = call.next;
    this.#freeCount--;
    call.next = undefined;
    call.target = target;
    call.stats = target.stats;
    call.version = '';
    call.isSilent = false;
    call.isAnyOrder = false;
    return call;
  }

  /** Takes back a call that has ended and is not in the queue. */
  free(call: ThriftCall): void {
    call.type = 0;
    call.body = NOTHING;
    call.error = undefined;
    if (this.#freeCount >= FREE_MAX) return;
    this.#freeCount++;
    call.next = this.#free;
    this.#free = call;
  }
}

/** Calls that a connection keeps for later use. */
const FREE_MAX = 16;
