// Exports of core/http; other modules import only from here.

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
