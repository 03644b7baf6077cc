// The fast path in front of `node:http` for ordinary POSTs: takes the connections of an http.Server, serves those
// with such requests (fast-connection.ts), and gives the others to the server's own listener. The http.Server still
// listens, limits the number of connections and reports errors of the port. One sweep checks the time limits of all
// connections; it runs only while there are connections.
import { systemClock, type ByteAccount, type KatamariError } from '../mod.ts';
import type { TimedPipelineLimits } from '../link/mod.ts';
import type { HttpGuard } from './guard.ts';
import { FastConnection, type FastApp, type FastHost, type FastLimits, pipelineLimitsOf } from './fast-connection.ts';

import type { Server } from 'node:http';
import type { Socket } from 'node:net';

export interface FastPathOptions {
  readonly app: FastApp;
  readonly guard: HttpGuard;
  readonly limits: FastLimits;
  /** Interval of the sweep in ms; a time limit may be exceeded by this much. */
  readonly sweepMs: number;
  readonly overdue: (socket: Socket) => void;
  /** The event of the server that brings a connection. */
  readonly event: 'connection' | 'secureConnection';
  readonly overloaded: (socket: Socket, error: KatamariError) => void;
}

type IntoHttp = (this: Server, socket: Socket) => void;

export class FastPath implements FastHost {
  readonly app: FastApp;
  readonly guard: HttpGuard;
  readonly limits: FastLimits;
  readonly pipelineLimits: TimedPipelineLimits;
  readonly overdue: (socket: Socket) => void;
  readonly overloaded: (socket: Socket, error: KatamariError) => void;
  isDraining = false;
  readonly #server: Server;
  readonly #intoHttp: IntoHttp;
  readonly #sweepMs: number;
  readonly #connections = new Set<FastConnection>();
  #isSweeping = false;
  #second = 0;
  #dateLine = '';
  #keptLines = '';

  /** The server must be new: its own listener must be the only one for the event. */
  constructor(server: Server, { app, guard, limits, sweepMs, overdue, overloaded, event }: FastPathOptions) {
    this.app = app;
    this.guard = guard;
    this.limits = limits;
    this.pipelineLimits = pipelineLimitsOf(limits);
    this.overdue = overdue;
    this.overloaded = overloaded;
    this.#server = server;
    this.#sweepMs = sweepMs;
    this.#intoHttp = server.listeners(event)[0] as IntoHttp;
    server.removeAllListeners(event);
  }

  take(socket: Socket, account: ByteAccount): FastConnection {
    const connection = new FastConnection(socket, this, account);
    this.#connections.add(connection);
    this.#keepSweeping();
    return connection;
  }

  handOver(socket: Socket): void {
    this.#intoHttp.call(this.#server, socket);
  }

  onClose(connection: FastConnection): void {
    this.#connections.delete(connection);
  }

  keptLines(): string {
    this.#readDate();
    return this.#keptLines;
  }

  lastLines(): string {
    this.#readDate();
    return `${this.#dateLine}Connection: close\r\n`;
  }

  /** Updates the lines once a second. */
  #readDate(): void {
    const second = Math.floor(Date.now() / 1_000);
    if (second === this.#second) return;
    this.#second = second;
    this.#dateLine = `Date: ${new Date(second * 1_000).toUTCString()}\r\n`;
    const keptS = Math.floor(this.limits.idleMs / 1_000);
    this.#keptLines = `${this.#dateLine}Connection: keep-alive\r\nKeep-Alive: timeout=${keptS}\r\n`;
  }

  #keepSweeping(): void {
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    systemClock.after(this.#sweepMs, () => {
      this.#isSweeping = false;
      // First, so that a connection that throws does not end the sweeps of all.
      if (this.#connections.size > 0) this.#keepSweeping();
      const nowMs = performance.now();
      for (const connection of this.#connections) connection.sweep(nowMs);
    });
  }
}
