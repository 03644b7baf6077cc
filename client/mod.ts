// What callers import: `import { connect } from 'katamari/client'`.

export { KatamariError, type ErrorCode, type ErrorFacts } from '../core/errors.ts';
export type { IdlSource } from '../core/idl/mod.ts';
export { ThriftException } from '../core/thrift/thrift-exception.ts';
export { connect, type Mesh, type MeshStats } from './mesh.ts';
export type { AnyService, CallOptions, ClientTls, ConnectOptions, ServiceOptions } from './options.ts';
