// What the owner of a link server decides: the handler of calls, the limits, and what peers must prove.

import type { Clock, FaceplateLimits } from '../mod.ts';
import type { Reply, Send } from '../rpc/mod.ts';
import type { LinkSecurity } from './security.ts';
import type { FlushAt } from './write-buffer.ts';

export interface LinkServerOptions {
  /** Handles the calls; may reply before it returns. */
  readonly send: Send;
  readonly limits: Pick<
    FaceplateLimits,
    'frameBytesMax' | 'nestingMax' | 'pipelineMax' | 'requestMs' | 'connectionsMax'
  >;
  /** Timeout of a call without a context, in ms. */
  readonly timeoutMs: () => number;
  /** Longest timeout that a context may ask for, in ms; default unlimited. */
  readonly timeoutMsMax?: () => number;
  /** Name of the peer, for messages and for `Call.caller` when the context has none. */
  readonly caller: string;
  readonly clock?: Clock;
  /** When replies leave; default 'microtask'. */
  readonly flushAt?: FlushAt;
  /** What peers must prove before their calls are read. Without it this server asks for nothing: see whyNotListen. */
  readonly security?: LinkSecurity | undefined;
  /** Whether the chassis asks in this reply to be replaced. */
  readonly wantsToRetire?: (reply: Reply) => boolean;
  /** A call has ended. Its reply was written and leaves when `flushAt` says; without a reply, the peer has gone. */
  readonly onEnded?: (reply: Reply | undefined) => void;
}
