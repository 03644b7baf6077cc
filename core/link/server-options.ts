// What the owner of a link server decides: the handler of calls, the limits, and what peers must prove.

import type { Clock, FaceplateLimits } from '../mod.ts';
import type { Reply, Send } from '../rpc/mod.ts';
import type { LinkSecurity } from './security.ts';
import type { FlushAt } from './write-buffer.ts';

// What the owner of a link server decides: who answers the calls, which limits hold, what peers must prove.

export interface LinkServerOptions {
  /** Answers the calls, perhaps at once. */
  readonly send: Send;
  readonly limits: Pick<
    FaceplateLimits,
    'frameBytesMax' | 'nestingMax' | 'pipelineMax' | 'requestMs' | 'connectionsMax'
  >;
  /** Time a call without a context has, in ms. */
  readonly timeoutMs: () => number;
  /** Most time that a context may ask for, in ms; none: what it says holds. */
  readonly timeoutMsMax?: () => number;
  /** Who is on the other side, for messages and `Call.caller` where the context names nobody. */
  readonly caller: string;
  readonly clock?: Clock;
  /** When answers leave, default at the end of the turn. */
  readonly gathering?: FlushAt;
  /** What peers must show before a call of theirs is read. Without it this server asks nothing: see whyNotListen. */
  readonly security?: LinkSecurity | undefined;
  /** A chassis says in the answer that it wants to be replaced. */
  readonly wantsToRetire?: (reply: Reply) => boolean;
  /** A call has ended: its answer was written and leaves when `gathering` says, or nobody is there to get one (then without a reply). */
  readonly onEnded?: (reply: Reply | undefined) => void;
}
