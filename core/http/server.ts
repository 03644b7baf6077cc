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
import { isAccepted, listenOn, noRoom, renewWith, tlsOptionsOf, type ServerTls } from '../link/mod.ts';
import { asKatamariError, ByteLedger, httpTakesSockets, keepsHalfOpen, urlOf, type FaceplateLimits } from '../mod.ts';
import { ConnectionTable, HttpConnection } from './connection-table.ts';
import type { FastApp } from './fast-connection.ts';
import { FastPath } from './fast-path.ts';
import { HttpGuard, type HttpAccess, type HttpPortRules } from './guard.ts';
import {
  discardRest,
  HEADER_BYTES_MAX,
  REFUSAL_HEADERS,
  refusalFor,
  refusalOf,
  refusalText,
  type HttpRefusal,
} from './refusal.ts';
import { addressOf, CONNECTION, connectionOf, type HttpEnv, type TakenRequest } from './request-env.ts';
import { watchEndedPeer } from './ended-peer.ts';

import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { IncomingMessage, Server, ServerOptions, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Server as TlsServer, TLSSocket } from 'node:tls';
import { getRequestListener } from '@hono/node-server';

export type HttpServerLimits = Pick<
  FaceplateLimits,
  | 'frameBytesMax'
  | 'connectionsMax'
  | 'idleMs'
  | 'requestMs'
  | 'pipelineMax'
  | 'headersMax'
  | 'connectionBytesMax'
  | 'callerBytesMax'
  | 'processBytesMax'
>;

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
  /**
   * Names and origins that the configuration allows. Without it, clients use an IP address, a loopback name or the
   * name of this machine, and no page of another origin may send requests.
   */
  readonly access?: HttpAccess | undefined;
  readonly rules?: HttpPortRules;
  /**
   * Whether a client that has ended its side may still wait for responses; by default where the runtime can tell
   * (`keepsHalfOpen`). With false, such a client counts as gone.
   */
  readonly allowHalfOpen?: boolean;
  /** The ledger of the process; without it, the sums in `limits` bound this server alone. */
  readonly ledger?: ByteLedger;
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

type NodeListener = (incoming: IncomingMessage, outgoing: ServerResponse) => Promise<void>;

class HttpListener implements HttpServer {
  readonly #options: ServeHttpOptions;
  readonly #server: Server;
  readonly #answer: NodeListener;
  readonly #guard: HttpGuard;
  readonly #posts: FastPath | undefined;
  readonly #ledger: ByteLedger;
  readonly #connections = new ConnectionTable();
  /** Connections whose last reply is a refusal of bytes that `node:http` could not parse. */
  readonly #lingering = new WeakSet<Duplex>();
  #isDraining = false;
  #endGracePeriod: () => void = ignore;
  #closed: Promise<void> | undefined;

  constructor(options: ServeHttpOptions) {
    this.#options = options;
    const { limits } = options;
    this.#guard = new HttpGuard(options.access, options.rules);
    this.#ledger = options.ledger ?? new ByteLedger(limits);
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
      // The guard refuses a request without Host, and says why.
      requireHostHeader: false,
    };
    const { tls } = options;
    const server: Server & { httpAllowHalfOpen?: boolean } =
      tls === undefined
        ? createServer(serverOptions)
        : createTlsServer({ ...serverOptions, ...tlsOptionsOf(tls, inTimeMs) });
    const event = tls === undefined ? 'connection' : 'secureConnection';
    this.#server = server;
    // By default, the server drops the requests of a client that has ended its side.
    server.httpAllowHalfOpen = options.allowHalfOpen ?? keepsHalfOpen();
    // Node silently drops headers above its limit. Let one more than our limit through, so that `#take` sees and
    // refuses the request.
    server.maxHeadersCount = limits.headersMax + 1;
    server.maxConnections = limits.connectionsMax;
    server.setTimeout(limits.idleMs);
    if (options.posts !== undefined && httpTakesSockets()) {
      this.#posts = new FastPath(server, {
        app: options.posts,
        guard: this.#guard,
        limits: { ...limits, requestMs: inTimeMs },
        sweepMs: Math.min(checkMs, Math.ceil(limits.idleMs / 4)),
        overdue: (socket) => this.#clientError(OVERDUE, socket),
        overloaded: (socket, error) => this.#endWith(refusalFor(error), socket),
        event,
      });
    }
    server.on(event, (socket: Socket) => this.#connected(socket));
    if (tls !== undefined) {
      server.on('tlsClientError', (_error: Error, socket: Socket) => socket.destroy());
      renewWith(tls, server as Partial<Pick<TlsServer, 'setSecureContext'>>, inTimeMs);
    }
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
    for (const { busy, latest, posts } of this.#connections.all()) {
      posts?.beginGracefulClose();
      if (busy > 0 && latest !== undefined && !latest.headersSent) latest.shouldKeepAlive = false;
    }
    // New connections are served during the grace period too, for one request each: when Node stops listening, it
    // also closes idle connections.
    if (gracePeriodMs > 0) await this.#waitGracePeriod(gracePeriodMs);
    onRefusing();
    const stopped = this.#stop();
    for (const { socket, busy, posts } of this.#connections.all()) {
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
    for (const { socket } of this.#connections.all()) socket.destroy();
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
    const account = this.#ledger.open(addressOf(socket));
    const connection = new HttpConnection(socket, account, this.#posts?.take(socket, account));
    this.#connections.add(connection);
    if (!httpTakesSockets()) return;
    socket.once('end', () => {
      const isDue = connection.busy === 1 && connection.held === 0 && connection.isWaitingForApp;
      if (isDue && socket.writable) watchEndedPeer(socket);
    });
  }

  /** Handles a request whose headers are read, now or when the connection has fewer requests in progress. */
  #take(incoming: IncomingMessage, outgoing: ServerResponse, wantsContinue = false): void {
    const { socket } = incoming;
    const connection = this.#connections.get(socket);
    if (connection === undefined || this.#connections.isFull) {
      socket.destroy();
      return;
    }
    if (connection.isRefused) {
      incoming.resume();
      return;
    }
    if (connection.busy < this.#options.limits.pipelineMax) {
      this.#serve(connection, incoming, outgoing, wantsContinue);
      return;
    }
    this.#connections.hold(connection, () => this.#serve(connection, incoming, outgoing, wantsContinue));
  }

  /** Checks the head and the limits, reads the body, calls the app. */
  #serve(
    connection: HttpConnection,
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    wantsContinue: boolean,
  ): void {
    const { limits } = this.#options;
    const { socket } = incoming;
    connection.busy++;
    (incoming as TakenRequest)[CONNECTION] = connection;
    connection.latest = outgoing;
    outgoing.once('close', () => {
      connection.busy--;
      if (this.#isDraining && connection.busy === 0 && connection.held === 0) socket.destroySoon();
      else if (connection.isOverdue) this.#endIfUnused(connection, outgoing);
      this.#connections.serveHeld(connection);
      if (connection.isEnding && connection.isAnswered) socket.destroySoon();
    });
    if (this.#isDraining) outgoing.shouldKeepAlive = false;

    if (incoming.rawHeaders.length > limits.headersMax * 2) {
      this.#refuse(connection, incoming, outgoing, {
        status: 431,
        code: 'too_large',
        message: `Too many headers: ${incoming.rawHeaders.length / 2} or more, limit is ${limits.headersMax}`,
      });
      return;
    }
    if (!this.#admit(connection, incoming, outgoing)) return;
    const declared = Number(incoming.headers['content-length'] ?? 0);
    const isPlainGet = incoming.method === 'GET' || incoming.method === 'HEAD';
    // Read the body even where none is expected: with unread bytes in the stream, Node does not report that the
    // client has disconnected.
    if (isPlainGet && declared === 0 && incoming.headers['transfer-encoding'] === undefined) {
      void this.#run(incoming, outgoing);
      return;
    }
    if (declared > limits.frameBytesMax) {
      this.#refuse(connection, incoming, outgoing, this.#tooLarge(`${declared} bytes, `));
      return;
    }
    if (wantsContinue) outgoing.writeContinue();
    this.#readBody(connection, incoming, outgoing);
  }

  /** Whether the app may see the request; otherwise the response is sent. */
  #admit(connection: HttpConnection, incoming: IncomingMessage, outgoing: ServerResponse): boolean {
    const { method = '', url = '', headers, rawHeaders } = incoming;
    const isHttp10 = incoming.httpVersion === '1.0';
    try {
      const grant = this.#guard.check(
        { method, target: url, isHttp10, headers, rawHeaders },
        incoming.socket.remoteAddress ?? '',
      );
      if (grant === undefined) return true;
      for (const [name, value] of Object.entries(grant.headers)) outgoing.setHeader(name, value);
      if (!grant.isPreflight) return true;
      outgoing.writeHead(204).end();
      incoming.resume();
    } catch (thrown) {
      this.#refuse(connection, incoming, outgoing, refusalFor(asKatamariError(thrown)));
    }
    return false;
  }

  #readBody(connection: HttpConnection, incoming: IncomingMessage, outgoing: ServerResponse): void {
    const bytesMax = this.#options.limits.frameBytesMax;
    const { account } = connection;
    let chunks: Buffer[] = [];
    let bytes = 0;
    const onData = (chunk: Buffer): void => {
      bytes += chunk.length;
      account.add(chunk.length);
      if (bytes > bytesMax) {
        chunks = [];
        incoming.off('data', onData).off('end', onEnd);
        this.#refuse(connection, incoming, outgoing, this.#tooLarge(''));
        return;
      }
      chunks.push(chunk);
      if (!account.isFull || incoming.isPaused()) return;
      // Without room in time, the request becomes overdue, see `#clientError`.
      incoming.pause();
      account.whenRoom(() => incoming.resume());
    };
    const onEnd = (): void => {
      (incoming as TakenRequest).rawBody = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
      chunks = [];
      void this.#run(incoming, outgoing);
    };
    // The body is booked until the response has ended: the app holds it.
    outgoing.once('close', () => {
      account.add(-bytes);
      bytes = 0;
    });
    // A client that disconnects in the middle ends the stream with an error, and its response closes with the
    // connection.
    incoming.on('data', onData).on('end', onEnd).on('error', ignore);
  }

  /** Calls the app, and books what of its response the client has not read. */
  async #run(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    await this.#answer(incoming, outgoing);
    const unread = outgoing.writableFinished || outgoing.destroyed ? 0 : outgoing.writableLength;
    if (unread === 0) return;
    const { account } = connectionOf(incoming);
    account.add(unread);
    outgoing.once('close', () => account.add(-unread));
  }

  /** @param length the declared length and a comma; '' when the request declares none */
  #tooLarge(length: string): HttpRefusal {
    return {
      status: 413,
      code: 'too_large',
      message: `Request body is too large: ${length}limit is ${this.#options.limits.frameBytesMax} bytes`,
    };
  }

  /** Replies without the app, then closes the connection instead of reading the rest of the request. */
  #refuse(connection: HttpConnection, incoming: IncomingMessage, outgoing: ServerResponse, refusal: HttpRefusal): void {
    connection.isRefused = true;
    const body = this.#refusalBody(refusal);
    const { socket } = incoming;
    // Closing at once with unread bytes would send a TCP reset, which discards the reply. So after the reply only this
    // side ends, and some of the rest is read and discarded.
    if (!incoming.complete) socket.destroySoon = () => void socket.end();
    outgoing.shouldKeepAlive = false;
    outgoing.writeHead(refusal.status, { ...REFUSAL_HEADERS, 'content-length': Buffer.byteLength(body) });
    outgoing.end(body);
    if (incoming.complete) return;
    discardRest(incoming.on('error', ignore), socket);
  }

  #refusalBody(refusal: HttpRefusal): string {
    return this.#options.refusal?.(refusal) ?? JSON.stringify({ error: refusal.message });
  }

  /** Replies to a request that Node could not parse, or that was not complete in time. */
  #clientError(error: NodeJS.ErrnoException, socket: Duplex): void {
    if (this.#lingering.has(socket)) return;
    const connection = this.#connections.get(socket);
    const isAnswering = connection !== undefined && connection.busy > 0 && connection.latest?.headersSent !== false;
    // A response that has begun must not be mixed with another one, and a connection that was reset has no reader.
    if (
      (isAnswering && error.code !== 'HPE_INVALID_EOF_STATE') ||
      !socket.writable ||
      error.code === 'ECONNRESET' ||
      error.code === 'EPIPE'
    ) {
      socket.destroy(error);
      return;
    }
    if (error.code === 'HPE_INVALID_EOF_STATE') {
      // The client has ended its side within a request. It may still wait for the responses to earlier ones.
      if (connection === undefined || connection.isAnswered) socket.destroy();
      else connection.isEnding = true;
      return;
    }
    const { limits } = this.#options;
    const isHeldBack = error.code === 'ERR_HTTP_REQUEST_TIMEOUT' && connection?.account.hasRoom === false;
    const refusal: HttpRefusal = isHeldBack
      ? refusalFor(noRoom(connection.account, limits.requestMs))
      : refusalOf(error, limits);
    this.#endWith(refusal, socket);
  }

  /** Writes a refusal to a socket that `node:http` does not have, and closes it. */
  #endWith(refusal: HttpRefusal, socket: Duplex): void {
    const body = this.#refusalBody(refusal);
    socket.end(refusalText(refusal, body));
    this.#lingering.add(socket);
    discardRest(
      socket.once('end', () => socket.destroy()),
      socket,
    );
  }

  /**
   * Called when no byte was received or sent for the idle time. A connection with a call in flight stays open. Any
   * other one is closed: it is idle, or its client does not read.
   */
  #idle(socket: Duplex): void {
    const connection = this.#connections.get(socket);
    if (connection?.isWaitingForApp === true) {
      connection.isOverdue = true;
      return;
    }
    socket.destroy();
  }

  /** Not every runtime restarts the timer of a socket after it has fired, so this timer watches the next idle time. */
  #endIfUnused(connection: HttpConnection, last: ServerResponse): void {
    const { socket } = connection;
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
      ? { status: 400, code: 'bad_request', message: `Not a usable request: ${thrown.message}` }
      : { status: 500, code: 'internal', message: `Defect in the mesh, please report it: ${String(thrown)}` };
    const body = this.#refusalBody(refusal);
    return new Response(body, {
      status: refusal.status,
      headers: { ...REFUSAL_HEADERS, 'content-length': String(Buffer.byteLength(body)) },
    });
  }
}

function ignore(): void {}

/** The error of `node:http` for an overdue request. */
const OVERDUE: NodeJS.ErrnoException = Object.assign(new Error('Request timeout'), {
  code: 'ERR_HTTP_REQUEST_TIMEOUT',
});
