// The chassis SDK for TypeScript: `import { chassis, ThriftException } from 'katamari'`.

export { CallRefused } from './call-refused.ts';
export { chassis, type ChassisOptions, type RunningChassis } from './chassis.ts';
export { Content, type ContentOptions, DamagedShard, type OpenedShard } from './content.ts';
export type { HandlerContext } from './handler-context.ts';
export type { ContextCallOptions } from './mesh-client.ts';
export type { AbsentShard, Handler, Handlers, ReplyCoverage, ReplyInfo } from '../../core/rpc/mod.ts';
export { ThriftException } from '../../core/thrift/mod.ts';
export { KatamariError, type ErrorCode, type ErrorFacts } from '../../core/mod.ts';
