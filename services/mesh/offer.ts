// A pool as one resource manager offers it to routers: its details, its load, and the Send that reaches it.

import type { PoolView, Send } from '../../core/rpc/mod.ts';

export interface Offer extends PoolView {
  /** Name of the resource manager. */
  readonly manager: string;
  /** False while this process cannot reach the manager. Calls then go to other managers or wait. */
  readonly isReachable: boolean;
  /** Whether it decides itself who may call it: the admin service, which checks tokens. */
  readonly isOpen?: boolean;
  readonly send: Send;
}
