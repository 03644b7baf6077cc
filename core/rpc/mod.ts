// Calls, replies, and the interfaces of everything that sends or answers them. Other modules import only from here.

export { foreignHeaders, parseCallHeaders, type CallHeaders } from './call-headers.ts';
export { CallStats, DURATION_BOUNDS_S, DurationHistogram, quantileOf, StatsTable } from './call-stats.ts';
export {
  type Call,
  type CallResult,
  type CallSink,
  createCall,
  type Dispatch,
  dispatchOf,
  EMPTY_STRUCT,
  hasNoDetails,
  NO_DETAILS,
  NO_REPLY_CONTEXT,
  NONE,
  type Reply,
  type ReplyContext,
  type Send,
  sendOf,
  withCall,
} from './call.ts';
export {
  ANONYMOUS,
  type Authenticator,
  CHASSIS_CALLER,
  type CallerIdentity,
  type CallerProof,
  identityOf,
  isProved,
  type PeerCertificateIdentity,
  PeerIdentity,
  UNAUTHENTICATED,
  type VerifiedToken,
} from './caller-identity.ts';
export { callerKeyOf, callerWithoutPort, sourceOf } from './caller-key.ts';
export { ConcurrencyLimit } from './concurrency-limit.ts';
export { callControl, type ControlAnswer } from './control-call.ts';
export { type ChassisDetails, chassisInterface, contentInterface, meshInterface } from './control-interfaces.ts';
export { type Handler, type Handlers, serveHandlers } from './handlers.ts';
export { BUCKETS_PER_OCTAVE, DURATION_BUCKETS, LogHistogram } from './log-histogram.ts';
export { type MergedPool, mergePools, type PlacedResource } from './merged-pools.ts';
export {
  type ArgumentEncoder,
  type CallWithoutPool,
  type Directory,
  isAdminService,
  isMeshService,
  type MeshAccess,
  type PoolDetails,
  type ChosenPool,
  type PoolQuery,
  type PoolView,
} from './mesh-access.ts';
export { isMirrorCopy, mirrorHeaders } from './mirror-copy.ts';
export {
  type AbsentShard,
  coverageHeaders,
  coverageIn,
  NAMED_MISSING_MAX,
  type ReplyCoverage,
  type ReplyInfo,
  replyInfoOf,
  type ShardCoverage,
} from './reply-info.ts';
export {
  type EventKind,
  type MeshEvent,
  type MeshStatus,
  type PoolStatus,
  type ProcessState,
  type ProcessStatus,
  RESOURCE_STATES,
  type ResourceState,
  type ResourceStatus,
  type RestartReason,
  type SuspectCall,
} from './status.ts';
