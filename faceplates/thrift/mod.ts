// The Thrift faceplate: ordinary Thrift clients call the mesh. Other modules import only from here.

export { startThriftFaceplate } from './server.ts';
export type { ThriftTls } from './tls-listener.ts';
