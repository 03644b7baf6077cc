// The calls that wait in a pool, as a list through the leases themselves: joining, leaving from anywhere and the next in turn take constant time.

import type { Lease } from './lease.ts';

/** Waiting calls, longest first; joins and leaves in constant time. */
export class CallQueue {
  head: Lease | undefined;
  #tail: Lease | undefined;
  length = 0;

  push(lease: Lease): void {
    lease.previous = this.#tail;
    lease.next = undefined;
    if (this.#tail === undefined) this.head = lease;
    else this.#tail.next = lease;
    this.#tail = lease;
    this.#entered(lease);
  }

  /** Before all that came later. */
  putBack(lease: Lease): void {
    let next = this.head;
    while (next !== undefined && next.turn < lease.turn) next = next.next;
    if (next === undefined) {
      this.push(lease);
      return;
    }
    lease.next = next;
    lease.previous = next.previous;
    if (next.previous === undefined) this.head = lease;
    else next.previous.next = lease;
    next.previous = lease;
    this.#entered(lease);
  }

  shift(): Lease | undefined {
    const head = this.head;
    if (head !== undefined) this.remove(head);
    return head;
  }

  remove(lease: Lease): void {
    if (!lease.isQueued) return;
    lease.isQueued = false;
    if (lease.previous === undefined) this.head = lease.next;
    else lease.previous.next = lease.next;
    if (lease.next === undefined) this.#tail = lease.previous;
    else lease.next.previous = lease.previous;
    lease.next = undefined;
    lease.previous = undefined;
    this.length--;
  }

  #entered(lease: Lease): void {
    lease.isQueued = true;
    this.length++;
  }
}
