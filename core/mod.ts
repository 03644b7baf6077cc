// Basics that every module shares: addresses, errors, limits, clock, backoff and runtime detection. Other modules
// import only from here.

export { type Address, dialAddress, formatAddress, isUnspecified, parseAddress, portOf, urlOf } from './address.ts';
export { Backoff } from './backoff.ts';
export { ByteAccount, ByteLedger, type SumLimits, UNLIMITED_SUMS } from './byte-ledger.ts';
export { clipText } from './clip-text.ts';
export { type Clock, sleep, systemClock, untilNextTurnMs } from './clock.ts';
export {
  asKatamariError,
  ERROR_TABLE,
  type ErrorCode,
  errorCodeOfWire,
  type ErrorFace,
  type ErrorFacts,
  KatamariError,
  NO_COPY_UP,
} from './errors.ts';
export { FatalDefect, mustNotFail, nameDefect, reportDefect } from './defects.ts';
export { HedgeBudget } from './hedge-budget.ts';
export { CONTEXT_BYTES_MAX, DEFAULT_LIMITS, linkLimitsOf, type FaceplateLimits, type MessageLimits } from './limits.ts';
export {
  type DirectoryFindings,
  ensurePrivateDirectory,
  examinePrivateDirectory,
  findSocketBase,
  SOCKET_PATH_BYTES_MAX,
  type SocketBase,
} from './private-directory.ts';
export { MethodLatencies, RequestLatencies } from './method-latencies.ts';
export { replaceFile, syncFolder } from './replace-file.ts';
export { RetryBudget } from './retry-budget.ts';
export { SliceQueue } from './slice-queue.ts';
export { FINISHED_MARK, isNoShard, SHARDS_JSON, SHARDS_MAX } from './source-entries.ts';
export {
  httpReadsClientCertificates,
  httpTakesSockets,
  canCloneFiles,
  keepsHalfOpen,
  markMemoryInSteps,
  pipeWritesBlock,
  runtimeName,
  runtimeVersion,
  scriptCommand,
  threadScript,
} from './runtime.ts';
export {
  describeDuration,
  describeSize,
  DURATION_MS_MAX,
  formatDuration,
  formatSize,
  parseDuration,
  type ParsedUnit,
  parseSize,
} from './units.ts';
