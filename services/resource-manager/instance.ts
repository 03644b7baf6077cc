// One process of a chassis from launch to exit: launched, ready, serving, ended. It ends once, with the first reason
// that was given, and releases its timers, link and socket file. The slot decides what happens next.
//
// What ends it: its exit, a hang, a failed check, and for a chassis with a kit the end of its link. A plain server may
// close connections as it likes (plain-server.ts). A hang of one call does not end the calls beside it: the process
// takes no further calls and is killed when no call is left that can be answered.

import { KatamariError, sleep, type Clock, type MessageLimits } from '../../core/mod.ts';
import type { RestartReason } from '../../core/rpc/mod.ts';
import type { ChassisTimes, JoiningChassis, PrepareChassis, RecycleRules } from '../mesh/mod.ts';
import { ChassisProcess, describeExit, type Exit, type Launch } from './chassis-process.ts';
import { PermanentFault } from './permanent-fault.ts';
import type { ExpectedChassis, ReadyChassis } from './ready-chassis.ts';
import { awaitReadiness, unlessAborted } from './readiness.ts';
import type { Reaper } from './reaper.ts';
import { ONEWAY_MS_MAX, Resource } from './resource.ts';
import { StartOutput } from './start-output.ts';
import type { LossCause } from './suspect-calls.ts';

/** `stopped`: the chassis is not part of the desired state any more. */
export type EndReason = RestartReason | 'stopped';

export interface ProcessInstanceOptions {
  readonly name: string;
  readonly launch: Launch;
  readonly address: string;
  readonly expected: ExpectedChassis;
  readonly times: ChassisTimes;
  readonly recycle: RecycleRules;
  readonly limits: MessageLimits;
  readonly reaper: Reaper;
  /** Called when the process has ended: its address is free again. */
  readonly release: () => void;
  readonly clock: Clock;
  /** Prepares the chassis before it joins its pool. */
  readonly prepare: PrepareChassis;
  readonly onLine: (line: string) => void;
  /** Called when a working chassis should be replaced: age, calls, memory, retired, or hung beside other calls. */
  readonly onRecycle: (reason: RestartReason, why?: string) => void;
  /** Called when the link has closed: the chassis can serve no calls, even if its process still runs. */
  readonly onBroken: (instance: ProcessInstance) => void;
  /** Called when the process has ended. */
  readonly onEnded: (instance: ProcessInstance) => void;
}

export class ProcessInstance {
  readonly #options: ProcessInstanceOptions;
  readonly process: ChassisProcess;
  readonly #life = new AbortController();
  /** Aborted when the chassis leaves its pool. */
  readonly #left = new AbortController();
  #ready: ReadyChassis | undefined;
  #isPinging = false;
  /** Calls beside those of the pool. One that opens a shard may hold the event loop of the chassis. */
  #controlCalls = 0;
  resource: Resource | undefined;
  #reason: EndReason | undefined;
  #why = '';
  #isPermanent = false;
  readonly #output: StartOutput;

  constructor(options: ProcessInstanceOptions) {
    this.#options = options;
    this.#output = new StartOutput(options.clock, options.onLine);
    this.process = new ChassisProcess({
      ...options.launch,
      reaper: options.reaper,
      clock: options.clock,
      onLine: (line) => this.#output.push(line),
      onExit: (exit) => this.#onExit(exit),
    });
  }

  /** What the readiness check found; undefined until the chassis is ready. */
  get ready(): ReadyChassis | undefined {
    return this.#ready;
  }

  /** Why the process ended or is ending; undefined while it runs. */
  get reason(): EndReason | undefined {
    return this.#reason;
  }

  /** The reason as text: `exited with status 1`. */
  get why(): string {
    return this.#why;
  }

  /** Whether every further start would end for the same reason, until something changes. */
  get isPermanent(): boolean {
    return this.#isPermanent;
  }

  /** Resolves when the chassis is ready. @throws Error that says what is wrong; the process is killed then */
  async start(): Promise<Resource> {
    const { clock, times, name } = this.#options;
    const stopTimer = clock.after(times.startTimeoutMs, () => {
      this.#life.abort(
        new Error(`it did not listen at ${this.#options.address} and answer within ${times.startTimeoutMs} ms`),
      );
    });
    try {
      const ready = await awaitReadiness({
        name,
        address: this.#options.address,
        expected: this.#options.expected,
        limits: this.#options.limits,
        clock,
        signal: this.#life.signal,
        onLinkClosed: (error) => this.#onLinkClosed(error),
        onConnectionsChanged: (hasLostCalls) => this.#onConnectionsChanged(hasLostCalls),
        onUnreachable: (why) => this.end('ping_failed', why),
      });
      stopTimer();
      await this.#prepare(ready);
      this.#ready = ready;
      this.#output.passOn();
      this.resource = this.#resourceOf(ready);
      this.#watchHealth(ready);
      return this.resource;
    } catch (error) {
      if (this.#reason === undefined) this.#isPermanent = error instanceof PermanentFault;
      this.end('start_failed', (error as Error).message);
      throw error;
    } finally {
      stopTimer();
    }
  }

  async #prepare({ details: { service, version }, holdsShards, dispatch }: ReadyChassis): Promise<void> {
    const { prepare, name } = this.#options;
    if (dispatch === undefined) return;
    const chassis: JoiningChassis = {
      name,
      service,
      version,
      holdsShards,
      dispatch: async (call) => {
        this.#controlCalls++;
        try {
          return await dispatch(call);
        } finally {
          this.#controlCalls--;
        }
      },
      fail: (why) => this.end('ping_failed', why),
      left: this.#left.signal,
      hasFailed: () => this.#left.signal.aborted && (this.#reason === 'start_failed' || !this.#isRetired),
    };
    // Each of its calls to the chassis has a timeout, after which it calls `fail`.
    await unlessAborted(prepare(chassis), this.#life.signal);
  }

  /** Waits for running calls up to the drain timeout, then sends SIGTERM, and SIGKILL after the grace time. */
  async retire(reason: EndReason, why: string): Promise<void> {
    const { clock, times } = this.#options;
    this.#setReason(reason, why);
    if (this.resource !== undefined) {
      const timer = new AbortController();
      const stopTimer = clock.after(times.drainTimeoutMs, () => timer.abort());
      await Promise.race([
        this.resource.whenQuiet(),
        this.process.exited,
        new Promise((resolve) => timer.signal.addEventListener('abort', resolve)),
      ]);
      stopTimer();
    }
    await this.process.stop(times.stopGraceMs);
  }

  /** Kills the process now. Its calls fail. */
  end(reason: EndReason, why: string): void {
    this.#setReason(reason, why);
    this.process.kill();
    // A process that could not be launched emits no exit, so close the resource here.
    this.resource?.close();
  }

  #setReason(reason: EndReason, why: string): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    this.#why = why;
    this.#left.abort();
  }

  /** Whether it ends for a reason that is no fault of it. */
  get #isRetired(): boolean {
    return this.#reason !== undefined && !FAILURES.includes(this.#reason);
  }

  #resourceOf(ready: ReadyChassis): Resource {
    const { recycle, clock, times, name, onRecycle } = this.#options;
    const resource = new Resource({
      name,
      link: ready.link,
      concurrency: ready.concurrency,
      // With a limit on calls nothing is sent ahead: calls beyond the limit would have to be taken back.
      ahead: recycle.afterCalls > 0 ? 0 : ready.ahead,
      hangGraceMs: times.hangGraceMs,
      clock,
      onHung: (why) => this.#onHung(why),
      isLeaving: () => this.#isRetired,
      onRetire: () => onRecycle('retired'),
      onServed: () => {
        if (recycle.afterCalls > 0 && resource.callsServed === recycle.afterCalls) onRecycle('calls');
      },
      exitReason: () => this.#why || 'closed the connection',
    });
    return resource;
  }

  /**
   * Checks age and memory, and pings while the chassis is idle. A busy chassis is judged by the deadlines of its
   * calls.
   */
  #watchHealth(ready: ReadyChassis): void {
    const { clock, times, recycle } = this.#options;
    const { signal } = this.#life;
    let isRequested = false;
    const requestRecycle = (reason: RestartReason): void => {
      if (isRequested) return;
      isRequested = true;
      this.#options.onRecycle(reason);
    };
    const check = async (): Promise<void> => {
      while (!signal.aborted) {
        await sleep(times.pingEveryMs, signal);
        if (recycle.afterAgeMs > 0 && clock.nowMs() - this.process.startedAtMs > recycle.afterAgeMs)
          requestRecycle('age');
        if (recycle.memoryBytesMax > 0 && this.process.rssBytes() > recycle.memoryBytesMax) requestRecycle('memory');
        if (
          ready.checkHealth !== undefined &&
          this.resource?.inFlight === 0 &&
          this.#controlCalls === 0 &&
          !this.#isPinging
        )
          void this.#ping(ready, ready.checkHealth);
      }
    };
    // The loop ends with the process; the abort of `#life` is its only rejection.
    check().catch(() => undefined);
  }

  async #ping(ready: ReadyChassis, checkHealth: () => Promise<unknown>): Promise<void> {
    const { clock, times, expected } = this.#options;
    const check = expected.healthCheck === '' ? 'a ping' : `its health check ${expected.healthCheck}`;
    const startedAtMs = clock.nowMs();
    const onLate = (): void => {
      // A call that arrived after the ping may keep the chassis busy. The deadline of that call applies then.
      if ((this.resource?.inFlight ?? 0) > 0 || this.#controlCalls > 0) return;
      if ((ready.link.onewaysOpen ?? 0) > 0 && clock.nowMs() < startedAtMs + ONEWAY_MS_MAX)
        stopTimer = clock.after(times.pingTimeoutMs, onLate);
      else this.end('ping_failed', `it did not answer ${check} within ${times.pingTimeoutMs} ms`);
    };
    let stopTimer = clock.after(times.pingTimeoutMs, () => {
      // If the event loop of this process was blocked, the answer may have arrived unread. Wait a little.
      stopTimer = clock.after(SECOND_LOOK_MS, onLate);
    });
    this.#isPinging = true;
    try {
      await checkHealth();
    } catch (error) {
      // If the ping failed because the link closed, onLinkClosed or the exit gives the reason.
      if (!ready.link.isOpen || this.#life.signal.aborted) return;
      const { message } = error as Error;
      const why = expected.healthCheck === '' ? `a ping failed: ${message}` : message;
      this.end('ping_failed', why);
    } finally {
      stopTimer();
      this.#isPinging = false;
    }
  }

  get #isYoung(): boolean {
    return this.#options.clock.nowMs() - this.process.startedAtMs < YOUNG_MS;
  }

  /** A call is hung. Other calls of the process may still end, so it is killed only when none of them is left. */
  #onHung(why: string): void {
    const { resource } = this;
    if (resource?.hasNeighbors !== true) {
      this.end('hung', why);
      return;
    }
    resource.stop();
    this.#options.onRecycle('hung', why);
    void resource.whenQuiet().then(() => this.end('hung', why));
  }

  /** A plain server has closed a connection, or has accepted one again. */
  #onConnectionsChanged(hasLostCalls: boolean): void {
    this.resource?.onCapacity?.();
    if (!hasLostCalls) return;
    // The connections of a dying process close a moment before its exit is reported.
    const stop = this.#options.clock.after(EXIT_AFTER_LINK_MS, () => this.resource?.settleLosses('lives'));
    void this.process.exited.then(stop);
  }

  #onLinkClosed(error: KatamariError): void {
    // The link of a dying process closes a moment before its exit is reported. The exit is the better reason, so wait
    // for it.
    const stop = this.#options.clock.after(EXIT_AFTER_LINK_MS, () => this.end('protocol', error.message));
    void this.process.exited.then(stop);
    this.#left.abort();
    this.#options.onBroken(this);
  }

  #onExit(exit: Exit): void {
    // A signal of ours, or of somebody outside, tells nothing about the calls that ran.
    const isOurs = this.#reason !== undefined;
    const cause: LossCause = !isOurs && OUTSIDE_SIGNALS.includes(exit.signal ?? '') ? 'killed from outside' : 'ended';
    // Only these ends need to know what the process said last, or left behind. Others are handled at once.
    if (this.#reason === undefined && (this.#ready === undefined || exit.code === 0)) {
      this.resource?.close();
      this.#output.exited();
      void this.process.settled.then((left) => this.#finish(exit, left, cause));
    } else this.#finish(exit, 0, cause);
  }

  /** @param left number of processes that it left behind */
  #finish(exit: Exit, left: number, cause: LossCause): void {
    const failedStart = this.#ready === undefined;
    if (this.#reason === undefined) {
      const { idl } = this.#options.expected;
      const isDaemon = left > 0 && exit.code === 0 && (failedStart || (idl !== null && this.#isYoung));
      this.#isPermanent = isDaemon || (failedStart && exit.isPermanent);
      const { lastLines } = this.process;
      const last = this.#isPermanent && !isDaemon && exit.code !== null ? lastLines.at(-1) : undefined;
      const why = `${describeExit(exit)}${last === undefined ? '' : `: ${last}`}${isDaemon ? describeDaemon(left) : ''}`;
      this.#setReason(failedStart ? 'start_failed' : 'crashed', why);
    }
    // The report of a permanent fault has its output.
    if (this.#isPermanent) this.#output.drop();
    else this.#output.passOn();
    this.#life.abort(new Error(`it ${describeExit(exit)}`));
    this.resource?.close();
    this.resource?.settleLosses(cause);
    this.#options.release();
    this.#options.onEnded(this);
  }
}

/** A program that becomes a daemon leaves a process behind and exits, but one that exits later may do so too. */
function describeDaemon(left: number): string {
  return ` and left ${left === 1 ? 'a process' : `${left} processes`} in the background, which the mesh has ended: run the program in the foreground, with its option for that`;
}

/** A plain server that exits with 0 earlier and leaves processes behind has become a daemon. */
const YOUNG_MS = 10_000;
/** Ends for which a call may be to blame. */
const FAILURES: readonly EndReason[] = ['crashed', 'hung', 'ping_failed', 'protocol'];
/** Signals with which operators and the kernel end a process. Others are those of a crash. */
const OUTSIDE_SIGNALS: readonly string[] = ['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'];
const EXIT_AFTER_LINK_MS = 200;
const SECOND_LOOK_MS = 100;
