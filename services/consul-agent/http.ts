// Builds the Hono app from the routes: checks methods, cleans paths as Go's server does, and sends refusals as plain
// text with their status.

import { requestBody, type HttpEnv } from '../../core/http/mod.ts';
import { Refusal } from './go-compat.ts';
import type { AgentResponse, AgentRequest, AgentRoute } from './request.ts';
import { Hono, type Context, type MiddlewareHandler } from 'hono';
import { createHash, timingSafeEqual } from 'node:crypto';

/** Limit of a value, as in Consul. It applies to every other body too. */
const BODY_BYTES_MAX = 512 * 1024;

/** Called for a request without a valid token. @param request `PUT /v1/kv/a` */
export type BadTokenHook = (from: string, request: string, why: string) => void;

/** @param tokens undefined to accept all requests */
export function consulApp(
  routes: readonly AgentRoute[],
  onDefect: (error: unknown) => void,
  tokens: (() => readonly string[]) | undefined,
  onBadToken: BadTokenHook = () => undefined,
): Hono<{ Bindings: HttpEnv }> {
  const app = new Hono<{ Bindings: HttpEnv }>();
  const none = new AbortController().signal;
  if (tokens !== undefined) app.use(tokenGuard(tokens, onBadToken));
  app.all('*', async (context, next) => cleanPath(context.req.url) ?? next());
  // Hono uses the first match, so longer paths come before their prefixes.
  for (const route of [...routes].sort((a, b) => b.path.length - a.path.length)) {
    app.all(route.path.endsWith('/') ? `${route.path}*` : route.path, (context) => answer(context, route, onDefect));
  }
  app.all('/v1/acl/*', () => respond(text(401, 'ACL support disabled'), none));
  app.get('/', () => respond(text(200, 'Consul Agent'), none));
  app.notFound(() => respond({ status: 404, headers: {}, body: '' }, none));
  app.onError((error) => {
    onDefect(error);
    return respond(text(500, `Defect in the embedded agent, please report it: ${error.message}`), none);
  });
  return app;
}

/** Refuses requests without a token, in the words of Consul's ACLs. A health check of the agent needs none. */
function tokenGuard(
  tokens: () => readonly string[],
  onBadToken: BadTokenHook,
): MiddlewareHandler<{ Bindings: HttpEnv }> {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return async ({ req, env }, next) => {
    if (HEALTH_PATHS.has(new URL(req.url).pathname)) return await next();
    const bearer = /^Bearer +(.+)$/i.exec(req.header('authorization') ?? '')?.[1];
    const given = req.header('x-consul-token') ?? bearer ?? '';
    if (given !== '' && tokens().some((token) => timingSafeEqual(digest(given), digest(token)))) return await next();
    const why = given === '' ? 'Permission denied' : 'ACL not found';
    const from = env.incoming.socket.remoteAddress ?? '';
    onBadToken(from, `${req.method} ${new URL(req.url).pathname}`, given === '' ? 'no token' : 'a wrong token');
    return respond(text(403, `${why}: ${NEEDS_TOKEN}`), undefined);
  };
}

/** They answer that the agent is alive, and nothing about its content. */
const HEALTH_PATHS: ReadonlySet<string> = new Set(['/', '/v1/status/leader', '/v1/status/peers']);
const NEEDS_TOKEN =
  'this agent needs the token that `katamari consul-token` prints, in CONSUL_HTTP_TOKEN or the header X-Consul-Token';

async function answer(
  context: Context<{ Bindings: HttpEnv }>,
  route: AgentRoute,
  onDefect: (error: unknown) => void,
): Promise<Response> {
  const { method, signal } = context.req.raw;
  const allow = { Allow: ['OPTIONS', ...route.methods].join(',') };
  if (method === 'OPTIONS') return respond({ status: 200, headers: allow, body: '' }, signal);
  if (!route.methods.includes(method)) {
    const refused = text(405, `method ${method} not allowed`);
    return respond({ ...refused, headers: { ...refused.headers, ...allow } }, signal);
  }
  try {
    return respond(await route.run(requestOf(context, route)), signal);
  } catch (error) {
    if (error instanceof Refusal) return respond(text(error.status, error.message), signal);
    onDefect(error);
    return respond(text(500, `Defect in the embedded agent, please report it: ${String(error)}`), signal);
  }
}

function requestOf(context: Context<{ Bindings: HttpEnv }>, route: AgentRoute): AgentRequest {
  const url = new URL(context.req.url);
  return {
    method: context.req.method,
    rest: decodePath(url.pathname).slice(route.path.length),
    query: url.searchParams,
    signal: context.req.raw.signal,
    body: () => {
      const body = requestBody(context.env);
      if (body.length > BODY_BYTES_MAX) {
        return Promise.reject(
          new Refusal(413, `Request body(${body.length} bytes) too large, max size: ${BODY_BYTES_MAX} bytes.`),
        );
      }
      return Promise.resolve(body);
    },
  };
}

/**
 * Redirects to the clean form of a path, as Go's server does. A key that begins with a slash is redirected too.
 */
function cleanPath(given: string): Response | undefined {
  const { pathname, search } = new URL(given);
  let path: string;
  try {
    path = decodePath(pathname);
  } catch (error) {
    return respond(text(400, (error as Error).message), undefined);
  }
  if (!path.includes('//') && !/\/\.\.?(\/|$)/.test(path)) return undefined;
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(encodeURIComponent(part));
  }
  const clean = `/${parts.join('/')}${path.endsWith('/') && parts.length > 0 ? '/' : ''}`;
  return respond({ status: 301, headers: { Location: clean + search }, body: '' }, undefined);
}

function decodePath(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw new Refusal(400, 'Bad Request: the path is not percent-encoded UTF-8');
  }
}

function text(status: number, body: string): AgentResponse {
  return { status, headers: { 'Content-Type': 'text/plain; charset=utf-8' }, body };
}

function respond(given: AgentResponse, signal: AbortSignal | undefined): Response {
  // If the client is gone, do not copy the body.
  const body = signal?.aborted ? '' : given.body;
  const headers = { Vary: 'Accept-Encoding', 'Content-Length': String(Buffer.byteLength(body)), ...given.headers };
  return new Response(body as string | Uint8Array<ArrayBuffer>, { status: given.status, headers });
}
