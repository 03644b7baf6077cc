// Routes of the stats faceplate for the versions of one service: GET shows them side by side to every reader, POST
// does what an operator with an admin token asks for. A POST carries the token in the header Authorization, which no
// browser adds by itself, and the guard of core/http refuses one that a page of another origin sends.

import type { Hono } from 'hono';
import { remoteAddress, requestBody, type HttpEnv } from '../../core/http/mod.ts';
import type { OperatorAnswer, VersionSource } from './version-source.ts';

/** Paths where a POST is served. */
export const VERSIONS_PATH: RegExp = /^\/versions\/[^/]+$/;

/** @param source undefined in a process that is no faceplate */
export function addVersionRoutes(app: Hono<{ Bindings: HttpEnv }>, source: VersionSource | undefined): void {
  app.get('/versions/:service', async (context) => {
    if (source === undefined) return context.text(NO_FACEPLATE, 404);
    const { service } = context.req.param();
    const { first = '', second = '', method = '' } = context.req.query();
    const view = await source.view(service, { first, second, method });
    return view === undefined
      ? context.text(`The mesh has no service ${service}; GET /status lists all pools\n`, 404)
      : context.json(view);
  });

  app.post('/versions/:service', async (context) => {
    const answer = await operate(source, context.req.param('service'), context.env);
    return context.json('error' in answer ? { error: answer.error } : (answer.result ?? null), answer.status);
  });
}

async function operate(source: VersionSource | undefined, service: string, env: HttpEnv): Promise<OperatorAnswer> {
  if (source === undefined) return { status: 400, error: NO_FACEPLATE.trimEnd() };
  const { authorization = '', 'content-type': type = '' } = env.incoming.headers;
  if (!/^application\/json\s*(?:;|$)/i.test(type))
    return { status: 400, error: `Content-Type is "${type}", expected application/json` };
  const [, token = ''] = /^bearer +(\S+)$/i.exec(authorization) ?? [];
  if (token === '')
    return { status: 401, error: 'The header Authorization is missing; send an admin token as Bearer TOKEN' };
  let body: unknown;
  try {
    body = JSON.parse(requestBody(env).toString());
  } catch {
    return { status: 400, error: 'The body is not JSON' };
  }
  return await source.operate({ service, body, token, address: remoteAddress(env) });
}

const NO_FACEPLATE = 'This process is no faceplate; open the stats port of one that is, see /status\n';
