// Client library for programs that call services of a mesh: `import { connect } from 'katamari/client'`.

export { KatamariError, type ErrorCode, type ErrorFacts } from '../core/mod.ts';
export type { AbsentShard, ReplyCoverage, ReplyInfo } from '../core/rpc/mod.ts';
export type { IdlSource } from '../core/thrift/mod.ts';
export { ThriftException } from '../core/thrift/mod.ts';
export { connect, type Mesh, type MeshStats } from './mesh.ts';
export type { AnyService, CallOptions, ClientReplyInfo, ClientTls, ConnectOptions, ServiceOptions } from './options.ts';
