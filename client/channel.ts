// Where calls are kept from the moment they are made until they have ended: in line while there is no connection or
// no room on it, on the
import { DeadlineWheel, type DeadlineEntry, DenseSet } from '../core/link/mod.ts';
import { type Clock, asKatamariError, ERROR_TABLE, KatamariError, RetryBudget } from '../core/mod.ts';
import type { HeadersIn } from '../core/thrift/mod.ts';
import { AbortSignals } from './abort-signals.ts';
import { ClientConnection, type ConnectionOwner } from './connection.ts';
import { Dialer } from './dialer.ts';
import type { ClientSettings } from './options.ts';
import { ClientCall, type CallOwner } from './pending-call.ts';
import type { PreparedMethod } from './prepared-method.ts';
import { errorOf, valueOf } from './replies.ts';
import type { RequestHeaders } from './request-headers.ts';
import { pauseBeforeRetry } from './retry-policy.ts';

// connection, or pausing before another try. One wheel ends all of them at their deadlines. There is one connection
// at a time for new calls; others only finish what is on them. Limits: calls under way and in line, tries, time.

import { setInterval } from 'node:timers';

/** Counted since the client was made, but for the first three. */
export interface ChannelStats {
  /** Where new calls go; '' while there is no connection. */
  readonly address: string;
  readonly underWay: number;
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
  /** All that have not ended. */
  readonly #calls = new DenseSet<ClientCall>();
  /** Those that could be sent now, in the order in which they came. */
  readonly #waiting = new Set<ClientCall>();
  /** Its timer does nothing; while calls have not ended it keeps the process alive. */
  readonly #keeper = setInterval(() => {}, KEEPER_MS);
  #connection: ClientConnection | undefined;
  readonly #leaving = new Set<ClientConnection>();
  #isDialling = false;
  #dialError: KatamariError | undefined;
  /** Why no further call is taken. */
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
    this.#keeper.unref();
  }

  stats(): ChannelStats {
    const underWay = this.#underWay;
    return {
      address: this.#connection?.address ?? '',
      underWay,
      waiting: this.#calls.size - underWay,
      sent: this.#sent,
      answered: this.#answered,
      failed: this.#failed,
      retried: this.#retried,
      reconnects: Math.max(0, this.#connects - 1),
    };
  }

  /**
   * A call that waits for nothing yet but its end; `send` or `fail` comes next. One that is refused has had its end
   * already.
   */
  open(title: string, wishes: RequestHeaders, timeoutMs: number, signal: AbortSignal | undefined): ClientCall {
    const call = new ClientCall(this, title, wishes, this.#clock.nowMs(), timeoutMs, signal);
    this.#calls.add(call);
    if (this.#calls.size === 1) this.#keeper.ref();
    this.#wheel.add(call);
    this.#budget.called();
    if (this.#closed !== undefined) {
      this.#reject(call, this.#closed);
    } else if (signal?.aborted === true) {
      this.#aborted(call);
    } else if (!this.#hasRoom()) {
      this.#reject(call, tooMany(call, this.#settings));
    } else if (signal !== undefined) {
      this.#signals.watch(signal, call);
    }
    return call;
  }

  /** The call is ready to go. */
  send(call: ClientCall, plan: PreparedMethod, args: Uint8Array): void {
    if (call.isSettled) return;
    call.plan = plan;
    call.args = args;
    this.#submit(call);
  }

  /** The call cannot be made. */
  fail(call: ClientCall, error: unknown): void {
    this.#reject(call, asKatamariError(error));
  }

  /** Takes no more calls, lets those that are here end, and closes. */
  async drain(): Promise<void> {
    this.#closed ??= closed('drains');
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

  /** Ends now; twice is fine. */
  close(): void {
    this.#closed = closed('is closed');
    this.#isClosed = true;
    this.#dialer.close();
    for (const call of this.#calls.all()) this.#reject(call, this.#closed);
    this.#connection?.close();
    for (const connection of this.#leaving) connection.close();
    clearInterval(this.#keeper);
  }

  // What calls say.

  expired(call: ClientCall): void {
    const nowMs = this.#clock.nowMs();
    const { connection } = call;
    this.#reject(call, this.#timeout(call));
    connection?.forgetLate(call, nowMs);
    this.#pump();
  }

  #aborted(call: ClientCall): void {
    const facts = call.state === 'sent' || call.mayHaveRun ? {} : { notRun: true };
    const { connection } = call;
    const why = `${call.title} was cancelled by its signal`;
    this.#reject(call, new KatamariError('cancelled', why, facts, call.signal?.reason));
    connection?.forget(call);
    this.#pump();
  }

  // What connections say.

  answered(call: ClientCall, isException: boolean, body: Uint8Array, headers: HeadersIn | undefined): void {
    call.connection = undefined;
    if (isException) {
      this.#failedTry(call, errorOf(body, headers));
      return;
    }
    let value: unknown;
    try {
      value = valueOf(call.plan as PreparedMethod, body);
    } catch (error) {
      if (error instanceof KatamariError) {
        this.#reject(call, error);
        return;
      }
      // A declared exception is an answer.
      this.#answered++;
      this.#remove(call);
      call.reject(error as Error);
      return;
    }
    this.#resolve(call, value);
  }

  finished(call: ClientCall, error: KatamariError | undefined): void {
    if (error !== undefined) this.#reject(call, error);
    else this.#resolve(call, undefined);
  }

  heard(connection: ClientConnection): void {
    if (connection.hasHeard) this.#dialer.succeeded();
    this.#pump();
  }

  drains(connection: ClientConnection): void {
    this.#setAside(connection);
    this.#pump();
  }

  ended(connection: ClientConnection, left: readonly ClientCall[], error: KatamariError): void {
    if (!connection.hasHeard) {
      this.#dialer.failed();
      this.#dialError = error;
    }
    if (this.#connection === connection) {
      this.#connection = undefined;
      this.#dialer.turn();
    }
    this.#leaving.delete(connection);
    for (const call of left) {
      call.connection = undefined;
      if (error.facts.notRun === true && this.#settings.retries) this.#sendElsewhere(call, error);
      else this.#failedTry(call, error);
    }
    this.#pump();
  }

  /** New calls go elsewhere. */
  #setAside(connection: ClientConnection): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    this.#dialer.turn();
    this.#leaving.add(connection);
    connection.leave();
  }

  /** On the connection, or in line behind it; the call that asks is counted already. */
  #hasRoom(): boolean {
    const { callsMax, waitingMax } = this.#settings;
    const connection = this.#connection;
    if (connection?.hasRoom(callsMax) === true) return true;
    return this.#calls.size - this.#underWay <= waitingMax;
  }

  get #underWay(): number {
    let sum = this.#connection?.underWay ?? 0;
    for (const connection of this.#leaving) sum += connection.underWay;
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

  /** Sends what waits, as far as there is room. */
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

  /** The connection for new calls. One that was idle for long may be dead without knowing it. */
  #usable(): ClientConnection | undefined {
    const connection = this.#connection;
    if (connection?.isStale(this.#clock.nowMs(), this.#settings.idleMs) !== true) return connection;
    this.#connection = undefined;
    connection.leave();
    return undefined;
  }

  /** Until there is a connection or nobody waits for one any more. */
  async #dial(): Promise<void> {
    if (this.#isDialling) return;
    this.#isDialling = true;
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
    this.#isDialling = false;
    this.#pump();
  }

  /**
   * The connection was no good, which says nothing about the call: it is as if it had not been sent. The dialler
   * knows when to pause.
   */
  #sendElsewhere(call: ClientCall, error: KatamariError): void {
    if (call.isSettled) return;
    call.lastError = error;
    this.#retried++;
    this.#submit(call);
  }

  /** The call was not answered with a result: again, or the end. */
  #failedTry(call: ClientCall, error: KatamariError): void {
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
    const within = `${call.title} has no answer within ${call.timeoutMs} ms`;
    switch (call.state) {
      case 'sent': {
        const { address = '?' } = call.connection ?? {};
        const why = `${within}: the mesh at ${address} did not say why`;
        return new KatamariError('timeout', why, { stage: 'service' }, call.lastError);
      }
      case 'preparing':
        return new KatamariError('timeout', `${within}: its interface could not be asked of the mesh in that time`, {
          stage: 'queue',
          notRun: true,
        });
      case 'waiting':
      case 'pausing':
      case 'settled': {
        const cause = call.lastError ?? (this.#connection === undefined ? this.#dialError : undefined);
        const why =
          cause?.message ??
          `it waited for room, ${this.#settings.callsMax} calls are under way; raise callsMax or call less`;
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

  #resolve(call: ClientCall, value: unknown): void {
    this.#answered++;
    this.#remove(call);
    call.resolve(value);
  }

  #remove(call: ClientCall): void {
    this.#wheel.remove(call);
    if (call.signal !== undefined) this.#signals.forget(call.signal, call);
    this.#waiting.delete(call);
    this.#calls.remove(call);
    if (this.#calls.size > 0) return;
    this.#keeper.unref();
    this.#onEmpty?.();
  }
}

function tooMany({ title }: ClientCall, { callsMax, waitingMax }: ClientSettings): KatamariError {
  const why = `Cannot take ${title}: ${callsMax} calls are under way and ${waitingMax} wait, the limits; call less at a time, or raise waitingMax`;
  return new KatamariError('overloaded', why, { notRun: true });
}

function closed(how: string): KatamariError {
  return new KatamariError('cancelled', `This client ${how}; connect() gives another`);
}

const KEEPER_MS = 2 ** 30;
