// The connections of a bench. A broken one reconnects with backoff, from 50 ms up to 1 s. If no connection is open
// for five seconds, the mesh counts as gone. All events go to one sink, the current round.

import type { Address } from '../../../core/mod.ts';
import { ExitError, EXIT } from '../../config/mod.ts';
import { printable } from '../kit/terminal.ts';
import { BenchConnection, type ConnectionEvents } from './connection.ts';

export interface ConnectionsSink extends ConnectionEvents {
  /** A broken connection is open again. */
  onReopened(connection: BenchConnection): void;
  /** No connection has been open for GONE_MS. */
  onGone(): void;
}

export class Connections {
  /** Number of connections, broken ones included. */
  readonly count: number;
  readonly #address: Address;
  readonly #open: BenchConnection[] = [];
  readonly #timers = new Set<NodeJS.Timeout>();
  #next = 0;
  #isClosed = false;
  #noneSince = 0;
  sink: ConnectionsSink | undefined;

  private constructor(address: Address, count: number) {
    this.#address = address;
    this.count = count;
  }

  /** @throws ExitError unreachable if one of them cannot be opened */
  static async open(address: Address, count: number): Promise<Connections> {
    const made = new Connections(address, count);
    try {
      // A few at a time, so that the backlog of the listener does not overflow.
      while (made.#open.length < count) {
        const some = Math.min(OPENED_AT_ONCE, count - made.#open.length);
        const begun = await Promise.allSettled(Array.from({ length: some }, () => made.#connect()));
        for (const one of begun) if (one.status === 'fulfilled') made.#open.push(one.value);
        const failed = begun.find(({ status }) => status === 'rejected');
        if (failed?.status === 'rejected') throw failed.reason;
      }
      return made;
    } catch (error) {
      made.close();
      throw new ExitError(
        EXIT.unreachable,
        `Cannot open connection ${made.#open.length + 1} of ${count} to the Thrift port at ${address.host}:${address.port}: ${printable((error as Error).message)}\n` +
          'Name the port with --thrift HOST:PORT if it is elsewhere, or use fewer with --connections N.',
        error,
      );
    }
  }

  get open(): readonly BenchConnection[] {
    return this.#open;
  }

  /** Returns the next idle connection, or else the one with the fewest pending calls; undefined if none is open. */
  pick(): BenchConnection | undefined {
    const { length } = this.#open;
    let least: BenchConnection | undefined;
    for (let n = 0; n < length; n++) {
      this.#next = this.#next + 1 >= length ? 0 : this.#next + 1;
      const one = this.#open[this.#next] as BenchConnection;
      if (!one.isOpen) continue;
      if (one.inFlight === 0) return one;
      if (least === undefined || one.inFlight < least.inFlight) least = one;
    }
    return least;
  }

  /** Times out calls that were sent at `beforeMs` or earlier. */
  giveUp(beforeMs: number): void {
    // Iterate over a copy: a connection that closes leaves the list.
    for (const one of this.#open.slice()) one.giveUp(beforeMs);
  }

  close(): void {
    this.#isClosed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const one of this.#open.slice()) one.close();
  }

  #connect(): Promise<BenchConnection> {
    return BenchConnection.open(this.#address, {
      onEnding: (connection, ending, dueAtMs) => this.sink?.onEnding(connection, ending, dueAtMs),
      onLost: (connection) => this.#lost(connection),
    });
  }

  #lost(connection: BenchConnection): void {
    const at = this.#open.indexOf(connection);
    if (at >= 0) this.#open.splice(at, 1);
    if (this.#isClosed) return;
    if (this.#open.length === 0) this.#noneSince = performance.now();
    this.sink?.onLost(connection);
    this.#reopenAfter(REOPEN_MS_MIN);
  }

  #reopenAfter(ms: number): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      void this.#connect().then(
        (connection) => this.#reopened(connection),
        () => this.#stillClosed(ms),
      );
    }, ms);
    this.#timers.add(timer);
  }

  #reopened(connection: BenchConnection): void {
    if (this.#isClosed) {
      connection.close();
      return;
    }
    this.#open.push(connection);
    this.sink?.onReopened(connection);
  }

  #stillClosed(ms: number): void {
    if (this.#isClosed) return;
    if (this.#open.length === 0 && performance.now() - this.#noneSince >= GONE_MS) this.sink?.onGone();
    else this.#reopenAfter(Math.min(REOPEN_MS_MAX, ms * 2));
  }
}

const OPENED_AT_ONCE = 32;
const REOPEN_MS_MIN = 50;
const REOPEN_MS_MAX = 1_000;
const GONE_MS = 5_000;
