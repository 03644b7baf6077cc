// One round of load: warm-up, measured time, then a wait for pending calls. There are two kinds.
//
// Open loop: each call is due at a fixed time, whatever happens to the calls before it, like traffic of many
// independent users. A call that cannot be sent on time, because too many calls are pending or this process is
// busy, is sent later, and its latency still counts from the time when it was due. So a mesh that stalls for a
// second is charged for every call of that second (no coordinated omission).
//
// Closed loop: a fixed number of callers; each sends its next call after the reply to the last. They slow down with
// the mesh.
//
// A call counts if it was due in the measured time. Limits: the number of pending calls, and the time without a
// reply.

import type { BenchConnection } from './connection.ts';
import type { Connections, ConnectionsSink } from './connections.ts';
import { paceOf, type Load, type Pace } from './plan.ts';
import type { PreciseTimer } from './precise-timer.ts';
import type { CallResultKind, Tally } from './tally.ts';

export interface RoundOptions {
  readonly load: Load;
  readonly warmUpMs: number;
  readonly measuredMs: number;
  /** Timeout of a call without a reply, in ms. */
  readonly answerMsMax: number;
  /** Sent round-robin. */
  readonly frames: readonly Buffer[];
  readonly connections: Connections;
  readonly timer: PreciseTimer;
  readonly tally: Tally;
  /** Called when the measured time begins. */
  readonly onMeasured: () => void;
  /** Called when the measured time is over and only pending calls remain. */
  readonly onStopped: () => void;
  /** Ends the round early. */
  readonly signal: AbortSignal;
}

/** Resolves when every call has ended, or shortly after `signal`. */
export async function runRound(options: RoundOptions): Promise<void> {
  const round = options.load.kind === 'open' ? new OpenRound(options) : new ClosedRound(options);
  await round.run();
}

abstract class Round implements ConnectionsSink {
  protected readonly options: RoundOptions;
  /** Times on `performance.now()`. */
  protected startAtMs = 0;
  protected measuredFromMs = 0;
  protected stopAtMs = 0;
  protected isStopping = false;
  protected inFlight = 0;
  #isMeasured = false;
  #nextFrame = 0;
  #finish: () => void = () => undefined;

  constructor(options: RoundOptions) {
    this.options = options;
  }

  /** Returns the start of the round, on `performance.now()`. */
  protected abstract chooseStart(): number;
  /** Sends the calls that do not depend on the clock. */
  protected abstract begin(): void;
  /** Called on each tick. */
  protected abstract tick(): void;
  /** Called when a reply arrived or a connection opened, so more calls may be sent. */
  protected abstract hasRoom(connection: BenchConnection): void;

  async run(): Promise<void> {
    const { connections, timer, signal, answerMsMax } = this.options;
    const finished = new Promise<void>((resolve) => {
      this.#finish = resolve;
    });
    const onAbort = (): void => this.#stopEarly();
    const sweep = setInterval(() => connections.giveUp(performance.now() - answerMsMax), SWEEP_MS);
    connections.sink = this;
    this.startAtMs = this.chooseStart();
    this.measuredFromMs = this.startAtMs + this.options.warmUpMs;
    this.stopAtMs = this.measuredFromMs + this.options.measuredMs;
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      if (signal.aborted) this.#stopEarly();
      else this.begin();
      timer.onTick = () => this.#onTick();
      await finished;
    } finally {
      timer.onTick = () => undefined;
      connections.sink = undefined;
      clearInterval(sweep);
      signal.removeEventListener('abort', onAbort);
    }
  }

  onEnding(connection: BenchConnection, ending: CallResultKind, dueAtMs: number): void {
    const nowMs = performance.now();
    this.inFlight--;
    const { tally } = this.options;
    if (this.counts(dueAtMs)) tally.settle(ending, nowMs - dueAtMs);
    if (ending.kind !== 'failed' && nowMs >= this.measuredFromMs && nowMs < this.stopAtMs) tally.answersInTime++;
    if (!this.isStopping) this.hasRoom(connection);
    else if (this.inFlight === 0) this.#finish();
  }

  onLost(_connection: BenchConnection): void {
    this.options.tally.connectionsLost++;
  }

  onReopened(connection: BenchConnection): void {
    if (!this.isStopping) this.hasRoom(connection);
  }

  onGone(): void {
    this.#stopEarly();
  }

  /** Whether a call that was due then is measured. */
  protected counts(dueAtMs: number): boolean {
    return dueAtMs >= this.measuredFromMs && dueAtMs < this.stopAtMs;
  }

  protected send(connection: BenchConnection, dueAtMs: number, nowMs: number): void {
    const { frames, tally } = this.options;
    const frame = frames[this.#nextFrame] as Buffer;
    this.#nextFrame = this.#nextFrame + 1 === frames.length ? 0 : this.#nextFrame + 1;
    this.inFlight++;
    if (this.inFlight > tally.peakInFlight) tally.peakInFlight = this.inFlight;
    connection.send(frame, dueAtMs, nowMs);
  }

  /** Counts the calls that were due but never sent. */
  protected countUnsent(): void {}

  #onTick(): void {
    const nowMs = performance.now();
    if (!this.#isMeasured && nowMs >= this.measuredFromMs) {
      this.#isMeasured = true;
      this.options.onMeasured();
    }
    if (this.isStopping) return;
    this.tick();
    if (nowMs >= this.stopAtMs) this.#stop();
  }

  #stop(): void {
    if (this.isStopping) return;
    this.isStopping = true;
    this.options.tally.measuredMs = Math.max(0, this.stopAtMs - this.measuredFromMs);
    this.options.onStopped();
    this.countUnsent();
    if (this.inFlight === 0) this.#finish();
  }

  /** Gives pending calls a moment to finish. */
  #stopEarly(): void {
    if (this.isStopping) {
      this.#abandon();
      return;
    }
    this.stopAtMs = Math.min(this.stopAtMs, performance.now());
    this.#stop();
    setTimeout(() => this.#abandon(), LAST_REPLIES_MS).unref();
  }

  #abandon(): void {
    this.options.tally.unfinished = this.inFlight;
    this.#finish();
  }
}

class OpenRound extends Round {
  readonly #pace: Pace;
  readonly #inFlightMax: number;
  #firstTick = 0;
  /**
   * Counters of calls: those that were due, those of them that were sent or failed, and those that were already due
   * at the last tick. A call below the last counter is sent late.
   */
  #due = 0;
  #done = 0;
  #lateUpTo = 0;

  constructor(options: RoundOptions) {
    super(options);
    const { load } = options;
    this.#pace = paceOf(load);
    this.#inFlightMax = (load as Extract<Load, { kind: 'open' }>).inFlightMax;
  }

  protected chooseStart(): number {
    const { timer } = this.options;
    this.#firstTick = timer.nextTick();
    return timer.instantOf(this.#firstTick);
  }

  protected begin(): void {}

  protected tick(): void {
    const { timer } = this.options;
    const { ticksPerBunch, callsPerBunch, periodMs } = this.#pace;
    const ticks = Math.ceil((this.stopAtMs - this.startAtMs) / periodMs - ROUNDING);
    const passed = Math.max(0, timer.tick - this.#firstTick + 1);
    const bunches = Math.ceil(Math.min(ticks, passed) / ticksPerBunch);
    this.#due = bunches * callsPerBunch;
    this.#sendDue();
    this.#lateUpTo = this.#due;
  }

  protected hasRoom(): void {
    this.#sendDue();
  }

  protected override countUnsent(): void {
    const { tally } = this.options;
    let left = 0;
    for (; this.#done < this.#due; this.#done++) if (this.counts(this.#dueAtMs())) left++;
    tally.fail('not_sent', `${this.#inFlightMax} calls were in flight, the limit of --in-flight-max`, left);
  }

  #sendDue(): void {
    const { connections, tally } = this.options;
    const nowMs = performance.now();
    while (this.#done < this.#due && this.inFlight < this.#inFlightMax) {
      const dueAtMs = this.#dueAtMs();
      const connection = connections.pick();
      if (connection !== undefined) this.send(connection, dueAtMs, nowMs);
      else if (this.counts(dueAtMs)) tally.fail('no_connection', 'no connection to the mesh was open');
      if (this.#done < this.#lateUpTo && this.counts(dueAtMs)) {
        tally.heldBack++;
        tally.heldBackMsMax = Math.max(tally.heldBackMsMax, nowMs - dueAtMs);
      }
      this.#done++;
    }
  }

  /** Returns when the next call is due, on `performance.now()`. */
  #dueAtMs(): number {
    const bunch = Math.floor(this.#done / this.#pace.callsPerBunch);
    return this.options.timer.instantOf(this.#firstTick + bunch * this.#pace.ticksPerBunch);
  }
}

class ClosedRound extends Round {
  protected chooseStart(): number {
    return performance.now();
  }

  protected begin(): void {
    for (const connection of this.options.connections.open) this.hasRoom(connection);
  }

  protected tick(): void {}

  /** Each connection carries its share of the callers. The callers of a broken one wait until it is open again. */
  protected hasRoom(connection: BenchConnection): void {
    const { load, connections } = this.options;
    const { concurrency } = load as Extract<Load, { kind: 'closed' }>;
    const share = Math.ceil(concurrency / connections.count);
    const nowMs = performance.now();
    while (connection.isOpen && this.inFlight < concurrency && connection.inFlight < share)
      this.send(connection, nowMs, nowMs);
  }
}

const SWEEP_MS = 100;
/** Grace period after an early end. */
const LAST_REPLIES_MS = 1_000;
/** Tolerance for the rounding error of a division. */
const ROUNDING = 1e-6;
