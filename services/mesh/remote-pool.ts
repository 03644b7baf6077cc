// A pool of another manager as an offer for the router. The number of free resources is an estimate: the number in
// the last reply, minus the calls sent since; the next reply corrects it. When the estimate is zero and older than
// 20 ms, the pool reports one free resource, so that the router probes it with a call. A probe costs one round trip;
// without it, a worker may stay idle. The pool does not probe again until the manager has sent something, because a
// frozen manager would swallow every call.

import type { Clock, KatamariError } from '../../core/mod.ts';
import { isMirrorCopy, type CallSink, type PoolDetails, type Reply, type Send } from '../../core/rpc/mod.ts';
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
  /** Time until which no calls are sent, after the manager refused one with `no_pool` or `draining`. */
  #avoidedUntilMs = 0;
  #freeReported: number;
  #queuedReported = 0;
  #reportedAtMs: number;
  #sentSince = 0;
  /** `peer.heard` at the last probe. */
  #heardAtProbe = -1;

  readonly #onAgain: () => void;

  /** @param onAgain called when the pool may be used again, after the manager refused a call */
  constructor(record: PoolRecord, iface: Interface, peer: Peer, clock: Clock, onAgain: () => void) {
    const { id, service, version, roles, tags, more, alive } = record;
    this.id = id;
    this.details = { service, version, roles, tags, more };
    this.interface = iface;
    this.#peer = peer;
    this.#clock = clock;
    this.#onAgain = onAgain;
    this.#alive = alive;
    this.#freeReported = alive;
    this.#reportedAtMs = clock.nowMs();
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
    const left = this.#freeReported - this.#sentSince;
    if (left > 0) return left;
    const isProbeDue = this.#clock.nowMs() - this.#reportedAtMs > STALE_MS && this.#peer.heard !== this.#heardAtProbe;
    return isProbeDue ? 1 : 0;
  }

  get queued(): number {
    return this.#queuedReported + Math.max(0, this.#sentSince - this.#freeReported);
  }

  /** Sets the number of live resources from Consul. */
  setAlive(alive: number): void {
    if (alive > this.#alive) this.#freeReported += alive - this.#alive;
    this.#alive = alive;
    this.#avoidedUntilMs = 0;
  }

  readonly send: Send = (call, sink) => {
    if (call.doNotQueue && this.#sentSince >= this.#freeReported) {
      this.#heardAtProbe = this.#peer.heard;
      this.#peer.probe();
    }
    this.#sentSince++;
    this.#peer.send(call, new RemotePoolCall(this, sink, isMirrorCopy(call)));
  };

  replied({ context: { freeNow, queuedNow } }: Reply): void {
    if (freeNow >= 0) this.#setReport(freeNow, Math.max(0, queuedNow));
  }

  failed(error: KatamariError, isCopy: boolean): void {
    // The manager keeps places free for calls that somebody waits for. Such calls may still find one.
    if (isCopy && error.code === 'overloaded') this.#sentSince = Math.max(0, this.#sentSince - 1);
    else if (error.code === 'overloaded') this.#setReport(0, this.#queuedReported);
    // The manager drains, has removed the pool or has not started it yet. Consul will report the change soon. If it
    // does not, the pool is tried again after AVOID_MS.
    else if (error.facts.notRun === true && (error.code === 'draining' || error.code === 'no_pool')) {
      const nowMs = this.#clock.nowMs();
      if (nowMs >= this.#avoidedUntilMs) this.#clock.after(AVOID_MS, this.#onAgain);
      this.#avoidedUntilMs = nowMs + AVOID_MS;
    }
  }

  #setReport(free: number, queued: number): void {
    this.#freeReported = free;
    this.#queuedReported = queued;
    this.#reportedAtMs = this.#clock.nowMs();
    this.#sentSince = 0;
  }
}

/** Takes the load of the pool from the reply or error of a call, and forwards it. */
class RemotePoolCall implements CallSink {
  readonly #pool: RemotePool;
  readonly #sink: CallSink;
  readonly #isCopy: boolean;

  constructor(pool: RemotePool, sink: CallSink, isCopy: boolean) {
    this.#pool = pool;
    this.#sink = sink;
    this.#isCopy = isCopy;
  }

  reply(reply: Reply): void {
    this.#pool.replied(reply);
    this.#sink.reply(reply);
  }

  fail(error: KatamariError): void {
    this.#pool.failed(error, this.#isCopy);
    this.#sink.fail(error);
  }
}

/** Age in ms at which an estimate is probed. */
const STALE_MS = 20;
const AVOID_MS = 1_000;
