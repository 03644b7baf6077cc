// One HTTP/1.1 server under a Hono app, with limits on everything that a client sends. Every front that speaks HTTP
// stands on it.
//
// It is `node:http` under @hono/node-server on all three runtimes; before it, where that can be, stands a shorter way
// for ordinary POSTs (fast-path.ts). The other two runtimes have servers of their own, but those cannot be told how
// long a client may take over its headers, how many connections there may be or how many there are, and one aborts
// the signal of requests that succeeded; their `node:http` can do all of it, at the same speed within a tenth.
//
// A body is read here, whole and bounded, before the app sees the request: the app finds it ready
// (`requestBody(env)`, or the usual
import { httpTakesSockets, urlOf, type FaceplateLimits } from '../mod.ts';
import type { FastApp, FastConnection } from './fast-connection.ts';
import { FastPath } from './fast-path.ts';

// `c.req.text()`), and a slow, half-sent or oversized one never reaches it. `request.signal` aborts when the client
// has gone.

import { setMaxListeners } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { STATUS_CODES } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import type { HttpBindings } from '@hono/node-server';
const CONNECTION: unique symbol = Symbol('connection');

/** What a Hono app gets as `c.env`. */
export type HttpEnv = HttpBindings;

export type HttpServerLimits = Pick<
  FaceplateLimits,
  'frameBytesMax' | 'connectionsMax' | 'idleMs' | 'requestMs' | 'pipelineMax' | 'headersMax'
>;

/** A request that was answered before the app saw it. */
export interface HttpRefusal {
  readonly status: 400 | 408 | 413 | 431 | 500;
  /** For people: which limit, and what to do. */
  readonly message: string;
}

export interface ServeHttpOptions {
  readonly fetch: (request: Request, env: HttpEnv) => Response | Promise<Response>;
  /**
   * Answers ordinary POSTs where they can be had without `fetch`; it must answer them as `fetch` does, which gets all
   * others.
   */
  readonly posts?: FastApp;
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly limits: HttpServerLimits;
  /** The JSON text a refusal is answered with; also the place to count it. */
  readonly refusal?: (refusal: HttpRefusal) => string;
}

export interface HttpServer {
  readonly address: string;
  readonly port: number;
  /** `http://127.0.0.1:9080` */
  readonly url: string;
  /** Connections that are open now. */
  connections(): number;
  /**
   * Finishes the requests under way, says with each answer that it is the last of its connection, accepts no more,
   * closes idle connections, then resolves. With `lastCallMs` idle connections have so long for one more request,
   * which is answered as ever; `onRefusing` is told when that is over.
   */
  drain(options?: { readonly lastCallMs?: number; readonly onRefusing?: () => void }): Promise<void>;
  /** Ends now, whatever is under way. */
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
  const front = new HttpListener(options);
  await front.listen();
  return front;
}

/** The body of the request an app is answering: complete, within the limit, empty when there was none. */
export function requestBody(env: HttpEnv): Buffer {
  return (env.incoming as TakenRequest).rawBody ?? NO_BODY;
}

/**
 * Aborted when the client of a request has gone. One for all requests of a connection, made when it is first asked
 * for: cheaper by an AbortController per request than `request.signal`, which works too.
 */
export function clientSignal(env: HttpEnv): AbortSignal {
  const connection = (env.incoming as TakenRequest)[CONNECTION] as HttpConnection;
  if (connection.gone === undefined) {
    connection.gone = new AbortController();
    // Every call of a batch and every one that waits listens: many are no sign of a leak.
    setMaxListeners(0, connection.gone.signal);
  }
  if (env.incoming.socket.destroyed) connection.gone.abort();
  return connection.gone.signal;
}

/**
 * Returns the address of the client, for example `127.0.0.1`; '' when it has gone already.
 * @example
 * const caller = `${context.name} ${remoteAddress(env)}`;
 */
export function remoteAddress(env: HttpEnv): string {
  const address = env.incoming.socket.remoteAddress ?? '';
  return address.startsWith('::ffff:') ? address.slice(7) : address;
}

/** A connection and what goes on in it. */
interface HttpConnection {
  /** Requests whose response has not ended. */
  busy: number;
  /** The response begun last. */
  latest: ServerResponse | undefined;
  gone: AbortController | undefined;
  /** The idle time passed while a call was worked on. */
  isOverdue: boolean;
  /** What reads it until `node:http` does. */
  readonly posts: FastConnection | undefined;
}

type NodeListener = (incoming: IncomingMessage, outgoing: ServerResponse) => Promise<void>;

/** @hono/node-server takes a body that is already there from `rawBody`. */
type TakenRequest = IncomingMessage & { rawBody?: Buffer; [CONNECTION]?: HttpConnection };

class HttpListener implements HttpServer {
  readonly #options: ServeHttpOptions;
  readonly #server: Server;
  readonly #answer: NodeListener;
  readonly #posts: FastPath | undefined;
  readonly #connections = new Map<Duplex, HttpConnection>();
  #isDraining = false;
  #endLastCall: () => void = ignore;
  #closed: Promise<void> | undefined;

  constructor(options: ServeHttpOptions) {
    this.#options = options;
    const { limits } = options;
    this.#answer = getRequestListener(options.fetch as Parameters<typeof getRequestListener>[0], {
      hostname: 'localhost',
      errorHandler: (thrown) => this.#failed(thrown),
    }) as NodeListener;

    // Overdue requests are looked for at intervals, so the time told to node is one interval less than the limit.
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
    const server = createServer(serverOptions);
    this.#server = server;
    // Node drops headers above its own bound in silence: one more than allowed is let through, to be seen and refused.
    server.maxHeadersCount = limits.headersMax + 1;
    server.maxConnections = limits.connectionsMax;
    server.setTimeout(limits.idleMs);
    if (options.posts !== undefined && httpTakesSockets()) {
      this.#posts = new FastPath(server, {
        app: options.posts,
        limits: { ...limits, requestMs: inTimeMs },
        sweepMs: Math.min(checkMs, Math.ceil(limits.idleMs / 4)),
        overdue: (socket) => this.#clientError(OVERDUE, socket),
      });
    }
    server.on('connection', (socket) => this.#connected(socket));
    server.on('request', (incoming, outgoing) => this.#take(incoming, outgoing));
    server.on('checkContinue', (incoming, outgoing) => this.#take(incoming, outgoing, true));
    server.on('checkExpectation', (incoming, outgoing) => this.#take(incoming, outgoing));
    server.on('clientError', (error: NodeJS.ErrnoException, socket) => this.#clientError(error, socket));
    server.on('timeout', (socket: Duplex) => this.#idle(socket));
  }

  listen(): Promise<void> {
    const { host, port } = this.#options;
    return new Promise((resolve, reject) => {
      // Not every runtime says which port it was that is taken.
      const onError = (error: Error): void => reject(Object.assign(error, { address: host, port }));
      this.#server.once('error', onError);
      this.#server.listen(port, host, () => {
        this.#server.off('error', onError);
        resolve();
      });
    });
  }

  get address(): string {
    return (this.#server.address() as AddressInfo | null)?.address ?? this.#options.host;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo | null)?.port ?? this.#options.port;
  }

  get url(): string {
    return urlOf({ host: this.address, port: this.port });
  }

  connections(): number {
    return this.#connections.size;
  }

  async drain({ lastCallMs = 0, onRefusing = ignore }: Parameters<HttpServer['drain']>[0] = {}): Promise<void> {
    this.#beginDrain();
    for (const { busy, latest, posts } of this.#connections.values()) {
      posts?.beginGracefulClose();
      if (busy > 0 && latest !== undefined && !latest.headersSent) latest.shouldKeepAlive = false;
    }
    // Also new connections are served meanwhile, for one request each: node closes idle ones together with the
    // listener.
    if (lastCallMs > 0) await this.#beginGracefulClose(lastCallMs);
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

  /** Over early when everything ends now. */
  async #beginGracefulClose(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#endLastCall = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async close(): Promise<void> {
    this.#beginDrain();
    this.#endLastCall();
    const stopped = this.#stop();
    for (const socket of this.#connections.keys()) socket.destroy();
    await stopped;
  }

  /** Stops accepting; resolves when the last connection has ended. */
  #stop(): Promise<void> {
    this.#closed ??= new Promise((resolve) => {
      this.#server.close(() => resolve());
    });
    return this.#closed;
  }

  #connected(socket: Socket): void {
    const posts = this.#posts?.take(socket);
    const connection: HttpConnection = { busy: 0, latest: undefined, gone: undefined, isOverdue: false, posts };
    this.#connections.set(socket, connection);
    socket.once('close', () => {
      this.#connections.delete(socket);
      connection.gone?.abort();
    });
  }

  /** One request, its headers read: the limits that show already, then its body, then the app. */
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
        message: `Too many headers: ${incoming.rawHeaders.length / 2} came or more, limit is ${limits.headersMax}`,
      });
      return;
    }
    const declared = Number(incoming.headers['content-length'] ?? 0);
    const isPlainGet = incoming.method === 'GET' || incoming.method === 'HEAD';
    // A body nobody asked for is read as well: one that is left lying stops the reading, and the end of the
    // connection is not seen.
    if (isPlainGet && declared === 0 && incoming.headers['transfer-encoding'] === undefined) {
      void this.#answer(incoming, outgoing);
      return;
    }
    if (declared > limits.frameBytesMax) {
      this.#refuse(incoming, outgoing, this.#tooLarge(`${declared} bytes`));
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
      this.#refuse(incoming, outgoing, this.#tooLarge('more'));
    };
    const onEnd = (): void => {
      (incoming as TakenRequest).rawBody = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
      chunks = [];
      void this.#answer(incoming, outgoing);
    };
    // A client that goes away half-way ends the stream with an error; its response closes with the connection,
    // nothing is left.
    incoming.on('data', onData).on('end', onEnd).on('error', ignore);
  }

  #tooLarge(what: string): HttpRefusal {
    return {
      status: 413,
      message: `Request body is too large: ${what}, limit is ${this.#options.limits.frameBytesMax} bytes`,
    };
  }

  /** Answers without the app, then ends the connection: what is left of the request is not worth reading. */
  #refuse(incoming: IncomingMessage, outgoing: ServerResponse, refusal: HttpRefusal): void {
    const body = this.#refusalBody(refusal);
    outgoing.shouldKeepAlive = false;
    outgoing.writeHead(refusal.status, { ...REFUSAL_HEADERS, 'content-length': Buffer.byteLength(body) });
    outgoing.end(body);
    if (incoming.complete) return;
    // Closing at once would make the kernel throw the answer away together with the unread bytes, so some of them are
    // swallowed.
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

  /** What node could not read as HTTP, or not in time. */
  #clientError(error: NodeJS.ErrnoException, socket: Duplex): void {
    const connection = this.#connections.get(socket);
    const isAnswering = connection !== undefined && connection.busy > 0 && connection.latest?.headersSent !== false;
    // Into a response that has begun nothing else may be written, and a connection that was reset has nobody to tell.
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
   * Nothing moved for the idle time: fine while a call is worked on, else (idle, or a client that does not read) the
   * end.
   */
  #idle(socket: Duplex): void {
    const connection = this.#connections.get(socket);
    if (connection !== undefined && connection.busy > 0 && connection.latest?.headersSent === false) {
      connection.isOverdue = true;
      return;
    }
    socket.destroy();
  }

  /**
   * A socket's timer that has fired once is not wound up again by every runtime, so its next idle time is watched
   * here.
   */
  #endIfUnused(socket: Duplex, connection: HttpConnection, last: ServerResponse): void {
    connection.isOverdue = false;
    const timer = setTimeout(() => {
      if (connection.busy === 0 && connection.latest === last) socket.destroy();
    }, this.#options.limits.idleMs);
    timer.unref();
    socket.once('close', () => clearTimeout(timer));
  }

  /** The app threw, or the request line and Host make no URL. */
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

/** As `node:http` says it. */
const OVERDUE: NodeJS.ErrnoException = Object.assign(new Error('Request timeout'), {
  code: 'ERR_HTTP_REQUEST_TIMEOUT',
});
const NO_BODY = Buffer.alloc(0);
const HEADER_BYTES_MAX = 16_384;
const SWALLOW_BYTES_MAX = 1_048_576;
const SWALLOW_MS = 500;
const REFUSAL_HEADERS = { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' };
