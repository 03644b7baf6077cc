// Shards that are asked for together: by one request, and by several to other managers when the first one is slow. The
// first of both that has all shards counts.

import { type Lack, LACK } from './coverage.ts';

/** The reply of a manager for some shards. */
export interface ShardAnswer {
  /** In order. */
  readonly places: readonly number[];
  /** Result struct with a value. */
  readonly body: Uint8Array;
  readonly value: unknown;
  readonly queueUs: number;
  readonly serviceUs: number;
}

/** A request, as far as its group knows it. */
interface GroupRequest {
  readonly holder: { readonly manager: string };
  cancel(): void;
}

/** Shards that are asked for together, and the requests for them. */
export class ShardGroup {
  readonly places: readonly number[];
  /** Tries of these shards, this one included. */
  readonly tries: number;
  isHedged = false;
  /** The first request; undefined when it has failed. */
  #first: GroupRequest | undefined;
  /** Requests to other managers, which have all its shards together. */
  readonly #others = new Set<GroupRequest>();
  #othersAnswers: ShardAnswer[] = [];

  constructor(places: readonly number[], tries: number) {
    this.places = places;
    this.tries = tries;
  }

  add(request: GroupRequest): void {
    if (this.#first === undefined && !this.isHedged) this.#first = request;
    else this.#others.add(request);
  }

  /** Returns the answers for all shards once they are there. */
  answered(request: GroupRequest, answer: ShardAnswer): readonly ShardAnswer[] | undefined {
    if (request === this.#first) {
      this.#first = undefined;
      this.cancel();
      return [answer];
    }
    this.#others.delete(request);
    this.#othersAnswers.push(answer);
    if (this.#others.size > 0) return undefined;
    this.cancel();
    return this.#othersAnswers;
  }

  /** Returns whether no request is left that could answer for all shards. */
  lost(request: GroupRequest): boolean {
    if (request === this.#first) {
      this.#first = undefined;
      return this.#others.size === 0;
    }
    this.#others.delete(request);
    for (const other of this.#others) other.cancel();
    this.#others.clear();
    this.#othersAnswers = [];
    return this.#first === undefined;
  }

  cancel(): void {
    this.#first?.cancel();
    for (const other of this.#others) other.cancel();
    this.#others.clear();
  }

  /**
   * Why its shards are missing when the call ends.
   * @param isLate whether time is up; else the call has ended because too many other shards are missing
   */
  openAs(isLate: boolean): { readonly lack: Lack; readonly why: string } {
    const waiting = this.#first ?? [...this.#others][0];
    const how = isLate ? 'did not answer in time' : 'was not waited for, since too many other shards are missing';
    return { lack: LACK.timedOut, why: `${waiting?.holder.manager ?? 'no manager'} ${how}` };
  }
}
