// The door of the Thrift faceplate.

export { startThriftFaceplate, type ThriftFaceplate, type ThriftFaceplateOptions } from './server.ts';
export type { ThriftTls } from './tls-door.ts';
