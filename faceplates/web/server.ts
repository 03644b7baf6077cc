// The web faceplate: plain HTTP for browsers. A request goes to the site with the longest matching prefix: to a
// static file if the site has one of that name, otherwise to the method `handle_request` of the site's service, whose
// response is returned unchanged. Clients may send the headers of core/rpc/call-headers.ts to choose a pool. A
// request is never sent twice.
//
// Responses are written to Node's ServerResponse, because repeated headers must reach the browser as repeated
// headers, which a `Response` cannot guarantee. A request body and its headers must fit into one frame of the mesh,
// so the limit for bodies is lower than the limit for frames by ENVELOPE_BYTES.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import {
  challengeOf,
  clientAccount,
  clientSignal,
  HttpCallers,
  remoteAddress,
  requestBody,
  requireAccepted,
  serveHttp,
  type HttpAccess,
  type HttpEnv,
  type HttpRefusal,
} from '../../core/http/mod.ts';
import { decodeStruct, encodeStruct } from '../../core/idl/mod.ts';
import { tooMuchToSend, type ServerTls } from '../../core/link/mod.ts';
import {
  asKatamariError,
  ERROR_TABLE,
  KatamariError,
  type ByteLedger,
  type ErrorCode,
  type FaceplateLimits,
} from '../../core/mod.ts';
import { parseCallHeaders, type CallerIdentity, type MeshAccess, type StatsTable } from '../../core/rpc/mod.ts';
import type { Method } from '../../core/thrift/mod.ts';
import { FaceplateCalls, type Faceplate, type Outcome } from '../kit/mod.ts';
import { findFile, sendFile } from './files.ts';
import { cookieOf, requestOf, responseOf, type WebRequest, type WebResponse } from './messages.ts';
import { baseOf, SiteTable, type Site } from './site.ts';

export interface WebFaceplateOptions {
  readonly mesh: MeshAccess;
  readonly callStats: StatsTable;
  readonly limits: FaceplateLimits;
  readonly host: string;
  /** 0 means any free port. */
  readonly port: number;
  readonly sites: readonly Site[];
  /** Whether all clients are trusted proxies, whose X-Forwarded-* headers are used. */
  readonly trustProxy: boolean;
  /** TLS instead of plain HTTP. */
  readonly tls?: ServerTls | undefined;
  /** Host names, and origins of web pages that may send requests. */
  readonly access?: HttpAccess;
  /** The ledger of the process; without it, the sums in `limits` bound this port alone. */
  readonly ledger?: ByteLedger;
}

export interface WebFaceplate extends Faceplate {
  readonly port: number;
}

/** Starts the faceplate. It listens when the promise resolves. Its address is a URL. */
export async function startWebFaceplate(options: WebFaceplateOptions): Promise<WebFaceplate> {
  const { mesh, callStats, limits, host, port } = options;
  const routes = new WebServer(options, new FaceplateCalls({ name: FACEPLATE, mesh, callStats }));
  const server = await serveHttp({
    fetch: (_request, env) => routes.answer(env),
    host,
    port,
    ...(options.ledger === undefined ? {} : { ledger: options.ledger }),
    limits: { ...limits, frameBytesMax: limits.frameBytesMax - Math.min(ENVELOPE_BYTES, limits.frameBytesMax / 2) },
    tls: options.tls,
    access: options.access,
    rules: { hasPages: true, isApplication: true, trustProxy: options.trustProxy },
    refusal: (refusal) => routes.refused(refusal),
  });
  return {
    address: server.url,
    port: server.port,
    connections: () => server.connections(),
    drain: () => server.drain({ gracePeriodMs: GRACE_PERIOD_MS, onRefusing: () => routes.drain() }),
    close() {
      routes.drain();
      return server.close();
    },
  };
}

type WebAnswer = { readonly ok: true; readonly response: WebResponse };

class WebServer {
  readonly #options: WebFaceplateOptions;
  readonly #calls: FaceplateCalls;
  readonly #sites: SiteTable;
  readonly #callers: HttpCallers;

  constructor(options: WebFaceplateOptions, calls: FaceplateCalls) {
    this.#options = options;
    this.#calls = calls;
    this.#sites = new SiteTable(options.sites);
    this.#callers = new HttpCallers(options.mesh.authenticator);
  }

  drain(): void {
    this.#calls.isDraining = true;
  }

  /** Returns the body for a request that the HTTP server refused itself. */
  refused({ code, message }: HttpRefusal): string {
    this.#calls.enter(code);
    return errorText(code, message);
  }

  async answer(env: HttpEnv): Promise<Response> {
    const incoming = env.incoming as IncomingMessage;
    const outgoing = env.outgoing as ServerResponse;
    try {
      await this.#answer(env, incoming, outgoing);
    } catch (thrown) {
      const error = asKatamariError(thrown);
      this.#calls.enter(error.code);
      writeError(incoming, outgoing, error.code, error.message, error);
    }
    return RESPONSE_ALREADY_SENT;
  }

  async #answer(env: HttpEnv, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { path, query } = splitTarget(incoming.url ?? '/');
    const peer = this.#callers.of(incoming.socket);
    const identified = peer.of(incoming.headers.authorization ?? '');
    const isAuthorized = peer.isConsumed;
    const identity = 'then' in identified ? await identified : identified;
    requireAccepted(identity);
    const site = this.#sites.find(path);
    if (site === undefined) {
      throw new KatamariError(
        'no_pool',
        'There is no site at this path; web.sites in the configuration lists the prefixes',
      );
    }
    const isReading = incoming.method === 'GET' || incoming.method === 'HEAD';
    if (site.files !== '' && (isReading || site.service === '')) {
      if (await this.#answerWithFile(site, path, query, incoming, outgoing)) return;
    }
    if (site.service === '') throw new KatamariError('bad_request', 'There is no such file here', { httpStatus: 404 });
    await this.#answerFromPool(site, path, query, env, { identity, isAuthorized });
  }

  async #answerWithFile(
    site: Site,
    path: string,
    query: string,
    incoming: IncomingMessage,
    outgoing: ServerResponse,
  ): Promise<boolean> {
    const found = await findFile(site.files, path.slice(baseOf(site).length));
    if (found === undefined) return false;
    if (incoming.method !== 'GET' && incoming.method !== 'HEAD') {
      outgoing.setHeader('allow', 'GET, HEAD');
      throw new KatamariError('bad_request', 'A static file can only be read; use GET or HEAD', { httpStatus: 405 });
    }
    if (found.kind === 'folder') {
      // Two leading slashes would name another host. The redirect is temporary, because the application may serve a
      // page here later.
      const location = `${path.replace(/^\/+/, '/')}/${query === '' ? '' : `?${query}`}`;
      this.#calls.enter('ok');
      outgoing.writeHead(307, { location, 'content-length': '0' });
      outgoing.end();
      return true;
    }
    if (!(await sendFile(incoming, outgoing, found, site.cacheControl))) return false;
    this.#calls.enter('ok');
    return true;
  }

  async #answerFromPool(
    site: Site,
    path: string,
    query: string,
    env: HttpEnv,
    { identity, isAuthorized }: { readonly identity: CallerIdentity; readonly isAuthorized: boolean },
  ): Promise<void> {
    const incoming = env.incoming as IncomingMessage;
    const outgoing = env.outgoing as ServerResponse;
    const peer = remoteAddress(env);
    const request = requestOf({
      incoming,
      path,
      query,
      body: requestBody(env),
      peer,
      prefix: baseOf(site),
      isAuthorized,
      trustProxy: this.#options.trustProxy,
    });
    const requested = parseCallHeaders(incoming.headers);
    const cookie = site.stickyCookie === '' ? '' : cookieOf(incoming.headers.cookie, site.stickyCookie);
    const headers = {
      ...requested,
      version: requested.version || site.version,
      key: requested.key || cookie,
      timeoutMs: Math.min(requested.timeoutMs, site.timeoutMs),
    };
    const outcome = await this.#calls.call<WebAnswer>(
      {
        target: { service: site.service, version: '', method: METHOD },
        headers,
        caller: `web ${request.remote_address}`,
        identity,
        signal: clientSignal(env),
      },
      {
        encode: (method) => encodeStruct(method.args, { [argumentOf(method, site)]: request satisfies WebRequest }),
        decode: (method, body) => {
          const account = clientAccount(env);
          if (account.exceeds(body.length)) throw tooMuchToSend(body.length, account);
          return { ok: true, response: responseOf(decodeStruct(method.result, body)['success'], site.service) };
        },
      },
    );
    write(incoming, outgoing, outcome, requested.version !== '');
  }
}

function write(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  outcome: Outcome<WebAnswer>,
  isVersionRequested: boolean,
): void {
  switch (outcome.kind) {
    case 'answered':
      outgoing.setHeader('katamari-version', outcome.version);
      if (outcome.context.rule !== undefined) outgoing.setHeader('katamari-rule', outcome.context.rule);
      writeResponse(incoming, outgoing, outcome.answer.response);
      return;
    case 'failed':
      // The exception's message belongs in the application's log, not in the response.
      writeError(incoming, outgoing, 'internal', 'The application failed on this request; its log says why');
      return;
    case 'refused': {
      const { error } = outcome;
      // If the application is not running, the browser gets 503 instead of 404, unless it requested a version that
      // does not exist.
      if (error.code !== 'no_pool' || isVersionRequested) {
        writeError(incoming, outgoing, error.code, error.message, error);
        return;
      }
      const facts = { ...error.facts, httpStatus: 503, retryAfterMs: RETRY_AFTER_MS };
      writeError(incoming, outgoing, 'no_pool', error.message, new KatamariError('no_pool', error.message, facts));
    }
  }
}

function writeResponse(incoming: IncomingMessage, outgoing: ServerResponse, response: WebResponse): void {
  const { status, headers, contentLength, body } = response;
  outgoing.statusCode = status;
  for (const [name, values] of headers) outgoing.setHeader(name, values.length === 1 ? (values[0] as string) : values);
  const isHead = incoming.method === 'HEAD';
  if (isHead && body.length === 0) {
    if (contentLength !== '') outgoing.setHeader('content-length', contentLength);
  } else if (status !== 204 && status !== 304) {
    outgoing.setHeader('content-length', String(body.length));
  }
  if (isHead || body.length === 0) outgoing.end();
  else outgoing.end(body);
}

/** Writes an error as plain text, or as JSON if the client accepts it. */
function writeError(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  code: ErrorCode,
  message: string,
  error?: KatamariError,
): void {
  // The client has disconnected, or has received a part of a response.
  if (outgoing.headersSent || outgoing.destroyed) return;
  const wantsJson = /\bapplication\/(?:[\w.-]+\+)?json\b/i.test(incoming.headers.accept ?? '');
  const body = wantsJson ? errorText(code, message) : `${message}.\n`;
  const retryAfterMs = error?.facts.retryAfterMs;
  const challenge = error === undefined ? undefined : challengeOf(error);
  outgoing.writeHead(error?.facts.httpStatus ?? ERROR_TABLE[code].http, {
    'content-type': wantsJson ? 'application/json; charset=utf-8' : 'text/plain; charset=utf-8',
    'content-length': String(Buffer.byteLength(body)),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...(challenge === undefined ? {} : { 'www-authenticate': challenge }),
    ...(retryAfterMs === undefined ? {} : { 'retry-after': String(Math.max(1, Math.ceil(retryAfterMs / 1_000))) }),
  });
  outgoing.end(incoming.method === 'HEAD' ? undefined : body);
}

function errorText(code: ErrorCode, message: string): string {
  return JSON.stringify({ error: { code, message } });
}

/** Returns the name of the only argument. @throws KatamariError no_pool if `handle_request` takes other arguments */
function argumentOf({ args }: Method, { service }: Site): string {
  const [request, ...extra] = args.fields;
  if (request?.type.kind === 'struct' && extra.length === 0) return request.name;
  throw new KatamariError(
    'no_pool',
    `Method ${METHOD} of ${service} does not take one Request: the service must extend WebApplication of idl/web.thrift`,
  );
}

/** Splits the target of a request, which may be an absolute URL, into path and query. */
function splitTarget(url: string): { readonly path: string; readonly query: string } {
  const target = url.replace(/^https?:\/\/[^/?]*/i, '');
  const mark = target.indexOf('?');
  const path = mark < 0 ? target : target.slice(0, mark);
  return { path: path.startsWith('/') ? path : `/${path}`, query: mark < 0 ? '' : target.slice(mark + 1) };
}

const FACEPLATE = 'web';
const METHOD = 'handle_request';
/** Bytes that headers and other fields of a request may add to its body. */
const ENVELOPE_BYTES = 65_536;
const GRACE_PERIOD_MS = 250;
const RETRY_AFTER_MS = 1_000;
