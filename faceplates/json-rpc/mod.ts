// The JSON-RPC faceplate: JSON-RPC 2.0 over HTTP for every service of the mesh. Other modules import only from here.

export { startJsonRpcFaceplate } from './server.ts';
