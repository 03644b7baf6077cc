// A plain Thrift server as a chassis. Its deployment describes it; its health check is a method of its interface, if
// the deployment names one. Most servers run one call at a time per connection, so the number of connections is the
// `concurrency` of the deployment.
//
// A server may close a connection when it has been idle, or because of a message that it cannot read. That is not the
// end of its process: the connection is opened again, with backoff, and costs only the calls that were on it. The
// process ends by its exit, a hang, a failed check, or when it accepts no connection for UNREACHABLE_MS.

import { decodeResult } from '../../core/idl/mod.ts';
import { parseLinkAddress, PlainLink, type PlainLinkEnd, type ReplySink } from '../../core/link/mod.ts';
import { Backoff, KatamariError } from '../../core/mod.ts';
import { createCall, EMPTY_STRUCT, type Call, type Reply } from '../../core/rpc/mod.ts';
import { readApplicationException, type Interface, type Method } from '../../core/thrift/mod.ts';
import { pause } from '../consul/mod.ts';
import { whyNoHealthCheck } from '../mesh/mod.ts';
import { PermanentFault } from './permanent-fault.ts';
import type { ReadyChassis, ReadinessOptions } from './ready-chassis.ts';
import type { ResourceLink } from './resource.ts';

import { connect as connectTo, type Socket } from 'node:net';

/** @param connect opens one more connection @throws Error that says what is wrong; no connection is left open then */
export async function awaitPlainServer(
  options: ReadinessOptions,
  iface: Interface,
  connect: () => Promise<Socket>,
): Promise<ReadyChassis> {
  const { expected } = options;
  const { service, version, roles, tags, more } = expected;
  const healthMethod = healthMethodOf(iface, expected.healthCheck);
  const concurrency = expected.concurrency ?? 1;
  const links = new PlainLinks(options, iface);
  try {
    for (let n = 0; n < concurrency; n++) links.add(await connect());
    const checkHealth = healthMethod === undefined ? undefined : (): Promise<void> => links.check(healthMethod);
    return {
      details: { service, version, roles, tags, more },
      interface: iface,
      concurrency,
      ahead: 0,
      link: links,
      checkHealth,
      holdsShards: false,
      dispatch: undefined,
    };
  } catch (error) {
    links.close();
    throw error;
  }
}

/** The connections of one server. */
class PlainLinks implements ResourceLink {
  readonly #options: ReadinessOptions;
  readonly #interface: Interface;
  readonly #connections: PlainConnection[] = [];
  readonly #closed = new AbortController();
  readonly reopens = true;
  /** Shortest idle time after which the server has closed a connection. */
  idleCloseMs: number = Number.POSITIVE_INFINITY;

  constructor(options: ReadinessOptions, iface: Interface) {
    this.#options = options;
    this.#interface = iface;
  }

  get isOpen(): boolean {
    return this.#connections.some(({ link }) => link !== undefined);
  }

  get capacity(): number {
    return this.#connections.reduce((sum, { link }) => sum + (link === undefined ? 0 : 1), 0);
  }

  get onewaysOpen(): number {
    return this.#connections.reduce((sum, { link }) => sum + (isAtOneway(link) ? 1 : 0), 0);
  }

  onewaySinceMs(id: number): number | undefined {
    return this.#connections[id]?.link?.onewaySinceMs;
  }

  add(socket: Socket): void {
    this.#connections.push(new PlainConnection(this, this.#options, this.#interface, this.#closed.signal, socket));
  }

  /**
   * Sends on the connection with the fewest calls in progress, since a health check may occupy one, and rather on one
   * where no oneway call may be at work. Returns its number.
   */
  send(call: Call, sink: ReplySink): number {
    let chosen = -1;
    let best: PlainLink | undefined;
    for (const [n, { link }] of this.#connections.entries()) {
      if (link === undefined || (best !== undefined && !isFreer(link, best))) continue;
      chosen = n;
      best = link;
    }
    if (best === undefined)
      throw new KatamariError('resource_failed', `${this.#options.name} has no open connection`, { notRun: true });
    best.send(call, sink);
    return chosen;
  }

  /** A plain server cannot cancel a call, and no call is sent ahead to it. */
  cancel(): boolean {
    return false;
  }

  /**
   * Calls the health check on every connection, because each may be served by its own thread.
   * @throws Error when one fails
   */
  async check(method: Method): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.check(method)));
  }

  close(why?: string): void {
    this.#closed.abort();
    for (const { link } of this.#connections) link?.close(why);
  }
}

/** One connection of a server, opened again whenever the server closes it. */
class PlainConnection {
  readonly #owner: PlainLinks;
  readonly #options: ReadinessOptions;
  readonly #interface: Interface;
  readonly #closed: AbortSignal;
  readonly #backoff = new Backoff({ firstMs: RECONNECT_FIRST_MS, maxMs: RECONNECT_MAX_MS, random: Math.random });
  /** undefined while there is no connection. */
  link: PlainLink | undefined;
  #openedAtMs = 0;
  /** Health checks that wait for a connection. */
  #waiting: { readonly resolve: () => void; readonly reject: (error: Error) => void }[] = [];

  constructor(owner: PlainLinks, options: ReadinessOptions, iface: Interface, closed: AbortSignal, socket: Socket) {
    this.#owner = owner;
    this.#options = options;
    this.#interface = iface;
    this.#closed = closed;
    closed.addEventListener('abort', () => {
      for (const { reject } of this.#waiting.splice(0)) reject(new Error(ENDING));
    });
    this.#open(socket);
  }

  /** @throws Error when the check fails, or closes the connection again and again */
  async check(method: Method): Promise<void> {
    for (let tries = 1; ; tries++) {
      await this.#whenOpen();
      try {
        const reply = await this.#call(method);
        throwUnlessHealthy(method, reply);
        return;
      } catch (error) {
        // The server may have closed an idle connection at this moment. That says nothing about its health.
        const isClosed = error instanceof KatamariError && error.code === 'resource_failed';
        if (!isClosed || tries === CHECK_TRIES || this.#closed.aborted) throw error;
      }
    }
  }

  #call(method: Method): Promise<Reply> {
    // The caller enforces the timeout.
    const deadlineMs = Number.POSITIVE_INFINITY;
    const call = createCall({ service: method.declaredBy, method: method.name, args: EMPTY_STRUCT, deadlineMs });
    return new Promise((resolve, reject) => this.link?.send(call, { reply: resolve, fail: reject }));
  }

  #whenOpen(): Promise<void> {
    if (this.link !== undefined) return Promise.resolve();
    if (this.#closed.aborted) return Promise.reject(new Error(ENDING));
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  #open(socket: Socket): void {
    const { name, limits, clock, expected } = this.#options;
    const { transport, protocol } = expected;
    this.#openedAtMs = clock.nowMs();
    this.link = new PlainLink(socket, {
      peer: name,
      wireFormat: { transport, protocol },
      limits,
      interface: this.#interface,
      clock,
      idleCloseMs: () => this.#owner.idleCloseMs,
      onClose: (error, end) => this.#onClose(error, end),
    });
    for (const { resolve } of this.#waiting.splice(0)) resolve();
  }

  #onClose(error: KatamariError, { lost, idleMs, hasAnswered }: PlainLinkEnd): void {
    this.link = undefined;
    if (this.#closed.aborted) return;
    const { clock, onConnectionsChanged } = this.#options;
    // A connection that served for a while says that the next one will, so there is no need to wait long.
    if (hasAnswered || clock.nowMs() - this.#openedAtMs >= STABLE_MS) this.#backoff.reset();
    if (lost === 0 && idleMs >= IDLE_MS_MIN) this.#owner.idleCloseMs = Math.min(this.#owner.idleCloseMs, idleMs);
    onConnectionsChanged(lost > 0);
    void this.#reconnect(error);
  }

  async #reconnect(error: KatamariError): Promise<void> {
    const { clock, address, onConnectionsChanged, onUnreachable } = this.#options;
    const lostAtMs = clock.nowMs();
    let last: Error = error;
    for (;;) {
      await pause(clock, this.#backoff.next(), this.#closed);
      if (this.#closed.aborted) return;
      try {
        const socket = await connected(address, this.#closed);
        this.#open(socket);
        onConnectionsChanged(false);
        return;
      } catch (refusal) {
        last = refusal as Error;
      }
      if (this.#closed.aborted) return;
      if (clock.nowMs() - lostAtMs >= UNREACHABLE_MS) {
        onUnreachable(`it accepts no connection at ${address} any more: ${last.message}`);
        return;
      }
    }
  }
}

/** Connects once. @throws Error that says why not */
function connected(address: string, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectTo(parseLinkAddress(address));
    const onAbort = (): void => {
      socket.destroy();
      reject(new Error(ENDING));
    };
    signal.addEventListener('abort', onAbort, { once: true });
    socket.once('error', (error) => {
      signal.removeEventListener('abort', onAbort);
      socket.destroy();
      reject(error);
    });
    socket.once('connect', () => {
      signal.removeEventListener('abort', onAbort);
      resolve(socket);
    });
  });
}

function isFreer(link: PlainLink, other: PlainLink): boolean {
  return link.inFlight === other.inFlight ? !isAtOneway(link) && isAtOneway(other) : link.inFlight < other.inFlight;
}

function isAtOneway(link: PlainLink | undefined): boolean {
  return link?.onewaySinceMs !== undefined;
}

function throwUnlessHealthy(method: Method, { isException, body }: Reply): void {
  if (isException) throw new Error(`its health check ${method.name} failed: ${readApplicationException(body).message}`);
  const result = decodeResult(method, body);
  if (!result.ok) throw new Error(`its health check ${method.name} answered with exception ${result.exception}`);
}

/** @throws PermanentFault when the method cannot be a health check */
function healthMethodOf(iface: Interface, name: string): Method | undefined {
  if (name === '') return undefined;
  const why = whyNoHealthCheck(iface, name);
  if (why !== undefined) throw new PermanentFault(`its deployment has healthCheck ${name}, but ${why}`);
  return iface.methods.get(name);
}

const ENDING = 'its process is being ended';
const RECONNECT_FIRST_MS = 10;
const RECONNECT_MAX_MS = 2_000;
/** A connection that was open for this long shows that the server serves. */
const STABLE_MS = 1_000;
/** A connection that closes sooner was not closed because it was idle. */
const IDLE_MS_MIN = 500;
/** A process that accepts no connection for this long is not healthy. */
const UNREACHABLE_MS = 10_000;
/** Tries of a health check whose connection closes. */
const CHECK_TRIES = 3;
