// The web faceplate: plain HTTP for browsers. A request goes to the site with the longest prefix that fits: to its
// files, if there is one of that name, else to method `handle_request` of a chassis of its service, and what that
// returns goes back as it is. Headers that a
import {
  clientSignal,
  remoteAddress,
  requestBody,
  serveHttp,
  type HttpEnv,
  type HttpRefusal,
} from '../../core/http/mod.ts';
import { decodeStruct, encodeStruct } from '../../core/idl/mod.ts';
import { asKatamariError, ERROR_TABLE, KatamariError, type ErrorCode, type FaceplateLimits } from '../../core/mod.ts';
import { parseCallHeaders, type MeshAccess, type StatsTable } from '../../core/rpc/mod.ts';
import type { Method } from '../../core/thrift/mod.ts';
import { FaceplateCalls, type Faceplate, type Outcome } from '../kit/mod.ts';
import { findFile, sendFile } from './files.ts';
import { cookieOf, requestOf, responseOf, type WebRequest, type WebResponse } from './messages.ts';
import { baseOf, SiteTable, type Site } from './site.ts';

// client may send to choose: those of core/rpc/call-headers.ts. Never sends a request twice.
//
// It writes to node's response itself: a header that stands twice must reach the browser twice, which a `Response`
// cannot promise. Limit that matters: a body has to fit into one frame of the mesh together with its headers, so it
// is ENVELOPE_BYTES less than that.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';

export interface WebFaceplateOptions {
  readonly mesh: MeshAccess;
  readonly book: StatsTable;
  readonly limits: FaceplateLimits;
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly sites: readonly Site[];
  /** All who connect are proxies of ours, whose X-Forwarded-* is believed. */
  readonly trustProxy: boolean;
}

export interface WebFaceplate extends Faceplate {
  readonly port: number;
}

/** Starts the faceplate; it listens when this resolves. Its address is a URL. */
export async function startWebFaceplate(options: WebFaceplateOptions): Promise<WebFaceplate> {
  const { mesh, book, limits, host, port } = options;
  const front = new WebServer(options, new FaceplateCalls({ name: FACEPLATE, mesh, book }));
  const server = await serveHttp({
    fetch: (_request, env) => front.answer(env),
    host,
    port,
    limits: { ...limits, frameBytesMax: limits.frameBytesMax - Math.min(ENVELOPE_BYTES, limits.frameBytesMax / 2) },
    refusal: (refusal) => front.refused(refusal),
  });
  return {
    address: server.url,
    port: server.port,
    connections: () => server.connections(),
    drain: () => server.drain({ lastCallMs: LAST_CALL_MS, onRefusing: () => front.drain() }),
    close() {
      front.drain();
      return server.close();
    },
  };
}

type WebAnswer = { readonly ok: true; readonly response: WebResponse };

class WebServer {
  readonly #options: WebFaceplateOptions;
  readonly #calls: FaceplateCalls;
  readonly #sites: SiteTable;

  constructor(options: WebFaceplateOptions, calls: FaceplateCalls) {
    this.#options = options;
    this.#calls = calls;
    this.#sites = new SiteTable(options.sites);
  }

  drain(): void {
    this.#calls.isDraining = true;
  }

  /** What the HTTP server refused by itself. */
  refused({ status, message }: HttpRefusal): string {
    const code = status === 413 || status === 431 ? 'too_large' : status === 500 ? 'internal' : 'bad_request';
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
    const site = this.#sites.find(path);
    if (site === undefined) {
      throw new KatamariError(
        'no_pool',
        'There is no site at this path; web.sites of the configuration has the prefixes',
      );
    }
    const isReading = incoming.method === 'GET' || incoming.method === 'HEAD';
    if (site.files !== '' && (isReading || site.service === '')) {
      if (await this.#answerWithFile(site, path, query, incoming, outgoing)) return;
    }
    if (site.service === '') throw new KatamariError('bad_request', 'There is no such file here', { httpStatus: 404 });
    await this.#answerFromPool(site, path, query, env, incoming, outgoing);
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
      throw new KatamariError('bad_request', 'A file can only be read; use GET or HEAD', { httpStatus: 405 });
    }
    if (found.kind === 'folder') {
      // Two slashes at the beginning would be another server's name. Not for good: a page of the application may come
      // to stand here.
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
    incoming: IncomingMessage,
    outgoing: ServerResponse,
  ): Promise<void> {
    const peer = remoteAddress(env);
    const request = requestOf({
      incoming,
      path,
      query,
      body: requestBody(env),
      peer,
      prefix: baseOf(site),
      trustProxy: this.#options.trustProxy,
    });
    const asked = parseCallHeaders(incoming.headers);
    const cookie = site.stickyCookie === '' ? '' : cookieOf(incoming.headers.cookie, site.stickyCookie);
    const headers = {
      ...asked,
      version: asked.version || site.version,
      key: asked.key || cookie,
      timeoutMs: Math.min(asked.timeoutMs, site.timeoutMs),
    };
    const outcome = await this.#calls.call<WebAnswer>(
      {
        target: { service: site.service, version: '', method: METHOD },
        headers,
        caller: `web ${request.remote_address}`,
        signal: clientSignal(env),
      },
      {
        encode: (method) => encodeStruct(method.args, { [argumentOf(method, site)]: request satisfies WebRequest }),
        decode: (method, body) => ({
          ok: true,
          response: responseOf(decodeStruct(method.result, body)['success'], site.service),
        }),
      },
    );
    write(incoming, outgoing, outcome, asked.version !== '');
  }
}

function write(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  outcome: Outcome<WebAnswer>,
  isVersionAsked: boolean,
): void {
  switch (outcome.kind) {
    case 'answered':
      outgoing.setHeader('katamari-version', outcome.version);
      writeResponse(incoming, outgoing, outcome.answer.response);
      return;
    case 'failed':
      // What it says of itself is for its own log, not for everybody.
      writeError(incoming, outgoing, 'internal', 'The application failed on this request; its log says why');
      return;
    case 'refused': {
      const { error } = outcome;
      // To a browser an application that is not up is no wrong address, unless it asked for a version that is not
      // there.
      if (error.code !== 'no_pool' || isVersionAsked) {
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

/** A few words for people, or the same as JSON for programs that accept it. */
function writeError(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  code: ErrorCode,
  message: string,
  error?: KatamariError,
): void {
  // Whoever it was for has gone, or has had half of it.
  if (outgoing.headersSent || outgoing.destroyed) return;
  const wantsJson = /\bapplication\/(?:[\w.-]+\+)?json\b/i.test(incoming.headers.accept ?? '');
  const body = wantsJson ? errorText(code, message) : `${message}.\n`;
  const retryAfterMs = error?.facts.retryAfterMs;
  outgoing.writeHead(error?.facts.httpStatus ?? ERROR_TABLE[code].http, {
    'content-type': wantsJson ? 'application/json; charset=utf-8' : 'text/plain; charset=utf-8',
    'content-length': String(Buffer.byteLength(body)),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...(retryAfterMs === undefined ? {} : { 'retry-after': String(Math.max(1, Math.ceil(retryAfterMs / 1_000))) }),
  });
  outgoing.end(incoming.method === 'HEAD' ? undefined : body);
}

function errorText(code: ErrorCode, message: string): string {
  return JSON.stringify({ error: { code, message } });
}

/** The name of the one argument; a service with a `handle_request` of another shape is told so. */
function argumentOf({ args }: Method, { service }: Site): string {
  const [request, ...more] = args.fields;
  if (request?.type.kind === 'struct' && more.length === 0) return request.name;
  throw new KatamariError(
    'no_pool',
    `Method ${METHOD} of ${service} does not take one Request: let the service extend WebApplication of idl/web.thrift`,
  );
}

/** The target of a request, which may be a whole URL. */
function splitTarget(url: string): { readonly path: string; readonly query: string } {
  const target = url.replace(/^https?:\/\/[^/?]*/i, '');
  const mark = target.indexOf('?');
  const path = mark < 0 ? target : target.slice(0, mark);
  return { path: path.startsWith('/') ? path : `/${path}`, query: mark < 0 ? '' : target.slice(mark + 1) };
}

const FACEPLATE = 'web';
const METHOD = 'handle_request';
/** What headers and the rest of a request may add to its body. */
const ENVELOPE_BYTES = 65_536;
const LAST_CALL_MS = 250;
const RETRY_AFTER_MS = 1_000;
