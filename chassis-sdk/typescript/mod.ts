// What a chassis author imports: `import { chassis, ThriftException } from 'katamari'`.

export { chassis, type ChassisOptions, type RunningChassis } from './chassis.ts';
export type { HandlerContext } from './handler-context.ts';
export type { Handler, Handlers } from '../../core/rpc/handlers.ts';
export { ThriftException } from '../../core/thrift/thrift-exception.ts';
export { KatamariError, type ErrorCode, type ErrorFacts } from '../../core/errors.ts';
