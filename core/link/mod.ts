// Exports of core/link; other modules import only from here.

export { formatLinkAddress, isLoopback, type LinkAddress, parseLinkAddress } from './address.ts';
export { Alarm } from './alarm.ts';
export { CallSignal } from './call-signal.ts';
export { certificateIdentityOf } from './client-certificate.ts';
export { hasContext, readReplyContext, type WireReplyContext, withoutContext, writeCallContext } from './context.ts';
export { cancelMessage, LINK_CALLS } from './control-messages.ts';
export { type DeadlineEntry, DeadlineWheel } from './deadline-wheel.ts';
export { DenseSet, type DenseSetEntry } from './dense-set.ts';
export { FrameReader } from './frame-reader.ts';
export { Link, type ReplySink } from './link.ts';
export { OrderedConnection, type QueuedCall, type TimedPipelineLimits } from './ordered-connection.ts';
export { listenOn, OrderedServer } from './ordered-server.ts';
export { PendingTable } from './pending-table.ts';
export { type ConnectionState, noRoom, type PipelineLimits, tooMuchToSend } from './pipelined-connection.ts';
export { PlainLink, type PlainLinkEnd } from './plain-link.ts';
export { ReceiveBuffer } from './receive-buffer.ts';
export { checkCertificates, connectLink, type LinkSecurity } from './security.ts';
export { type LinkServer, startLinkServer } from './server.ts';
export { isAccepted, renewWith, type ServerTls, TlsListener, tlsOptionsOf } from './tls-listener.ts';
export {
  callerGone,
  leaveList,
  unwatchCaller,
  type WaitingCall,
  WaitingCalls,
  WaitingCallsByKey,
  type Waitable,
  type Waiter,
  watchCaller,
} from './waiting-calls.ts';
export { WriteBuffer } from './write-buffer.ts';
