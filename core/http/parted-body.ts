// The body of an HTTP response that is too large for one text: parts of bytes, which are written as they come. Who
// fills it may wait until the client has read (`onTaken`). Its bytes are booked in the account of the connection until
// the socket takes them.

import type { ByteAccount } from '../mod.ts';

export class PartedBody {
  /** Bytes of the whole body; undefined if it is still growing when the response begins (chunks). */
  readonly length: number | undefined;
  readonly #account: ByteAccount;
  #parts: Buffer[] = [];
  #bytes = 0;
  #isEnded = false;
  #isDropped = false;
  /** Set by the connection that writes the body: there are more parts, or the end. */
  onMore: (() => void) | undefined;
  /** Set by who fills the body: the socket has taken parts, or the client has gone. */
  onTaken: (() => void) | undefined;

  constructor(account: ByteAccount, length?: number) {
    this.#account = account;
    this.length = length;
  }

  /** Whether the client has gone. */
  get isDropped(): boolean {
    return this.#isDropped;
  }

  /** Bytes that the socket has not taken. */
  get waitingBytes(): number {
    return this.#bytes;
  }

  /** Whether the last part was added and taken. */
  get isDone(): boolean {
    return this.#isEnded && this.#parts.length === 0;
  }

  add(part: Buffer): void {
    if (this.#isDropped) return;
    this.#parts.push(part);
    this.#bytes += part.length;
    this.#account.add(part.length);
    this.onMore?.();
  }

  end(): void {
    this.#isEnded = true;
    this.onMore?.();
  }

  /** Returns the next part for the socket; undefined when there is none yet, or no more. */
  take(): Buffer | undefined {
    const part = this.#parts.shift();
    if (part === undefined) return undefined;
    this.#bytes -= part.length;
    this.#account.add(-part.length);
    return part;
  }

  /** Gives everything back, because the client has gone. */
  drop(): void {
    if (this.#isDropped) return;
    this.#isDropped = true;
    this.#account.add(-this.#bytes);
    this.#parts = [];
    this.#bytes = 0;
    this.onTaken?.();
  }
}
