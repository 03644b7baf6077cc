// The server of OrderedConnections (ordered-connection.ts) on one TCP port: listens, limits the connections, sweeps
// them with one timer, and drains. The Thrift faceplate and the line server use it. A protocol makes a connection of
// a socket (`open`) and refuses connections (`refuse`).
import { keepsHalfOpen, systemClock, untilNextTurnMs, type Address, type Clock, type KatamariError } from '../mod.ts';

import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** The methods of a connection that the server calls. OrderedConnection has all but `refuse`. */
export interface ServedConnection {
  sweep(nowMs: number): void;
  /** Tells the peer why the connection is refused, then closes. */
  refuse(error: KatamariError): void;
  beginGracefulClose(): void;
  drain(): void;
  close(): void;
}

export interface OrderedServerOptions<Connection> {
  readonly limits: {
    /** Connections above this are refused with `tooMany`. */
    readonly connectionsMax: number;
    readonly idleMs: number;
    readonly requestMs: number;
  };
  /** Returns the connection of a socket. The connection calls `onClose` of the server when it has closed. */
  open(socket: Socket): Connection;
  tooMany(limit: number): KatamariError;
  /** How long the calls in flight may take, in ms: a drain waits for this time plus DRAIN_FLUSH_MS. */
  timeoutMs(): number;
  /** Returns the number of sockets that `admit` gets later, after their TLS handshake; they count toward the limit. */
  readonly handshakes?: () => number;
  readonly clock?: Clock;
}

export class OrderedServer<Connection extends ServedConnection> {
  readonly #options: OrderedServerOptions<Connection>;
  readonly #clock: Clock;
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  /** Calls that outlive their connection (oneway calls): a drain waits for them too. */
  #detachedCalls = 0;
  #stopSweeping: (() => void) | undefined;
  #closed: Promise<void> | undefined;
  #onGone: () => void = () => undefined;

  constructor(options: OrderedServerOptions<Connection>) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    // A peer that has ended its side may still read replies.
    this.#server = createServer({ allowHalfOpen: keepsHalfOpen() }, (socket) => {
      this.admit(socket, (opened) => options.open(opened));
    });
  }

  /** Number of open connections. */
  get size(): number {
    return this.#connections.size;
  }

  /** Starts to listen and returns the bound address. Rejects with the error of the system (`EADDRINUSE`). */
  async listen(at: Address): Promise<Address> {
    const bound = await listenOn(this.#server, at);
    // A connection that could not be accepted (no file descriptor left) is offered again by the kernel.
    this.#server.on('error', () => undefined);
    const { idleMs, requestMs } = this.#options.limits;
    const sweepMs = Math.min(SWEEP_MS_MAX, Math.max(SWEEP_MS_MIN, Math.min(idleMs, requestMs) / 4));
    const sweepLater = (): void => {
      this.#stopSweeping = this.#clock.after(untilNextTurnMs(this.#clock.nowMs(), sweepMs), sweep);
    };
    const sweep = (): void => {
      // First, so that a connection that throws does not end the sweeps of all.
      sweepLater();
      const nowMs = this.#clock.nowMs();
      for (const connection of this.#connections) connection.sweep(nowMs);
    };
    sweepLater();
    return bound;
  }

  /** Opens a connection on the socket; refuses it above the limit. */
  admit(socket: Socket, open: (socket: Socket) => Connection): void {
    const { limits, handshakes } = this.#options;
    const { connectionsMax } = limits;
    const taken = this.#connections.size + (handshakes?.() ?? 0);
    // A refused connection stays open until its peer has read why. Above REFUSALS_MAX of these, a socket is closed at
    // once.
    if (taken >= connectionsMax + REFUSALS_MAX) {
      socket.destroy();
      return;
    }
    const connection = open(socket);
    this.#connections.add(connection);
    if (taken >= connectionsMax) connection.refuse(this.#options.tooMany(connectionsMax));
  }

  onClose(connection: Connection): void {
    this.#connections.delete(connection);
    this.#onGone();
  }

  detachedCallBegins(): void {
    this.#detachedCalls++;
  }

  detachedCallEnds(): void {
    this.#detachedCalls--;
    this.#onGone();
  }

  /**
   * Accepts no more connections. Idle ones may send one more call within GRACE_PERIOD_MS; then all are drained.
   * Resolves when no connection and no detached call is left, at the latest when every deadline has passed.
   */
  async drain(): Promise<void> {
    const stopped = this.#stopListening();
    // Requests that the kernel has already received count as begun, so let the event loop read them first.
    await new Promise((resolve) => setImmediate(resolve));
    for (const connection of this.#connections) connection.beginGracefulClose();
    await this.#whenGone(GRACE_PERIOD_MS);
    for (const connection of this.#connections) connection.drain();
    await this.#whenGone(this.#options.timeoutMs() + DRAIN_FLUSH_MS);
    await this.close();
    await stopped;
  }

  /** Closes now. Calls in flight are canceled. */
  async close(): Promise<void> {
    const stopped = this.#stopListening();
    this.#stopSweeping?.();
    for (const connection of this.#connections) connection.close();
    this.#onGone();
    await stopped;
  }

  #stopListening(): Promise<void> {
    this.#closed ??= new Promise((resolve) => this.#server.close(() => resolve()));
    return this.#closed;
  }

  #whenGone(withinMs: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#clock.after(withinMs, resolve);
      this.#onGone = () => {
        if (this.#connections.size > 0 || this.#detachedCalls > 0) return;
        cancel();
        resolve();
      };
      this.#onGone();
    });
  }
}

/** Listens and returns the bound address. Rejects with the error of the system, which names the address. */
export async function listenOn(server: Server, { host, port }: Address): Promise<Address> {
  await new Promise<void>((resolve, reject) => {
    // Some runtimes do not name the address in this error.
    const onError = (error: Error): void => reject(Object.assign(error, { address: host, port }));
    server.once('error', onError);
    server.listen({ host, port, backlog: BACKLOG }, () => {
      server.off('error', onError);
      resolve();
    });
  });
  const bound = server.address() as AddressInfo;
  return { host: bound.address, port: bound.port };
}

/** Maximum connections over the limit that are being refused at one time. */
const REFUSALS_MAX = 1_000;
/** Connections that the kernel holds until they are accepted. */
const BACKLOG = 4_096;
const SWEEP_MS_MIN = 10;
const SWEEP_MS_MAX = 1_000;
/** How long an idle connection may send one more call when a drain begins, in ms. */
const GRACE_PERIOD_MS = 250;
/** How long a drain waits, beyond the last deadline, for replies to be read, in ms. */
const DRAIN_FLUSH_MS = 2_000;
