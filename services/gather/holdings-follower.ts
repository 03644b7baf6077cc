// Follows what the managers serve, by long polls over the links that this process has to them anyway. What a manager
// said last stays while its link is down: its pools are not reachable then.

import { Backoff, type Clock, mustNotFail } from '../../core/mod.ts';
import { pause } from '../consul/mod.ts';
import { ManagerClient, type Holdings, type Peer } from '../mesh/mod.ts';

/** Reads the holdings of a manager; waits up to `waitMs` while they are those of `start` and `afterSeq`. */
export type ReadHoldings = (start: string, afterSeq: number, waitMs: number) => Promise<Holdings>;

type OnHoldings = (manager: string, holdings: Holdings | undefined) => void;

export class HoldingsFollower {
  readonly #clock: Clock;
  readonly #onHoldings: OnHoldings;
  /** Ends the loop of a manager, by name. */
  readonly #loops = new Map<string, { readonly peer: Peer | undefined; readonly end: AbortController }>();

  /** @param onHoldings gets what a manager serves; undefined when it has left */
  constructor(clock: Clock, onHoldings: OnHoldings) {
    this.#clock = clock;
    this.#onHoldings = onHoldings;
  }

  /** Follows these managers, and no others. */
  follow(peers: readonly Peer[]): void {
    const wanted = new Map(peers.map((peer) => [peer.name, peer]));
    for (const [name, { peer, end }] of this.#loops) {
      if (peer === undefined || wanted.get(name) === peer) continue;
      end.abort();
      this.#loops.delete(name);
      if (!wanted.has(name)) this.#onHoldings(name, undefined);
    }
    for (const [name, peer] of wanted) {
      if (this.#loops.has(name)) continue;
      const client = new ManagerClient(peer, this.#clock);
      this.#start(name, peer, (start, afterSeq, waitMs) => client.holdings(start, afterSeq, waitMs));
    }
  }

  /** Follows the manager of this process. */
  followOwn(name: string, read: ReadHoldings): void {
    if (!this.#loops.has(name)) this.#start(name, undefined, read);
  }

  /** Follows nobody any more. What the managers said last stays. */
  close(): void {
    for (const { end } of this.#loops.values()) end.abort();
    this.#loops.clear();
  }

  #start(name: string, peer: Peer | undefined, read: ReadHoldings): void {
    const end = new AbortController();
    this.#loops.set(name, { peer, end });
    mustNotFail(`the holdings of manager ${name}`, this.#run(name, read, end.signal));
  }

  async #run(name: string, read: ReadHoldings, signal: AbortSignal): Promise<void> {
    const backoff = new Backoff({ firstMs: RETRY_FIRST_MS, maxMs: RETRY_MAX_MS, random: Math.random });
    let [start, seq] = ['', 0];
    while (!signal.aborted) {
      const askedMs = this.#clock.nowMs();
      try {
        const found = await read(start, seq, WAIT_MS);
        if (signal.aborted) return;
        backoff.reset();
        const isNew = found.start !== start || found.seq !== seq;
        if (isNew) this.#onHoldings(name, found);
        [start, seq] = [found.start, found.seq];
        // A manager that answers at once with nothing new drains, or is at fault.
        if (!isNew && this.#clock.nowMs() - askedMs < SOON_MS) await pause(this.#clock, SOON_MS, signal);
      } catch {
        // The link is down; its events say so.
        await pause(this.#clock, backoff.next(), signal);
      }
    }
  }
}

const WAIT_MS = 25_000;
const SOON_MS = 1_000;
const RETRY_FIRST_MS = 50;
/** A manager that comes back after a crash may serve nothing yet: until it is asked, callers try it in vain. */
const RETRY_MAX_MS = 250;
