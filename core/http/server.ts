// An HTTP/1.1 server under a Hono app, with limits on everything that a client sends. All faceplates that speak HTTP
// use it.
//
// It is `node:http` under @hono/node-server on all three runtimes, with a fast path for ordinary POSTs in front
// (fast-path.ts) where the runtime allows it. The other runtimes have servers of their own. Those have no limits on the
// time for headers or on the number of connections, do not report that number, and one aborts the signal of requests
// that succeeded. `node:http` on these runtimes supports all of this, and its speed is within 10 %.
//
// A body is read completely, within its limit, before the app sees the request: the app gets it from
// `requestBody(env)` or from the usual `c.req.text()`, and a slow, incomplete or oversized body never reaches it.
// `request.signal` aborts when the client disconnects.
import { isAccepted, listenOn, tlsOptionsOf, type ServerTls } from '../link/mod.ts';
import { httpTakesSockets, urlOf, type FaceplateLimits } from '../mod.ts';
import type { FastApp, FastConnection } from './fast-connection.ts';
import { FastPath } from './fast-path.ts';

import { setMaxListeners } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { STATUS_CODES } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import type { HttpBindings } from '@hono/node-server';
const CONNECTION: unique symbol = Symbol('connection');

/** The `c.env` of a Hono app. */
export type HttpEnv = HttpBindings;

export type HttpServerLimits = Pick<
  FaceplateLimits,
  'frameBytesMax' | 'connectionsMax' | 'idleMs' | 'requestMs' | 'pipelineMax' | 'headersMax'
>;

/** Why a request was refused before the app saw it. */
export interface HttpRefusal {
  readonly status: 400 | 408 | 413 | 431 | 500;
  /** Message for people: which limit, and what to do. */
  readonly message: string;
}

export interface ServeHttpOptions {
  readonly fetch: (request: Request, env: HttpEnv) => Response | Promise<Response>;
  /** Handles ordinary POSTs on the fast path. It must reply as `fetch` does, which gets all other requests. */
  readonly posts?: FastApp;
  readonly host: string;
  /** 0 means any free port. */
  readonly port: number;
  readonly limits: HttpServerLimits;
  /** The port then speaks TLS only; default plain HTTP. */
  readonly tls?: ServerTls | undefined;
  /** Returns the JSON body of a refusal; may count it too. */
  readonly refusal?: (refusal: HttpRefusal) => string;
}

export interface HttpServer {
  readonly address: string;
  readonly port: number;
  /** `http://127.0.0.1:9080`, `https:` with TLS. */
  readonly url: string;
  /** Number of open connections. */
  connections(): number;
  /**
   * Accepts no more connections, finishes the requests in flight with `Connection: close`, closes idle connections,
   * then resolves. With `gracePeriodMs`, each idle or new connection may first send one more request within this
   * time. `onRefusing` is called when the time is over.
   */
  drain(options?: { readonly gracePeriodMs?: number; readonly onRefusing?: () => void }): Promise<void>;
  /** Closes now and drops the requests in flight. */
  close(): Promise<void>;
}

/**
 * Starts an HTTP server. Rejects with the error of the system (`EADDRINUSE`) when it cannot listen.
 * @example
 * const server = await serveHttp({ fetch: app.fetch, host, port, limits });
 * return {
 *   address: server.url,
 *   connections: () => server.connections(),
 *   drain: () => server.drain(),
 *   close: () => server.close(),
 * };
 */
export async function serveHttp(options: ServeHttpOptions): Promise<HttpServer> {
  const listener = new HttpListener(options);
  await listener.listen();
  return listener;
}

/** Returns the body of the request: complete, within the limit, empty when there was none. */
export function requestBody(env: HttpEnv): Buffer {
  return (env.incoming as TakenRequest).rawBody ?? NO_BODY;
}

/**
 * Returns a signal that aborts when the client disconnects. It is created on first use, and all requests of a
 * connection share it. `request.signal` works too, but costs an AbortController per request.
 */
export function clientSignal(env: HttpEnv): AbortSignal {
  const connection = (env.incoming as TakenRequest)[CONNECTION] as HttpConnection;
  if (connection.gone === undefined) {
    connection.gone = new AbortController();
    // Every waiting call of the connection adds a listener, so many listeners are not a leak.
    setMaxListeners(0, connection.gone.signal);
  }
  if (env.incoming.socket.destroyed) connection.gone.abort();
  return connection.gone.signal;
}

/**
 * Returns the address of the client, for example `127.0.0.1`; '' when it has already disconnected.
 * @example
 * const caller = `${context.name} ${remoteAddress(env)}`;
 */
export function remoteAddress(env: HttpEnv): string {
  const address = env.incoming.socket.remoteAddress ?? '';
  return address.startsWith('::ffff:') ? address.slice(7) : address;
}

/** The state of a connection. */
interface HttpConnection {
  /** Number of requests whose response has not ended. */
  busy: number;
  /** The newest response. */
  latest: ServerResponse | undefined;
  gone: AbortController | undefined;
  /** The idle time has passed while a call was in flight. */
  isOverdue: boolean;
  /** The fast path, which reads the socket until `node:http` does. */
  readonly posts: FastConnection | undefined;
}

type NodeListener = (incoming: IncomingMessage, outgoing: ServerResponse) => Promise<void>;

/** @hono/node-server takes the body from `rawBody` when it is set. */
type TakenRequest = IncomingMessage & { rawBody?: Buffer; [CONNECTION]?: HttpConnection };

class HttpListener implements HttpServer {
  readonly #options: ServeHttpOptions;
  readonly #server: Server;
  readonly #answer: NodeListener;
  readonly #posts: FastPath | undefined;
  readonly #connections = new Map<Duplex, HttpConnection>();
  #isDraining = false;
  #endGracePeriod: () => void = ignore;
  #closed: Promise<void> | undefined;

  constructor(options: ServeHttpOptions) {
    this.#options = options;
    const { limits } = options;
    this.#answer = getRequestListener(options.fetch as Parameters<typeof getRequestListener>[0], {
      hostname: 'localhost',
      errorHandler: (thrown) => this.#failed(thrown),
    }) as NodeListener;

    // Node checks for overdue requests at intervals, so the time it gets is one interval less than the limit.
    const checkMs = Math.min(1_000, Math.ceil(limits.requestMs / 4));
    const inTimeMs = Math.max(1, limits.requestMs - checkMs);
    const serverOptions: ServerOptions & { keepAliveTimeoutBuffer: number } = {
      connectionsCheckingInterval: checkMs,
      headersTimeout: inTimeMs,
      requestTimeout: inTimeMs,
      keepAliveTimeout: limits.idleMs,
      keepAliveTimeoutBuffer: 0,
      maxHeaderSize: HEADER_BYTES_MAX,
    };
    const { tls } = options;
    const server =
      tls === undefined
        ? createServer(serverOptions)
        : createTlsServer({ ...serverOptions, ...tlsOptionsOf(tls, inTimeMs) });
    const event = tls === undefined ? 'connection' : 'secureConnection';
    this.#server = server;
    // Node silently drops headers above its limit. Let one more than our limit through, so that `#take` sees and
    // refuses the request.
    server.maxHeadersCount = limits.headersMax + 1;
    server.maxConnections = limits.connectionsMax;
    server.setTimeout(limits.idleMs);
    if (options.posts !== undefined && httpTakesSockets()) {
      this.#posts = new FastPath(server, {
        app: options.posts,
        limits: { ...limits, requestMs: inTimeMs },
        sweepMs: Math.min(checkMs, Math.ceil(limits.idleMs / 4)),
        overdue: (socket) => this.#clientError(OVERDUE, socket),
        event,
      });
    }
    server.on(event, (socket: Socket) => this.#connected(socket));
    if (tls !== undefined) server.on('tlsClientError', (_error: Error, socket: Socket) => socket.destroy());
    server.on('request', (incoming, outgoing) => this.#take(incoming, outgoing));
    server.on('checkContinue', (incoming, outgoing) => this.#take(incoming, outgoing, true));
    server.on('checkExpectation', (incoming, outgoing) => this.#take(incoming, outgoing));
    server.on('clientError', (error: NodeJS.ErrnoException, socket) => this.#clientError(error, socket));
    server.on('timeout', (socket: Duplex) => this.#idle(socket));
  }

  async listen(): Promise<void> {
    await listenOn(this.#server, this.#options);
  }

  get address(): string {
    return (this.#server.address() as AddressInfo | null)?.address ?? this.#options.host;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo | null)?.port ?? this.#options.port;
  }

  get url(): string {
    return urlOf({ host: this.address, port: this.port }, this.#options.tls !== undefined);
  }

  connections(): number {
    return this.#connections.size;
  }

  async drain({ gracePeriodMs = 0, onRefusing = ignore }: Parameters<HttpServer['drain']>[0] = {}): Promise<void> {
    this.#beginDrain();
    for (const { busy, latest, posts } of this.#connections.values()) {
      posts?.beginGracefulClose();
      if (busy > 0 && latest !== undefined && !latest.headersSent) latest.shouldKeepAlive = false;
    }
    // New connections are served during the grace period too, for one request each: when Node stops listening, it
    // also closes idle connections.
    if (gracePeriodMs > 0) await this.#waitGracePeriod(gracePeriodMs);
    onRefusing();
    const stopped = this.#stop();
    for (const [socket, { busy, posts }] of this.#connections) {
      if (busy === 0 && posts?.isBusy !== true) socket.destroy();
    }
    await stopped;
  }

  #beginDrain(): void {
    this.#isDraining = true;
    if (this.#posts !== undefined) this.#posts.isDraining = true;
  }

  /** Waits for `ms`, or until `close` is called. */
  async #waitGracePeriod(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#endGracePeriod = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async close(): Promise<void> {
    this.#beginDrain();
    this.#endGracePeriod();
    const stopped = this.#stop();
    for (const socket of this.#connections.keys()) socket.destroy();
    await stopped;
  }

  /** Stops accepting; resolves when the last connection has closed. */
  #stop(): Promise<void> {
    this.#closed ??= new Promise((resolve) => {
      this.#server.close(() => resolve());
    });
    return this.#closed;
  }

  #connected(socket: Socket): void {
    const { tls } = this.#options;
    if (tls !== undefined && !isAccepted(tls, socket as TLSSocket)) {
      socket.destroy();
      return;
    }
    const posts = this.#posts?.take(socket);
    const connection: HttpConnection = { busy: 0, latest: undefined, gone: undefined, isOverdue: false, posts };
    this.#connections.set(socket, connection);
    socket.once('close', () => {
      this.#connections.delete(socket);
      connection.gone?.abort();
    });
  }

  /** Handles a request whose headers are read: checks the limits, reads the body, calls the app. */
  #take(incoming: IncomingMessage, outgoing: ServerResponse, wantsContinue = false): void {
    const { limits } = this.#options;
    const { socket } = incoming;
    const connection = this.#connections.get(socket);
    if (connection === undefined) {
      socket.destroy();
      return;
    }
    connection.busy++;
    (incoming as TakenRequest)[CONNECTION] = connection;
    connection.latest = outgoing;
    outgoing.once('close', () => {
      connection.busy--;
      if (this.#isDraining && connection.busy === 0) socket.destroySoon();
      else if (connection.isOverdue) this.#endIfUnused(socket, connection, outgoing);
    });
    if (connection.busy > limits.pipelineMax) {
      socket.destroy();
      return;
    }
    if (this.#isDraining) outgoing.shouldKeepAlive = false;

    if (incoming.rawHeaders.length > limits.headersMax * 2) {
      this.#refuse(incoming, outgoing, {
        status: 431,
        message: `Too many headers: ${incoming.rawHeaders.length / 2} or more, limit is ${limits.headersMax}`,
      });
      return;
    }
    const declared = Number(incoming.headers['content-length'] ?? 0);
    const isPlainGet = incoming.method === 'GET' || incoming.method === 'HEAD';
    // Read the body even where none is expected: with unread bytes in the stream, Node does not report that the
    // client has disconnected.
    if (isPlainGet && declared === 0 && incoming.headers['transfer-encoding'] === undefined) {
      void this.#answer(incoming, outgoing);
      return;
    }
    if (declared > limits.frameBytesMax) {
      this.#refuse(incoming, outgoing, this.#tooLarge(`${declared} bytes, `));
      return;
    }
    if (wantsContinue) outgoing.writeContinue();
    this.#readBody(incoming, outgoing);
  }

  #readBody(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const bytesMax = this.#options.limits.frameBytesMax;
    let chunks: Buffer[] = [];
    let bytes = 0;
    const onData = (chunk: Buffer): void => {
      bytes += chunk.length;
      if (bytes <= bytesMax) {
        chunks.push(chunk);
        return;
      }
      chunks = [];
      incoming.off('data', onData).off('end', onEnd);
      this.#refuse(incoming, outgoing, this.#tooLarge(''));
    };
    const onEnd = (): void => {
      (incoming as TakenRequest).rawBody = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
      chunks = [];
      void this.#answer(incoming, outgoing);
    };
    // A client that disconnects in the middle ends the stream with an error, and its response closes with the
    // connection.
    incoming.on('data', onData).on('end', onEnd).on('error', ignore);
  }

  /** @param length the declared length and a comma; '' when the request declares none */
  #tooLarge(length: string): HttpRefusal {
    return {
      status: 413,
      message: `Request body is too large: ${length}limit is ${this.#options.limits.frameBytesMax} bytes`,
    };
  }

  /** Replies without the app, then closes the connection instead of reading the rest of the request. */
  #refuse(incoming: IncomingMessage, outgoing: ServerResponse, refusal: HttpRefusal): void {
    const body = this.#refusalBody(refusal);
    outgoing.shouldKeepAlive = false;
    outgoing.writeHead(refusal.status, { ...REFUSAL_HEADERS, 'content-length': Buffer.byteLength(body) });
    outgoing.end(body);
    if (incoming.complete) return;
    // Closing at once with unread bytes would send a TCP reset, which discards the reply. So some of the rest is read
    // and discarded.
    let swallowed = 0;
    const { socket } = incoming;
    incoming.on('error', ignore).on('data', (chunk: Buffer) => {
      swallowed += chunk.length;
      if (swallowed > SWALLOW_BYTES_MAX) socket.destroy();
    });
    const timer = setTimeout(() => socket.destroy(), SWALLOW_MS);
    timer.unref();
    socket.once('close', () => clearTimeout(timer));
  }

  #refusalBody(refusal: HttpRefusal): string {
    return this.#options.refusal?.(refusal) ?? JSON.stringify({ error: refusal.message });
  }

  /** Replies to a request that Node could not parse, or that was not complete in time. */
  #clientError(error: NodeJS.ErrnoException, socket: Duplex): void {
    const connection = this.#connections.get(socket);
    const isAnswering = connection !== undefined && connection.busy > 0 && connection.latest?.headersSent !== false;
    // A response that has begun must not be mixed with another one, and a connection that was reset has no reader.
    if (isAnswering || !socket.writable || error.code === 'ECONNRESET' || error.code === 'EPIPE') {
      socket.destroy(error);
      return;
    }
    if (error.code === 'HPE_INVALID_EOF_STATE') {
      socket.destroy();
      return;
    }
    const refusal = refusalOf(error, this.#options.limits);
    const body = this.#refusalBody(refusal);
    const head = Object.entries(REFUSAL_HEADERS)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join('');
    socket.end(
      `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status] ?? ''}\r\n${head}connection: close\r\n` +
        `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      () => socket.destroy(),
    );
  }

  /**
   * Called when no byte was received or sent for the idle time. A connection with a call in flight stays open. Any
   * other one is closed: it is idle, or its client does not read.
   */
  #idle(socket: Duplex): void {
    const connection = this.#connections.get(socket);
    if (connection !== undefined && connection.busy > 0 && connection.latest?.headersSent === false) {
      connection.isOverdue = true;
      return;
    }
    socket.destroy();
  }

  /** Not every runtime restarts the timer of a socket after it has fired, so this timer watches the next idle time. */
  #endIfUnused(socket: Duplex, connection: HttpConnection, last: ServerResponse): void {
    connection.isOverdue = false;
    const timer = setTimeout(() => {
      if (connection.busy === 0 && connection.latest === last) socket.destroy();
    }, this.#options.limits.idleMs);
    timer.unref();
    socket.once('close', () => clearTimeout(timer));
  }

  /** Returns the reply when the app threw, or the request line and Host do not form a URL. */
  #failed(thrown: unknown): Response {
    const isRequest = thrown instanceof Error && thrown.name === 'RequestError';
    const refusal: HttpRefusal = isRequest
      ? { status: 400, message: `Not a usable request: ${thrown.message}` }
      : { status: 500, message: `Defect in the mesh, please report it: ${String(thrown)}` };
    const body = this.#refusalBody(refusal);
    return new Response(body, {
      status: refusal.status,
      headers: { ...REFUSAL_HEADERS, 'content-length': String(Buffer.byteLength(body)) },
    });
  }
}

function refusalOf(error: NodeJS.ErrnoException, limits: HttpServerLimits): HttpRefusal {
  if (error.code === 'HPE_HEADER_OVERFLOW') {
    return {
      status: 431,
      message: `Headers are too large or too many: limits are ${HEADER_BYTES_MAX} bytes and ${limits.headersMax} headers`,
    };
  }
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return { status: 408, message: `Request was not complete within ${limits.requestMs} ms` };
  }
  return { status: 400, message: `Not a readable HTTP/1.1 request: ${error.message}` };
}

function ignore(): void {}

/** The error of `node:http` for an overdue request. */
const OVERDUE: NodeJS.ErrnoException = Object.assign(new Error('Request timeout'), {
  code: 'ERR_HTTP_REQUEST_TIMEOUT',
});
const NO_BODY = Buffer.alloc(0);
const HEADER_BYTES_MAX = 16_384;
const SWALLOW_BYTES_MAX = 1_048_576;
const SWALLOW_MS = 500;
const REFUSAL_HEADERS = { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' };
