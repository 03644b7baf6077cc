// The options of a link server: the handler of calls, the limits, and how peers authenticate.

import type { ByteLedger, Clock, FaceplateLimits } from '../mod.ts';
import type { CallerIdentity, Reply, Send } from '../rpc/mod.ts';
import type { LinkSecurity } from './security.ts';
import type { FlushAt } from './write-buffer.ts';

export interface LinkServerOptions {
  /** Handles the calls; may reply before it returns. */
  readonly send: Send;
  readonly limits: Pick<
    FaceplateLimits,
    'frameBytesMax' | 'nestingMax' | 'pipelineMax' | 'requestMs' | 'connectionsMax'
  >;
  /** Bounds the bytes that all peers hold; default unlimited. */
  readonly ledger?: ByteLedger;
  /** Timeout of a call without a context, in ms. */
  readonly timeoutMs: () => number;
  /** Longest timeout that a context may request, in ms; default unlimited. */
  readonly timeoutMsMax?: () => number;
  /** Name of the peer, for messages and for `Call.caller` when the context has none. */
  readonly caller: string;
  /** Identity of all calls, whatever their contexts say. Without it, the context of a call names its caller. */
  readonly identity?: CallerIdentity;
  readonly clock?: Clock;
  /** When replies are flushed; default 'microtask'. */
  readonly flushAt?: FlushAt;
  /** How peers must authenticate before their calls are read. Without it, any peer is accepted. */
  readonly security?: LinkSecurity | undefined;
  /** Called for each peer that does not authenticate. `from` is its address; '' on a Unix socket. */
  readonly onRefused?: (from: string, why: string) => void;
  /** Whether this reply asks the manager to replace the chassis. */
  readonly wantsToRetire?: (reply: Reply) => boolean;
  /**
   * Called when a call has ended. Its reply was written and is flushed when `flushAt` says. `reply` is undefined when
   * the call failed or the peer has disconnected.
   */
  readonly onEnded?: (reply: Reply | undefined) => void;
}
