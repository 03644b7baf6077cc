// What callers import: `import { connect } from 'katamari/client'`.

export { KatamariError, type ErrorCode, type ErrorFacts } from '../errors.ts';
export type { IdlSource } from '../idl/mod.ts';
export { ThriftException } from '../thrift-exception.ts';
export { connect, type Mesh, type MeshStats } from './mesh.ts';
export type { AnyService, CallOptions, ClientTls, ConnectOptions, ServiceOptions } from './options.ts';
