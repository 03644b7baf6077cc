// The door of the JSON-RPC faceplate.

export { startJsonRpcFaceplate, type JsonRpcFaceplateOptions } from './server.ts';
