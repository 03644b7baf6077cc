// What the author of a faceplate imports: `import { FaceplateCalls, serveLines } from 'katamari/faceplate'`. The built-in fronts stand
// on the same things.

export {
  FaceplateCalls,
  type Answered,
  type Asked,
  type FaceplateCallsOptions,
  type JsonAnswer,
  type Outcome,
  type Reading,
} from './calls.ts';
export type { Faceplate, FaceplateContext, FaceplateModule, OptionsCheck } from './faceplate.ts';
export { parseMethodName, parseServiceName, type Target } from './method-name.ts';
export { serveLines, type LineServer, type ServeLinesOptions } from './line-server.ts';
export type { LineClient } from './line-connection.ts';
export {
  clientSignal,
  remoteAddress,
  requestBody,
  serveHttp,
  type HttpEnv,
  type HttpRefusal,
  type HttpServer,
  type ServeHttpOptions,
} from '../../core/http/server.ts';
export { readWishes, type HeadersIn, type Wishes } from '../../core/rpc/call-headers.ts';
export type { Directory, FaceplateLimits, MeshDoor, PoolView, Wanted } from '../../core/rpc/mesh-access.ts';
export type { CallResult, ReplyContext } from '../../core/rpc/call.ts';
export type { Interface, Method } from '../../core/idl/mod.ts';
export type { CallStats, StatsBook } from '../../core/rpc/call-stats.ts';
export { asKatamariError, ERROR_TABLE, KatamariError } from '../../core/errors.ts';
export type { ErrorCode, ErrorFace, ErrorFacts } from '../../core/errors.ts';
