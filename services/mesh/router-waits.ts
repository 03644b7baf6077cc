// Calls that wait in the router: for a reachable manager of their service, or for the first copy of a service that is
// deployed. Each waits until the pools change, its deadline passes or its caller goes. Limits: calls of one service,
// and of all.

import { WaitingCallsByKey, type DeadlineWheel } from '../../core/link/mod.ts';
import { KatamariError, NO_COPY_UP, type Clock } from '../../core/mod.ts';
import type { CallWithoutPool } from '../../core/rpc/mod.ts';
import type { DeployedService } from './deployed.ts';

export class RouterWaits {
  /** By service; '' for calls that name none. */
  readonly #waiting: WaitingCallsByKey;

  constructor(clock: Clock, deadlines: DeadlineWheel) {
    this.#waiting = new WaitingCallsByKey({ clock, deadlines, max: WAITING_MAX });
  }

  /** Routes all waiting calls again. */
  resume(): void {
    this.#waiting.resume();
  }

  /** Lets a call wait until a manager of its service is reachable. */
  addForManager(service: string, version: string, call: CallWithoutPool): void {
    const requested = version === '' ? service : `${service}@${version}`;
    this.#add(service, call, WAITING_PER_SERVICE_MAX, { what: `a manager of ${requested}`, end: 'is reachable' });
  }

  /** Lets a call wait for the first copy of one of these deployments. */
  addForCopy(service: string, coming: readonly DeployedService[], call: CallWithoutPool): void {
    const max = coming.reduce((sum, { queueMax }) => sum + queueMax, 0);
    const names = coming.slice(0, NAMES_SHOWN_MAX).map((one) => `${one.service}@${one.version}`);
    this.#add(service, call, Math.min(max, WAITING_PER_SERVICE_MAX), {
      what: `a copy of ${names.join(' or ')}`,
      end: 'is up',
    });
  }

  /**
   * Fails a call with `overloaded` if it must not queue or too many calls wait.
   * @param awaited what it waits for, as parts of a sentence: `a manager of Work`, `is reachable`
   */
  #add(key: string, call: CallWithoutPool, max: number, { what, end }: { what: string; end: string }): void {
    const facts = { notRun: true, retryAfterMs: RETRY_AFTER_MS };
    if (call.doNotQueue) {
      const why = `The call asked not to wait for ${what}, and none ${end} yet; try again in ${RETRY_AFTER_MS} ms`;
      call.fail(new KatamariError('overloaded', why, facts));
      return;
    }
    const isWaiting = this.#waiting.add(key, max, call, {
      resume: () => call.resume(),
      fail: (error) => call.fail(error),
      timeoutError: () =>
        new KatamariError('timeout', `Waited for ${what} until the deadline: none ${end}`, NO_COPY_UP),
    });
    if (isWaiting) return;
    const ofKey = this.#waiting.count(key);
    const limit =
      ofKey >= max
        ? `${ofKey} calls are waiting, limit is ${max}`
        : `${this.#waiting.count()} calls of all services are waiting, limit is ${WAITING_MAX}`;
    const why = `Cannot wait for ${what}: ${limit}; try again in ${RETRY_AFTER_MS} ms`;
    call.fail(new KatamariError('overloaded', why, facts));
  }
}

/** Calls of all services together that may wait for a reachable manager. */
const WAITING_MAX = 10_000;
/** Lower than the total, so that one service without reachable managers leaves room for the calls of others. */
const WAITING_PER_SERVICE_MAX = 5_000;
const RETRY_AFTER_MS = 500;
const NAMES_SHOWN_MAX = 5;
