// The door of the JSON-RPC faceplate.

export { startJsonRpcFaceplate, type JsonRpcFaceplate, type JsonRpcFaceplateOptions } from './server.ts';
