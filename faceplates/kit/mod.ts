// What the author of a faceplate imports: `import { FaceplateCalls, serveLines } from 'katamari/faceplate'`. The built-in fronts stand
// on the same things.

export {
  FaceplateCalls,
  type Answered,
  type FaceplateRequest,
  type FaceplateCallsOptions,
  type JsonAnswer,
  type Outcome,
  type ArgumentCodec,
} from './calls.ts';
export type { Faceplate, FaceplateContext, FaceplateModule, OptionsCheck } from './faceplate.ts';
export { parseMethodName, parseServiceName, type MethodName } from './method-name.ts';
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
} from '../../core/http/mod.ts';
export { parseCallHeaders, type CallHeaders } from '../../core/rpc/mod.ts';
export type { Directory, MeshAccess, PoolView, PoolQuery } from '../../core/rpc/mod.ts';
export type { CallResult, ReplyContext } from '../../core/rpc/mod.ts';
export type { Interface, Method } from '../../core/thrift/mod.ts';
export type { CallStats, StatsTable } from '../../core/rpc/mod.ts';
export { asKatamariError, ERROR_TABLE, KatamariError } from '../../core/mod.ts';
export type { ErrorCode, ErrorFace, ErrorFacts } from '../../core/mod.ts';
export { type FaceplateLimits } from '../../core/mod.ts';
export { type HeadersIn } from '../../core/thrift/mod.ts';
