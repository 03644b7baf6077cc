// A pool of another manager as an offer for the router. How free it is, is what its answers said last, less what was sent since: a guess, put
// right by the next answer. When it is old, one more resource is believed free: asking costs a round trip, not asking lets a worker idle. A
// manager that has said nothing since it was asked that way is not asked again: one that is frozen would swallow every call.

import type { Clock, KatamariError } from '../../core/mod.ts';
import type { CallSink, PoolDetails, Reply, Send } from '../../core/rpc/mod.ts';
import type { Interface } from '../../core/thrift/mod.ts';
import type { Offer } from './offer.ts';
import type { Peer } from './peer.ts';
import type { PoolRecord } from './records.ts';

export class RemotePool implements Offer {
  readonly id: string;
  readonly details: PoolDetails;
  readonly interface: Interface;
  readonly #peer: Peer;
  readonly #clock: Clock;
  #alive: number;
  /** It said that it has no such pool, or is leaving: left alone until then. */
  #avoidedUntilMs = 0;
  #freeTold: number;
  #queuedTold = 0;
  #toldAtMs: number;
  #sentSince = 0;
  /** What had been heard of the manager when the guess was put to the test last. */
  #heardAtTest = -1;

  constructor(record: PoolRecord, found: Interface, peer: Peer, clock: Clock) {
    const { id, service, version, roles, tags, more, alive } = record;
    this.id = id;
    this.details = { service, version, roles, tags, more };
    this.interface = found;
    this.#peer = peer;
    this.#clock = clock;
    this.#alive = alive;
    this.#freeTold = alive;
    this.#toldAtMs = clock.nowMs();
  }

  get manager(): string {
    return this.#peer.name;
  }

  get isReachable(): boolean {
    return this.#peer.isUsable && this.#clock.nowMs() >= this.#avoidedUntilMs;
  }

  get alive(): number {
    return this.isReachable ? this.#alive : 0;
  }

  get free(): number {
    if (!this.isReachable || this.#alive === 0) return 0;
    const left = this.#freeTold - this.#sentSince;
    if (left > 0) return left;
    const isWorthATest = this.#clock.nowMs() - this.#toldAtMs > STALE_MS && this.#peer.heard !== this.#heardAtTest;
    return isWorthATest ? 1 : 0;
  }

  get queued(): number {
    return this.#queuedTold + Math.max(0, this.#sentSince - this.#freeTold);
  }

  /** Consul says how many live now. */
  setAlive(alive: number): void {
    if (alive > this.#alive) this.#freeTold += alive - this.#alive;
    this.#alive = alive;
    this.#avoidedUntilMs = 0;
  }

  readonly send: Send = (call, sink) => {
    if (call.doNotQueue && this.#sentSince >= this.#freeTold) {
      this.#heardAtTest = this.#peer.heard;
      this.#peer.ask();
    }
    this.#sentSince++;
    this.#peer.send(call, new RemotePoolCall(this, sink));
  };

  replied({ context: { freeNow, queuedNow } }: Reply): void {
    if (freeNow >= 0) this.#told(freeNow, Math.max(0, queuedNow));
  }

  failed(error: KatamariError): void {
    if (error.code === 'overloaded') this.#told(0, this.#queuedTold);
    // It is leaving, has ended that pool or does not have it yet: Consul will say so in a moment, or it is tried again.
    else if (error.facts.notRun === true && (error.code === 'draining' || error.code === 'no_pool')) {
      this.#avoidedUntilMs = this.#clock.nowMs() + AVOID_MS;
    }
  }

  #told(free: number, queued: number): void {
    this.#freeTold = free;
    this.#queuedTold = queued;
    this.#toldAtMs = this.#clock.nowMs();
    this.#sentSince = 0;
  }
}

/** Hears the end of a call, to learn how free the pool is, and hands it on. */
class RemotePoolCall implements CallSink {
  readonly #pool: RemotePool;
  readonly #sink: CallSink;

  constructor(pool: RemotePool, sink: CallSink) {
    this.#pool = pool;
    this.#sink = sink;
  }

  reply(reply: Reply): void {
    this.#pool.replied(reply);
    this.#sink.reply(reply);
  }

  fail(error: KatamariError): void {
    this.#pool.failed(error);
    this.#sink.fail(error);
  }
}

/** After so long without word the guess is put to the test. */
const STALE_MS = 20;
const AVOID_MS = 1_000;
