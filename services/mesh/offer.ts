// A pool as a resource manager offers it to routers: what it is, how free it is now, and the Send that reaches it.

import type { PoolView, Send } from '../../core/rpc/mod.ts';

export interface Offer extends PoolView {
  /** Name of the resource manager. */
  readonly manager: string;
  /** False while its manager cannot be reached from here: calls go elsewhere, or wait until one can be. */
  readonly isReachable: boolean;
  readonly send: Send;
}
