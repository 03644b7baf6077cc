// A chassis between its readiness check and its pool: what prepares it sees.

import type { Call, Reply } from '../../core/rpc/mod.ts';

export interface JoiningChassis {
  /** `Service@version/index` */
  readonly name: string;
  readonly service: string;
  readonly version: string;
  /** Whether it serves `katamari.Content`. */
  readonly holdsShards: boolean;
  /** Calls the chassis beside the calls of its pool. Rejects with a KatamariError. */
  readonly dispatch: (call: Call) => Promise<Reply>;
  /** Ends the chassis, because it does not answer. */
  readonly fail: (why: string) => void;
  /** Aborted when it leaves its pool, or ends before it has joined. */
  readonly left: AbortSignal;
  /** Whether it has left because it failed: it has crashed, hung or broken the protocol. */
  readonly hasFailed: () => boolean;
}

/** Prepares a chassis. It joins its pool when the promise resolves, and is ended when it rejects. */
export type PrepareChassis = (chassis: JoiningChassis) => Promise<void>;
