// One request of a gathered call to one manager, for some shards. It reports once: an answer, a failure, or that it was
// cancelled. Its time counts for the latencies of its method and for the slowness of its manager.

import { Alarm, CallSignal } from '../../core/link/mod.ts';
import { asKatamariError, KatamariError, type MethodLatencies } from '../../core/mod.ts';
import { NO_DETAILS, NONE, type Call, type CallSink, type PoolDetails, type Reply } from '../../core/rpc/mod.ts';
import type { Method } from '../../core/thrift/mod.ts';
import type { GatherTools } from './gather-tools.ts';
import { HEDGE_AGAIN_MS, HEDGE_MIN_MS, HEDGE_UNKNOWN_MAX_MS, HEDGE_UNKNOWN_SHARE } from './limits.ts';
import type { PlannedRequest } from './plan.ts';
import { isCallersFault } from './request-loss.ts';
import type { ShardGroup } from './shard-group.ts';
import type { ServedIndex, ShardServer } from './shard-map.ts';

/** The gathered call that a request is part of. */
export interface RequestOwner {
  readonly tools: GatherTools;
  /** Those of its method. */
  readonly latencies: MethodLatencies;
  readonly options: {
    readonly index: ServedIndex;
    readonly method: Method;
    readonly call: Call;
    readonly argsFor: (names: readonly string[]) => Uint8Array;
  };
  answered(request: ShardRequest, reply: Reply): void;
  failed(request: ShardRequest, error: KatamariError): void;
  /** The request is slower than most. Returns false when it cannot be sent to another manager now. */
  hedge(request: ShardRequest): boolean;
}

export class ShardRequest implements CallSink {
  readonly group: ShardGroup;
  readonly holder: ShardServer;
  readonly places: readonly number[];
  readonly #owner: RequestOwner;
  readonly #sentMs: number;
  /** An AbortController for each request would cost more than everything else of it. */
  readonly #end = new CallSignal();
  #alarm: Alarm | undefined;
  #isSettled = false;

  constructor(owner: RequestOwner, group: ShardGroup, { holder, places }: PlannedRequest) {
    this.#owner = owner;
    this.group = group;
    this.holder = holder;
    this.places = places;
    this.#sentMs = owner.tools.clock.nowMs();
    holder.inFlight++;
    group.add(this);
  }

  send(mayHedge: boolean): void {
    // Another one may have ended the call, or lost this group.
    if (this.#isSettled) return;
    const { latencies, options } = this.#owner;
    const { offer } = this.holder;
    if (mayHedge) {
      const unknownMs = Math.min(HEDGE_UNKNOWN_MAX_MS, (options.call.deadlineMs - this.#sentMs) * HEDGE_UNKNOWN_SHARE);
      this.#hedgeAt(this.#sentMs + Math.max(HEDGE_MIN_MS, latencies.p95Ms() ?? unknownMs));
    }
    const { index, argsFor, call, method } = options;
    try {
      const args = argsFor(this.places.map((place) => index.names[place] as string));
      offer.send(requestCall(call, method.name, offer.details, args, this.#end), this);
    } catch (error) {
      this.fail(asKatamariError(error));
    }
  }

  reply(reply: Reply): void {
    if (!this.#settle()) return;
    const { latencies, tools } = this.#owner;
    const nowMs = tools.clock.nowMs();
    const tookMs = nowMs - this.#sentMs;
    this.holder.slowness.answered(tookMs, latencies.usualMs(), nowMs);
    latencies.add(tookMs);
    this.#owner.answered(this, reply);
  }

  fail(error: KatamariError): void {
    if (!this.#settle()) return;
    if (!isCallersFault(error)) this.holder.slowness.failed(this.#owner.tools.clock.nowMs());
    this.#owner.failed(this, error);
  }

  /** Nobody needs its answer any more. */
  cancel(): void {
    if (!this.#settle()) return;
    const { latencies, tools } = this.#owner;
    const nowMs = tools.clock.nowMs();
    this.holder.slowness.abandoned(nowMs - this.#sentMs, latencies.usualMs(), nowMs);
    this.#end.abort(new KatamariError('cancelled', 'The call has ended without this reply'));
  }

  /** A copy that hangs would cost the whole time of the call, so a hedge that is not possible yet is tried again. */
  #hedgeAt(atMs: number): void {
    const { clock, deadlines } = this.#owner.tools;
    this.#alarm = new Alarm(atMs, () => {
      if (!this.#owner.hedge(this) && !this.#isSettled) this.#hedgeAt(clock.nowMs() + HEDGE_AGAIN_MS);
    });
    deadlines.add(this.#alarm);
  }

  #settle(): boolean {
    if (this.#isSettled) return false;
    this.#isSettled = true;
    this.holder.inFlight--;
    if (this.#alarm !== undefined) this.#owner.tools.deadlines.remove(this.#alarm);
    return true;
  }
}

/** The call of a request: that of the caller, to the pool of a content service. */
function requestCall(
  call: Call,
  method: string,
  { service, version, roles }: PoolDetails,
  args: Uint8Array,
  signal: AbortSignal,
): Call {
  return {
    service,
    method,
    oneway: false,
    args,
    deadlineMs: call.deadlineMs,
    version,
    roles,
    tags: NONE,
    details: NO_DETAILS,
    key: call.key,
    traceparent: call.traceparent,
    tracestate: call.tracestate,
    headers: call.headers,
    caller: call.caller,
    identity: call.identity,
    attempt: call.attempt,
    doNotQueue: call.doNotQueue,
    minCoverage: undefined,
    rule: '',
    group: '',
    signal,
  };
}
