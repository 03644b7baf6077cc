// Counts the bytes that clients make a process hold: requests that are not finished, and answers that are not read.
// Limits on single items do not bound their sum, so each port books the bytes of its connections here. There are three
// sums: of a connection, of a caller (all connections from one address), and of the process (all ports together).
//
// A full sum first holds back: the connection is not read until there is room again (`isFull`, `whenRoom`). What still
// does not fit is refused (`exceeds`). Callers that hold much find the process full a little earlier, so the last part
// of it is left to those that hold little.
//
// Booking is a few additions, because it happens at every read and write.

/** Limits of the three sums, in bytes. */
export interface SumLimits {
  readonly connectionBytesMax: number;
  readonly callerBytesMax: number;
  readonly processBytesMax: number;
}

/** No limits: for connections that a process trusts. */
export const UNLIMITED_SUMS: SumLimits = {
  connectionBytesMax: Number.POSITIVE_INFINITY,
  callerBytesMax: Number.POSITIVE_INFINITY,
  processBytesMax: Number.POSITIVE_INFINITY,
};

/** A sum with its limit, and the accounts that wait for room in it. */
class Sum {
  /** Key of the limit in the configuration. */
  readonly key: string;
  readonly max: number;
  readonly low: number;
  bytes = 0;
  readonly waiting: Set<ByteAccount> = new Set();

  constructor(max: number, key: string) {
    this.key = key;
    this.max = max;
    this.low = max * LOW_WATER;
  }

  add(delta: number): void {
    const before = this.bytes;
    this.bytes = before + delta;
    if (delta > 0 || this.waiting.size === 0) return;
    if (this.bytes <= this.low || (before >= this.max && this.bytes < this.max)) {
      for (const account of this.waiting) account.wake();
    }
  }
}

/** The sum of one caller, while it has connections. */
class CallerSum extends Sum {
  readonly name: string;
  connections = 0;

  constructor(name: string, max: number) {
    super(max, 'limits.callerMemory');
    this.name = name;
  }
}

/** The ledger of a process; all ports share it. */
export class ByteLedger {
  readonly limits: SumLimits;
  readonly #process: Sum;
  readonly #callers = new Map<string, CallerSum>();

  constructor(limits: SumLimits) {
    this.limits = limits;
    this.#process = new Sum(limits.processBytesMax, 'limits.memory');
  }

  /** Bytes that all connections hold. */
  get bytes(): number {
    return this.#process.bytes;
  }

  /** Number of callers with an open account. */
  get callers(): number {
    return this.#callers.size;
  }

  /**
   * Opens the account of a connection, which must be closed with it.
   * @param caller for example the remote address
   */
  open(caller: string): ByteAccount {
    const sum = this.#callers.get(caller) ?? new CallerSum(caller, this.limits.callerBytesMax);
    this.#callers.set(caller, sum);
    sum.connections++;
    return new ByteAccount(this.limits.connectionBytesMax, sum, this.#process, () => {
      if (--sum.connections === 0) this.#callers.delete(caller);
    });
  }
}

/** The bytes that one connection holds. */
export class ByteAccount {
  readonly #own: Sum;
  readonly #caller: CallerSum;
  readonly #process: Sum;
  readonly #onClosed: () => void;
  /** Bytes that were set, beside those that were added. */
  #setBytes = 0;
  #isClosed = false;
  #onRoom: (() => void)[] = [];

  constructor(max: number, caller: CallerSum, process: Sum, onClosed: () => void) {
    this.#own = new Sum(max, 'limits.connectionMemory');
    this.#caller = caller;
    this.#process = process;
    this.#onClosed = onClosed;
  }

  get bytes(): number {
    return this.#own.bytes;
  }

  /** Books bytes, or with a negative number gives them back. */
  add(bytes: number): void {
    if (bytes === 0) return;
    this.#own.add(bytes);
    this.#caller.add(bytes);
    this.#process.add(bytes);
    if (this.#isClosed && this.#own.bytes === 0) this.#onClosed();
  }

  /** Books the bytes that the connection itself holds now, instead of those of the previous `set`. */
  set(bytes: number): void {
    const delta = bytes - this.#setBytes;
    if (delta === 0 || this.#isClosed) return;
    this.#setBytes = bytes;
    this.add(delta);
  }

  /** Whether the connection must not be read any more. */
  get isFull(): boolean {
    const process = this.#process;
    if (this.#own.bytes >= this.#own.max || this.#caller.bytes >= this.#caller.max) return true;
    return process.bytes >= process.max * (this.#holdsMuch ? LARGE_SHARE : 1);
  }

  /**
   * Whether `bytes` more do not fit, so that they must be refused. Small items always fit: their number has limits of
   * its own. The sum of the connection does not count, because it only holds back: what is in flight may still come.
   */
  exceeds(bytes: number): boolean {
    if (bytes <= SMALL_BYTES) return false;
    return this.#caller.bytes + bytes > this.#caller.max || this.#process.bytes + bytes > this.#process.max;
  }

  /** Whether all sums are low enough to go on after `isFull`. */
  get hasRoom(): boolean {
    const process = this.#process;
    if (this.#own.bytes > this.#own.low || this.#caller.bytes > this.#caller.low) return false;
    return process.bytes <= process.low || (!this.#holdsMuch && process.bytes < process.max);
  }

  /** Calls `onRoom` once when there is room again. */
  whenRoom(onRoom: () => void): void {
    this.#onRoom.push(onRoom);
    for (const sum of [this.#own, this.#caller, this.#process]) sum.waiting.add(this);
  }

  /** Called by a sum that has become low. */
  wake(): void {
    if (!this.hasRoom) return;
    this.#stopWaiting();
  }

  /** Names the sum in which `bytes` more do not fit, its limit and the remedy: for the message of a refusal. */
  fullness(bytes = 0): string {
    const isFull = (sum: Sum): boolean => sum.bytes + bytes > sum.max || sum.bytes >= sum.max;
    const sum = isFull(this.#caller) ? this.#caller : isFull(this.#process) || bytes > 0 ? this.#process : this.#own;
    const who =
      sum === this.#own
        ? 'this connection holds'
        : sum === this.#caller
          ? `the connections of ${this.#caller.name} hold`
          : 'all connections of this process hold';
    return (
      `${who} ${sum.bytes} bytes of unfinished requests and unread answers, limit is ${sum.max}: ` +
      `read answers sooner, ask for less at a time, or raise ${sum.key}`
    );
  }

  /**
   * Closes the account with its connection. What was set is given back at once. Bytes that were added remain booked
   * for the caller and the process until they are given back, for example by a oneway call.
   */
  close(): void {
    if (this.#isClosed) return;
    this.#onRoom = [];
    this.#stopWaiting();
    this.set(0);
    this.#isClosed = true;
    if (this.#own.bytes === 0) this.#onClosed();
  }

  /** Whether the caller holds a large share of the process. */
  get #holdsMuch(): boolean {
    return this.#caller.bytes > this.#process.max * MUCH;
  }

  #stopWaiting(): void {
    const waiting = this.#onRoom;
    this.#onRoom = [];
    for (const sum of [this.#own, this.#caller, this.#process]) sum.waiting.delete(this);
    for (const onRoom of waiting) queueMicrotask(onRoom);
  }
}

const SMALL_BYTES = 4_096;
/** Part of a limit at which a full sum has room again. */
const LOW_WATER = 0.75;
/** Part of the process that callers may fill that hold more than MUCH of it. */
const LARGE_SHARE = 0.875;
const MUCH = 1 / 64;
