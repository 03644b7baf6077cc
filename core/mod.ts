// The door for the other rooms: what the mesh itself is built from. Chassis authors use mod.ts.

export * from './rpc/call.ts';
export * from './clock.ts';
export * from './rpc/mesh-access.ts';
export * from './errors.ts';
export * from './idl/mod.ts';
export * from './rpc/call-stats.ts';
export * from './rpc/status.ts';
export { chassisInterface, meshInterface, type ChassisDetails } from '../chassis-sdk/typescript/mesh-client.ts';
export { markMemoryInSteps, runtimeName, runtimeVersion, scriptCommand, threadScript } from './runtime.ts';
export { serveHandlers, type Handlers, type ServiceOptions } from './rpc/handlers.ts';
export { ThriftException } from './thrift/thrift-exception.ts';
export { readWishes, type HeadersIn, type Wishes } from './rpc/call-headers.ts';
export { readApplicationException } from './thrift/application-exception.ts';
export { hasContext, type WireReplyContext } from './link/context.ts';
export { DeadlineWheel, type DeadlineEntry } from './link/deadline-wheel.ts';
export {
  HEADER_PROTOCOLS,
  isManner,
  PROTOCOLS,
  TRANSPORTS,
  type Protocol,
  type Transport,
} from './thrift/encodings/protocols.ts';
export { PlainLink, type PlainLinkOptions } from './link/plain-link.ts';
export { Link, type LinkOptions, type ReplySink } from './link/link.ts';
export { parseAddress, type LinkAddress } from './link/address.ts';
export {
  checkCertificates,
  connectLink,
  whyNotListen,
  type ConnectLinkOptions,
  type LinkSecurity,
} from './link/security.ts';
export { startLinkServer, type LinkServer, type LinkServerOptions } from './link/server.ts';
