// A channel to the mesh. It owns every call from its creation to its end: queued while there is no connection or no
// room on it, sent, or paused before a retry. One deadline wheel ends calls that time out. New calls use one
// connection at a time; older connections only finish their calls. Limits: calls in flight, queued calls, tries and
// time.

import { setInterval } from 'node:timers';
import { DeadlineWheel, type DeadlineEntry, DenseSet } from '../core/link/mod.ts';
import { type Clock, asKatamariError, ERROR_TABLE, KatamariError, RetryBudget } from '../core/mod.ts';
import type { HeadersIn } from '../core/thrift/mod.ts';
import { AbortSignals } from './abort-signals.ts';
import { ClientConnection, type ConnectionOwner } from './connection.ts';
import { Dialer } from './dialer.ts';
import type { CallOptions, ClientSettings } from './options.ts';
import { ClientCall, type CallOwner } from './pending-call.ts';
import type { PreparedMethod } from './prepared-method.ts';
import { errorOf, infoOf, valueOf } from './replies.ts';
import type { RequestHeaders } from './request-headers.ts';
import { pauseBeforeRetry } from './retry-policy.ts';

/** Statistics of a channel. Counters start at zero when the client is created. */
export interface ChannelStats {
  /** Address of the connection that new calls use; '' while there is none. */
  readonly address: string;
  /** Calls sent and not yet answered. */
  readonly inFlight: number;
  /** Calls not sent yet, and calls paused before a retry. */
  readonly waiting: number;
  readonly sent: number;
  readonly answered: number;
  readonly failed: number;
  readonly retried: number;
  readonly reconnects: number;
}

export class Channel implements CallOwner, ConnectionOwner {
  readonly #settings: ClientSettings;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #wheel: DeadlineWheel;
  readonly #budget: RetryBudget;
  readonly #dialer: Dialer;
  readonly #signals = new AbortSignals((call) => this.#aborted(call));
  /** All calls that have not ended. */
  readonly #calls = new DenseSet<ClientCall>();
  /** Calls that are ready to be sent, in order of arrival. */
  readonly #waiting = new Set<ClientCall>();
  /** Keeps the process alive while calls are pending. The timer itself does nothing. */
  readonly #keepAlive = setInterval(() => {}, KEEP_ALIVE_MS);
  #connection: ClientConnection | undefined;
  /** Connections that take no new calls and finish those that they have. */
  readonly #leaving = new Set<ClientConnection>();
  #isDialing = false;
  #dialError: KatamariError | undefined;
  /** The error that refuses new calls; undefined while the channel is open. */
  #closed: KatamariError | undefined;
  #isClosed = false;
  #onEmpty: (() => void) | undefined;
  #sent = 0;
  #answered = 0;
  #failed = 0;
  #retried = 0;
  #connects = 0;

  constructor(settings: ClientSettings, clock: Clock, random: () => number) {
    this.#settings = settings;
    this.#clock = clock;
    this.#random = random;
    this.#wheel = new DeadlineWheel(clock);
    this.#budget = new RetryBudget(clock);
    this.#dialer = new Dialer(settings, clock, random);
    this.#keepAlive.unref();
  }

  stats(): ChannelStats {
    const inFlight = this.#inFlight;
    return {
      address: this.#connection?.address ?? '',
      inFlight,
      waiting: this.#calls.size - inFlight,
      sent: this.#sent,
      answered: this.#answered,
      failed: this.#failed,
      retried: this.#retried,
      reconnects: Math.max(0, this.#connects - 1),
    };
  }

  /** Creates a call. The caller then calls `send` or `fail`. A refused call has ended when this returns. */
  open(title: string, headers: RequestHeaders, timeoutMs: number, options: CallOptions): ClientCall {
    const call = new ClientCall(this, title, headers, this.#clock.nowMs(), timeoutMs, options);
    const { signal } = call;
    this.#calls.add(call);
    if (this.#calls.size === 1) this.#keepAlive.ref();
    this.#wheel.add(call);
    this.#budget.called();
    if (this.#closed !== undefined) {
      this.#reject(call, this.#closed);
    } else if (signal?.aborted === true) {
      this.#aborted(call);
    } else if (!this.#hasRoom()) {
      this.#reject(call, tooMany(call, this.#settings));
    } else if (signal !== undefined) {
      this.#signals.subscribe(signal, call);
    }
    return call;
  }

  /** Sends the call, or queues it until there is room. */
  send(call: ClientCall, prepared: PreparedMethod, args: Uint8Array): void {
    if (call.isSettled) return;
    call.prepared = prepared;
    call.args = args;
    this.#submit(call);
  }

  /** Ends a call that could not be prepared. */
  fail(call: ClientCall, error: unknown): void {
    this.#reject(call, asKatamariError(error));
  }

  /** Refuses new calls, waits for the pending ones, then closes. */
  async drain(): Promise<void> {
    this.#closed ??= closed('is draining');
    if (this.#calls.size > 0) {
      await new Promise<void>((resolve) => {
        const before = this.#onEmpty;
        this.#onEmpty = () => {
          before?.();
          resolve();
        };
      });
    }
    this.close();
  }

  /** Ends all pending calls and closes the connections. May be called more than once. */
  close(): void {
    this.#closed = closed('is closed');
    this.#isClosed = true;
    this.#dialer.close();
    for (const call of this.#calls.all()) this.#reject(call, this.#closed);
    this.#connection?.close();
    for (const connection of this.#leaving) connection.close();
    clearInterval(this.#keepAlive);
  }

  // Events of calls.

  expired(call: ClientCall): void {
    const nowMs = this.#clock.nowMs();
    const { connection } = call;
    this.#reject(call, this.#timeout(call));
    connection?.forgetTimedOut(call, nowMs);
    this.#pump();
  }

  #aborted(call: ClientCall): void {
    const facts = call.state === 'sent' || call.mayHaveRun ? {} : { notRun: true };
    const { connection } = call;
    const why = `${call.title} was canceled by its signal`;
    this.#reject(call, new KatamariError('cancelled', why, facts, call.signal?.reason));
    connection?.forget(call);
    this.#pump();
  }

  // Events of connections.

  answered(call: ClientCall, isException: boolean, body: Uint8Array, headers: HeadersIn | undefined): void {
    const { connection } = call;
    call.connection = undefined;
    if (isException) {
      this.#retryOrReject(call, errorOf(body, headers));
      return;
    }
    let value: unknown;
    // A declared exception counts as an answer.
    let exception: Error | undefined;
    try {
      value = valueOf(call.prepared as PreparedMethod, body);
    } catch (error) {
      if (error instanceof KatamariError) {
        this.#reject(call, error);
        return;
      }
      exception = error as Error;
    }
    if (call.onReply !== undefined) {
      try {
        call.onReply(infoOf(call.tries, connection?.address ?? '', headers));
      } catch (error) {
        exception = error as Error;
      }
      // It may have closed the client, or aborted the call.
      if (call.isSettled) return;
    }
    if (exception === undefined) this.#resolve(call, value);
    else this.#except(call, exception);
  }

  finished(call: ClientCall, error: KatamariError | undefined): void {
    if (error !== undefined) this.#reject(call, error);
    else this.#resolve(call, undefined);
  }

  heard(connection: ClientConnection): void {
    if (connection.hasReceived) this.#dialer.succeeded();
    this.#pump();
  }

  drains(connection: ClientConnection): void {
    this.#setAside(connection);
    this.#pump();
  }

  ended(connection: ClientConnection, left: readonly ClientCall[], error: KatamariError): void {
    if (!connection.hasReceived) {
      this.#dialer.failed();
      this.#dialError = error;
    }
    if (this.#connection === connection) {
      this.#connection = undefined;
      this.#dialer.advance();
    }
    this.#leaving.delete(connection);
    for (const call of left) {
      call.connection = undefined;
      if (error.facts.notRun === true && this.#settings.retries) this.#sendElsewhere(call, error);
      else this.#retryOrReject(call, error);
    }
    this.#pump();
  }

  /** Sends no new calls on the connection. */
  #setAside(connection: ClientConnection): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    this.#dialer.advance();
    this.#leaving.add(connection);
    connection.leave();
  }

  /** Whether the connection or the queue has room. `#calls` already includes the new call. */
  #hasRoom(): boolean {
    const { callsMax, waitingMax } = this.#settings;
    const connection = this.#connection;
    if (connection?.hasRoom(callsMax) === true) return true;
    return this.#calls.size - this.#inFlight <= waitingMax;
  }

  get #inFlight(): number {
    let sum = this.#connection?.inFlight ?? 0;
    for (const connection of this.#leaving) sum += connection.inFlight;
    return sum;
  }

  #submit(call: ClientCall): void {
    call.state = 'waiting';
    const connection = this.#usable();
    if (connection !== undefined && this.#waiting.size === 0 && connection.hasRoom(this.#settings.callsMax)) {
      this.#put(call, connection);
      return;
    }
    this.#waiting.add(call);
    this.#pump();
  }

  #put(call: ClientCall, connection: ClientConnection): void {
    this.#sent++;
    connection.send(call, this.#clock.nowMs());
  }

  /** Sends queued calls while the connection has room. */
  #pump(): void {
    if (this.#waiting.size === 0) return;
    const connection = this.#usable();
    if (connection === undefined) {
      void this.#dial();
      return;
    }
    for (const call of this.#waiting) {
      if (!connection.hasRoom(this.#settings.callsMax)) return;
      this.#waiting.delete(call);
      this.#put(call, connection);
    }
  }

  /** Returns the connection for new calls. One that was idle for `idleMs` may be dead and is replaced. */
  #usable(): ClientConnection | undefined {
    const connection = this.#connection;
    if (connection?.isStale(this.#clock.nowMs(), this.#settings.idleMs) !== true) return connection;
    this.#connection = undefined;
    connection.leave();
    return undefined;
  }

  /** Dials until there is a connection or no call waits for one. */
  async #dial(): Promise<void> {
    if (this.#isDialing) return;
    this.#isDialing = true;
    while (this.#connection === undefined && this.#waiting.size > 0) {
      try {
        const { socket, address } = await this.#dialer.dial();
        if (this.#isClosed) {
          socket.destroy();
          break;
        }
        this.#connects++;
        this.#connection = new ClientConnection(
          socket,
          address,
          this,
          this.#settings.frameBytesMax,
          this.#clock.nowMs(),
        );
      } catch (error) {
        this.#dialError = asKatamariError(error);
      }
    }
    this.#isDialing = false;
    this.#pump();
  }

  /**
   * Sends a call again whose connection failed before the call ran. Neither the number of
   * tries nor the retry budget limits this. The dialer delays reconnects.
   */
  #sendElsewhere(call: ClientCall, error: KatamariError): void {
    if (call.isSettled) return;
    call.lastError = error;
    this.#retried++;
    this.#submit(call);
  }

  /** Retries a failed call after a pause, or ends it. */
  #retryOrReject(call: ClientCall, error: KatamariError): void {
    if (call.isSettled) return;
    call.lastError = error;
    call.mayHaveRun ||= error.facts.notRun !== true && ERROR_TABLE[error.code].retry !== 'yes';
    const nowMs = this.#clock.nowMs();
    const pauseMs = this.#settings.retries
      ? pauseBeforeRetry(call, error, nowMs, this.#budget, this.#random)
      : undefined;
    if (pauseMs === undefined) {
      this.#reject(call, error);
      return;
    }
    this.#retried++;
    if (pauseMs === 0) {
      this.#submit(call);
      return;
    }
    call.state = 'pausing';
    const pause: DeadlineEntry = {
      expiresAtMs: nowMs + pauseMs,
      slot: -1,
      place: 0,
      expire: () => {
        if (call.state === 'pausing') this.#submit(call);
      },
    };
    this.#wheel.add(pause);
  }

  #timeout(call: ClientCall): KatamariError {
    const within = `${call.title} got no reply within ${call.timeoutMs} ms`;
    switch (call.state) {
      case 'sent': {
        const { address = '?' } = call.connection ?? {};
        const why = `${within}: the mesh at ${address} sent nothing, not even an error`;
        return new KatamariError('timeout', why, { stage: 'service' }, call.lastError);
      }
      case 'preparing':
        return new KatamariError('timeout', `${within}: the mesh did not send its interface in that time`, {
          stage: 'queue',
          notRun: true,
        });
      case 'waiting':
      case 'pausing':
      case 'settled': {
        const cause = call.lastError ?? (this.#connection === undefined ? this.#dialError : undefined);
        const why =
          cause?.message ??
          `it waited in the client's queue, since ${this.#settings.callsMax} calls are in flight; raise callsMax or call less often`;
        const facts = call.mayHaveRun ? {} : { notRun: true };
        return new KatamariError('timeout', `${within}: ${why}`, { stage: 'queue', ...facts }, cause);
      }
    }
  }

  #reject(call: ClientCall, error: KatamariError): void {
    if (call.isSettled) return;
    this.#failed++;
    this.#remove(call);
    call.reject(error);
  }

  /** Ends an answered call with a declared exception. */
  #except(call: ClientCall, exception: Error): void {
    this.#answered++;
    this.#remove(call);
    call.reject(exception);
  }

  #resolve(call: ClientCall, value: unknown): void {
    this.#answered++;
    this.#remove(call);
    call.resolve(value);
  }

  #remove(call: ClientCall): void {
    this.#wheel.remove(call);
    if (call.signal !== undefined) this.#signals.unsubscribe(call.signal, call);
    this.#waiting.delete(call);
    this.#calls.remove(call);
    if (this.#calls.size > 0) return;
    this.#keepAlive.unref();
    this.#onEmpty?.();
  }
}

function tooMany({ title }: ClientCall, { callsMax, waitingMax }: ClientSettings): KatamariError {
  const why = `Cannot send ${title}: ${callsMax} calls are in flight and ${waitingMax} are waiting, which are the limits; make fewer calls at once, or raise waitingMax`;
  return new KatamariError('overloaded', why, { notRun: true });
}

function closed(how: string): KatamariError {
  return new KatamariError('cancelled', `This client ${how}; call connect() for another`);
}

const KEEP_ALIVE_MS = 2 ** 30;
