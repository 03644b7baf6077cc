// Whether this process can take calls, for /readyz and load balancers. It is ready once every copy that its manager
// should run has been up at the same time, and, with faceplates, a copy of any service is up that it can reach. It
// stays ready when copies fail later, because other services work and calls wait for a new copy. Only when no copy of
// any deployed service has been up or reachable for as long as a call may wait, it is not ready: another faceplate may
// reach them. /status/Service/N is the check for one service.

import type { Clock } from '../../core/mod.ts';
import { isMeshService, type PoolStatus, type PoolView } from '../../core/rpc/mod.ts';

export interface ProcessReadinessOptions {
  readonly clock: Clock;
  readonly hasFaceplates: boolean;
  /** Whether every copy that the manager should run is up; true without a manager. */
  readonly isComplete: () => boolean;
  readonly hasDeployments: () => boolean;
  readonly pools: () => readonly PoolView[];
  /** Status of the pools of the own manager. */
  readonly ownPools: () => readonly PoolStatus[];
  /** Global timeout of calls. */
  readonly timeoutMs: () => number;
}

export class ProcessReadiness {
  readonly #options: ProcessReadinessOptions;
  #wasComplete = false;
  #wasReady = false;
  /** Since when no copy of any deployed service can be reached; undefined while one can. */
  #downSinceMs: number | undefined;

  constructor(options: ProcessReadinessOptions) {
    this.#options = options;
  }

  /** Looks at the pools again, after a change. */
  update(): void {
    const { clock, hasFaceplates, isComplete, hasDeployments, pools } = this.#options;
    this.#wasComplete ||= isComplete();
    const isDown = hasFaceplates && hasDeployments() && !pools().some(isLiving);
    if (!isDown) this.#downSinceMs = undefined;
    else this.#downSinceMs ??= clock.nowMs();
    this.#wasReady ||= this.#wasComplete && !isDown;
  }

  /** Returns why the process is not ready; '' if it is ready. */
  why(): string {
    this.update();
    const { clock, timeoutMs } = this.#options;
    if (!this.#wasComplete) return `chassis are starting${this.#missing()}`;
    if (this.#downSinceMs === undefined) return '';
    const downMs = clock.nowMs() - this.#downSinceMs;
    if (this.#wasReady && downMs < timeoutMs()) return '';
    return `no copy of any service is up or can be reached, for ${Math.floor(downMs / 1_000)} s`;
  }

  #missing(): string {
    const missing = this.#options.ownPools().filter(({ alive, wanted }) => alive < wanted);
    const names = missing.slice(0, NAMES_SHOWN_MAX).map(({ id, alive, wanted }) => `${alive} of ${wanted} of ${id}`);
    if (missing.length > NAMES_SHOWN_MAX) names.push(`${missing.length - NAMES_SHOWN_MAX} more`);
    return names.length === 0 ? '' : `: ${names.join(', ')}`;
  }
}

function isLiving({ details, alive }: PoolView): boolean {
  return alive > 0 && !isMeshService(details.service);
}

const NAMES_SHOWN_MAX = 5;
