// The Thrift faceplate: ordinary Thrift clients call the mesh. Other modules import only from here.

export { startThriftFaceplate, type ThriftTls } from './server.ts';
