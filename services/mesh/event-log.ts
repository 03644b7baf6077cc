// The events of the mesh in order, for `katamari events`, the dashboard and the log. A ring buffer of 1,000 events;
// numbers never repeat.

import type { EventKind, MeshEvent } from '../../core/rpc/mod.ts';

export class EventLog {
  readonly #process: string;
  readonly #events: MeshEvent[] = [];
  readonly #listeners = new Set<(event: MeshEvent) => void>();
  /** Ends each wait of `next`. */
  readonly #waits = new Set<() => void>();
  #waitMsMax = WAIT_MS_MAX;
  #seq = 0;

  /** @param process name of this process */
  constructor(process: string) {
    this.#process = process;
  }

  /**
   * Adds an event of this process.
   * @param text one line for people; no code depends on its words
   * @param lines output of a chassis
   */
  add(kind: EventKind, subject: string, text: string, lines: readonly string[] = []): void {
    this.#append({ seq: 0, atMs: Date.now(), process: this.#process, kind, subject, text, lines });
  }

  /** Adds an event of another process, with a new number. */
  import(event: MeshEvent): void {
    this.#append(event);
  }

  #append(what: MeshEvent): void {
    const event = { ...what, seq: ++this.#seq };
    this.#events.push(event);
    if (this.#events.length > EVENTS_MAX) this.#events.shift();
    for (const listener of this.#listeners) listener(event);
  }

  /** Stored events with a number above `seq`, oldest first. */
  after(seq: number): readonly MeshEvent[] {
    const first = this.#events.findIndex((event) => event.seq > seq);
    return first === -1 ? [] : this.#events.slice(first);
  }

  /**
   * Wanted events after `seq`; waits up to `waitMs` (at most 30 s) for the first one. Other events do not end the wait:
   * who asks again with the same `seq` would otherwise be answered with nothing, at once and forever.
   */
  async next(
    seq: number,
    waitMs: number,
    isWanted: (event: MeshEvent) => boolean = () => true,
  ): Promise<readonly MeshEvent[]> {
    const found = this.after(seq).filter(isWanted);
    if (found.length > 0 || waitMs <= 0) return found;
    await new Promise<void>((resolve) => {
      const end = (): void => {
        stop();
        this.#waits.delete(end);
        clearTimeout(timer);
        resolve();
      };
      const stop = this.listen((event) => {
        if (isWanted(event)) end();
      });
      this.#waits.add(end);
      const timer = setTimeout(end, Math.min(waitMs, this.#waitMsMax));
    });
    return this.after(seq).filter(isWanted);
  }

  /**
   * Ends the waits of `next` now, because the process drains: a long poll would delay that by up to 30 s. Later waits
   * take at most 200 ms.
   */
  endWaits(): void {
    this.#waitMsMax = DRAINING_WAIT_MS;
    for (const end of this.#waits) end();
  }

  /** Calls `listener` for every new event. Returns a function that removes it. */
  listen(listener: (event: MeshEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

const EVENTS_MAX = 1_000;
const WAIT_MS_MAX = 30_000;
/** Not 0: a client that polls again at once must not do so in a busy loop. */
const DRAINING_WAIT_MS = 200;
