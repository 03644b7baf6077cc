// One life of a chassis: launched, introduced, serving, ended. Ends once, for the first reason that was given; whatever it held (timers,
import { KatamariError, sleep, type Clock } from '../../core/mod.ts';
import type { RestartReason } from '../../core/rpc/mod.ts';
import type { ChassisTimes, RecycleRules } from '../mesh/mod.ts';
import { ChassisProcess, describeExit, type Exit, type Launch } from './chassis-process.ts';
import type { ExpectedChassis, ReadyChassis } from './introduced.ts';
import { awaitReadiness } from './readiness.ts';
import type { Reaper } from './reaper.ts';
import { Resource } from './resource.ts';

// link, socket file) goes with it. Its slot decides what comes after.

import { rmSync } from 'node:fs';
/** `stopped`: nobody wants it any more. */
export type EndReason = RestartReason | 'stopped';

export interface ProcessInstanceOptions {
  readonly name: string;
  readonly launch: Launch;
  readonly address: string;
  readonly expected: ExpectedChassis;
  readonly times: ChassisTimes;
  readonly recycle: RecycleRules;
  readonly frameBytesMax: number;
  readonly reaper: Reaper;
  readonly clock: Clock;
  readonly onLine: (line: string) => void;
  /** It should be replaced although it still works: age, calls, memory, retired. */
  readonly onWorn: (reason: RestartReason) => void;
  /** Its link has closed: it can serve nobody any more, whatever its process does. */
  readonly onBroken: (incarnation: ProcessInstance) => void;
  /** Its process has ended, at last. */
  readonly onEnded: (incarnation: ProcessInstance) => void;
}

export class ProcessInstance {
  readonly #options: ProcessInstanceOptions;
  readonly process: ChassisProcess;
  readonly #life = new AbortController();
  #introduced: ReadyChassis | undefined;
  resource: Resource | undefined;
  #reason: EndReason | undefined;
  #why = '';

  constructor(options: ProcessInstanceOptions) {
    this.#options = options;
    this.process = new ChassisProcess({
      ...options.launch,
      reaper: options.reaper,
      clock: options.clock,
      onLine: options.onLine,
      onExit: (exit) => this.#onExit(exit),
    });
  }

  get introduced(): ReadyChassis | undefined {
    return this.#introduced;
  }

  /** Why it ended or is ending; undefined while it lives. */
  get reason(): EndReason | undefined {
    return this.#reason;
  }

  /** The same for people: `exited with status 1`. */
  get why(): string {
    return this.#why;
  }

  /** Resolves when the chassis can be used. @throws Error what is wrong; it is being ended then. */
  async start(): Promise<Resource> {
    const { clock, times, name } = this.#options;
    const stopTimer = clock.after(times.startTimeoutMs, () => {
      this.#life.abort(
        new Error(`it did not listen at ${this.#options.address} and answer within ${times.startTimeoutMs} ms`),
      );
    });
    try {
      const introduced = await awaitReadiness({
        name,
        address: this.#options.address,
        expected: this.#options.expected,
        frameBytesMax: this.#options.frameBytesMax,
        clock,
        signal: this.#life.signal,
        onLinkClosed: (error) => this.#onLinkClosed(error),
      });
      this.#introduced = introduced;
      this.resource = this.#resourceOf(introduced);
      this.#watchHealth(introduced);
      return this.resource;
    } catch (error) {
      this.end('start_failed', (error as Error).message);
      throw error;
    } finally {
      stopTimer();
    }
  }

  /** Finishes the calls inside (bounded), then SIGTERM, then SIGKILL. */
  async retire(reason: EndReason, why: string): Promise<void> {
    const { clock, times } = this.#options;
    this.#setReason(reason, why);
    if (this.resource !== undefined) {
      const timer = new AbortController();
      const stopTimer = clock.after(times.drainTimeoutMs, () => timer.abort());
      await Promise.race([
        this.resource.whenIdle(),
        this.process.exited,
        new Promise((resolve) => timer.signal.addEventListener('abort', resolve)),
      ]);
      stopTimer();
    }
    await this.process.stop(times.stopGraceMs);
  }

  /** Ends it now: calls inside fail. */
  end(reason: EndReason, why: string): void {
    this.#setReason(reason, why);
    this.process.kill();
    // A process that could not be launched has no exit of its own to wait for.
    this.resource?.close();
  }

  #setReason(reason: EndReason, why: string): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    this.#why = why;
  }

  #resourceOf(introduced: ReadyChassis): Resource {
    const { recycle, clock, times, name, onWorn } = this.#options;
    const resource = new Resource({
      name,
      link: introduced.link,
      places: introduced.places,
      // One that may serve so many calls is sent them one by one, or the last of them would have to be taken back.
      ahead: recycle.afterCalls > 0 ? 0 : introduced.ahead,
      hangGraceMs: times.hangGraceMs,
      clock,
      onHung: (why) => this.end('hung', why),
      onRetire: () => onWorn('retired'),
      onServed: () => {
        if (recycle.afterCalls > 0 && resource.callsServed === recycle.afterCalls) onWorn('calls');
      },
      exitReason: () => this.#why || 'closed the connection',
    });
    return resource;
  }

  /** Pings while it is idle, and looks at its age and memory. A busy chassis is judged by the deadlines of its calls. */
  #watchHealth(introduced: ReadyChassis): void {
    const { clock, times, recycle } = this.#options;
    const { signal } = this.#life;
    let isWorn = false;
    const wear = (reason: RestartReason): void => {
      if (isWorn) return;
      isWorn = true;
      this.#options.onWorn(reason);
    };
    const check = async (): Promise<void> => {
      while (!signal.aborted) {
        await sleep(times.pingEveryMs, signal);
        if (recycle.afterAgeMs > 0 && clock.nowMs() - this.process.startedAtMs > recycle.afterAgeMs) wear('age');
        if (recycle.memoryBytesMax > 0 && this.process.rssBytes() > recycle.memoryBytesMax) wear('memory');
        if (introduced.isWell !== undefined && this.resource?.inFlight === 0)
          await this.#ping(introduced, introduced.isWell);
      }
    };
    // Ends with the life of the chassis; the only rejection is that end.
    check().catch(() => undefined);
  }

  async #ping(introduced: ReadyChassis, isWell: () => Promise<unknown>): Promise<void> {
    const { clock, times, expected } = this.#options;
    const what = expected.healthCheck === '' ? 'a ping' : `its health check ${expected.healthCheck}`;
    let stopTimer = clock.after(times.pingTimeoutMs, () => {
      // When this process was held up, the answer may be here and unread: it gets a second look before anybody is killed.
      stopTimer = clock.after(SECOND_LOOK_MS, () => {
        // A call that came after the ping may keep the code busy; then the call's deadline judges.
        if ((this.resource?.inFlight ?? 0) > 0) return;
        this.end('ping_failed', `it did not answer ${what} within ${times.pingTimeoutMs} ms`);
      });
    });
    try {
      await isWell();
    } catch (error) {
      // A ping that its link took along says nothing of its own: onLinkClosed judges, and the exit may be the reason.
      if (!introduced.link.isOpen || this.#life.signal.aborted) return;
      const { message } = error as Error;
      const why = expected.healthCheck === '' ? `a ping failed: ${message}` : message;
      this.end('ping_failed', why);
    } finally {
      stopTimer();
    }
  }

  #onLinkClosed(error: KatamariError): void {
    // A process that dies closes its link a moment before its exit is known: then the exit is the reason.
    const stop = this.#options.clock.after(EXIT_AFTER_LINK_MS, () => this.end('protocol', error.message));
    void this.process.exited.then(stop);
    this.#options.onBroken(this);
  }

  #onExit(exit: Exit): void {
    const failedStart = this.#introduced === undefined;
    this.#setReason(failedStart ? 'start_failed' : 'crashed', describeExit(exit));
    this.#life.abort(new Error(`it ${describeExit(exit)}`));
    this.resource?.close();
    const { address } = this.#options;
    if (address.startsWith('unix:')) rmSync(address.slice(5), { force: true });
    this.#options.onEnded(this);
  }
}

const EXIT_AFTER_LINK_MS = 200;
const SECOND_LOOK_MS = 100;
