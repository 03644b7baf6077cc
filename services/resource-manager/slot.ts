// A slot keeps one chassis of a deployment running. It starts a process instance, puts it into its pool when it is
// ready, and starts the next one when it ends, at once or after a pause as the restart rules say. A planned
// replacement starts the new instance first and then drains the old one, so capacity never drops. A slot retries
// forever and reports every failure; after a fault that every start would have (permanent-fault.ts), it is `failed`
// until something changes. It switches to a new deployment only once a chassis of that deployment is ready.
// Until then it keeps the deployment of its last ready chassis.

import type { Clock } from '../../core/mod.ts';
import type { ResourceState, ResourceStatus, RestartReason } from '../../core/rpc/mod.ts';
import type { Deployment } from '../mesh/mod.ts';
import type { EndReason, ProcessInstance } from './instance.ts';
import { PermanentFault, type PermanentFaults } from './permanent-fault.ts';
import type { ResourcePool } from './pool.ts';
import { afterStart, NO_STARTS, pauseBeforeStart, type StartHistory } from './restart-rules.ts';

export interface SlotOptions {
  /** `Service@version/index` */
  readonly name: string;
  readonly deployment: Deployment;
  readonly clock: Clock;
  /** Faults that the slots of a deployment share. */
  readonly faults: PermanentFaults;
  /** Launches a process for this slot. */
  readonly launch: (slot: Slot, deployment: Deployment) => ProcessInstance;
  /**
   * Returns the pool for a ready chassis.
   * @throws Error that shows the difference when the mesh refuses its interface
   */
  readonly admit: (instance: ProcessInstance) => ResourcePool;
  /** Called when the slot left a pool. */
  readonly onPoolLeft: (pool: ResourcePool) => void;
  readonly report: (
    kind: 'starting' | 'ready' | 'ended' | 'backing_off' | 'failed' | 'refused',
    slot: Slot,
    text: string,
    lines: readonly string[],
  ) => void;
  readonly onRestart: (reason: RestartReason) => void;
}

export class Slot {
  readonly #options: SlotOptions;
  /** The instance in the pool, or the one that is leaving it. */
  #current: ProcessInstance | undefined;
  /** The instance that was launched and is not ready yet. */
  #next: ProcessInstance | undefined;
  /** The deployment of the slot, and the one that `#next` was launched from. */
  #deployment: Deployment;
  #nextDeployment: Deployment;
  /** True once a chassis of this slot was ready. */
  #hasBeenReady = false;
  /** Retired instances that finish their calls. */
  readonly #leaving = new Set<ProcessInstance>();
  #pool: ResourcePool | undefined;
  #history: StartHistory = NO_STARTS;
  #stopPause: (() => void) | undefined;
  #isPaused = false;
  /** Ends the wait for a permanent fault to be corrected. */
  #stopWait: (() => void) | undefined;
  /** Why the mesh refused the interface of the last copy; '' if it did not. */
  #refusal = '';
  #isClosed = false;
  #restarts = 0;
  #note = '';
  /** Callbacks for the end of the replacement in progress. */
  #onReplaced: ((error: Error | undefined) => void)[] = [];

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

  /** The deployment of the serving chassis; before one is ready, that of the next start. */
  get deployment(): Deployment {
    return this.#deployment;
  }

  get isServing(): boolean {
    return this.#current !== undefined;
  }

  /** Whether a process was launched that is not ready yet. */
  get isStarting(): boolean {
    return this.#next !== undefined;
  }

  /** Every process of this slot. */
  get processes(): readonly ProcessInstance[] {
    return [this.#current, this.#next, ...this.#leaving].filter((one) => one !== undefined);
  }

  /**
   * Starts a chassis, at once or after a pause. Does nothing while one serves or starts: the turn of the start limiter
   * may come after a rolling restart has already brought the slot up.
   */
  start(): void {
    if (this.#isClosed || this.#current !== undefined || this.#next !== undefined) return;
    if (this.#stopPause !== undefined || this.#stopWait !== undefined) return;
    const { clock, faults } = this.#options;
    const fault = faults.get(this.#deployment);
    if (fault !== undefined) {
      this.#note = fault.text;
      this.#stopWait = fault.wait(() => {
        this.#stopWait = undefined;
        this.#history = NO_STARTS;
        this.#launch(this.#deployment, false);
      });
      return;
    }
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
   * Switches to another deployment if no chassis of this slot was ever ready; its next start uses it.
   * @returns false when a chassis has served: use `replace` then
   */
  adopt(deployment: Deployment): boolean {
    if (this.#isClosed || this.#hasBeenReady) return false;
    this.#deployment = deployment;
    this.#refusal = '';
    this.#history = NO_STARTS;
    this.#cancelPause();
    this.#cancelNext();
    return true;
  }

  /** Cancels a replacement in progress that has another deployment. The serving chassis stays. */
  cancelOtherReplacement(deployment: Deployment): void {
    if (this.#next === undefined || this.#nextDeployment === deployment) return;
    this.#cancelNext();
    if (this.#current === undefined) this.start();
  }

  /**
   * Replaces the chassis: starts the new one, then drains the old one. Resolves when the new one serves and the old
   * one has ended.
   * @param deployment deployment of the new one; default: the current one, or the one that is starting already
   * @throws Error when the new one does not come up; the old chassis and its deployment stay
   */
  async replace(reason: RestartReason, why: string, deployment?: Deployment): Promise<void> {
    if (this.#isClosed) throw new Error(`${this.name} is being stopped`);
    const old = this.#current;
    this.#refusal = '';
    this.#cancelPause();
    this.#options.faults.clear(deployment ?? this.#deployment);
    if (deployment !== undefined && deployment !== this.#nextDeployment) this.#cancelNext();
    if (this.#next === undefined) this.#launch(deployment ?? this.#deployment, false);
    await new Promise<void>((resolve, reject) => {
      this.#onReplaced.push((error) => (error === undefined ? resolve() : reject(error)));
    });
    if (old === undefined || old === this.#current) return;
    if (old.reason !== undefined) {
      // The old one has died, or another replacement retires it.
      await old.process.exited;
      return;
    }
    this.#options.onRestart(reason);
    this.#restarts++;
    await this.#leave(old, reason, why);
  }

  /** Drains the chassis and starts no other. Resolves when the last process of the slot has ended. */
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

  /** Kills every process now. */
  async close(): Promise<void> {
    const why = 'the mesh has stopped';
    this.#end(why);
    const { processes } = this;
    for (const one of processes) one.end('stopped', why);
    await Promise.all(processes.map((one) => one.process.exited));
  }

  /** Replaces a chassis because of its age, calls or memory, because it asked for it, or because one call hangs. */
  onRecycle(instance: ProcessInstance, reason: RestartReason, why = `recycled at its ${reason} limit`): void {
    if (this.#isClosed || instance !== this.#current) return;
    if (reason === 'retired') this.#replaceRetired(instance);
    else this.replace(reason, why).catch(() => undefined);
  }

  /** Takes a chassis whose link has closed out of the pool at once, before its process ends. */
  onBroken(instance: ProcessInstance): void {
    if (instance === this.#current && instance.resource !== undefined) this.#pool?.remove(instance.resource);
  }

  /** Handles the end of a process of this slot. */
  onEnded(instance: ProcessInstance): void {
    const wasLeaving = this.#leaving.delete(instance);
    const wasServing = instance === this.#current;
    if (wasServing) this.#takeOut(instance);
    if (instance === this.#next) this.#next = undefined;
    const reason = instance.reason ?? 'crashed';
    const isOver = this.#isClosed || wasLeaving;
    if (instance.isPermanent && !isOver)
      this.#reportPermanent(instance, wasServing ? this.#deployment : this.#nextDeployment);
    else {
      const lines = isFailure(reason) ? instance.process.lastLines : [];
      this.#options.report('ended', this, `${reason}: ${instance.why}`, lines);
    }
    if (isOver) return;
    this.#note = instance.why;
    if (reason !== 'stopped') this.#options.onRestart(reason);
    this.#restarts++;
    if (wasServing && this.#options.clock.nowMs() - instance.process.startedAtMs > this.#deployment.restart.periodMs) {
      // The chassis was up for a full period, so the backoff starts again at its first pause.
      this.#history = { ...this.#history, pauses: 0 };
    }
    if (!wasServing) {
      this.#history = { ...this.#history, failedStarts: this.#history.failedStarts + 1 };
      const Fault = instance.isPermanent ? PermanentFault : Error;
      this.#finishReplacement(new Fault(`${this.name} did not come up: ${instance.why}`));
    }
    // Nothing to start while a chassis serves: a replacement failed.
    if (this.#current === undefined) this.start();
  }

  /** Reports a permanent fault, unless another slot of this deployment has. */
  #reportPermanent(
    { reason, why, process: { startedAtMs, lastLines } }: ProcessInstance,
    deployment: Deployment,
  ): void {
    const { clock, faults, report } = this.#options;
    const startedAtUnixMs = Date.now() - (clock.nowMs() - startedAtMs);
    if (!faults.add(deployment, why, lastLines, startedAtUnixMs)) return;
    // The reason ends with the only line of output.
    const lines = lastLines.length === 1 && why.endsWith(lastLines[0] ?? '') ? [] : lastLines;
    report('failed', this, `${reason}: ${why}. ${UNTIL_CHANGED}`, lines);
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
      return this.#current.resource?.hasCapacity === true ? 'idle' : 'busy';
    }
    if (this.#stopWait !== undefined) return 'failed';
    if (this.#isPaused) return 'backing_off';
    if (this.#next === undefined && this.#leaving.size > 0) return 'draining';
    return this.#isClosed ? 'stopping' : 'starting';
  }

  #launch(deployment: Deployment, wasPaused: boolean): void {
    this.#history = afterStart(deployment.restart, this.#history, this.#options.clock.nowMs(), wasPaused);
    const instance = this.#options.launch(this, deployment);
    this.#next = instance;
    this.#nextDeployment = deployment;
    this.#options.report('starting', this, `pid ${instance.process.pid}`, []);
    instance.start().then(
      () => this.#onReady(instance),
      // The process is being killed; onEnded continues from there.
      () => undefined,
    );
  }

  #onReady(instance: ProcessInstance): void {
    if (this.#isClosed || instance !== this.#next || instance.resource === undefined) return;
    let pool: ResourcePool;
    try {
      pool = this.#options.admit(instance);
    } catch (error) {
      // The next start may succeed: the copies that speak the other interface may have ended by then.
      const refusal = (error as Error).message;
      if (refusal !== this.#refusal) this.#options.report('refused', this, refusal, []);
      this.#refusal = refusal;
      instance.end('start_failed', refusal);
      return;
    }
    const old = this.#current;
    if (old?.resource !== undefined) this.#pool?.remove(old.resource);
    if (old !== undefined) this.#leaving.add(old);
    const oldPool = this.#pool;
    this.#pool = pool;
    this.#current = instance;
    this.#next = undefined;
    this.#deployment = this.#nextDeployment;
    this.#hasBeenReady = true;
    this.#refusal = '';
    this.#note = '';
    this.#history = { ...this.#history, failedStarts: 0 };
    pool.add(instance.resource);
    if (oldPool !== undefined && oldPool !== pool) this.#options.onPoolLeft(oldPool);
    this.#options.report('ready', this, `pid ${instance.process.pid}`, []);
    this.#finishReplacement(undefined);
  }

  /** Starts the next chassis while the one that answered its last call exits by itself. */
  #replaceRetired(instance: ProcessInstance): void {
    this.#takeOut(instance);
    this.#options.onRestart('retired');
    this.#restarts++;
    this.#history = { ...this.#history, startedAtMs: [] };
    void this.#leave(instance, 'retired', 'retired after its reply');
    this.start();
  }

  async #leave(instance: ProcessInstance, reason: RestartReason, why: string): Promise<void> {
    if (!instance.process.hasExited) this.#leaving.add(instance);
    await instance.retire(reason, why);
  }

  #takeOut(instance: ProcessInstance): void {
    if (instance.resource !== undefined) this.#pool?.remove(instance.resource);
    this.#current = undefined;
  }

  /** Kills the instance that is not ready yet. Its end starts no other. */
  #cancelNext(): void {
    const next = this.#next;
    if (next === undefined) return;
    const why = 'its deployment has changed';
    this.#next = undefined;
    this.#leaving.add(next);
    next.end('stopped', why);
    this.#finishReplacement(new Error(`${this.name} was not replaced: ${why}`));
  }

  #end(why: string): void {
    this.#isClosed = true;
    this.#cancelPause();
    this.#finishReplacement(new Error(`${this.name} is being stopped: ${why}`));
  }

  #cancelPause(): void {
    this.#stopPause?.();
    this.#stopPause = undefined;
    this.#isPaused = false;
    this.#stopWait?.();
    this.#stopWait = undefined;
  }

  #finishReplacement(error: Error | undefined): void {
    const callbacks = this.#onReplaced;
    this.#onReplaced = [];
    for (const callback of callbacks) callback(error);
  }
}

const UNTIL_CHANGED = 'No copy is started until the deployment or a file that it uses has changed, or katamari restart';

/** Whether an end is a failure, so that the last output lines of the chassis help to explain it. */
function isFailure(reason: EndReason): boolean {
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
