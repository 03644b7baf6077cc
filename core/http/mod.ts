// The door of core/http: what other rooms may import.

export type { FastApp } from './fast-connection.ts';
export {
  clientSignal,
  type HttpEnv,
  type HttpRefusal,
  type HttpServer,
  remoteAddress,
  requestBody,
  serveHttp,
  type ServeHttpOptions,
} from './server.ts';
