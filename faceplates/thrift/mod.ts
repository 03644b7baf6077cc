// The door of faceplates/thrift: what other rooms may import.

export { startThriftFaceplate } from './server.ts';
export type { ThriftTls } from './tls-listener.ts';
