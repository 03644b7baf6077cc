// Results of the calls of one round, or of several together. Each call that was due is counted exactly once:
// answered (with a result or a declared exception) or failed with a code. Latencies are those of answered calls,
// from the time when the call was due.

import type { FailureCode } from './error-codes.ts';
import { LatencyHistogram } from './histogram.ts';

/** How a call ended. */
export type CallResultKind = typeof RESULT | typeof DECLARED | BenchFailure;

export const RESULT = { kind: 'result' } as const;
/** A declared exception counts as a normal reply. */
export const DECLARED = { kind: 'declared' } as const;

export interface BenchFailure {
  readonly kind: 'failed';
  readonly code: FailureCode;
  /** The error message; '' for none. */
  readonly message: string;
}

interface FailureCount {
  count: number;
  /** Message of the first failure with this code. */
  readonly message: string;
}

/** Times measured by the mesh, over all callers of the pools; undefined if not available. */
export interface MeshTimes {
  readonly queueMs: number;
  readonly serviceMs: number;
}

export class Tally {
  readonly latencies: LatencyHistogram = new LatencyHistogram();
  /** Latencies since the progress output last cleared them. */
  readonly recent: LatencyHistogram = new LatencyHistogram();
  readonly failures: Map<FailureCode, FailureCount> = new Map();
  answered = 0;
  declared = 0;
  failed = 0;
  /** Replies within the measured time, whenever their calls were due. The rate is computed from them. */
  answersInTime = 0;
  measuredMs = 0;
  /** Calls that were sent late because too many were pending, and the longest such delay. */
  heldBack = 0;
  heldBackMsMax = 0;
  /** Most calls in flight at a time; `underWayMax` in the JSON document. */
  peakInFlight = 0;
  /** Pending when the user stopped the bench; neither answered nor failed. */
  unfinished = 0;
  connectionsLost = 0;
  meshTimes: MeshTimes | undefined;

  /** Calls that were due and have ended. */
  get calls(): number {
    return this.answered + this.failed;
  }

  get ratePerS(): number {
    return this.measuredMs === 0 ? 0 : (this.answersInTime * 1_000) / this.measuredMs;
  }

  settle(ending: CallResultKind, latencyMs: number): void {
    if (ending.kind === 'failed') {
      this.fail(ending.code, ending.message);
      return;
    }
    this.answered++;
    if (ending === DECLARED) this.declared++;
    this.latencies.record(latencyMs);
    this.recent.record(latencyMs);
  }

  fail(code: FailureCode, message: string, count = 1): void {
    if (count === 0) return;
    this.failed += count;
    const known = this.failures.get(code);
    if (known === undefined) this.failures.set(code, { count, message });
    else known.count += count;
  }

  add(other: Tally): void {
    this.latencies.add(other.latencies);
    for (const [code, { count, message }] of other.failures) this.fail(code, message, count);
    this.answered += other.answered;
    this.declared += other.declared;
    this.answersInTime += other.answersInTime;
    this.heldBack += other.heldBack;
    this.heldBackMsMax = Math.max(this.heldBackMsMax, other.heldBackMsMax);
    this.peakInFlight = Math.max(this.peakInFlight, other.peakInFlight);
    this.unfinished += other.unfinished;
    this.connectionsLost += other.connectionsLost;
    this.meshTimes = meanOf(this, other);
    this.measuredMs += other.measuredMs;
  }
}

/** Weights each by its measured time. */
function meanOf(one: Tally, other: Tally): MeshTimes | undefined {
  const [a, b] = [one.meshTimes, other.meshTimes];
  if (one.measuredMs === 0 || a === undefined) return b;
  if (b === undefined) return a;
  const total = one.measuredMs + other.measuredMs;
  const mean = (x: number, y: number): number => (x * one.measuredMs + y * other.measuredMs) / total;
  return { queueMs: mean(a.queueMs, b.queueMs), serviceMs: mean(a.serviceMs, b.serviceMs) };
}
