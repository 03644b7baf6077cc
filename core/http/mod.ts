// Exports of core/http; other modules import only from here.

export { challengeOf, HttpCallers, requireAccepted } from './callers.ts';
export type { FastApp } from './fast-connection.ts';
export { HttpGuard, type HttpAccess, type HttpPortRules } from './guard.ts';
export { PartedBody } from './parted-body.ts';
export type { HttpRefusal } from './refusal.ts';
export { clientAccount, clientSignal, type HttpEnv, remoteAddress, requestBody, writeParted } from './request-env.ts';
export { type HttpServer, serveHttp, type ServeHttpOptions } from './server.ts';
