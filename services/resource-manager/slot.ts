// One place for a chassis, kept filled: starts an incarnation, puts it into its pool when it was introduced, starts the next one when it
// ended, at once or after a pause as the restart rules say. A planned replacement starts the new one first and only then drains the old,
// so that capacity never drops. Given up never, reported always. A slot keeps the deployment
// that its chassis came up with: another one takes over only with a chassis that has proven it.

import type { Clock } from '../../core/mod.ts';
import type { ResourceState, ResourceStatus, RestartReason } from '../../core/rpc/mod.ts';
import type { Deployment } from '../mesh/mod.ts';
import type { EndReason, ProcessInstance } from './instance.ts';
import type { ResourcePool } from './pool.ts';
import { afterStart, NO_STARTS, pauseBeforeStart, type StartHistory } from './restart-rules.ts';

export interface SlotOptions {
  /** `Service@version/index` */
  readonly name: string;
  readonly deployment: Deployment;
  readonly clock: Clock;
  /** Launches a chassis for this slot. */
  readonly launch: (slot: Slot, deployment: Deployment) => ProcessInstance;
  /** The pool for what was introduced. @throws Error when the mesh refuses it, with the difference */
  readonly admit: (incarnation: ProcessInstance) => ResourcePool;
  /** The slot left its pool for another or for good. */
  readonly onPoolLeft: (pool: ResourcePool) => void;
  readonly report: (
    kind: 'starting' | 'ready' | 'ended' | 'backing_off' | 'refused',
    slot: Slot,
    text: string,
    lines: readonly string[],
  ) => void;
  readonly onRestart: (reason: RestartReason) => void;
}

export class Slot {
  readonly #options: SlotOptions;
  /** In the pool, or on its way out of it. */
  #current: ProcessInstance | undefined;
  /** Launched, not introduced yet. */
  #next: ProcessInstance | undefined;
  /** What its chassis are launched from, and what the next one was. */
  #deployment: Deployment;
  #nextDeployment: Deployment;
  /** A chassis of its deployment was in the pool once. */
  #isProven = false;
  /** Retired ones that finish their calls. */
  readonly #leaving = new Set<ProcessInstance>();
  #pool: ResourcePool | undefined;
  #history: StartHistory = NO_STARTS;
  #stopPause: (() => void) | undefined;
  #isPaused = false;
  #isRefused = false;
  #isClosed = false;
  #restarts = 0;
  #note = '';
  /** Told when the replacement under way is in the pool, or failed. */
  #waiting: ((error: Error | undefined) => void)[] = [];

  constructor(options: SlotOptions) {
    this.#options = options;
    this.#deployment = options.deployment;
    this.#nextDeployment = options.deployment;
  }

  get name(): string {
    return this.#options.name;
  }

  get pool(): ResourcePool | undefined {
    return this.#pool;
  }

  /** What its chassis runs, or is to run when none has come up yet. */
  get deployment(): Deployment {
    return this.#deployment;
  }

  get isServing(): boolean {
    return this.#current !== undefined;
  }

  /** Every process that belongs to this slot, for tests and for closing. */
  get processes(): readonly ProcessInstance[] {
    return [this.#current, this.#next, ...this.#leaving].filter((one) => one !== undefined);
  }

  start(): void {
    if (this.#isClosed || this.#next !== undefined || this.#stopPause !== undefined) return;
    const { clock } = this.#options;
    const pauseMs = pauseBeforeStart(this.#deployment.restart, this.#history, clock.nowMs());
    if (pauseMs === 0) {
      this.#launch(this.#deployment, false);
      return;
    }
    this.#isPaused = true;
    this.#options.report('backing_off', this, `next start in ${pauseMs} ms: ${this.#note}`, []);
    this.#stopPause = clock.after(pauseMs, () => {
      this.#stopPause = undefined;
      this.#isPaused = false;
      this.#launch(this.#deployment, true);
    });
  }

  /**
   * Takes over another deployment when none of its chassis has served, so that there is nothing to lose; its next start is from that.
   * @returns false when one has: then `replace` it is
   */
  adopt(deployment: Deployment): boolean {
    if (this.#isClosed || this.#isProven) return false;
    this.#deployment = deployment;
    this.#isRefused = false;
    this.#history = NO_STARTS;
    this.#forgetPause();
    this.#giveUpNext();
    return true;
  }

  /** A replacement that is under way from another deployment than this is not wanted any more. What serves goes on. */
  keepTo(deployment: Deployment): void {
    if (this.#next === undefined || this.#nextDeployment === deployment) return;
    this.#giveUpNext();
    if (this.#current === undefined) this.start();
  }

  /**
   * Replaces the chassis: the new one first, then the old one drains. Resolves when the new one serves and the old one has ended.
   * @param deployment what the new one is launched from; left out: the same as before, or what is being launched already
   * @throws Error when the new one does not come up; the old one goes on then, and so does its deployment.
   */
  async replace(reason: RestartReason, why: string, deployment?: Deployment): Promise<void> {
    if (this.#isClosed) throw new Error(`${this.name} is being ended`);
    const old = this.#current;
    this.#isRefused = false;
    this.#forgetPause();
    if (deployment !== undefined && deployment !== this.#nextDeployment) this.#giveUpNext();
    if (this.#next === undefined) this.#launch(deployment ?? this.#deployment, false);
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push((error) => (error === undefined ? resolve() : reject(error)));
    });
    if (old === undefined || old === this.#current) return;
    if (old.reason !== undefined) {
      // It has died meanwhile, or another replacement has it.
      await old.process.exited;
      return;
    }
    this.#options.onRestart(reason);
    this.#restarts++;
    await this.#leave(old, reason, why);
  }

  /** Drains the chassis and fills the place no more. Resolves when its last process has ended. */
  async drain(why: string): Promise<void> {
    const current = this.#current;
    const { processes } = this;
    this.#end(why);
    this.#next?.end('stopped', why);
    if (current?.resource !== undefined) this.#pool?.remove(current.resource);
    const pool = this.#pool;
    this.#pool = undefined;
    if (pool !== undefined) this.#options.onPoolLeft(pool);
    await Promise.all(processes.map((one) => (one === current ? one.retire('stopped', why) : one.process.exited)));
  }

  /** Ends everything now. */
  async close(): Promise<void> {
    const why = 'the mesh has stopped';
    this.#end(why);
    const { processes } = this;
    for (const one of processes) one.end('stopped', why);
    await Promise.all(processes.map((one) => one.process.exited));
  }

  /** A chassis still works but should be replaced: age, calls, memory, or its own wish. */
  onWorn(incarnation: ProcessInstance, reason: RestartReason): void {
    if (this.#isClosed || incarnation !== this.#current) return;
    if (reason === 'retired') this.#retireAtOnce(incarnation);
    else this.replace(reason, `recycled by ${reason}`).catch(() => undefined);
  }

  /** The link of a chassis has closed. Calls must not wait for it until its process has ended too. */
  onBroken(incarnation: ProcessInstance): void {
    if (incarnation === this.#current && incarnation.resource !== undefined) this.#pool?.remove(incarnation.resource);
  }

  /** The process of one of this slot's incarnations has ended. */
  onEnded(incarnation: ProcessInstance): void {
    const wasLeaving = this.#leaving.delete(incarnation);
    const wasServing = incarnation === this.#current;
    if (wasServing) this.#takeOut(incarnation);
    if (incarnation === this.#next) this.#next = undefined;
    const reason = incarnation.reason ?? 'crashed';
    this.#options.report(
      'ended',
      this,
      `${reason}: ${incarnation.why}`,
      isBadEnd(reason) ? incarnation.process.lastLines : [],
    );
    if (this.#isClosed || wasLeaving) return;
    this.#note = incarnation.why;
    if (reason !== 'stopped') this.#options.onRestart(reason);
    this.#restarts++;
    if (
      wasServing &&
      this.#options.clock.nowMs() - incarnation.process.startedAtMs > this.#deployment.restart.periodMs
    ) {
      // It stayed up for long: its place begins with short pauses again.
      this.#history = { ...this.#history, pauses: 0 };
    }
    if (!wasServing) {
      this.#history = { ...this.#history, failedStarts: this.#history.failedStarts + 1 };
      this.#tellWaiting(new Error(`${this.name} did not come up: ${incarnation.why}`));
    }
    // A place that still has a working chassis (a replacement failed) is left as it is; a refused one waits for a person.
    if (this.#current === undefined && !this.#isRefused) this.start();
  }

  status(): ResourceStatus {
    const shown = this.#current ?? this.#next;
    const { clock } = this.#options;
    return {
      name: this.name,
      state: this.#state(),
      pid: shown?.process.pid ?? 0,
      inFlight: shown?.resource?.inFlight ?? 0,
      callsServed: shown?.resource?.callsServed ?? 0,
      ageMs: shown === undefined ? 0 : Math.round(clock.nowMs() - shown.process.startedAtMs),
      rssBytes: shown?.process.rssBytes() ?? 0,
      restarts: this.#restarts,
      note: this.#note,
    };
  }

  #state(): ResourceState {
    if (this.#current !== undefined) {
      if (this.#isClosed) return 'draining';
      return this.#current.resource?.hasPlace === true ? 'idle' : 'busy';
    }
    if (this.#isRefused) return 'failed';
    if (this.#isPaused) return 'backing_off';
    if (this.#next === undefined && this.#leaving.size > 0) return 'draining';
    return this.#isClosed ? 'stopping' : 'starting';
  }

  #launch(deployment: Deployment, wasPaused: boolean): void {
    this.#history = afterStart(deployment.restart, this.#history, this.#options.clock.nowMs(), wasPaused);
    const incarnation = this.#options.launch(this, deployment);
    this.#next = incarnation;
    this.#nextDeployment = deployment;
    this.#options.report('starting', this, `pid ${incarnation.process.pid}`, []);
    incarnation.start().then(
      () => this.#onIntroduced(incarnation),
      // Its process is being ended; onEnded goes on from there.
      () => undefined,
    );
  }

  #onIntroduced(incarnation: ProcessInstance): void {
    if (this.#isClosed || incarnation !== this.#next || incarnation.resource === undefined) return;
    let pool: ResourcePool;
    try {
      pool = this.#options.admit(incarnation);
    } catch (error) {
      // With another deployment the place goes back to the one it had.
      this.#isRefused = this.#current === undefined && this.#nextDeployment === this.#deployment;
      this.#note = (error as Error).message;
      this.#options.report('refused', this, this.#note, []);
      incarnation.end('start_failed', this.#note);
      return;
    }
    const old = this.#current;
    if (old?.resource !== undefined) this.#pool?.remove(old.resource);
    if (old !== undefined) this.#leaving.add(old);
    const oldPool = this.#pool;
    this.#pool = pool;
    this.#current = incarnation;
    this.#next = undefined;
    this.#deployment = this.#nextDeployment;
    this.#isProven = true;
    this.#note = '';
    this.#history = { ...this.#history, failedStarts: 0 };
    pool.add(incarnation.resource);
    if (oldPool !== undefined && oldPool !== pool) this.#options.onPoolLeft(oldPool);
    this.#options.report('ready', this, `pid ${incarnation.process.pid}`, []);
    this.#tellWaiting(undefined);
  }

  /** It has answered its last call and exits by itself: the place is filled anew meanwhile. */
  #retireAtOnce(incarnation: ProcessInstance): void {
    this.#takeOut(incarnation);
    this.#options.onRestart('retired');
    this.#restarts++;
    this.#history = { ...this.#history, startedAtMs: [] };
    void this.#leave(incarnation, 'retired', 'retired after its reply');
    this.start();
  }

  async #leave(incarnation: ProcessInstance, reason: RestartReason, why: string): Promise<void> {
    if (!incarnation.process.hasExited) this.#leaving.add(incarnation);
    await incarnation.retire(reason, why);
  }

  #takeOut(incarnation: ProcessInstance): void {
    if (incarnation.resource !== undefined) this.#pool?.remove(incarnation.resource);
    this.#current = undefined;
  }

  /** A chassis that was launched and not introduced is not wanted any more. Its end starts nothing. */
  #giveUpNext(): void {
    const next = this.#next;
    if (next === undefined) return;
    const why = 'its deployment has changed';
    this.#next = undefined;
    this.#leaving.add(next);
    next.end('stopped', why);
    this.#tellWaiting(new Error(`${this.name} was not replaced: ${why} meanwhile`));
  }

  #end(why: string): void {
    this.#isClosed = true;
    this.#forgetPause();
    this.#tellWaiting(new Error(`${this.name} is being ended: ${why}`));
  }

  #forgetPause(): void {
    this.#stopPause?.();
    this.#stopPause = undefined;
    this.#isPaused = false;
  }

  #tellWaiting(error: Error | undefined): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const tell of waiting) tell(error);
  }
}

/** Ends that nobody wanted: what the chassis said last tells why. */
function isBadEnd(reason: EndReason): boolean {
  switch (reason) {
    case 'crashed':
    case 'start_failed':
    case 'hung':
    case 'ping_failed':
    case 'protocol':
      return true;
    case 'retired':
    case 'age':
    case 'calls':
    case 'memory':
    case 'rolling':
    case 'operator':
    case 'stopped':
      return false;
  }
}
