// A Thrift call in flight, and the object pool from which a connection reuses them. A busy connection allocates none.

import type { DenseSetEntry, QueuedCall } from '../../core/link/mod.ts';
import type { KatamariError } from '../../core/mod.ts';
import type { CallSink, Reply, CallStats, ShardCoverage } from '../../core/rpc/mod.ts';
import { NOTHING } from '../../core/thrift/mod.ts';
import type { MethodTarget } from './method-targets.ts';

/** The connection of a call. It receives the reply or the error. */
export interface ThriftCallOwner {
  onReply(call: ThriftCall, reply: Reply): void;
  onError(call: ThriftCall, error: KatamariError): void;
}

export class ThriftCall implements CallSink, DenseSetEntry, QueuedCall<ThriftCall> {
  next: ThriftCall | undefined;
  target: MethodTarget;
  /** Statistics in which this call was counted. `target.stats` may be replaced before the call ends. */
  stats: CallStats;
  seqId = 0;
  isOneway = false;
  acceptedAtMs = 0;
  /** Bytes of the request that are booked for the connection. */
  requestBytes = 0;
  /** Message type of the reply: 0 none yet, 2 a result, 3 an exception. */
  type: 0 | 2 | 3 = 0;
  body: Uint8Array = NOTHING;
  /** A oneway call over a transport that replies to every message: its reply has an empty body. */
  isSilent = false;
  /** Version of the pool that replied; '' if unknown. */
  version = '';
  /** Shards in the reply of an index. */
  coverage: ShardCoverage | undefined;
  /** The rule of a route that has chosen the version. */
  rule: string | undefined;
  /** Error of the mesh; transports with headers carry its code and facts there. */
  error: KatamariError | undefined;
  /** The whole reply, if the transport itself replies. */
  transportReply: Uint8Array | undefined;
  /** The reply that this oneway call gets at once from a transport that replies to every message, while it is sent. */
  answer: ThriftCall | undefined;
  /** Whether its reply leaves as soon as it is ready (`katamari-any-order`). It is then not in the reply queue. */
  isAnyOrder = false;
  index = -1;
  /** Whether it was counted as cancelled. A later reply or error is ignored. */
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
    call.coverage = undefined;
    call.rule = undefined;
    call.error = undefined;
    call.transportReply = undefined;
    if (this.#freeCount >= FREE_MAX) return;
    this.#freeCount++;
    call.next = this.#free;
    this.#free = call;
  }
}

/** Maximum free call objects that a connection keeps. */
const FREE_MAX = 16;
