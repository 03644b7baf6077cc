// The open connections of an HTTP server, with what `node:http` does not keep: how many requests of each are in
// progress, which wait, and how the connection ends. It answers nothing; server.ts does.

import type { ByteAccount } from '../mod.ts';
import type { FastConnection } from './fast-connection.ts';

import { setMaxListeners } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** The state of a connection. */
export class HttpConnection {
  readonly socket: Socket;
  /** What the connection holds. */
  readonly account: ByteAccount;
  /** The fast path, which reads the socket until `node:http` does. */
  readonly posts: FastConnection | undefined;
  /** Number of requests whose response has not ended. */
  busy = 0;
  /** The newest response. */
  latest: ServerResponse | undefined;
  /** The idle time has passed while a call was in flight. */
  isOverdue = false;
  /** A request was refused: the connection closes after its response, and later requests do not count. */
  isRefused = false;
  /** The client has ended its side within a request: the connection closes after the responses to earlier ones. */
  isEnding = false;
  /** Requests that wait until fewer than `pipelineMax` are in progress, oldest first. */
  readonly #held: (() => void)[] = [];
  #gone: AbortController | undefined;

  constructor(socket: Socket, account: ByteAccount, posts: FastConnection | undefined) {
    this.socket = socket;
    this.account = account;
    this.posts = posts;
  }

  /** Number of requests that wait. */
  get held(): number {
    return this.#held.length;
  }

  /** Whether the responses to all complete requests are sent. Only the newest request can be incomplete. */
  get isAnswered(): boolean {
    return this.held === 0 && this.busy === (this.latest?.req.complete === false ? 1 : 0);
  }

  /** Whether a call is in flight whose response has not begun. */
  get isWaitingForApp(): boolean {
    return this.busy > 0 && this.latest?.headersSent === false;
  }

  /** Aborts when the client disconnects. All requests of the connection share it. */
  get signal(): AbortSignal {
    if (this.#gone === undefined) {
      this.#gone = new AbortController();
      // Every waiting call of the connection adds a listener, so many listeners are not a leak.
      setMaxListeners(0, this.#gone.signal);
    }
    if (this.socket.destroyed) this.#gone.abort();
    return this.#gone.signal;
  }

  hold(serve: () => void): void {
    this.#held.push(serve);
  }

  /** Removes and returns the request that has waited longest. */
  takeHeld(): (() => void) | undefined {
    return this.#held.shift();
  }

  /** Called when the socket has closed: drops the requests that wait, and tells those in flight. */
  closed(): void {
    this.account.close();
    this.#held.length = 0;
    this.#gone?.abort();
  }
}

export class ConnectionTable {
  readonly #connections = new Map<Duplex, HttpConnection>();
  /** Requests that wait, on all connections. */
  #held = 0;

  get size(): number {
    return this.#connections.size;
  }

  get(socket: Duplex): HttpConnection | undefined {
    return this.#connections.get(socket);
  }

  all(): Iterable<HttpConnection> {
    return this.#connections.values();
  }

  /** Adds a connection until its socket closes. */
  add(connection: HttpConnection): void {
    const { socket } = connection;
    this.#connections.set(socket, connection);
    socket.once('close', () => {
      this.#connections.delete(socket);
      this.#held -= connection.held;
      connection.closed();
    });
  }

  /** Whether so many requests wait that no other one may. */
  get isFull(): boolean {
    return this.#held >= HELD_MAX;
  }

  /** Has a request wait, and reads no further. The runtime has parsed it from the same read as earlier ones. */
  hold(connection: HttpConnection, serve: () => void): void {
    connection.socket.pause();
    this.#held++;
    connection.hold(serve);
  }

  /** Serves the oldest request that waits, and reads on when none is left. */
  serveHeld(connection: HttpConnection): void {
    const next = connection.takeHeld();
    if (next === undefined) return;
    this.#held--;
    if (connection.held === 0) connection.socket.resume();
    if (!connection.isRefused) next();
  }
}

/** Requests that wait because too many of their connection are in progress, on all connections of a port. */
const HELD_MAX = 16_384;
