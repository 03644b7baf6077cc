// The door of faceplates/json-rpc: what other rooms may import.

export { startJsonRpcFaceplate } from './server.ts';
