// The HTTP side of JSON-RPC: paths, methods, status codes and headers. The HTTP server has checked Host, origin and
// content type (core/http/guard.ts) before a request comes here. Every JSON-RPC response has status 200, because
// clients do not read the body of another one; `errorStatus` changes that for proxies that act on statuses. A request
// whose sender is refused has status 401 in any case.
//
// Two paths lead to post.ts. Nearly every call is an ordinary POST and takes the fast path (core/http/fast-path.ts);
// all other requests go through Hono.

import type { IncomingHttpHeaders } from 'node:http';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { Hono } from 'hono';
import type { Context } from 'hono';
import type { Logger } from 'pino';
import {
  clientAccount,
  clientSignal,
  HttpCallers,
  remoteAddress,
  requestBody,
  requireAccepted,
  serveHttp,
  type HttpAccess,
  writeParted,
  type HttpEnv,
  type HttpRefusal,
  type FastApp,
} from '../../core/http/mod.ts';
import {
  asKatamariError,
  ByteLedger,
  KatamariError,
  systemClock,
  type Clock,
  type FaceplateLimits,
} from '../../core/mod.ts';
import {
  parseCallHeaders,
  type CallerIdentity,
  type CallHeaders,
  type MeshAccess,
  type StatsTable,
} from '../../core/rpc/mod.ts';
import type { ServerTls } from '../../core/link/mod.ts';
import type { Faceplate } from '../kit/mod.ts';
import { JsonRpcCalls } from './calls.ts';
import { Catalog, type Document } from './catalog.ts';
import { JSON_TYPE, Posts, refusalOf, type ExchangeOf, type HttpAnswer } from './post.ts';
import { errorAnswer } from './rpc-error.ts';
import { Rpc } from './rpc.ts';

export interface JsonRpcFaceplateOptions {
  readonly mesh: MeshAccess;
  readonly callStats: StatsTable;
  readonly limits: FaceplateLimits;
  readonly host: string;
  /** 0 means any free port. */
  readonly port: number;
  /** TLS instead of plain HTTP. */
  readonly tls?: ServerTls | undefined;
  /** Host names, and origins of web pages that may call. */
  readonly access?: HttpAccess;
  /** Whether the HTTP status of a refused single call tells its error; default false. Requests can override it. */
  readonly errorStatus?: boolean;
  /** The ledger of the process; without it, the sums in `limits` bound this port alone. */
  readonly ledger?: ByteLedger;
  readonly clock?: Clock;
  readonly log?: Pick<Logger, 'error'>;
}

export interface JsonRpcFaceplate extends Faceplate {
  readonly port: number;
}

/** Starts the faceplate. It listens when the promise resolves. Its address is a URL. */
export async function startJsonRpcFaceplate(options: JsonRpcFaceplateOptions): Promise<JsonRpcFaceplate> {
  const { mesh, callStats, limits, host, port, clock = systemClock, log } = options;
  const calls = new JsonRpcCalls({ mesh, callStats, clock });
  const catalog = new Catalog(mesh.directory);
  const rpc = new Rpc({
    calls,
    clock,
    limits,
    discover: async (path, identity) => (await catalog.openRpc(identity, path)).text,
  });
  const { errorStatus = false, ledger = new ByteLedger(limits) } = options;
  const posts = new Posts({ rpc, calls, limits, errorStatus, log });
  const callers = new HttpCallers(mesh.authenticator);
  const routes = new JsonRpcServer({ calls, catalog, posts, callers, errorStatus, log });
  const server = await serveHttp({
    fetch: routes.app.fetch as (request: Request, env: HttpEnv) => Response | Promise<Response>,
    posts: fastPathTo(posts, callers, errorStatus),
    host,
    port,
    limits,
    ledger,
    tls: options.tls,
    access: options.access,
    rules: { postsAreCalls: true, hasPages: true },
    refusal: (refusal) => routes.refused(refusal),
  });
  return {
    address: server.url,
    port: server.port,
    connections: () => server.connections(),
    async drain() {
      await server.drain({
        gracePeriodMs: GRACE_PERIOD_MS,
        onRefusing: () => calls.drain(),
      });
      await calls.whenOnewaysEnd();
    },
    close() {
      calls.drain();
      return server.close();
    },
  };
}

/** The fast path for ordinary POSTs. A request with an invalid header goes through Hono, which refuses it. */
function fastPathTo(posts: Posts, callers: HttpCallers, errorStatusByDefault: boolean): FastApp {
  return {
    handlerOf({ path, headers }, client) {
      const service = RPC_PATH.exec(path);
      if (service === null) return undefined;
      let callHeaders: CallHeaders;
      let errorStatus: boolean;
      try {
        callHeaders = parseCallHeaders(headers);
        errorStatus = errorStatusOf(headers, errorStatusByDefault);
      } catch {
        return undefined;
      }
      const servicePath = service[1] ?? '';
      const { signal, socket, account } = client;
      const caller = `json-rpc ${client.address}`;
      const exchangeOf: ExchangeOf = (identity) => ({
        path: servicePath,
        headers: callHeaders,
        signal,
        account,
        caller,
        identity,
        errorStatus,
        mark: '',
        largestBytes: 0,
        ending: undefined,
      });
      return (bytes, place) => {
        const { length } = bytes;
        account.add(length);
        const end = ({ status, type, fields, body }: HttpAnswer): void => {
          account.add(-length);
          place.answer(status, type, fields, body);
        };
        let identity: CallerIdentity | Promise<CallerIdentity>;
        try {
          identity = callers.of(socket).of(callHeaders.authorization);
        } catch (thrown) {
          posts.refuse(asKatamariError(thrown), end);
          return;
        }
        if (!('then' in identity)) {
          posts.answer(bytes, identity, exchangeOf, end);
          return;
        }
        identity.then(
          (verified) => posts.answer(bytes, verified, exchangeOf, end),
          (thrown: unknown) => posts.refuse(asKatamariError(thrown), end),
        );
      };
    },
  };
}

interface JsonRpcServerOptions {
  readonly calls: JsonRpcCalls;
  readonly catalog: Catalog;
  readonly posts: Posts;
  readonly callers: HttpCallers;
  readonly errorStatus: boolean;
  readonly log: JsonRpcFaceplateOptions['log'];
}

type AppContext = Context<{ Bindings: HttpEnv }>;
type AnswerHeaders = Record<string, string>;

/** The Hono app with its routes. */
class JsonRpcServer {
  readonly app: Hono<{ Bindings: HttpEnv }> = new Hono<{ Bindings: HttpEnv }>();
  readonly #options: JsonRpcServerOptions;

  constructor(options: JsonRpcServerOptions) {
    this.#options = options;
    const { app } = this;
    app.post('/rpc', (c) => this.#rpc(c, ''));
    app.post('/rpc/:service', (c) => this.#rpc(c, c.req.param('service')));
    app.get('/openrpc.json', (c) => this.#openRpc(c));
    app.get('/idl/:file', (c) => this.#idl(c, c.req.param('file')));
    app.get('/', (c) => this.#welcome(c));
    app.all('*', (c) => this.#unrouted(c));
    app.onError((thrown) => this.#failed(asKatamariError(thrown)));
  }

  /** Returns the JSON-RPC body for a request that the HTTP server refused itself. */
  refused({ code, message }: HttpRefusal): string {
    this.#options.calls.enter(code);
    return errorAnswer(new KatamariError(code, message));
  }

  #rpc(c: AppContext, path: string): Promise<Response> {
    const account = clientAccount(c.env);
    const { headers: given } = c.env.incoming;
    const exchangeOf: ExchangeOf = (identity) => ({
      path,
      headers: parseCallHeaders(given),
      errorStatus: errorStatusOf(given, this.#options.errorStatus),
      signal: clientSignal(c.env),
      account,
      caller: `json-rpc ${remoteAddress(c.env)}`,
      identity,
      mark: '',
      largestBytes: 0,
      ending: undefined,
    });
    const { posts } = this.#options;
    const answered = new Promise<HttpAnswer>((resolve) => {
      this.#identify(c).then(
        (identity) => posts.answer(requestBody(c.env), identity, exchangeOf, resolve),
        (thrown: unknown) => posts.refuse(asKatamariError(thrown), resolve),
      );
    });
    return answered.then(({ status, type, fields, body }) => {
      if (typeof body === 'string') return responseOf({ status, type, fields, body });
      writeParted(c.env, status, { 'content-type': type, ...fields }, body);
      return RESPONSE_ALREADY_SENT;
    });
  }

  /** @throws KatamariError denied for a token or certificate that is not valid */
  async #identify(c: AppContext): Promise<CallerIdentity> {
    const { socket, headers } = c.env.incoming;
    return this.#options.callers.of(socket).of(headers.authorization ?? '');
  }

  /** The identity of a client that reads a document. @throws KatamariError denied */
  async #identifyReader(c: AppContext): Promise<CallerIdentity> {
    const identity = await this.#identify(c);
    requireAccepted(identity);
    return identity;
  }

  async #openRpc(c: AppContext): Promise<Response> {
    const identity = await this.#identifyReader(c);
    return handOut(c, await this.#options.catalog.openRpc(identity), { 'content-type': JSON_TYPE });
  }

  async #idl(c: AppContext, file: string): Promise<Response> {
    if (!file.endsWith('.thrift')) return this.#unrouted(c);
    const identity = await this.#identifyReader(c);
    try {
      const document = this.#options.catalog.idl(identity, file.slice(0, -'.thrift'.length));
      const { version, service } = document;
      return handOut(c, document, {
        'content-type': TEXT_TYPE,
        'katamari-version': version,
        'katamari-service': service,
      });
    } catch (thrown) {
      return refusal(asKatamariError(thrown));
    }
  }

  async #welcome(c: AppContext): Promise<Response> {
    const identity = await this.#identifyReader(c);
    const { host, protocol } = new URL(c.req.url);
    const example = this.#options.catalog.exampleRequest(identity);
    const text = [
      'This is a Katamari mesh. It speaks JSON-RPC 2.0 here:',
      '',
      example === undefined
        ? '  (no service is running yet; try again in a moment)'
        : `  curl -s ${protocol}//${host}/rpc -H content-type:application/json -d '${example.replaceAll("'", String.raw`'\''`)}'`,
      '',
      'Methods and interfaces:',
      '',
      `  curl -s ${protocol}//${host}/openrpc.json`,
      `  curl -s ${protocol}//${host}/idl/SERVICE.thrift`,
      '',
    ].join('\n');
    return new Response(text, {
      headers: { 'content-type': TEXT_TYPE, 'content-length': String(Buffer.byteLength(text)) },
    });
  }

  /** Answers a request without a route: OPTIONS, a wrong method, or an unknown path. */
  #unrouted(c: AppContext): Response {
    const { path, method } = c.req;
    const allow = /^\/rpc(\/[^/]+)?$/.test(path) ? 'POST, OPTIONS' : READABLE.test(path) ? 'GET, HEAD, OPTIONS' : '';
    if (allow === '') {
      const error = new KatamariError('bad_request', `There is no ${path.slice(0, 200)} here; there are ${PATHS}`, {
        httpStatus: 404,
      });
      return refusal(error);
    }
    if (method === 'OPTIONS') return new Response(null, { status: 204, headers: { allow } });
    // The path and the method are valid, but the file does not exist.
    if (allow.includes(method)) {
      const error = new KatamariError('bad_request', `There is no ${path.slice(0, 200)} here; there are ${PATHS}`, {
        httpStatus: 404,
      });
      return refusal(error);
    }
    const error = new KatamariError('bad_request', `${path.slice(0, 200)} does not support ${method}; use ${allow}`, {
      httpStatus: 405,
    });
    return refusal(error, { allow });
  }

  #failed(error: KatamariError): Response {
    if (error.code === 'denied') this.#options.calls.enter('denied');
    else this.#options.log?.error({ err: error }, 'json-rpc: internal error in a request');
    return refusal(error);
  }
}

/** Whether the HTTP status shall tell the error, as the request says. @throws KatamariError bad_request */
function errorStatusOf(headers: IncomingHttpHeaders, byDefault: boolean): boolean {
  const value = headers['katamari-error-status'] ?? '';
  if (value === '') return byDefault;
  if (value === 'true' || value === 'false') return value === 'true';
  throw new KatamariError(
    'bad_request',
    `Header katamari-error-status: expected true or false, got ${JSON.stringify(String(value).slice(0, 40))}`,
  );
}

function responseOf(
  { status, type, fields, body }: HttpAnswer & { readonly body: string },
  headers: AnswerHeaders = {},
): Response {
  if (type === '') return new Response(null, { status, headers });
  const content = { 'content-type': type, 'content-length': String(Buffer.byteLength(body)) };
  return new Response(body, { status, headers: { ...headers, ...content, ...fields } });
}

/** Returns the response to a request that is refused as a whole. */
function refusal(error: KatamariError, headers: AnswerHeaders = {}): Response {
  const { status, type, fields } = refusalOf(error);
  return responseOf({ status, type, fields, body: errorAnswer(error) }, headers);
}

function handOut(c: AppContext, { text, etag }: Document, headers: AnswerHeaders): Response {
  const known = c.req.header('if-none-match') ?? '';
  const fresh = { ...headers, etag, 'cache-control': 'no-cache' };
  if (known.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag))
    return new Response(null, { status: 304, headers: fresh });
  return new Response(text, { headers: { ...fresh, 'content-length': String(Buffer.byteLength(text)) } });
}

/** When a drain begins, an idle connection has this long for one more call, whose response closes it. */
const GRACE_PERIOD_MS = 250;
const TEXT_TYPE = 'text/plain; charset=utf-8';
const RPC_PATH = /^\/rpc(?:\/([^/]+))?$/;
const READABLE = /^\/(openrpc\.json|idl\/[^/]+)?$/;
const PATHS = 'POST /rpc, POST /rpc/Service[@version], GET /openrpc.json, GET /idl/Service[@version].thrift, GET /';
