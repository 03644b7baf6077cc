// The door for the other rooms: what the mesh itself is built from. Chassis authors use mod.ts.

export * from './call.ts';
export * from './clock.ts';
export * from './directory.ts';
export * from './errors.ts';
export * from './idl/mod.ts';
export * from './stats.ts';
export * from './status.ts';
export { chassisInterface, meshInterface, type ChassisDetails } from './mesh-client.ts';
export { markMemoryInSteps, runtimeName, runtimeVersion, scriptCommand, threadScript } from './runtime.ts';
export { serveHandlers, type Handlers, type ServiceOptions } from './service.ts';
export { ThriftException } from './thrift-exception.ts';
export { readWishes, type HeadersIn, type Wishes } from './wishes.ts';
export { readApplicationException } from './wire/application-exception.ts';
export { hasContext, type WireReplyContext } from './wire/context.ts';
export { DeadlineWheel, type DeadlineEntry } from './wire/deadlines.ts';
export {
  HEADER_PROTOCOLS,
  isManner,
  PROTOCOLS,
  TRANSPORTS,
  type Protocol,
  type Transport,
} from './wire/encodings/protocols.ts';
export { PlainLink, type PlainLinkOptions } from './wire/plain-link.ts';
export { Link, type LinkOptions, type ReplySink } from './wire/link.ts';
export { parseAddress, type LinkAddress } from './wire/link-address.ts';
export {
  checkCertificates,
  connectLink,
  whyNotListen,
  type ConnectLinkOptions,
  type LinkSecurity,
} from './wire/link-security.ts';
export { startLinkServer, type LinkServer, type LinkServerOptions } from './wire/link-server.ts';
